//! What may be lost is dropped when it comes too often, and costs nothing that may not be lost.

use fleet::{ClusterOptions, Fleet};
use harness::{Client, eventually, unique_id};
use serde_json::{Value, json};

use super::{SECRET, ask, client, limited};
use crate::fixtures::{SOON, is_event, until_heard};

const LIMITS: [(&str, &str); 3] = [
    ("WEBSOCKET_RATE_LIMIT_TYPING_EVENTS", "3"),
    ("WEBSOCKET_RATE_LIMIT_PRESENCE_UPDATE", "3"),
    // By these it took five to block somebody, for far longer than this test.
    ("ROOMCAST_BLOCK_AFTER", "5"),
];

/// Many times more than is allowed, answered and unanswered.
const TIMES: usize = 200;

/// Sends without a `ref` what is dropped; nothing comes of it.
async fn unasked(client: &Client, event: &str, data: &Value) {
    for _ in 0..TIMES {
        let text = json!({ "event": event, "data": data }).to_string();
        client.send_text(text).await.unwrap();
    }
    client.command("heartbeat", json!({})).await.unwrap();
}

/// Types and updates their presence far too often through one address, and talks through both.
async fn costs_nothing(urls: [&str; 2]) {
    let alice = client(urls[0], "alice", "member").await;
    let tab = client(urls[1], "alice", "member").await;
    let mut bob = client(urls[1], "bob", "member").await;
    for one in [&alice, &tab, &bob] {
        one.join("r", None).await.unwrap();
    }
    let room = json!({ "roomId": "r" });
    let idle = json!({ "roomId": "r", "status": "idle" });
    for (event, data) in [("typing:start", &room), ("presence:update", &idle)] {
        let (passed, refused) = ask(&alice, event, data, TIMES).await;
        assert_eq!((passed, refused.code.as_str()), (3, "rate_limited"), "{event}");
        assert!(refused.retry_after_ms.is_some_and(|rest| (1..=60_000).contains(&rest)));
        unasked(&alice, event, data).await;
        unasked(&alice, "typing:stop", &room).await;
    }
    assert!(!alice.log().iter().any(|incoming| is_event(incoming, "room:error")));
    for one in [&alice, &tab] {
        let id = unique_id();
        one.send("r", &id, "what matters").await.unwrap();
        until_heard(&mut bob, &id).await;
        one.history("r", json!({})).await.unwrap();
        one.join("r", None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_too_often_is_dropped_and_blocks_nobody() {
    let fleet = Fleet::embedded(limited(&LIMITS)).await.unwrap();
    let url = fleet.gateway().ws_url();
    costs_nothing([&url, &url]).await;
    let metrics = fleet.gateway().metrics().await.unwrap();
    let dropped = metrics.get("roomcast_rate_limited_total{kind=\"typing\"}");
    let dropped = dropped.unwrap_or_else(|| metrics.sum("roomcast_rate_limited_total"));
    assert!(dropped > TIMES as f64, "{dropped}");
    assert!(metrics.sum("roomcast_blocks_total") < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_too_often_on_one_node_blocks_nobody_on_another() {
    let options = ClusterOptions { gateways: 2, workers: 1, ..ClusterOptions::default() };
    let fleet = Fleet::cluster(ClusterOptions { gateway: limited(&LIMITS), ..options });
    let fleet = fleet.await.unwrap();
    let urls = [fleet.gateways()[0].ws_url(), fleet.gateways()[1].ws_url()];
    costs_nothing([&urls[0], &urls[1]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_receipts_go_into_the_log_once_a_second_and_none_is_lost() {
    let fleet = Fleet::embedded(limited(&[])).await.unwrap();
    let url = fleet.gateway().ws_url();
    assert!(SECRET.len() >= 32);
    let alice = client(&url, "alice", "member").await;
    let bob = client(&url, "bob", "member").await;
    let mut last = Vec::new();
    for room in ["a", "b", "c"] {
        alice.join(room, None).await.unwrap();
        bob.join(room, None).await.unwrap();
        let mut places = Vec::new();
        for _ in 0..5 {
            places.push(bob.send(room, &unique_id(), "hello").await.unwrap().position.unwrap());
        }
        last.push((room, places));
    }
    let began = tokio::time::Instant::now();
    let mut pending = Vec::new();
    for (room, places) in &last {
        for place in places {
            let data = json!({ "roomId": room, "position": place });
            pending.push((*place, alice.send_nowait("receipt:update", data).await));
        }
    }
    // Others have turns of their own.
    let data = json!({ "roomId": "a", "position": last[0].1[4] });
    bob.command("receipt:update", data).await.unwrap();
    let others = began.elapsed();
    for (place, reply) in pending {
        let reply = reply.reply(SOON).await.unwrap();
        assert!(reply["position"]["seq"].as_u64() >= Some(place.seq), "{reply}");
    }
    let own = began.elapsed();
    assert!(own.as_millis() >= 1_900, "three rooms take two seconds, not {own:?}");
    assert!(others < own, "{others:?} {own:?}");
    for (room, places) in &last {
        let read = || async {
            let joined = alice.command("room:join", json!({ "roomId": room })).await.unwrap();
            joined["receipts"]["alice"]["position"] == json!(places[4])
        };
        eventually(SOON, "the furthest receipt stands", read).await;
    }
}
