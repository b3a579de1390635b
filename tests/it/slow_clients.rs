//! Clients that do not read: they cost bounded memory and delay nobody.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

use crate::fixtures::one_gateway::{
    SOON, assert_no_panic, closed_for, gateway, gateway_with, metric, resident_bytes,
};
use crate::fixtures::until_heard;
use crate::streams::Producer;
use fleet::{Fleet, GatewayOptions};
use harness::raw::{RawSocket, frame, opcode, text};
use harness::wire::{Incoming, Wire, command};
use harness::{Proof, eventually, unique_id};
use serde_json::{Value, json};
use shared::contract::limits::{CONTENT_BYTES_MAX, METADATA_BYTES_MAX};
use std::time::Duration;
use tokio::task::JoinHandle;

const ROOM: &str = "busy";
/// The size of one message.
const CONTENT_BYTES: usize = 16 * 1024;
/// Messages until the room's memory is full: after them memory must not grow any more.
const WARM_UP: usize = 1_200;
/// Messages that pass while somebody does not read: 100 MB.
const MESSAGES: usize = 6_400;
/// Messages on their way at once.
const IN_FLIGHT: usize = 32;
/// What the gateway may have more at the end, for its allocator and its database as well.
const GROWTH_MAX: u64 = 40 * 1024 * 1024;
/// The write timeout of the gateway that cuts.
const WRITE_TIMEOUT_MS: &str = "10000";
const CUT_WITHIN: Duration = Duration::from_secs(40);
/// How long somebody does not read and is not cut.
const MINUTE: Duration = Duration::from_secs(60);
/// What may wait for one client, in bytes.
const QUEUE_MAX: f64 = 2.0 * 1024.0 * 1024.0;

