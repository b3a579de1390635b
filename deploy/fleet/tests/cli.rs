//! The `fleet` program as people use it: one terminal that runs it, others that speak to it.

#![expect(clippy::unwrap_used, reason = "what fails here fails a test")]

#[path = "../src/fake_server.rs"]
mod fake_server;

use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const SOON: Duration = Duration::from_secs(60);

/// A folder that the user of Postgres can enter, for the fleet and the stand-in program.
struct Room(TempDir);

impl Room {
    fn new() -> Room {
        let mode = std::fs::Permissions::from_mode(0o711);
        let room = Room(tempfile::Builder::new().permissions(mode).tempdir().unwrap());
        fake_server::program(room.0.path(), &fake_server::script());
        room
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("fleet")
    }

    fn fleet(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet"));
        command.args(words.split_whitespace()).arg("--folder").arg(self.folder());
        command
    }

    /// What another terminal hears.
    async fn tell(&self, words: &str) -> Output {
        tokio::time::timeout(SOON, self.fleet(words).output()).await.unwrap().unwrap()
    }

    async fn told(&self, words: &str) -> String {
        let output = self.tell(words).await;
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn up(&self, words: &str) -> Up {
        let mut command = self.fleet(&format!("up {words}"));
        let program = self.0.path().join("stand-in");
        command.arg("--gateway-program").arg(&program).arg("--worker-program").arg(&program);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut up = Up { child, output };
        up.hear("ready; Ctrl-C ends everything").await;
        up
    }

    /// The process id that `status` shows for a part, and its line.
    async fn status(&self, part: &str) -> (String, String) {
        let table = self.told("status").await;
        let line = table.lines().find(|line| line.starts_with(part)).unwrap().to_owned();
        (line.split_whitespace().nth(1).unwrap().to_owned(), line)
    }
}

/// A running `fleet up`. It is asked to end when it is dropped, because a killed one would leave
/// its parts behind.
struct Up {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Up {
    /// The next line of its output with these words; what comes before it is passed over.
    async fn hear(&mut self, words: &str) -> String {
        let hearing = async {
            while let Some(line) = self.output.next_line().await.unwrap() {
                if line.contains(words) {
                    return line;
                }
            }
            panic!("it ended without saying {words:?}");
        };
        let heard = tokio::time::timeout(SOON, hearing).await;
        heard.unwrap_or_else(|_elapsed| panic!("it never said {words:?}"))
    }

    fn signal(&self, signal: Signal) {
        signal_pid(&self.child.id().unwrap().to_string(), signal);
    }

    async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(SOON, self.child.wait()).await.unwrap().unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.child.id().is_none() {
            return;
        }
        self.signal(Signal::TERM);
        let step = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while matches!(self.child.try_wait(), Ok(None)) && waited < SOON {
            std::thread::sleep(step);
            waited += step;
        }
    }
}

fn signal_pid(pid: &str, signal: Signal) {
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), signal).unwrap();
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_cluster_is_started_shown_harmed_and_ended() {
    let room = Room::new();
    let mut up = room.up("--gateways 2 --workers 1").await;
    let table = room.told("status").await;
    let parts: Vec<_> = table.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected = ["part", "balancer", "gateway-1", "gateway-2", "worker-1", "postgres", "redis"];
    assert_eq!(parts, expected);
    assert_eq!(table.matches(" ready ").count(), 5, "{table}");

    let (pid, _) = room.status("gateway-2").await;
    room.told("kill gateway 2").await;
    assert!(!is_alive(&pid));
    up.hear("gateway-2 is ended").await;
    assert!(room.status("gateway-2").await.1.contains(" ended "));
    room.told("start gateway 2").await;
    up.hear("gateway-2 is ready").await;
    room.told("stop worker 1").await;
    up.hear("worker-1 is not ready").await;
    room.told("cont worker 1").await;
    up.hear("worker-1 is ready").await;
    room.told("kill postgres").await;
    up.hear("postgres is ended").await;
    room.told("start postgres").await;
    up.hear("postgres is ready").await;

    for (words, answer) in [
        ("kill gateway 3", "this fleet has no gateway-3"),
        ("start redis", "redis runs already"),
        ("up --embedded", "another fleet runs in"),
    ] {
        let refused = room.tell(words).await;
        assert_eq!(refused.status.code(), Some(1));
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains(answer), "{text}");
    }
    let (pid, _) = room.status("redis").await;
    up.signal(Signal::INT);
    up.hear("all parts have ended").await;
    assert_eq!(up.ended().await.code(), Some(0));
    assert!(!is_alive(&pid));
    let gone = room.tell("status").await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no fleet runs in"));
}

#[tokio::test]
async fn a_part_that_ends_by_itself_is_told_and_can_be_started_again() {
    let room = Room::new();
    let mut up = room.up("--embedded").await;
    let (pid, line) = room.status("gateway-1").await;
    let address = line.split_whitespace().nth(3).unwrap().to_owned();
    signal_pid(&pid, Signal::KILL);
    let line = up.hear("gateway-1 ended").await;
    assert!(line.contains("signal: 9") && line.contains("gateway-1.log"), "{line}");
    room.told("start gateway 1").await;
    up.hear("gateway-1 is ready").await;
    let (new_pid, line) = room.status("gateway-1").await;
    assert!(new_pid != pid && line.contains(&address), "{line}");
}

#[tokio::test]
async fn what_a_killed_fleet_left_ends_before_the_next_one_starts() {
    let room = Room::new();
    let mut up = room.up("--embedded").await;
    let (pid, _) = room.status("gateway-1").await;
    up.signal(Signal::KILL);
    up.ended().await;
    assert!(is_alive(&pid));
    let _up = room.up("--embedded").await;
    assert!(!is_alive(&pid));
}
