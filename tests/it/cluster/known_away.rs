//! What is known to be away is not waited for, and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::time::Duration;

use fleet::{Fleet, GatewayNode};
use harness::{Client, eventually, unique_id};
use serde_json::json;
use tokio::time::Instant;

use super::{PATIENCE, cluster};
use crate::fixtures::client;
use crate::removal::api as api_of;

/// Below this an answer was given because it was known, and not because the time was over: between
/// a second, which it takes at most, and the ten that it took.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn knows(gateway: &GatewayNode) {
    let degraded = || async {
        let body = gateway.operator_get("/readyz").await.unwrap().body;
        if body.contains("redis does not answer") { Ok(()) } else { Err(body) }
    };
    eventually(PATIENCE, "the node knows", degraded).await;
}

async fn is_answered_at_once(gateway: &GatewayNode, alice: &Client) {
    for round in 0..3 {
        let began = Instant::now();
        let accepted = alice.send("r", &unique_id(), "x").await.unwrap();
        assert_eq!((&*accepted.durability, accepted.position), ("journal", None));
        assert!(began.elapsed() < AT_ONCE, "a send took {:?}", began.elapsed());
        let began = Instant::now();
        let said = json!({ "userId": "backend", "content": "x" });
        let answer = api_of(gateway).post("/api/rooms/r/messages", &said).await;
        assert_eq!(answer.expect(201)["durability"], "journal");
        assert!(began.elapsed() < AT_ONCE, "over HTTP it took {:?}", began.elapsed());
        let began = Instant::now();
        let ticket = api_of(gateway).post("/api/tickets", &json!({ "userId": "bob" })).await;
        assert_eq!(ticket.expect(503)["code"], "unavailable");
        assert!(began.elapsed() < AT_ONCE, "a ticket took {:?}", began.elapsed());
        let began = Instant::now();
        let room = format!("never-seen-{round}");
        let joined = alice.join(&room, None).await.unwrap();
        assert!(joined.messages.is_empty(), "the database has nothing of it");
        assert!(began.elapsed() < AT_ONCE, "a join took {:?}", began.elapsed());
        alice.command("room:leave", json!({ "roomId": room })).await.unwrap();
    }
}

async fn goes_on(fleet: &Fleet, alice: &Client) {
    let sent = || async { alice.send("r", &unique_id(), "again").await.map_err(|e| e.to_string()) };
    eventually(PATIENCE, "it goes on", sent).await;
    knows_rooms(&fleet.gateways()[0], 1.0).await;
}

/// Rooms that nobody is in are let go of.
async fn knows_rooms(gateway: &GatewayNode, count: f64) {
    let rooms = || async {
        let rooms = gateway.metrics().await.unwrap().sum("roomcast_rooms");
        if rooms <= count { Ok(()) } else { Err(format!("{rooms} rooms")) }
    };
    eventually(PATIENCE, "rooms are let go of", rooms).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_known_to_be_away_everybody_is_answered_at_once() {
    let mut fleet = cluster().await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    alice.join("r", None).await.unwrap();
    alice.send("r", &unique_id(), "before").await.unwrap();

    fleet.redis().stop().await.unwrap();
    knows(&fleet.gateways()[0]).await;
    is_answered_at_once(&fleet.gateways()[0], &alice).await;
    fleet.redis().cont().unwrap();
    goes_on(&fleet, &alice).await;

    fleet.redis_mut().kill_9().await.unwrap();
    knows(&fleet.gateways()[0]).await;
    is_answered_at_once(&fleet.gateways()[0], &alice).await;
    // Nobody is in any of them.
    knows_rooms(&fleet.gateways()[0], 1.0).await;
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
    goes_on(&fleet, &alice).await;
}

/// Before it is known that Redis is gone, a reader waits for that and is not turned away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_or_joins_while_redis_goes_is_not_turned_away() {
    let mut fleet = cluster().await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    alice.join("r", None).await.unwrap();
    alice.send("r", &unique_id(), "before").await.unwrap();
    fleet.redis_mut().kill_9().await.unwrap();
    let began = Instant::now();
    for round in 0.. {
        alice.history("r", json!({})).await.unwrap();
        alice.history("r", json!({ "after": { "epoch": 0, "seq": 0 } })).await.unwrap();
        alice.join(&format!("new-{round}"), None).await.unwrap();
        if began.elapsed() > Duration::from_secs(2) {
            break;
        }
    }
}
