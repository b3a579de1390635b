//! What becomes of processes whose log lines nobody takes.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use std::io::{PipeReader, Write, pipe};
use std::time::Duration;

use fleet::{ClusterOptions, Fleet};
use harness::{Client, eventually, unique_id};
use tokio::time::Instant;

use super::PATIENCE;
use crate::fixtures::client;

/// For how long it is looked how much is said.
const MINUTE: Duration = Duration::from_secs(60);

/// A gateway and a worker, behind proxies, that do not run yet.
async fn not_started() -> Fleet {
    let options = ClusterOptions { proxies: true, ..ClusterOptions::only_servers() };
    let mut fleet = Fleet::cluster(options).await.unwrap();
    fleet.add_gateway(super::options().gateway).await.unwrap();
    fleet.add_worker(super::options().worker).await.unwrap();
    fleet
}

async fn start(fleet: &mut Fleet) {
    fleet.gateways_mut()[0].start().unwrap();
    fleet.workers_mut()[0].start().unwrap();
    fleet.gateways_mut()[0].ready(PATIENCE).await.unwrap();
    fleet.workers_mut()[0].ready(PATIENCE).await.unwrap();
}

/// Says something until somebody else in the room is shown it and it is in the database.
async fn talk(alice: &Client, bob: &Client) {
    let shown = || async {
        let id = unique_id();
        let sent = alice.send("r", &id, "hello").await.map_err(|error| error.to_string())?;
        let told = |name: &str| {
            bob.log().iter().any(|event| {
                let text = format!("{event:?}");
                text.contains(name) && text.contains(&id)
            })
        };
        let seen = || async { told("message:new") };
        eventually(PATIENCE, "it is shown", seen).await;
        Ok::<_, String>(sent)
    };
    eventually(PATIENCE, "a message is accepted and shown", shown).await;
}

/// Both processes lose their connections, go on, and end as if nothing had been.
async fn lose_redis_and_leave(fleet: &mut Fleet) {
    let alice = client(&fleet.gateways()[0], "alice").await;
    let bob = client(&fleet.gateways()[0], "bob").await;
    alice.join("r", None).await.unwrap();
    bob.join("r", None).await.unwrap();
    talk(&alice, &bob).await;
    fleet.redis_proxy().link().cut();
    talk(&alice, &bob).await;
    let stored = || async { super::stored(fleet).await >= 2 };
    eventually(PATIENCE, "the worker goes on", stored).await;
    drop((alice, bob));
    for node in ["gateway-1", "worker-1"] {
        let ended = fleet.node_mut(node).unwrap().terminate(PATIENCE).await.unwrap();
        assert_eq!(ended.code(), Some(0), "{node}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_whose_standard_error_is_closed_go_on_and_leave_in_order() {
    let mut fleet = not_started().await;
    for node in 0..2 {
        let (reader, writer) = pipe().unwrap();
        match node {
            0 => fleet.gateways_mut()[0].pipe_errors(writer),
            _ => fleet.workers_mut()[0].pipe_errors(writer),
        }
        drop(reader);
    }
    start(&mut fleet).await;
    let dropped = || async {
        let metrics = fleet.gateways()[0].metrics().await.unwrap();
        metrics.sum("roomcast_log_lines_dropped_total") > 0.0
    };
    eventually(PATIENCE, "what cannot be written is counted", dropped).await;
    lose_redis_and_leave(&mut fleet).await;
}

/// The end of a pipe that is full, and stays it, until its reader is dropped.
fn full_pipe() -> (PipeReader, std::io::PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    std::thread::spawn(move || while filler.write_all(&[b'x'; 4096]).is_ok() {});
    (reader, writer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_whose_standard_error_is_never_read_go_on_and_leave_in_order() {
    let mut fleet = not_started().await;
    let (gateway_reader, writer) = full_pipe();
    fleet.gateways_mut()[0].pipe_errors(writer);
    let (worker_reader, writer) = full_pipe();
    fleet.workers_mut()[0].pipe_errors(writer);
    start(&mut fleet).await;
    lose_redis_and_leave(&mut fleet).await;
    drop((gateway_reader, worker_reader));
}

/// Numbers of the lines of a log that warn, behind the first `skip` bytes.
fn warnings(log: &std::path::Path, skip: usize) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text[skip..].lines().filter(|line| line.starts_with('{'));
    let lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap())).collect()
}

/// A field as Rust shows a value to who debugs it.
fn is_debug_form(field: &serde_json::Value) -> bool {
    const FORMS: [&str; 5] = ["Some(", "Err(", "Ok(", "kind: ", " { "];
    field.as_str().is_some_and(|text| FORMS.iter().any(|form| text.contains(form)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_redis_takes_less_than_ten_lines_and_each_says_what_is_away() {
    let json = |name: &str| (name.to_owned(), "json".to_owned());
    let mut options = ClusterOptions { gateways: 1, workers: 1, ..super::options() };
    options.gateway.env.extend([json("ROOMCAST_LOG_FORMAT")]);
    options.worker.env.extend([json("ROOMCAST_LOG_FORMAT")]);
    let mut fleet = Fleet::cluster(options).await.unwrap();
    let alice = client(&fleet.gateways()[0], "alice").await;
    let bob = client(&fleet.gateways()[0], "bob").await;
    for room in 0..20 {
        alice.join(&format!("r{}", room % 10), None).await.unwrap();
        bob.join(&format!("r{}", room % 10), None).await.unwrap();
    }
    let logs = [fleet.gateways()[0].log().to_owned(), fleet.workers()[0].log().to_owned()];
    let before = logs.clone().map(|log| std::fs::read_to_string(log).unwrap().len());
    fleet.redis_mut().kill_9().await.unwrap();
    // What people do meanwhile is what could fill a log: they go on for as long as it says.
    let began = Instant::now();
    let mut rooms = (0..10).cycle();
    // What is journaled is answered at once: people, and no machines, go on.
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    while began.elapsed() < MINUTE {
        pace.tick().await;
        let room = format!("r{}", rooms.next().unwrap());
        alice.send(&room, &unique_id(), "hello").await.unwrap();
        bob.history(&room, serde_json::json!({})).await.unwrap();
    }
    for (log, before) in logs.iter().zip(before) {
        let lines = warnings(log, before);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        assert!((1..10).contains(&lines.len()), "{} lines:\n{text}", lines.len());
        for line in &lines {
            let fields = line.as_object().unwrap();
            assert!(!fields.values().any(is_debug_form), "{line}");
            assert!(line.to_string().contains("redis"), "{line}");
        }
        let whole = |line: &&serde_json::Value| {
            ["server", "since", "meanwhile", "error"]
                .iter()
                .all(|name| line[*name].as_str().is_some_and(|text| !text.is_empty()))
        };
        assert!(lines.iter().filter(whole).count() >= 2, "said again:\n{text}");
    }
}
