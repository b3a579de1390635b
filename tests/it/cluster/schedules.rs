//! Schedules that an exhaustive model of the protocol found, with the processes made to stand still
//! between the steps.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use fleet::{ClusterOptions, Faults, Fleet, Proxy, Traffic};
use harness::wire::Incoming;
use harness::{Client, eventually, unique_id};
use serde_json::json;
use shared::contract::id::RoomId;
use shared::log::redis::RedisLog;
use shared::log::redis::connection::RedisConnection;
use shared::log::{Claim, Log};
use shared::process::clock::Clock;
use shared::process::settings::Secret;
use shared::store::Shards;
use shared::store::postgres::{PostgresStore, Settings};
use uuid::Uuid;

use super::PATIENCE;
use super::set_back::{all_stored, joins, order, says, shown, with_snapshots};
use crate::fixtures::{client, heard, told_persisted, until_told_persisted};

/// Entries of a shard; far more than is said here.
const ENTRIES_MAX: usize = 1000;

/// Redis loses what two nodes accepted; the later of the two is offered again first, and the
/// database has the other order. Whoever saw the first order is told to read anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_keeps_an_order_that_redis_lost_and_the_database_never_had() {
    let fleet = with_snapshots(2).await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    let bob = client(&fleet.gateways()[1], "bob").await;
    let carol = client(&fleet.gateways()[1], "carol").await;
    for member in [&alice, &bob, &carol] {
        member.join("r", None).await.unwrap();
    }
    fleet.workers()[0].stop().await.unwrap();
    let first = says(&alice, "first").await;
    let heard_first = || async { heard(&carol, "r").len() == 1 };
    eventually(PATIENCE, "carol has it", heard_first).await;
    let second = says(&bob, "second").await;
    fleet.gateways()[0].stop().await.unwrap();
    fleet.redis().command(&["FLUSHALL"]).await.unwrap();
    let third = says(&bob, "third").await;
    fleet.gateways()[0].cont().unwrap();
    fleet.workers()[0].cont().unwrap();
    all_stored(&fleet, 3).await;
    let stored = order(&fleet).await;
    let ids: Vec<&str> = stored.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(ids, [&second.id, &third.id, &first.id], "what one node lost keeps its order");
    let reset = || async {
        carol.log().iter().any(|incoming| format!("{incoming:?}").contains("\"reset\""))
    };
    eventually(PATIENCE, "carol is told to read the room anew", reset).await;
    assert_eq!(shown(&joins(&carol, None).await), stored);
}

/// Redis comes back with what a node had accepted; a worker stores it under the next epoch before
/// the node offers it again. The database had nothing of the shard when that epoch was minted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_found_in_the_log_of_an_earlier_epoch_is_not_placed_again() {
    let options = ClusterOptions { gateways: 1, workers: 1, ..super::options() };
    let mut fleet = Fleet::cluster(options).await.unwrap();
    let alice = client(&fleet.gateways()[0], "alice").await;
    alice.join("r", None).await.unwrap();
    fleet.workers()[0].stop().await.unwrap();
    for _ in 0..5 {
        says(&alice, "said").await;
    }
    fleet.gateways()[0].stop().await.unwrap();
    fleet.redis_mut().kill_9().await.unwrap();
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
    fleet.workers()[0].cont().unwrap();
    all_stored(&fleet, 5).await;
    fleet.gateways()[0].cont().unwrap();
    let after = says(&alice, "after").await;
    assert_eq!(after.position.map(|at| at.seq), Some(6), "what stands took places again");
    all_stored(&fleet, 6).await;
}

