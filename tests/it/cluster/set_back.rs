//! A Redis that comes back as it was a while ago: a snapshot, a replica that lagged, the old server
//! after another had taken its place.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use fleet::{ClusterOptions, Fleet, RedisOptions};
use harness::wire::{Accepted, Incoming, Joined};
use harness::{Client, Position, eventually, unique_id};
use serde_json::{Value, json};

use super::{PATIENCE, options, stored};
use crate::fixtures::{client, heard, since, told_persisted, until_heard, until_told_persisted};

type Places = Vec<(Position, String)>;

/// A cluster whose Redis keeps nothing but the snapshots that it is told to take.
pub(super) async fn with_snapshots(gateways: usize) -> Fleet {
    let redis = RedisOptions::default().with_setting("appendonly", "no");
    let worker = options().worker;
    let options = ClusterOptions { gateways, workers: 1, redis, worker, ..options() };
    Fleet::cluster(options).await.unwrap()
}

pub(super) async fn snapshot(fleet: &Fleet) {
    told(fleet, "SAVE").await;
}

/// Has Redis do something, which on a busy machine takes it a while.
pub(super) async fn told(fleet: &Fleet, what: &str) {
    let done = || async {
        let done = fleet.redis().command(&[what]).await;
        done.map(drop).map_err(|error| error.to_string())
    };
    eventually(PATIENCE, "redis has done it", done).await;
}

/// Redis ends without a word, and begins again as it was at the snapshot.
pub(super) async fn set_back(fleet: &mut Fleet) {
    fleet.redis_mut().kill_9().await.unwrap();
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
}

/// Waits until so many messages are in the database.
pub(super) async fn all_stored(fleet: &Fleet, count: usize) {
    let all = || async {
        let stored = stored(fleet).await;
        if stored == count { Ok(()) } else { Err(format!("{stored} of {count}")) }
    };
    eventually(PATIENCE, "the database has it", all).await;
}

/// A join that may have to be tried again while epochs change.
pub(super) async fn joins(client: &Client, since: Option<&harness::wire::Since>) -> Joined {
    let tried = || async { client.join("r", since).await.map_err(|error| error.to_string()) };
    eventually(PATIENCE, "the room can be joined", tried).await
}

/// Says something as often as it takes; who was told to read the room anew joins it again.
pub(super) async fn says(client: &Client, text: &str) -> Accepted {
    let id = unique_id();
    let tried = || async {
        let sent = client.send("r", &id, text).await;
        if sent.as_ref().is_err_and(|error| error.code() == Some("not_joined")) {
            joins(client, None).await;
        }
        sent.map_err(|error| error.to_string())
    };
    eventually(PATIENCE, "it is accepted", tried).await
}

pub(super) fn shown(joined: &Joined) -> Places {
    joined.messages.iter().map(|message| (message.position, message.id.clone())).collect()
}

/// The database's order of the room.
pub(super) async fn order(fleet: &Fleet) -> Places {
    let rows = super::rows(fleet).await.unwrap();
    let rows = rows.into_iter().filter(|row| row.room == "r");
    rows.map(|row| (row.position(), row.id)).collect()
}

fn was_reset(client: &Client) -> bool {
    let is_reset = |incoming: &Incoming| match incoming {
        Incoming::Event { name, data } => name == "room:error" && data["code"] == "reset",
        Incoming::Reply { .. } | Incoming::Faulty(_) | Incoming::Closed(_) => false,
    };
    client.log().iter().any(is_reset)
}

async fn costly(client: &Client, amount: u64) -> Accepted {
    let cost = json!({ "amount": amount });
    let data = json!({ "roomId": "r", "id": unique_id(), "content": "x", "credits": cost });
    serde_json::from_value(client.command("message:send", data).await.unwrap()).unwrap()
}

