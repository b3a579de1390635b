//! Somebody is removed from a room while everybody talks: nothing later reaches them, wherever they
//! are connected, and they do not come back before they are added again.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fleet::{Fleet, GatewayNode};
use harness::wire::Incoming;
use harness::{Api, Client, Position, eventually, unique_id};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::fixtures::{SOON, client, gateway, heard};

const ROOM: &str = "r";
const MEMBER: &str = "/api/rooms/r/members/mallory";

/// The API of a gateway in the development mode, where it is open.
pub(crate) fn api(gateway: &GatewayNode) -> Api {
    Api::new(gateway.port())
}

/// Says something again and again until it is told to stop.
fn talk(talker: Client, stop: &Arc<AtomicBool>) -> JoinHandle<Client> {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            talker.send(ROOM, &unique_id(), "on and on").await.unwrap();
        }
        talker
    })
}

/// The places of all logged events that a client got.
fn places(client: &Client) -> Vec<Position> {
    let places = client.log().into_iter().filter_map(|incoming| match incoming {
        Incoming::Event { data, .. } if data["roomId"] == ROOM => {
            data.get("position").and_then(|place| Position::deserialize(place).ok())
        }
        Incoming::Event { .. } | Incoming::Reply { .. } => None,
        Incoming::Faulty(_) | Incoming::Closed(_) => None,
    });
    places.collect()
}

fn is_kick(incoming: &Incoming) -> bool {
    matches!(incoming, Incoming::Event { name, data }
        if name == "room:error" && data["code"] == "kicked" && data["roomId"] == ROOM)
}

/// Waits until the client was told that it is out.
pub(crate) async fn kicked(client: &Client) {
    let told = || async { client.log().iter().any(is_kick) };
    eventually(SOON, "mallory is told", told).await;
}

/// Waits until a client has heard of so many messages.
async fn hears(client: &Client, count: usize) {
    let enough = || async {
        let heard = heard(client, ROOM).len();
        if heard >= count { Ok(()) } else { Err(format!("{heard} messages")) }
    };
    eventually(SOON, "messages flow", enough).await;
}

/// Refused like somebody who never belonged to the room.
pub(crate) async fn is_kept_out(mallory: &Client) {
    let join = mallory.join(ROOM, None).await.unwrap_err();
    assert_eq!(join.code(), Some("forbidden"));
    let history = mallory.history(ROOM, json!({})).await.unwrap_err();
    assert_eq!(history.code(), Some("forbidden"));
    let send = mallory.send(ROOM, &unique_id(), "still here").await.unwrap_err();
    assert_eq!(send.code(), Some("not_joined"));
}

/// The place of the removal: the one that nobody sees anything at.
fn hole(places: &[Position]) -> Position {
    let holes: Vec<Position> = places
        .windows(2)
        .filter(|two| two[1].epoch == two[0].epoch && two[1].seq != two[0].seq + 1)
        .map(|two| Position::new(two[0].epoch, two[0].seq + 1))
        .collect();
    assert_eq!(holes.len(), 1, "{holes:?}");
    holes[0]
}

/// Removes mallory, who is on every node, from a busy room, and lets them in again.
pub(crate) async fn removes_under_load(fleet: &Fleet) {
    let gateways = fleet.gateways();
    let mut members = Vec::new();
    for number in 0..10 {
        let member = client(&gateways[number % gateways.len()], &format!("member-{number}")).await;
        member.join(ROOM, None).await.unwrap();
        members.push(member);
    }
    let mut tabs = Vec::new();
    for gateway in gateways {
        let tab = client(gateway, "mallory").await;
        tab.join(ROOM, None).await.unwrap();
        tabs.push(tab);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let talkers: Vec<JoinHandle<Client>> =
        members.drain(..4).map(|member| talk(member, &stop)).collect();
    for tab in &tabs {
        hears(tab, 100).await;
    }
    let removed: Value = api(&gateways[0]).ask("DELETE", MEMBER, None).await.expect(200);
    assert_eq!(removed["role"], "removed");
    // What is said from here on stands behind the removal.
    let later = members[0].send(ROOM, &unique_id(), "behind it").await.unwrap();
    let seen = heard(&members[1], ROOM).len();
    hears(&members[1], seen + 100).await;
    stop.store(true, Ordering::Relaxed);
    for talker in talkers {
        drop(talker.await.unwrap());
    }
    let last = members[0].send(ROOM, &unique_id(), "the last").await.unwrap().position.unwrap();
    // On every node: one that has not heard of it yet shows it a moment after a join.
    let all = || async { members.iter().all(|member| places(member).last() == Some(&last)) };
    eventually(SOON, "everybody else hears everything", all).await;
    let at = hole(&places(&members[1]));
    assert!(later.position.unwrap() > at);
    for tab in &tabs {
        kicked(tab).await;
        let furthest = places(tab).into_iter().max().unwrap();
        assert!(furthest < at, "{furthest} reached them, who were removed at {at}");
        is_kept_out(tab).await;
    }
    let added = api(&gateways[0]).ask("PUT", MEMBER, None).await.expect(200);
    assert_eq!(added["role"], "member");
    for tab in &tabs {
        let joined = tab.join(ROOM, None).await.unwrap();
        assert_eq!(joined.messages.last().unwrap().position, last);
        tab.history(ROOM, json!({})).await.unwrap();
    }
    members[0].send(ROOM, &unique_id(), "welcome back").await.unwrap();
    for tab in &tabs {
        let again = || async { places(tab).last() > Some(&last) };
        eventually(SOON, "mallory hears again", again).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_reaches_somebody_who_was_removed() {
    removes_under_load(&gateway().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_outlives_the_node_and_one_without_members_counts_too() {
    let mut fleet = gateway().await;
    let alice = client(fleet.gateway(), "alice").await;
    alice.join(ROOM, None).await.unwrap();
    alice.send(ROOM, &unique_id(), "hello").await.unwrap();
    // Mallory never was here.
    api(fleet.gateway()).ask("DELETE", MEMBER, None).await.expect(200);
    is_kept_out(&client(fleet.gateway(), "mallory").await).await;
    fleet.gateway_mut().terminate(SOON).await.unwrap();
    fleet.gateway_mut().restart(SOON).await.unwrap();
    let mallory = client(fleet.gateway(), "mallory").await;
    is_kept_out(&mallory).await;
    api(fleet.gateway()).ask("PUT", MEMBER, None).await.expect(200);
    mallory.join(ROOM, None).await.unwrap();
    api(fleet.gateway()).ask("DELETE", MEMBER, None).await.expect(200);
    kicked(&mallory).await;
    is_kept_out(&mallory).await;
}
