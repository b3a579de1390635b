//! Two deployments on one Redis server: on two of its databases they do not hear of each other, on
//! one of them the second is refused.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use std::process::ExitStatus;

use fleet::{ClusterOptions, Fleet};
use harness::{Api, Client, eventually, unique_id};
use serde_json::json;
use shared::contract::id::RoomId;
use shared::contract::keys;

use super::erasing::worker;
use super::{PATIENCE, options};
use crate::fixtures::client;

/// A gateway and a worker.
fn small() -> ClusterOptions {
    ClusterOptions { gateways: 1, workers: 1, ..options() }
}

/// A deployment with a database of its own, on the Redis of another.
fn beside(other: &Fleet, number: u8) -> ClusterOptions {
    let url = format!("{}/{number}", other.redis_url());
    let small = small();
    ClusterOptions {
        gateway: small.gateway.clone().with_env("REDIS_URL", &url),
        worker: small.worker.clone().with_env("REDIS_URL", &url),
        ..small
    }
}

async fn name(fleet: &Fleet) -> String {
    let rows = fleet.postgres().query(fleet.database(), "SELECT name FROM deployment").await;
    rows.unwrap().pop().unwrap().pop().unwrap().unwrap()
}

fn heard(client: &Client) -> String {
    format!("{:?}", client.log())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_deployments_on_one_server_do_not_hear_of_each_other() {
    let production = Fleet::cluster(small()).await.unwrap();
    let mut staging = Fleet::cluster(beside(&production, 1)).await.unwrap();
    assert_ne!(name(&production).await, name(&staging).await);
    let there = client(production.gateway(), "alice").await;
    let alice = client(staging.gateway(), "alice").await;
    let bob = client(staging.gateway(), "bob").await;
    for client in [&there, &alice, &bob] {
        client.join("r", None).await.unwrap();
    }
    // Nothing of staging's is persisted from now on, whatever production's watermarks say.
    staging.workers_mut()[0].terminate(PATIENCE).await.unwrap();
    let (ours, theirs) = (unique_id(), unique_id());
    alice.send("r", &ours, "ours").await.unwrap();
    there.send("r", &theirs, "theirs").await.unwrap();
    there.command("typing:start", json!({"roomId": "r"})).await.unwrap();
    let done = || async { heard(&there).contains("message:persisted") };
    eventually(PATIENCE, "production's watermark is out", done).await;
    let api = Api::new(production.gateway().port());
    api.ask("DELETE", "/api/rooms/r/members/bob", None).await.expect(200);
    api.post("/api/disconnect", &json!({"userId": "bob"})).await.expect(200);
    api.post("/api/revoke", &json!({"userId": "alice"})).await.expect(200);

    // What was said after all of that, on this side, comes after whatever came across.
    let last = unique_id();
    alice.send("r", &last, "the last").await.unwrap();
    let shown = || async { heard(&bob).contains(&last) };
    eventually(PATIENCE, "staging goes on", shown).await;
    let heard = [heard(&alice), heard(&bob)].concat();
    assert!(heard.contains(&ours));
    for foreign in [theirs.as_str(), "message:persisted", "kicked", "typing:start"] {
        assert!(!heard.contains(foreign), "{foreign} came across: {heard}");
    }
    let joined = bob.join("r", None).await.unwrap();
    assert!(joined.messages.iter().all(|message| message.content != "theirs"));
    let here = staging.gateway().metrics().await.unwrap();
    assert_eq!(here.sum("roomcast_foreign_publications_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_bears_another_name_is_dropped_and_counted() {
    let fleet = Fleet::cluster(small()).await.unwrap();
    let alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let nodes = format!("roomcast/0/{}:nodes", name(&fleet).await);
    let signal = r#"{"owner":"0/another","told":{"nodes":{"disconnect":{"user":"alice"}}}}"#;
    fleet.redis().command(&["PUBLISH", &nodes, signal]).await.unwrap();
    let counted = || async {
        let metrics = fleet.gateway().metrics().await.unwrap();
        metrics.sum("roomcast_foreign_publications_total") == 1.0
    };
    eventually(PATIENCE, "it is counted", counted).await;
    alice.send("r", &unique_id(), "still here").await.unwrap();
}

/// How a process ended, and what its log says.
async fn ended(fleet: &mut Fleet, node: &str) -> (ExitStatus, String) {
    let cell = std::cell::RefCell::new(fleet);
    let gone = || async {
        let mut fleet = cell.borrow_mut();
        fleet.node_mut(node).unwrap().ended().unwrap().ok_or("it still runs")
    };
    let status = eventually(PATIENCE, &format!("{node} ends"), gone).await;
    let log = cell.borrow_mut().node_mut(node).unwrap().log().to_owned();
    (status, std::fs::read_to_string(log).unwrap())
}

/// Starts a deployment's processes, and gives what they said when they ended.
async fn refused(fleet: &mut Fleet) -> String {
    fleet.gateways_mut()[0].start().unwrap();
    fleet.workers_mut()[0].start().unwrap();
    let (gateway, first) = ended(fleet, "gateway-1").await;
    let (worker, second) = ended(fleet, "worker-1").await;
    assert_eq!((gateway.code(), worker.code()), (Some(1), Some(78)), "{first}\n{second}");
    [first, second].concat()
}

/// A database of its own, and processes that do not run yet, on the Redis of another.
async fn second(first: &Fleet, number: u8) -> Fleet {
    let options = beside(first, number);
    let mut fleet = Fleet::cluster(ClusterOptions::only_servers()).await.unwrap();
    fleet.add_gateway(options.gateway).await.unwrap();
    fleet.add_worker(options.worker).await.unwrap();
    fleet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_has_another_deployments_keys_is_refused_by_name() {
    let first = Fleet::cluster(small()).await.unwrap();
    let alice = client(first.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let mut second = second(&first, 0).await;
    let said = refused(&mut second).await;
    assert!(said.contains(&name(&first).await) && said.contains(&name(&second).await), "{said}");
    alice.send("r", &unique_id(), "nobody was disturbed").await.unwrap();
    // Whose an epoch is, its key says as well.
    first.redis().command(&["DEL", "roomcast:deployment"]).await.unwrap();
    let held = first.redis().command(&["HGET", "{s0}:epoch", "deployment"]).await.unwrap();
    let name = name(&first).await;
    assert!(held.text().is_none_or(|held| held == name));
    let back = || async {
        let held = first.redis().command(&["GET", "roomcast:deployment"]).await.unwrap();
        held.text() == Some(name.as_str())
    };
    eventually(PATIENCE, "the first has its redis", back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_database_does_not_write_the_log_of_the_original() {
    let original = Fleet::cluster(small()).await.unwrap();
    let alice = client(original.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    alice.send("r", &unique_id(), "before").await.unwrap();
    let mut copy = second(&original, 0).await;
    // Its tables are made on a Redis of its own; then it is given what a dump would have given it.
    let own = copy.redis().url();
    let point_at = |copy: &mut Fleet, url: &str| {
        let env = &mut copy.workers_mut()[0].options_mut().env;
        env.insert("REDIS_URL".to_owned(), url.to_owned());
    };
    point_at(&mut copy, &own);
    copy.workers_mut()[0].start().unwrap();
    copy.workers_mut()[0].ready(PATIENCE).await.unwrap();
    copy.workers_mut()[0].terminate(PATIENCE).await.unwrap();
    let taken =
        format!("UPDATE deployment SET name = '{}'; DELETE FROM epochs", name(&original).await);
    copy.postgres().query(copy.database(), &taken).await.unwrap();
    point_at(&mut copy, &format!("{}/0", original.redis_url()));

    let armed = async |number: &str| {
        let key = keys::epoch(RoomId::parse("r").unwrap().shard());
        let armed = || async {
            let held = original.redis().command(&["HGET", &key, "epoch"]).await.unwrap();
            held.text() == Some(number)
        };
        eventually(PATIENCE, &format!("epoch {number} is armed"), armed).await;
    };
    armed("1").await;
    let meanwhile = async {
        // The copy's worker reads what the original's log still has, under an epoch of its own.
        armed("2").await;
        alice.send("r", &unique_id(), "meanwhile").await.unwrap();
        armed("3").await;
    };
    let (said, ()) = tokio::join!(refused(&mut copy), meanwhile);
    assert!(said.contains("deployment rename"), "{said}");
    let said = refused(&mut copy).await;
    assert!(said.contains("deployment rename"), "it stays refused: {said}");
    alice.send("r", &unique_id(), "after").await.unwrap();

    let (code, said) = worker(&original, &["deployment", "rename"]);
    assert_eq!(code, Some(1), "whose processes are at work keeps its name: {said}");
    let (code, said) = worker(&copy, &["deployment", "rename"]);
    assert_eq!(code, Some(0), "{said}");
    let said = refused(&mut copy).await;
    assert!(said.contains("this redis belongs to"), "{said}");
    // On a Redis of its own it works.
    point_at(&mut copy, &own);
    copy.redis().command(&["FLUSHALL"]).await.unwrap();
    copy.workers_mut()[0].start().unwrap();
    copy.workers_mut()[0].ready(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_of_another_version_is_refused_in_plain_words() {
    let mut fleet = Fleet::cluster(small()).await.unwrap();
    let newer = "UPDATE deployment SET speaks = speaks + 1";
    fleet.postgres().query(fleet.database(), newer).await.unwrap();
    for node in ["gateway-1", "worker-1"] {
        let (status, log) = ended(&mut fleet, node).await;
        assert!(!status.success());
        assert!(log.contains("speaks version 2"), "{log}");
    }
}