async fn credits(client: &Client) -> Value {
    client.command("credits:get", json!({})).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_stays_in_every_join_when_redis_is_set_back() {
    let mut fleet = with_snapshots(2).await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    let mut bob = client(&fleet.gateways()[1], "bob").await;
    alice.join("r", None).await.unwrap();
    bob.join("r", None).await.unwrap();
    let mut said = Vec::new();
    for _ in 0..5 {
        said.push(costly(&alice, 3).await);
    }
    snapshot(&fleet).await;
    for _ in 0..5 {
        said.push(costly(&alice, 3).await);
    }
    let last = said.last().unwrap().position.unwrap();
    let read = json!({ "roomId": "r", "position": { "epoch": last.epoch, "seq": last.seq } });
    until_heard(&mut bob, &said[9].id).await;
    bob.command("receipt:update", read).await.unwrap();
    all_stored(&fleet, 10).await;
    let before = order(&fleet).await;
    set_back(&mut fleet).await;

    for (number, gateway) in fleet.gateways().iter().enumerate() {
        let newcomer = client(gateway, &format!("newcomer-{number}")).await;
        let joined = joins(&newcomer, None).await;
        assert_eq!(shown(&joined), before, "a newcomer at node {number}");
        assert_eq!(joined.persisted, last);
        let resumer = client(gateway, &format!("resumer-{number}")).await;
        let joined = joins(&resumer, Some(&since(&said[6]))).await;
        assert!(joined.recovered, "a resumer at node {number}");
        assert_eq!(shown(&joined), before[7..], "a resumer at node {number}");
    }
    let next = says(&alice, "and on").await;
    let place = next.position.unwrap();
    assert!(place.epoch > last.epoch && place.seq == last.seq + 1, "{place}");
    until_heard(&mut bob, &next.id).await;
    assert!(!was_reset(&alice) && !was_reset(&bob), "they have what the database has");
    let expected = [before.clone(), vec![(place, next.id.clone())]].concat();
    assert_eq!(heard(&bob, "r"), expected);
    all_stored(&fleet, 11).await;
    assert_eq!(order(&fleet).await, expected);
    let page = bob.history("r", json!({})).await.unwrap();
    let page: Places = page.messages.into_iter().map(|m| (m.position, m.id)).collect();
    assert_eq!(page, expected);
    let spent = || async {
        let credits = credits(&alice).await;
        let is_right = credits["unsynced"] == 0 && credits["balance"] == -30;
        if is_right { Ok(()) } else { Err(credits.to_string()) }
    };
    eventually(PATIENCE, "what was stored counts as unsynced no longer", spent).await;
    let far = client(&fleet.gateways()[0], "far").await;
    let reply = far.command("room:join", json!({ "roomId": "r" })).await.unwrap();
    assert_eq!(reply["receipts"]["bob"]["position"]["seq"], last.seq, "{reply}");
    // Each node tells anew who is there when it sees that its lease is gone.
    let present = || async {
        let reply = far.command("room:join", json!({ "roomId": "r" })).await.unwrap();
        let here = |user: &str| !reply["presence"][user].is_null();
        if here("alice") && here("bob") { Ok(()) } else { Err(reply["presence"].to_string()) }
    };
    eventually(PATIENCE, "both are here", present).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_old_redis_remembers_and_nobody_stored_is_stored_when_it_is_offered_again() {
    let mut fleet = with_snapshots(2).await;
    let mut alice = client(&fleet.gateways()[0], "alice").await;
    let bob = client(&fleet.gateways()[1], "bob").await;
    alice.join("r", None).await.unwrap();
    bob.join("r", None).await.unwrap();
    fleet.workers()[0].stop().await.unwrap();
    let lost = says(&alice, "only this redis knows it").await;
    snapshot(&fleet).await;
    // The node that accepted it sleeps while another redis, an empty one, takes over.
    fleet.gateways()[0].stop().await.unwrap();
    fleet.redis().command(&["FLUSHALL"]).await.unwrap();
    let newer = says(&bob, "said under the next epoch").await;
    assert!(newer.position.unwrap().epoch > lost.position.unwrap().epoch);
    fleet.workers()[0].cont().unwrap();
    all_stored(&fleet, 1).await;
    // The old one comes back, then the node.
    set_back(&mut fleet).await;
    let last = says(&bob, "said to the old one").await;
    fleet.gateways()[0].cont().unwrap();
    all_stored(&fleet, 3).await;
    let stored = order(&fleet).await;
    let ids: Vec<&str> = stored.iter().map(|(_, id)| id.as_str()).collect();
    assert!(ids[0] == newer.id && ids.contains(&&*last.id) && ids.contains(&&*lost.id), "{ids:?}");
    for (number, gateway) in fleet.gateways().iter().enumerate() {
        let newcomer = client(gateway, &format!("newcomer-{number}")).await;
        assert_eq!(shown(&joins(&newcomer, None).await), stored, "at node {number}");
    }
    // Whoever was shown it where it does not stand is told to read anew.
    let told = || async { was_reset(&alice) };
    eventually(PATIENCE, "alice is told", told).await;
    assert_eq!(shown(&joins(&alice, None).await), stored);
    // It was offered again, by the node that had it: at the place that it has now.
    until_told_persisted(&alice, &[&lost.id]).await;
    assert_eq!(told_persisted(&alice), [lost.id]);
    until_heard(&mut alice, &says(&bob, "on").await.id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_set_back_by_more_than_the_log_keeps_is_said_aloud_and_its_shard_goes_on() {
    let worker = options().worker.with_env("ROOMCAST_LOG_KEEP_MS", "0");
    let options = ClusterOptions { gateways: 1, workers: 1, worker, ..options() };
    let mut fleet = Fleet::cluster(options).await.unwrap();
    let alice = client(&fleet.gateways()[0], "alice").await;
    alice.join("r", None).await.unwrap();
    for _ in 0..3 {
        says(&alice, "said").await;
    }
    all_stored(&fleet, 3).await;
    fleet.workers_mut()[0].terminate(PATIENCE).await.unwrap();
    for sql in [
        "DELETE FROM team_chat_messages WHERE seq > 1",
        "UPDATE shards SET cursor_n = 1 WHERE cursor_n > 1",
    ] {
        fleet.postgres().query(fleet.database(), sql).await.unwrap();
    }
    fleet.workers_mut()[0].restart(PATIENCE).await.unwrap();
    says(&alice, "goes on").await;
    all_stored(&fleet, 2).await;
    let worker = &fleet.workers()[0];
    let gaps = worker.metrics().await.unwrap().sum("roomcast_sync_log_gaps_total");
    assert!((gaps - 1.0).abs() < f64::EPSILON, "{gaps}");
    let log = std::fs::read_to_string(worker.log()).unwrap();
    assert_eq!(log.matches("the log has forgotten it").count(), 1, "{log}");
}