/// A node reads a room's ring; Redis is lost; a row of the next epoch is committed; the node reads
/// the database. What it then shows must not be the lost entries before the new row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_of_one_epoch_is_not_joined_to_rows_of_the_next() {
    let mut fleet = with_snapshots(3).await;
    let proxy = Proxy::start(fleet.postgres().port()).await.unwrap();
    let through = fleet.postgres().url_at(proxy.port(), fleet.database());
    let far = &mut fleet.gateways_mut()[2];
    far.options_mut().env.insert("DATABASE_URL".to_owned(), through);
    far.terminate(PATIENCE).await.unwrap();
    far.restart(PATIENCE).await.unwrap();
    let alice = client(&fleet.gateways()[0], "alice").await;
    let bob = client(&fleet.gateways()[1], "bob").await;
    let carol = client(&fleet.gateways()[2], "carol").await;
    for member in [&alice, &bob, &carol] {
        member.join("r", None).await.unwrap();
    }
    fleet.workers()[0].stop().await.unwrap();
    let lost = says(&alice, "lost").await;
    let has_it = || async { heard(&carol, "r").len() == 1 };
    eventually(PATIENCE, "carol has it", has_it).await;
    proxy.link().set_faults(Faults { traffic: Traffic::Held, ..Faults::default() });
    let rings = reads(&fleet).await;
    let page = carol.send_nowait("history:get", json!({ "roomId": "r" })).await;
    // By then its ring has been read; the looks of the node that waits for a commit count too.
    let ring_read = || async { reads(&fleet).await >= rings + 8 };
    eventually(PATIENCE, "scripts are called", ring_read).await;
    fleet.gateways()[0].stop().await.unwrap();
    fleet.redis().command(&["FLUSHALL"]).await.unwrap();
    let newer = says(&bob, "of the next epoch").await;
    fleet.workers()[0].cont().unwrap();
    all_stored(&fleet, 1).await;
    proxy.link().heal();
    let page = page.reply(PATIENCE).await.unwrap();
    let ids: Vec<&str> =
        page["messages"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&newer.id], "{} stands nowhere now", lost.id);
    fleet.gateways()[0].cont().unwrap();
    all_stored(&fleet, 2).await;
    let stored = order(&fleet).await;
    let agreed = || async { shown(&joins(&carol, None).await) == stored };
    eventually(PATIENCE, "carol sees the database's order", agreed).await;
}

/// How often scripts were called.
async fn reads(fleet: &Fleet) -> u64 {
    let stats = fleet.redis().command(&["INFO", "commandstats"]).await.unwrap();
    let text = stats.text().unwrap().to_owned();
    let calls = text.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    calls.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// The watermark that covers a refused message passes a node that hears nothing then, and the room
/// reads later how far it is persisted. Its sender must hear that it was refused, first, whichever
/// node it asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_persisted_for_what_the_database_refused() {
    let mut fleet = with_snapshots(2).await;
    fleet.postgres().query(fleet.database(), POISON).await.unwrap();
    let proxy = Proxy::start(fleet.redis().port()).await.unwrap();
    let through = fleet.redis().url_at(proxy.port());
    let far = &mut fleet.gateways_mut()[1];
    far.options_mut().env.insert("REDIS_URL".to_owned(), through);
    far.terminate(PATIENCE).await.unwrap();
    far.restart(PATIENCE).await.unwrap();
    let alice = client(&fleet.gateways()[1], "alice").await;
    alice.join("r", None).await.unwrap();
    fleet.workers()[0].stop().await.unwrap();
    let poison = says(&alice, "poison").await;
    let sound = says(&alice, "sound").await;
    proxy.link().set_on(false);
    proxy.link().cut();
    fleet.workers()[0].cont().unwrap();
    let room = RoomId::parse("r").unwrap();
    let passed = || async {
        let key = shared::contract::keys::head(&room);
        let reply = fleet.redis().command(&["HGET", &key, "pseq"]).await.unwrap();
        // The refusal takes a place of its own, and may be there already.
        let seq = reply.text().and_then(|seq| seq.parse::<u64>().ok());
        if seq >= Some(2) { Ok(()) } else { Err(format!("{seq:?}")) }
    };
    eventually(PATIENCE, "redis says that both are persisted", passed).await;
    let since = crate::fixtures::since(&sound);
    // The same user where nothing was missed, but comes later.
    let elsewhere = client(&fleet.gateways()[0], "alice").await;
    let joined = joins(&elsewhere, Some(&since)).await;
    assert!(joined.recovered && joined.persisted < poison.position.unwrap(), "{joined:?}");
    told_rejected(&elsewhere, &poison.id).await;
    proxy.link().set_on(true);
    told_rejected(&alice, &poison.id).await;
    until_told_persisted(&alice, &[&sound.id]).await;
    assert_eq!(told_persisted(&alice), [sound.id]);
    // What the node still held of it would be offered again, and be refused at another place.
    let let_go = || async {
        let metrics = fleet.gateways()[1].metrics().await.map_err(|error| error.to_string())?;
        let held = metrics.sum("roomcast_retained_entries");
        if held == 0.0 { Ok(()) } else { Err(format!("{held} are retained")) }
    };
    eventually(PATIENCE, "the node lets go of what is settled", let_go).await;
    // Redis loses what it knew of that, and the database names it again.
    fleet.redis().command(&["FLUSHALL"]).await.unwrap();
    says(&elsewhere, "and on").await;
    all_stored(&fleet, 2).await;
    fleet.gateways_mut()[1].restart(PATIENCE).await.unwrap();
    for gateway in fleet.gateways() {
        let late = client(gateway, "alice").await;
        let joined = joins(&late, None).await;
        assert!(joined.persisted < poison.position.unwrap(), "{joined:?}");
        told_rejected(&late, &poison.id).await;
    }
}

