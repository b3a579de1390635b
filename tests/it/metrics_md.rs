//! The table of docs/METRICS.md is what the programs say on `/metrics`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use crate::fixtures::gateway;

const BEGIN: &str = "<!-- metrics: written by a test, see tests/it/metrics_md.rs -->\n";
const END: &str = "<!-- end of metrics -->";

/// What is counted by whichever process runs.
const OF_BOTH: [&str; 4] = [
    "roomcast_build_info",
    "roomcast_condition",
    "roomcast_log_lines_dropped_total",
    "roomcast_memory_bytes_max",
];

/// Which program says it.
fn program(name: &str) -> &'static str {
    match name {
        name if OF_BOTH.contains(&name) || name.starts_with("process_") => "both",
        name if name.starts_with("roomcast_sync_") => "sync-worker",
        _ => "gateway",
    }
}

/// The names of the labels of a family's samples, but for a histogram's own.
fn labels(page: &str, name: &str) -> BTreeSet<String> {
    let samples = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let names = samples.flat_map(|rest| {
        let (labels, _) = rest.rsplit_once('}').expect("labels end");
        labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()))
    });
    names.collect()
}

/// One row per family, in the order of their names.
fn table(page: &str) -> String {
    let mut table =
        "| Metric | Kind | Labels | Program | Meaning |\n|---|---|---|---|---|\n".to_owned();
    for line in page.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').expect("every metric says what it is");
        let kind = page
            .lines()
            .find_map(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name)?.strip_prefix(' '));
        let labels: Vec<String> =
            labels(page, name).iter().map(|label| format!("`{label}`")).collect();
        let (kind, labels) = (kind.expect("every metric has a kind"), labels.join(", "));
        let program = program(name);
        writeln!(table, "| `{name}` | {kind} | {labels} | {program} | {help} |")
            .expect("a text takes any");
    }
    table
}

#[tokio::test]
async fn the_table_of_metrics_is_up_to_date() {
    let fleet = gateway().await;
    let page = fleet.gateway().operator_get("/metrics").await.unwrap().body;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("it has the first marker");
    let (_, after) = rest.split_once(END).expect("it has the second marker");
    let wanted = format!("{before}{BEGIN}\n{}\n{END}{after}", table(&page));
    if std::env::var_os("UPDATE_METRICS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    } else {
        assert!(
            text == wanted,
            "the table of docs/METRICS.md is not what the programs have; write it anew with\n\
             UPDATE_METRICS=1 cargo test -p tests --test it metrics_md"
        );
    }
    // Neither a room, nor a user, nor a connection is a label: there would be as many series.
    let allowed = ["reason", "code", "allowance", "condition", "version", "revision"];
    for name in page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()) {
        let strange: Vec<String> = labels(&page, name)
            .into_iter()
            .filter(|label| !allowed.contains(&label.as_str()))
            .collect();
        assert!(strange.is_empty(), "{name}: {strange:?}");
    }
}
