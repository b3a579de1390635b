//! Commands that are none: each is refused once, by name, and nothing else happens.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

mod generator;
mod named;

use crate::fixtures::one_gateway::{SOON, assert_no_panic, gateway, metric};
use fleet::Fleet;
use generator::{Bad, Generator};
use harness::wire::{Incoming, Refused, Wire};
use harness::{Client, Proof, eventually, unique_id};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How many malformed commands are sent.
const COMMANDS: usize = 10_000;
/// How many are sent before their answers are read.
const BATCH: usize = 200;
/// The room in which the sender is, so that its commands get as far as they can.
const ROOM: &str = "the-room";

/// The answer to a command that was refused: the reply's `ref`, where it was one, and why.
async fn refusal(wire: &mut Wire) -> Result<(Option<u64>, Refused), String> {
    match tokio::time::timeout(SOON, wire.recv()).await {
        Ok(Incoming::Reply { reference, outcome: Err(refused) }) => Ok((Some(reference), refused)),
        Ok(Incoming::Event { name, data }) if name == "room:error" => {
            let mut data = data;
            data.as_object_mut().and_then(|data| data.remove("roomId"));
            serde_json::from_value(data)
                .map(|refused| (None, refused))
                .map_err(|error| format!("a malformed room:error: {error}"))
        }
        Ok(other) => Err(format!("{other:?}")),
        Err(_elapsed) => Err("no answer".to_owned()),
    }
}

/// A connection that is in [`ROOM`].
async fn in_the_room(fleet: &Fleet, user: &str) -> Wire {
    let mut wire = Wire::connect(&fleet.gateway().ws_url(), &Proof::user(user)).await.unwrap();
    let welcome = wire.recv().await;
    assert!(matches!(&welcome, Incoming::Event { name, .. } if name == "welcome"), "{welcome:?}");
    assert!(wire.try_send(harness::wire::command("room:join", 1, &json!({ "roomId": ROOM }))));
    let joined = wire.recv().await;
    assert!(matches!(&joined, Incoming::Reply { outcome: Ok(_), .. }), "{joined:?}");
    for list in ["presence:list", "receipt:list"] {
        let told = wire.recv().await;
        assert!(matches!(&told, Incoming::Event { name, .. } if name == list), "{told:?}");
    }
    wire
}

/// What two who chat in another room have come to.
#[derive(Debug, Default)]
struct Chat {
    /// Messages that arrived.
    heard: AtomicUsize,
    over: AtomicBool,
}

/// Chats until it is over; the longest time from sending a message to its arrival at the other.
async fn chat(ws_url: String, chat: Arc<Chat>) -> Duration {
    let ann = Client::connect(&ws_url, &Proof::user("ann")).await.unwrap();
    let mut bob = Client::connect(&ws_url, &Proof::user("bob")).await.unwrap();
    ann.join("elsewhere", None).await.unwrap();
    bob.join("elsewhere", None).await.unwrap();
    let mut slowest = Duration::ZERO;
    while !chat.over.load(Ordering::Relaxed) {
        let (id, began) = (unique_id(), Instant::now());
        ann.send("elsewhere", &id, "hello").await.unwrap();
        let heard = bob.wait_for("message:new", SOON).await.unwrap();
        assert_eq!(heard["id"], id.as_str());
        slowest = slowest.max(began.elapsed());
        chat.heard.fetch_add(1, Ordering::Relaxed);
    }
    slowest
}

fn seed() -> u64 {
    let given = std::env::var("ROOMCAST_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()) ^ 0x0005_2ca5_7000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_malformed_commands_get_one_named_error_each_and_disturb_nobody() {
    let seed = seed();
    println!("ROOMCAST_TEST_SEED={seed}");
    let fleet = gateway().await;
    let others = Arc::new(Chat::default());
    let chatting = tokio::spawn(chat(fleet.gateway().ws_url(), Arc::clone(&others)));
    let mut wire = in_the_room(&fleet, "mallory").await;
    let mut generator = Generator::new(seed);
    for round in 0..COMMANDS / BATCH {
        let chatted = || async { others.heard.load(Ordering::Relaxed) > round };
        eventually(SOON, "a message of the others", chatted).await;
        let batch: Vec<Bad> = (0..BATCH).map(|_| generator.command()).collect();
        for bad in &batch {
            assert!(wire.try_send(bad.text.clone()));
        }
        for bad in &batch {
            let answer = refusal(&mut wire).await;
            let as_it_has_to = answer.as_ref().is_ok_and(|answer| bad.is_answered_by(answer));
            assert!(as_it_has_to, "{:.500}\n  got {answer:?}", format!("{bad:?}"));
        }
    }
    // What follows is the answer to this one: nothing was answered twice.
    assert!(wire.try_send(harness::wire::command("heartbeat", 77, &json!({}))));
    let last = wire.recv().await;
    let Incoming::Reply { reference: 77, outcome: Ok(heartbeat) } = &last else {
        panic!("{last:?}");
    };
    assert_eq!(heartbeat["heads"][ROOM]["seq"], 0, "{heartbeat}");

    others.over.store(true, Ordering::Relaxed);
    let slowest = chatting.await.unwrap();
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let refused = metric(&fleet, "roomcast_refusals_total").await;
    assert!((refused - COMMANDS as f64).abs() < 0.5, "{refused} were counted");
    assert_no_panic(&fleet);
}

/// A command with a `ref`, and its one answer.
async fn ask(wire: &mut Wire, event: &str, data: &Value) -> Result<Refused, String> {
    if !wire.try_send(harness::wire::command(event, 9, data)) {
        return Err("it could not be sent".to_owned());
    }
    match refusal(wire).await? {
        (Some(9), refused) => Ok(refused),
        other => Err(format!("{other:?}")),
    }
}
