//! `message:persisted`: told to the connections that wait for it, and to nobody else.

use fleet::{ClusterOptions, Fleet};
use harness::{Client, Proof, eventually, unique_id};
use serde_json::json;

use super::{PATIENCE, options, stored};
use crate::fixtures::{told_persisted, until_heard, until_told_persisted};
use crate::rate_limits::{SECRET, client as limited};

/// Two gateways and a worker that stands still until it is woken.
async fn with_sleeping_worker() -> Fleet {
    let fleet = Fleet::cluster(ClusterOptions { workers: 1, ..options() }).await;
    let fleet = fleet.expect("a cluster");
    fleet.workers()[0].stop().await.expect("the worker stands still");
    fleet
}

async fn member(fleet: &Fleet, gateway: usize, user: &str) -> Client {
    let url = fleet.gateways()[gateway].ws_url();
    let client = Client::connect(&url, &Proof::user(user)).await.expect("a connection");
    client.join("r", None).await.expect("a member");
    client
}

fn nothing() -> Vec<String> {
    Vec::new()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_told_once_and_nobody_else_is() {
    let fleet = with_sleeping_worker().await;
    let alice = member(&fleet, 0, "alice").await;
    let elsewhere = member(&fleet, 0, "alice").await;
    let mut bob = member(&fleet, 1, "bob").await;
    let (first, edited, gone, last) = (unique_id(), unique_id(), unique_id(), unique_id());
    assert!(!alice.send("r", &first, "first").await.unwrap().persisted);
    let edit = json!({"roomId": "r", "id": first, "changeId": edited, "content": "edited"});
    assert_eq!(alice.command("message:edit", edit).await.unwrap()["persisted"], json!(false));
    let delete = json!({"roomId": "r", "id": first, "changeId": gone});
    assert_eq!(alice.command("message:delete", delete).await.unwrap()["persisted"], json!(false));
    alice.send("r", &last, "last").await.unwrap();
    // It waits on the connection, not in the room.
    alice.command("room:leave", json!({"roomId": "r"})).await.unwrap();
    fleet.workers()[0].cont().unwrap();
    until_told_persisted(&alice, &[&first, &edited, &gone, &last]).await;
    let newer = unique_id();
    elsewhere.send("r", &newer, "newer").await.unwrap();
    until_heard(&mut bob, &newer).await;
    until_told_persisted(&elsewhere, &[&newer]).await;
    let (mut told, mut said) = (told_persisted(&alice), vec![first, edited, gone, last]);
    told.sort_unstable();
    said.sort_unstable();
    assert_eq!(told, said, "each once");
    assert_eq!((told_persisted(&elsewhere), told_persisted(&bob)), (vec![newer], nothing()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_offers_it_again_elsewhere_is_told_there() {
    let fleet = with_sleeping_worker().await;
    let first = member(&fleet, 0, "alice").await;
    let id = unique_id();
    first.send("r", &id, "said once").await.unwrap();
    drop(first);
    let again = member(&fleet, 1, "alice").await;
    let other = member(&fleet, 1, "alice").await;
    for client in [&again, &other, &again] {
        let place = client.send("r", &id, "said once").await.unwrap();
        assert!(place.duplicate && !place.persisted);
    }
    fleet.workers()[0].cont().unwrap();
    for client in [&again, &other] {
        until_told_persisted(client, &[&id]).await;
        assert_eq!(told_persisted(client), std::slice::from_ref(&id));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_told_though_redis_has_lost_it_meanwhile() {
    let fleet = with_sleeping_worker().await;
    let alice = member(&fleet, 0, "alice").await;
    let ids: Vec<String> = (0..20).map(|_| unique_id()).collect();
    for id in &ids {
        alice.send("r", id, "said before the loss").await.unwrap();
    }
    fleet.redis().command(&["FLUSHALL"]).await.unwrap();
    fleet.workers()[0].cont().unwrap();
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    until_told_persisted(&alice, &all).await;
    assert_eq!(told_persisted(&alice).len(), ids.len(), "each once");
    assert_eq!(stored(&fleet).await, ids.len());
}

/// Whoever is over their limit is answered from what stands, and waits for it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_over_the_limit_waits_for_what_stands() {
    let gateway = options()
        .gateway
        .with_env("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "1")
        .with_jwt_secret(SECRET);
    let options = ClusterOptions { workers: 1, gateway, ..options() };
    let fleet = Fleet::cluster(options).await.unwrap();
    fleet.workers()[0].stop().await.unwrap();
    let alice = limited(&fleet.gateways()[0].ws_url(), "alice", "member").await;
    let id = unique_id();
    alice.join("r", None).await.unwrap();
    alice.send("r", &id, "the only one").await.unwrap();
    let again = limited(&fleet.gateways()[1].ws_url(), "alice", "member").await;
    again.join("r", None).await.unwrap();
    let refused = again.send("r", &unique_id(), "one too many").await.unwrap_err();
    assert_eq!(refused.code(), Some("rate_limited"));
    let place = again.send("r", &id, "the only one").await.unwrap();
    assert!(place.duplicate && !place.persisted);
    fleet.workers()[0].cont().unwrap();
    let told = || async { told_persisted(&again) == std::slice::from_ref(&id) };
    eventually(PATIENCE, "it is told", told).await;
}