async fn joined(fleet: &Fleet, user: &str) -> Wire {
    let mut wire = Wire::connect(&fleet.gateway().ws_url(), &Proof::user(user)).await.unwrap();
    assert!(wire.try_send(command("room:join", 0, &json!({ "roomId": ROOM }))));
    loop {
        match wire.recv().await {
            Incoming::Reply { outcome: Ok(_), .. } => return wire,
            Incoming::Event { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The id of the message that this frame brings, where it brings one.
fn id_of(incoming: Incoming) -> Option<String> {
    match incoming {
        Incoming::Event { name, data } if name == "message:new" => {
            Some(data["id"].as_str().unwrap().to_owned())
        }
        Incoming::Event { .. } | Incoming::Reply { outcome: Ok(_), .. } => None,
        other => panic!("{other:?}"),
    }
}

/// Sends so many messages, and waits until each has come back.
async fn pour(wire: &mut Wire, messages: usize) {
    let (mut sent, mut heard) = (0, 0);
    let content = "x".repeat(CONTENT_BYTES);
    while heard < messages {
        while sent < messages && sent - heard < IN_FLIGHT {
            let data = json!({ "roomId": ROOM, "id": unique_id(), "content": content });
            assert!(wire.try_send(command("message:send", 1, &data)));
            sent += 1;
        }
        let incoming = tokio::time::timeout(SOON, wire.recv()).await.unwrap();
        heard += usize::from(id_of(incoming).is_some());
    }
}

/// Somebody who reads: the ids of so many messages, in the order in which they come.
fn witness(mut wire: Wire, messages: usize) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut ids = Vec::new();
        while ids.len() < messages {
            let incoming = tokio::time::timeout(SOON, wire.recv()).await.unwrap();
            ids.extend(id_of(incoming));
        }
        ids
    })
}

/// A connection in the room that reads only when it is told to.
async fn sleeper(fleet: &Fleet, user: &str) -> RawSocket {
    sleeper_in(fleet, user, ROOM).await
}

async fn sleeper_in(fleet: &Fleet, user: &str, room: &str) -> RawSocket {
    let path = format!("/ws?user={user}");
    let mut socket = RawSocket::upgraded(fleet.gateway().port(), &path, SOON).await.unwrap();
    // One message of history: the reply alone must not fill what the kernel holds.
    let data = json!({ "roomId": room, "limit": 1 });
    socket.send(&text(&command("room:join", 0, &data))).await.unwrap();
    loop {
        if socket.next_frame(SOON).await.unwrap().text().contains("\"reply\"") {
            return socket;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_cost_bounded_memory_delay_nobody_and_are_cut() {
    let impatient = GatewayOptions::default();
    let impatient = impatient.with_env("ROOMCAST_WRITE_TIMEOUT_MS", WRITE_TIMEOUT_MS);
    let fleet = gateway_with(impatient).await;
    let mut sender = joined(&fleet, "sender").await;
    pour(&mut sender, WARM_UP).await;
    let before = resident_bytes(&fleet);
    let reader = witness(joined(&fleet, "reader").await, MESSAGES);
    let mut sleepers = Vec::new();
    for n in 0..4 {
        sleepers.push(sleeper(&fleet, &format!("sleeper-{n}")).await);
    }
    pour(&mut sender, MESSAGES).await;
    assert_eq!(reader.await.unwrap().len(), MESSAGES);
    let grown = resident_bytes(&fleet).saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes more, of {before}");
    assert!(metric(&fleet, "roomcast_lagging_total").await >= 4.0);

    let cut = || async { closed_for(&fleet, "too_slow").await >= 4.0 };
    eventually(CUT_WITHIN, "all who never read are cut", cut).await;
    pour(&mut sender, 10).await;
    let queued = || async { metric(&fleet, "roomcast_send_queue_bytes").await < 1.0 };
    eventually(SOON, "nothing waits for those who are gone", queued).await;
    assert_no_panic(&fleet);
    drop(sleepers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_on_after_a_minute_ends_with_the_same_messages_as_the_others() {
    const MISSED: usize = 2_000;
    /// Of those, at a time; a little time passes between.
    const AT_A_TIME: usize = 20;
    let fleet = gateway().await;
    let mut sender = joined(&fleet, "sender").await;
    let reader = witness(joined(&fleet, "reader").await, MISSED);
    let mut socket = sleeper(&fleet, "sleeper").await;
    let mut beat = tokio::time::interval(MINUTE / (MISSED / AT_A_TIME) as u32);
    for _ in 0..MISSED / AT_A_TIME {
        beat.tick().await;
        pour(&mut sender, AT_A_TIME).await;
        // It shows life, as a client does whose page is busy with something else.
        socket.send(&frame(true, 0, opcode::PONG, true, b"")).await.unwrap();
        let waiting = metric(&fleet, "roomcast_send_queue_bytes").await;
        // The sender and the reader have a little in theirs too.
        assert!(waiting < 1.5 * QUEUE_MAX, "{waiting} bytes wait");
    }
    let seen_by_all = reader.await.unwrap();
    assert!(metric(&fleet, "roomcast_lagging_total").await >= 1.0);

    let mut seen = Vec::new();
    while seen.len() < MISSED {
        let frame = socket.next_frame(SOON).await.unwrap();
        if frame.opcode == opcode::PING {
            continue;
        }
        assert_eq!(frame.opcode, opcode::TEXT, "{frame:?}");
        let told: Value = serde_json::from_slice(&frame.payload).unwrap();
        if told["event"] == "message:new" {
            seen.push(told["data"]["id"].as_str().unwrap().to_owned());
        } else {
            let event = told["event"].as_str().unwrap();
            let others = ["message:persisted", "presence:list", "presence:update", "receipt:list"];
            assert!(others.contains(&event), "{told:.300}");
        }
    }
    assert_eq!(seen, seen_by_all);
    // What is said from now on comes as it is said.
    pour(&mut sender, 1).await;
    let live = async {
        while !socket.next_frame(SOON).await.unwrap().text().contains("\"message:new\"") {}
    };
    tokio::time::timeout(SOON, live).await.unwrap();
    assert!(closed_for(&fleet, "too_slow").await < 1.0);
    assert_no_panic(&fleet);
}

/// Fills what waits for a reader that has stopped, message by message, until so many bytes do.
async fn fill(fleet: &Fleet, producer: &mut Producer, wanted: f64) {
    let before = waiting(fleet).await;
    loop {
        let missing = wanted - (waiting(fleet).await - before);
        if missing <= 0.0 {
            return;
        }
        // A reader for whom nothing waits yet has a kernel that takes megabytes.
        let count = if missing < wanted { 1 } else { 8 };
        for _ in 0..count {
            let content = "x".repeat((missing as usize).min(CONTENT_BYTES_MAX));
            let id = unique_id();
            producer.client.send(&producer.room, &id, &content).await.unwrap();
            // Who hears it is told in the same moment as the reader that has stopped.
            until_heard(&mut producer.client, &id).await;
        }
    }
}

/// How many bytes wait in the node when the kernel has taken what it takes.
async fn waiting(fleet: &Fleet) -> f64 {
    let mut waiting = metric(fleet, "roomcast_send_queue_bytes").await;
    loop {
        let again = metric(fleet, "roomcast_send_queue_bytes").await;
        if again == waiting {
            return waiting;
        }
        waiting = again;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_half_a_mebibyte_before_the_largest_message_hold_up_nobody() {
    /// What waits for each of them when it comes: it does not fit behind that.
    const WAITING: f64 = 504.0 * 1024.0;
    // Every character has six bytes in JSON.
    let content = "\u{1}".repeat(CONTENT_BYTES_MAX);
    let metadata = json!({ "padding": "x".repeat(METADATA_BYTES_MAX - 64) });
    let options = GatewayOptions::default()
        .with_env("TOKIO_WORKER_THREADS", "2")
        .with_env("ROOMCAST_HEARTBEAT_INTERVAL_MS", "200");
    let fleet = gateway_with(options).await;
    let (mut sleepers, mut ends) = (Vec::new(), Vec::new());
    for n in 0..3 {
        let room = format!("answers-{n}");
        let mut producer = Producer::begin(&fleet, &room).await;
        sleepers.push(sleeper_in(&fleet, &format!("sleeper-{n}"), &room).await);
        for part in content.as_bytes().chunks(CONTENT_BYTES_MAX / 2) {
            producer.append(std::str::from_utf8(part).unwrap()).await;
        }
        fill(&fleet, &mut producer, WAITING).await;
        producer.end(json!({ "metadata": metadata })).await.unwrap();
        ends.push(producer.id);
    }
    // Both threads of the node are free, or nothing would be answered any more.
    let other = crate::fixtures::client(fleet.gateway(), "other").await;
    for _ in 0..20 {
        other.command("heartbeat", json!({})).await.unwrap();
    }
    for (socket, id) in sleepers.iter_mut().zip(ends) {
        let wanted = format!("\"id\":\"{id}\"");
        loop {
            let told = socket.next_frame(SOON).await.unwrap().text();
            if told.contains("\"message:new\"") && told.contains(&wanted) {
                let told: Value = serde_json::from_str(&told).unwrap();
                assert_eq!(told["data"]["content"], content);
                break;
            }
        }
    }
    assert_no_panic(&fleet);
}
