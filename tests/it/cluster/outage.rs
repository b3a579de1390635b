//! Postgres goes away and Redis is fine: what goes on, and what must not.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use std::pin::pin;
use std::time::Duration;

use fleet::{ClusterOptions, Fleet, Proxy};
use harness::{Client, Proof, eventually, unique_id};
use serde_json::{Value, json};
use shared::contract::id::RoomId;
use tokio::time::Instant;

use super::{PATIENCE, cluster, options, stored};
use crate::fixtures::{client, flood, until_heard};
use crate::removal::api;

/// Longer than any belief lasts without being looked at.
const OUTAGE: Duration = Duration::from_secs(5);

/// More than a node remembers of a room, so that the ring alone fills its memory.
const RING_FULL: usize = 600;

/// More than one call of the log takes.
const OFFERED_AGAIN: usize = 400;

/// A cluster that reaches its servers through proxies, without a pause for leases.
async fn behind_proxies() -> Fleet {
    Fleet::cluster(ClusterOptions { proxies: true, ..options() }).await.unwrap()
}

fn take_away(server: &Proxy) {
    server.link().set_on(false);
    server.link().cut();
}

/// Another room in the shard of `room`.
fn neighbour(room: &str) -> String {
    let shard = |room: &str| RoomId::parse(room).unwrap().shard();
    let mut others = (0..).map(|n| format!("{room}-{n}"));
    others.find(|other| shard(other) == shard(room)).unwrap()
}

