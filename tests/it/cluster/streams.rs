//! Answers that are written through one node and read through another, while nodes are killed.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use fleet::{Fleet, GatewayOptions};
use harness::{Client, Proof, eventually};
use serde_json::{Value, json};

use super::{PATIENCE, options, rows};
use crate::streams::{Parts, Producer, message_of};

/// Two nodes that close silent answers soon.
async fn impatient(timeout_ms: u32) -> Fleet {
    let gateway =
        GatewayOptions::default().with_env("ROOMCAST_STREAM_TIMEOUT_MS", timeout_ms.to_string());
    Fleet::cluster(fleet::ClusterOptions { gateway, ..options() }).await.expect("a cluster")
}

async fn reader(fleet: &Fleet, user: &str) -> Client {
    let client = Client::connect(&fleet.gateways()[1].ws_url(), &Proof::user(user)).await.unwrap();
    client.join("r", None).await.unwrap();
    client
}

/// What is left of the answers in Redis, beside how they were closed.
async fn left(fleet: &Fleet) -> Result<(), String> {
    let keys = fleet.redis().command(&["KEYS", "*:stream*"]).await.map_err(|e| e.to_string())?;
    let keys = format!("{keys:?}");
    let open = ["}:stream:", "}:streams:", "}:streaming"].iter().any(|part| keys.contains(part));
    if open { Err(keys) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_read_through_the_other_node_as_it_is_written() {
    let fleet = impatient(30_000).await;
    let mut early = reader(&fleet, "early").await;
    let mut producer = Producer::at(&fleet.gateways()[0].ws_url(), "r").await;
    for delta in ["one ", "two 👍 ", "three "] {
        producer.append(delta).await;
    }
    Parts::of(&early, &producer.id).until("one two 👍 three ").await;
    let late = reader(&fleet, "late").await;
    Parts::of(&late, &producer.id).until("one two 👍 three ").await;
    producer.append("four").await;
    for reader in [&early, &late] {
        Parts::of(reader, &producer.id).until("one two 👍 three four").await;
    }
    producer.end(json!({})).await.unwrap();
    assert_eq!(message_of(&mut early, &producer.id).await["content"], json!(producer.text));
    Parts::of(&early, &producer.id).until_state("ended").await;
    eventually(PATIENCE, "redis keeps nothing of it", || left(&fleet)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_to_know_a_room_late_knows_what_is_being_written_in_it() {
    let fleet = impatient(30_000).await;
    let mut producer = Producer::at(&fleet.gateways()[0].ws_url(), "r").await;
    producer.append("nobody was here").await;
    // On its own node it can be read before it is on the shelf, where the other one looks.
    let near = Client::connect(&fleet.gateways()[0].ws_url(), &Proof::user("near")).await.unwrap();
    near.join("r", None).await.unwrap();
    Parts::of(&near, &producer.id).until("nobody was here").await;
    let first = reader(&fleet, "first").await;
    Parts::of(&first, &producer.id).until("nobody was here").await;
    assert_eq!(Parts::of(&first, &producer.id).all().len(), 1, "in one piece, behind the reply");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_node_was_writing_is_closed_by_the_other() {
    let mut fleet = impatient(2_000).await;
    let mut alice = reader(&fleet, "alice").await;
    let mut producer = Producer::at(&fleet.gateways()[0].ws_url(), "r").await;
    producer.append("cut off in the").await;
    Parts::of(&alice, &producer.id).until("cut off in the").await;
    fleet.gateways_mut()[0].kill_9().await.unwrap();
    let message = message_of(&mut alice, &producer.id).await;
    assert_eq!(message["content"], "cut off in the");
    assert_eq!(message["metadata"], json!({ "aborted": true, "model": "small" }));
    Parts::of(&alice, &producer.id).until_state("aborted").await;
    let stored = || async { rows(&fleet).await.map(|rows| rows.len() == 1) };
    eventually(PATIENCE, "it stands once", || async { stored().await == Ok(true) }).await;
    eventually(PATIENCE, "redis keeps nothing of it", || left(&fleet)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_whose_node_is_killed_goes_on_through_the_other() {
    let mut fleet = impatient(30_000).await;
    let mut alice = reader(&fleet, "alice").await;
    let mut producer = Producer::at(&fleet.gateways()[0].ws_url(), "r").await;
    let tokens: Vec<String> = (0..400).map(|number| format!("tok{number} 👍 ")).collect();
    for token in &tokens[..200] {
        producer.append_nowait(token).await;
    }
    fleet.gateways_mut()[0].kill_9().await.unwrap();
    producer.reconnect(&fleet.gateways()[1].ws_url()).await;
    // A tick's worth may be gone: it offers again what is behind the place it is told.
    let whole: Vec<u16> = tokens.concat().encode_utf16().collect();
    let offset = usize::try_from(producer.start().await.unwrap()).unwrap();
    producer.text = String::from_utf16(&whole[..offset]).unwrap();
    let rest = String::from_utf16(&whole[offset..]).unwrap();
    for delta in rest.split_inclusive(' ') {
        producer.append(delta).await;
    }
    Parts::of(&alice, &producer.id).until(&tokens.concat()).await;
    let ended = producer.end(json!({})).await.unwrap();
    let message: Value = message_of(&mut alice, &producer.id).await;
    assert_eq!(
        (&message["content"], &message["position"]),
        (&json!(tokens.concat()), &ended["position"])
    );
    let stored = || async {
        let rows = rows(&fleet).await?;
        if rows.len() == 1 { Ok(()) } else { Err(format!("{} messages", rows.len())) }
    };
    eventually(PATIENCE, "one whole message stands", stored).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_moves_between_living_nodes_and_is_whole() {
    let fleet = impatient(30_000).await;
    let mut alice = reader(&fleet, "alice").await;
    let mut producer = Producer::at(&fleet.gateways()[0].ws_url(), "r").await;
    for round in 0..6 {
        producer.append(&format!("round {round}, ")).await;
        Parts::of(&alice, &producer.id).until(&producer.text).await;
        producer.reconnect(&fleet.gateways()[(round + 1) % 2].ws_url()).await;
        let units = producer.text.encode_utf16().count() as u64;
        assert_eq!(producer.start().await.unwrap(), units);
    }
    producer.end(json!({})).await.unwrap();
    assert_eq!(message_of(&mut alice, &producer.id).await["content"], json!(producer.text));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_written_on_while_redis_is_away() {
    let mut fleet = impatient(30_000).await;
    let mut alice = reader(&fleet, "alice").await;
    let mut producer = Producer::at(&fleet.gateways()[0].ws_url(), "r").await;
    producer.append("before, ").await;
    Parts::of(&alice, &producer.id).until("before, ").await;
    fleet.redis_mut().kill_9().await.unwrap();
    for _ in 0..20 {
        producer.append("meanwhile, ").await;
    }
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
    producer.append("after").await;
    Parts::of(&alice, &producer.id).until(&producer.text.clone()).await;
    let ended = || async { producer.end(json!({})).await };
    eventually(PATIENCE, "it ends", ended).await;
    assert_eq!(message_of(&mut alice, &producer.id).await["content"], json!(producer.text));
}
