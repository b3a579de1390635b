//! On what it was measured, and when.

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// The machine and the versions of what ran on it.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) lines: Vec<(&'static str, String)>,
}

impl Machine {
    pub(super) fn look() -> Machine {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let models = cpus.lines().filter_map(|line| line.strip_prefix("model name"));
        let models: Vec<&str> =
            models.map(|rest| rest.trim_start_matches([' ', '\t', ':'])).collect();
        let model = models.first().copied().unwrap_or("unknown");
        let load = read("/proc/loadavg");
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let lines = vec![
            ("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
            ("CPU", format!("{} × {model}", models.len())),
            ("kernel", read("/proc/sys/kernel/osrelease")),
            ("load average before", load),
            ("Roomcast", said("git", &["describe", "--always", "--dirty", "--abbrev=12"])),
            ("Redis", word(&said("redis-server", &["--version"]), "v=")),
            ("Postgres", said("sh", &["-c", "ls /usr/lib/postgresql | sort -n | tail -1"])),
            ("Node.js", said("node", &["--version"])),
            ("peers", peers()),
        ];
        Machine { lines }
    }

    pub(super) fn json(&self) -> Value {
        self.lines.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// What a program says, in one line.
fn said(program: &str, arguments: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_missing| "not here".to_owned())
}

/// The word that begins so, without that beginning.
fn word(text: &str, beginning: &str) -> String {
    let found = text.split_whitespace().find_map(|word| word.strip_prefix(beginning));
    found.unwrap_or(text).to_owned()
}

fn peers() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/package.json");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let package: Value = serde_json::from_str(&text).unwrap_or_default();
    let versions = package["dependencies"].as_object().into_iter().flatten();
    let versions =
        versions.map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or_default()));
    versions.collect::<Vec<_>>().join(", ")
}
