//! Signs of life.

use super::client;
use crate::fixtures::one_gateway::{
    SOON, assert_closed_for, assert_no_panic, gateway, gateway_with,
};
use fleet::{Fleet, GatewayOptions};
use harness::raw::{Ending, RawSocket, frame, opcode, text};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// A client is gone after so long a silence.
const TIMEOUT: Duration = Duration::from_millis(900);

async fn impatient_gateway() -> Fleet {
    let timeout = TIMEOUT.as_millis().to_string();
    let options = GatewayOptions::default()
        .with_env("ROOMCAST_HEARTBEAT_INTERVAL_MS", "200")
        .with_env("ROOMCAST_CONNECTION_TIMEOUT_MS", timeout);
    gateway_with(options).await
}

async fn connected(fleet: &Fleet) -> RawSocket {
    RawSocket::upgraded(fleet.gateway().port(), "/ws?user=raw", SOON).await.unwrap()
}

/// Waits for a ping, whatever else comes.
async fn ping(socket: &mut RawSocket) -> Vec<u8> {
    loop {
        let frame = socket.next_frame(SOON).await.unwrap();
        match frame.opcode {
            opcode::PING => return frame.payload,
            opcode::TEXT => {}
            _ => panic!("{frame:?}"),
        }
    }
}

#[tokio::test]
async fn who_answers_pings_lives_and_who_falls_silent_is_closed_with_4008() {
    let fleet = impatient_gateway().await;
    let welcomed = client(&fleet, "ann").await;
    assert_eq!(welcomed.welcome()["heartbeatMs"], 200);
    let mut socket = connected(&fleet).await;
    let began = Instant::now();
    while began.elapsed() < 3 * TIMEOUT {
        let payload = ping(&mut socket).await;
        socket.send(&frame(true, 0, opcode::PONG, true, &payload)).await.unwrap();
    }
    let silent = Instant::now();
    assert_eq!(socket.ending(SOON).await.unwrap(), Ending::Close(Some(4008)));
    let borne = silent.elapsed();
    assert!(borne >= TIMEOUT - Duration::from_millis(100) && borne < 3 * TIMEOUT, "{borne:?}");
    // A library that answers by itself has lived all the while.
    welcomed.command("heartbeat", json!({})).await.unwrap();
    assert_closed_for(&fleet, "heartbeat_missed", 1).await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_client_that_never_says_anything_is_closed_with_4008() {
    let fleet = impatient_gateway().await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(connected(&fleet).await);
    }
    for socket in &mut sockets {
        assert_eq!(socket.close_code(SOON).await.unwrap(), Some(4008));
    }
    assert_closed_for(&fleet, "heartbeat_missed", 20).await;
}

#[tokio::test]
async fn anything_that_a_client_sends_is_a_sign_of_life() {
    let fleet = impatient_gateway().await;
    let mut socket = connected(&fleet).await;
    let began = Instant::now();
    while began.elapsed() < 3 * TIMEOUT {
        ping(&mut socket).await;
        socket.send(&text("{\"event\":\"heartbeat\"}")).await.unwrap();
    }
    assert_eq!(socket.close_code(SOON).await.unwrap(), Some(4008));
}

#[tokio::test]
async fn a_heartbeat_is_answered_with_the_heads_of_the_joined_rooms() {
    let fleet = gateway().await;
    let mut ann = client(&fleet, "ann").await;
    let nowhere = ann.command("heartbeat", json!({})).await.unwrap();
    assert_eq!(nowhere, json!({ "heads": {} }));
    ann.join("one", None).await.unwrap();
    ann.join("two", None).await.unwrap();
    let sent = ann.send("one", &harness::unique_id(), "hello").await.unwrap();
    ann.wait_for("message:new", SOON).await.unwrap();
    let position = serde_json::to_value(sent.position.unwrap()).unwrap();
    let told = ann.command("heartbeat", json!({ "heads": { "one": position } })).await.unwrap();
    assert_eq!(told["heads"]["one"], position);
    assert_eq!(told["heads"]["two"]["seq"], 0);

    ann.send_text("{\"event\":\"heartbeat\"}".to_owned()).await.unwrap();
    assert_eq!(ann.wait_for("heartbeat", SOON).await.unwrap(), told);
    ann.command("room:leave", json!({ "roomId": "two" })).await.unwrap();
    let told = ann.command("heartbeat", json!({})).await.unwrap();
    assert_eq!(told, json!({ "heads": { "one": position } }));
}

#[tokio::test]
async fn who_does_not_say_who_they_are_is_closed_with_4401_after_five_seconds() {
    let fleet = gateway().await;
    let began = Instant::now();
    let mut silent = RawSocket::upgraded(fleet.gateway().port(), "/ws", SOON).await.unwrap();
    let mut busy = RawSocket::upgraded(fleet.gateway().port(), "/ws", SOON).await.unwrap();
    let join = "{\"event\":\"room:join\",\"ref\":1,\"data\":{\"roomId\":\"room\"}}";
    for command in [join, "nonsense", "{\"event\":\"heartbeat\",\"ref\":2}"] {
        busy.send(&text(command)).await.unwrap();
        let told = busy.next_frame(SOON).await.unwrap().text();
        let expected = if command == "nonsense" { "bad_request" } else { "unauthenticated" };
        assert!(told.contains(&format!("\"code\":\"{expected}\"")), "{told}");
    }
    busy.send(&frame(true, 0, opcode::PING, true, b"still there?")).await.unwrap();
    assert_eq!(busy.next_frame(SOON).await.unwrap().text(), "still there?");
    for socket in [&mut silent, &mut busy] {
        assert_eq!(socket.ending(SOON).await.unwrap(), Ending::Close(Some(4401)));
    }
    let took = began.elapsed();
    assert!((4..9).contains(&took.as_secs()), "{took:?}");
    assert_closed_for(&fleet, "unauthenticated", 2).await;
    assert_no_panic(&fleet);
}