/// Says one thing after the other as long as the time lasts; how much it was.
async fn talks_for(talker: &Client, room: &str, time: Duration) -> usize {
    let (began, mut said) = (Instant::now(), 0);
    while began.elapsed() < time {
        talker.send(room, &unique_id(), "on and on").await.unwrap();
        said += 1;
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgres_is_away_members_talk_and_a_room_that_is_known_is_joined() {
    let fleet = behind_proxies().await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    let mut bob = client(&fleet.gateways()[1], "bob").await;
    alice.join("r", None).await.unwrap();
    bob.join("r", None).await.unwrap();
    bob.join("far", None).await.unwrap();
    bob.send("far", &unique_id(), "redis knows this room").await.unwrap();
    take_away(fleet.postgres_proxy());
    let dave = client(&fleet.gateways()[0], "dave").await;
    let strange = tokio::spawn(async move { dave.join("far", None).await.unwrap_err() });
    let (by_alice, by_bob) =
        tokio::join!(talks_for(&alice, "r", OUTAGE), talks_for(&bob, "r", OUTAGE));
    let last = unique_id();
    alice.send("r", &last, "the last").await.unwrap();
    until_heard(&mut bob, &last).await;
    let carol = client(&fleet.gateways()[0], "carol").await;
    let joined = carol.join("r", None).await.unwrap();
    assert_eq!(joined.messages.last().unwrap().id, last);
    assert_eq!(strange.await.unwrap().code(), Some("unavailable"), "this node never read it");
    fleet.postgres_proxy().link().set_on(true);
    let all = || async { stored(&fleet).await == by_alice + by_bob + 2 };
    eventually(PATIENCE, "all of it is stored", all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_postgres_is_refused_and_holds_up_nobody_else() {
    let fleet = behind_proxies().await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    let bob = client(&fleet.gateways()[0], "bob").await;
    let (room, cold) = ("r", neighbour("r"));
    for member in [&alice, &bob] {
        member.join(room, None).await.unwrap();
    }
    alice.send(room, &unique_id(), "the room has a head").await.unwrap();
    take_away(fleet.postgres_proxy());
    for _ in 0..3 {
        // An id that says nothing of its age is looked up, a room that redis does not know too.
        let late = json!({ "roomId": room, "id": unique_late_id(), "content": "x" });
        let late = alice.send_nowait("message:send", late).await;
        let path = format!("/api/rooms/{cold}/messages");
        let said = json!({ "userId": "backend", "content": "x" });
        let said_there = api(&fleet.gateways()[0]);
        let unknown = said_there.ask("POST", &path, Some(&said));
        let others = async {
            for _ in 0..20 {
                bob.send(room, &unique_id(), "not held up").await.unwrap();
            }
        };
        let (late, unknown, ()) = tokio::join!(late.reply(PATIENCE), unknown, others);
        assert_eq!(late.unwrap_err().code(), Some("unavailable"));
        let refused: Value = unknown.expect(503);
        assert_eq!(refused["code"], "unavailable", "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_the_database_waits_aside() {
    let fleet = behind_proxies().await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    let (room, beside) = ("r", neighbour("r"));
    for room in [room, &beside] {
        alice.join(room, None).await.unwrap();
        alice.send(room, &unique_id(), "the room has a head").await.unwrap();
    }
    let said = |room: &str, id: String| json!({ "roomId": room, "id": id, "content": "x" });
    // The first to be answered; a machine may be so slow that the database is given up before.
    let mut passed = false;
    for _ in 0..10 {
        alice.send(room, &unique_late_id(), "the database answers").await.unwrap();
        take_away(fleet.postgres_proxy());
        let late = alice.send_nowait("message:send", said(room, unique_late_id())).await;
        let behind = alice.send_nowait("message:send", said(room, unique_id())).await;
        let other = alice.send_nowait("message:send", said(&beside, unique_id())).await;
        let (mut late, mut other) = (pin!(late.reply(PATIENCE)), pin!(other.reply(PATIENCE)));
        passed = tokio::select! {
            biased;
            refused = &mut late => refused.is_ok(),
            accepted = &mut other => accepted.unwrap()["duplicate"] == false,
        };
        if passed {
            let refused = late.await.unwrap_err();
            assert_eq!(refused.code(), Some("unavailable"), "the database is away");
        }
        // The sender's order in the room holds: what was said behind it is not told before it.
        let behind = behind.reply(PATIENCE).await;
        fleet.postgres_proxy().link().set_on(true);
        let again = || async { alice.send(room, &unique_late_id(), "back").await.is_ok() };
        eventually(PATIENCE, "the database answers again", again).await;
        if passed {
            assert!(behind.is_ok() || behind.unwrap_err().code() == Some("unavailable"));
            break;
        }
    }
    assert!(passed, "a room beside waits for the database too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_behind_what_is_offered_again_is_answered_in_time() {
    let mut fleet = cluster().await;
    for worker in fleet.workers_mut() {
        worker.kill_9().await.unwrap();
    }
    let alice = client(&fleet.gateways()[0], "alice").await;
    alice.join("r", None).await.unwrap();
    // More than one call takes.
    for _ in 0..OFFERED_AGAIN {
        alice.send("r", &unique_id(), "accepted").await.unwrap();
    }
    // A Redis that has lost everything and takes nothing: all of it is offered in vain.
    let redis = fleet.redis();
    redis.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await.unwrap();
    redis.command(&["FLUSHALL"]).await.unwrap();
    let metrics = || fleet.gateways()[0].metrics();
    let again = || async {
        let offered = metrics().await.map_err(|error| error.to_string())?;
        let offered = offered.sum("roomcast_offered_again_total");
        if offered >= OFFERED_AGAIN as f64 { Ok(()) } else { Err(format!("{offered}")) }
    };
    eventually(PATIENCE, "what was accepted is offered again", again).await;
    let late = json!({ "roomId": "r", "id": unique_id(), "content": "x" });
    let late = alice.send_nowait("message:send", late).await.reply(PATIENCE).await;
    let code = late.unwrap_err().code().map(str::to_owned);
    assert!(matches!(code.as_deref(), Some("backpressure" | "unavailable")), "{code:?}");

    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    for worker in fleet.workers_mut() {
        worker.restart(PATIENCE).await.unwrap();
    }
    let all = || async { stored(&fleet).await == OFFERED_AGAIN };
    eventually(PATIENCE, "all of it is stored", all).await;
}

/// An id that is no `UUIDv7`, and so has no age.
fn unique_late_id() -> String {
    format!("late-{}", unique_id())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_only_waits_for_a_commit_asks_the_database_nothing() {
    let mut options = ClusterOptions { workers: 0, gateways: 1, ..options() };
    options.postgres = options.postgres.with_setting("log_statement", "all");
    let fleet = Fleet::cluster(options).await.unwrap();
    let alice = client(&fleet.gateways()[0], "alice").await;
    alice.join("r", None).await.unwrap();
    alice.send("r", &unique_id(), "nobody stores it").await.unwrap();
    let looks = async || {
        let stats = fleet.redis().command(&["INFO", "commandstats"]).await.unwrap();
        let text = stats.text().unwrap().to_owned();
        let calls = text.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        calls.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let asked = || {
        let log = std::fs::read_to_string(fleet.postgres().log()).unwrap();
        let tables = ["epochs", "room_heads", "team_chat_messages", "room_members"];
        // Whether they may be written is asked again and again, and reads none of them.
        let is_about = |line: &str| {
            tables.iter().any(|table| line.contains(table)) && !line.contains("has_table_privilege")
        };
        log.lines().filter(|line| is_about(line)).map(str::to_owned).collect::<Vec<_>>()
    };
    let (looked, before) = (looks().await, asked());
    let again = || async { looks().await >= looked + 8 };
    eventually(PATIENCE, "it looks again and again whether redis still holds the epoch", again)
        .await;
    let after = asked();
    assert_eq!(after[before.len()..], [""; 0], "{} before", before.len());
    assert!(!before.is_empty(), "the log of statements is where it is looked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_removed_does_not_get_in_while_postgres_is_away() {
    let fleet = behind_proxies().await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    let bob = client(&fleet.gateways()[1], "bob").await;
    // The node of bob knows the shard, but not this room.
    bob.join(&neighbour("r"), None).await.unwrap();
    alice.join("r", None).await.unwrap();
    let removal = "/api/rooms/r/members/mallory";
    api(&fleet.gateways()[0]).ask("DELETE", removal, None).await.expect(200);
    let said = flood(&alice, "r", RING_FULL).await;
    take_away(fleet.postgres_proxy());
    let mallory = client(&fleet.gateways()[1], "mallory").await;
    let (fresh, known) = (mallory.join("r", None), bob.join("r", None));
    let (fresh, known) = tokio::join!(fresh, known);
    assert_eq!(fresh.unwrap_err().code(), Some("unavailable"));
    assert_eq!(known.unwrap_err().code(), Some("unavailable"), "nobody gets in unread");
    let since = crate::fixtures::since(&said[RING_FULL - 3]);
    let resumed = mallory.join("r", Some(&since)).await;
    assert_eq!(resumed.unwrap_err().code(), Some("unavailable"));
    let history = mallory.history("r", json!({})).await.unwrap_err();
    assert_eq!(history.code(), Some("unavailable"));
    fleet.postgres_proxy().link().set_on(true);
    let back = || async { bob.join("r", None).await.is_ok() };
    eventually(PATIENCE, "bob gets in", back).await;
    assert_eq!(mallory.join("r", None).await.unwrap_err().code(), Some("forbidden"));
    let text = format!("{:?}", mallory.log());
    assert!(!text.contains("message:new"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_nothing_lets_nobody_in_on_what_it_remembers() {
    let mut fleet = behind_proxies().await;
    let proxy = Proxy::start(fleet.redis().port()).await.unwrap();
    let through = fleet.redis().url_at(proxy.port());
    let far = &mut fleet.gateways_mut()[1];
    far.options_mut().env.insert("REDIS_URL".to_owned(), through);
    far.terminate(PATIENCE).await.unwrap();
    far.restart(PATIENCE).await.unwrap();
    let alice = client(&fleet.gateways()[0], "alice").await;
    let bob = client(&fleet.gateways()[1], "bob").await;
    alice.join("r", None).await.unwrap();
    bob.join("r", None).await.unwrap();
    take_away(&proxy);
    let removal = "/api/rooms/r/members/mallory";
    api(&fleet.gateways()[0]).ask("DELETE", removal, None).await.expect(200);
    let url = fleet.gateways()[1].ws_url();
    let mallory = Client::connect(&url, &Proof::user("mallory")).await.unwrap();
    assert_eq!(mallory.join("r", None).await.unwrap_err().code(), Some("forbidden"));
    bob.join("r", None).await.unwrap();
    take_away(fleet.postgres_proxy());
    assert_eq!(mallory.join("r", None).await.unwrap_err().code(), Some("unavailable"));
}