const POISON: &str = "
    CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'poison is refused' USING ERRCODE = '23514'; END $$;
    CREATE TRIGGER poison BEFORE INSERT ON team_chat_messages FOR EACH ROW
        WHEN (NEW.content LIKE '%poison%') EXECUTE FUNCTION poison();";

/// `message:rejected` comes.
async fn told_rejected(client: &Client, id: &str) {
    let told = || async {
        client.log().iter().any(|incoming| match incoming {
            Incoming::Event { name, data } => name == "message:rejected" && data["id"] == id,
            Incoming::Reply { .. } | Incoming::Faulty(_) | Incoming::Closed(_) => false,
        })
    };
    eventually(PATIENCE, "the sender is told", told).await;
}

/// A node claims and falls asleep; Redis is lost again, another node claims, mints and arms; the
/// sleeper mints for its dead token. Every commit under the armed epoch is refused from then on,
/// and whoever is refused claims above the newest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_was_minted_for_a_dead_token_stops_no_shard() {
    let fleet = with_snapshots(2).await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    alice.join("r", None).await.unwrap();
    let first = says(&alice, "under the first epoch").await.position.unwrap();
    all_stored(&fleet, 1).await;
    let url = |url: &str| Secret::from(url);
    let redis = RedisConnection::new(&url(&fleet.redis_url()), None, Clock::system()).unwrap();
    let database = url(&fleet.database_url());
    let store = PostgresStore::connect(&database, Settings::default()).unwrap();
    assert!(redis.take(&store.deployment().await.unwrap().name).await.unwrap());
    let log = RedisLog::new(redis, ENTRIES_MAX);
    let (shard, token) = (RoomId::parse("r").unwrap().shard(), Uuid::now_v7());
    let claimed = log.claim(shard, first.epoch + 1, token).await.unwrap();
    assert_eq!(claimed, Claim::Token(token));
    fleet.redis().command(&["FLUSHALL"]).await.unwrap();
    let second = says(&alice, "under an epoch of the living").await.position.unwrap();
    let dead = store.mint(shard, token, 0).await.unwrap().number;
    assert!(dead > second.epoch && second.epoch > first.epoch, "{dead}, {second}, {first}");
    let third = unique_id();
    alice.send("r", &third, "not for ever unsaid").await.unwrap();
    all_stored(&fleet, 3).await;
    let newest = store.cursor(shard).await.unwrap().epoch;
    assert!(newest > dead, "the shard goes on above it");
    says(&alice, "and on").await;
    all_stored(&fleet, 4).await;
    store.close();
}
