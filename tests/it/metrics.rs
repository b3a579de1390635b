//! What an operator sees: metrics that all move, figures, and readiness that ends with the drain.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::collections::{BTreeMap, BTreeSet};

use fleet::{Fleet, GatewayNode, GatewayOptions};
use harness::raw::text;
use harness::wire::Since;
use harness::{Client, Position, RawSocket, eventually, unique_id};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::fixtures::{
    POISON, SOON, accepted, client, database, flood, gateway, in_one_batch, say, since,
};

/// Every family of the gateway's own series: the sum of its samples.
type Families = BTreeMap<String, f64>;

/// The families of this project on a metrics page; what the process library counts is not ours.
fn families(page: &str) -> Families {
    let samples = fleet::Samples::parse(page);
    let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let ours = names.filter_map(|line| {
        let (name, kind) = line.split_once(' ')?;
        let sampled = if kind == "histogram" { format!("{name}_count") } else { name.to_owned() };
        name.starts_with("roomcast_").then(|| (name.to_owned(), samples.sum(&sampled)))
    });
    ours.collect()
}

/// Which families have moved since the start, at any of the moments that were looked at.
struct Watch<'a> {
    gateway: &'a GatewayNode,
    initial: Families,
    moved: BTreeSet<String>,
}

impl Watch<'_> {
    async fn begin(gateway: &GatewayNode) -> Watch<'_> {
        let initial = families(&gateway.operator_get("/metrics").await.unwrap().body);
        assert!(initial.len() > 20, "{initial:?}");
        Watch { gateway, initial, moved: BTreeSet::new() }
    }

    async fn look(&mut self) {
        let now = families(&self.gateway.operator_get("/metrics").await.unwrap().body);
        for (name, value) in now {
            if self.initial.get(&name) != Some(&value) {
                self.moved.insert(name);
            }
        }
    }

    /// Waits until a family has moved.
    async fn until(&mut self, name: &str) {
        let name = format!("roomcast_{name}");
        let watch = std::cell::RefCell::new(self);
        #[expect(clippy::await_holding_refcell_ref, reason = "`eventually` asks one at a time")]
        let moved = || async {
            let mut watch = watch.borrow_mut();
            watch.look().await;
            watch.moved.contains(&name)
        };
        eventually(SOON, &format!("{name} moves"), moved).await;
    }
}

/// What a log that dies with its process has no use for; `cluster` sees these move, but for the
/// orphaned edits: they take a node that does not come back within a minute of a wipe.
const ONLY_IN_A_CLUSTER: [&str; 16] = [
    "roomcast_reconnects_advised_total",
    "roomcast_retained_bytes",
    "roomcast_foreign_publications_total",
    // See `cluster::journal`.
    "roomcast_journal_bytes",
    "roomcast_journal_bytes_max",
    "roomcast_journal_entries",
    "roomcast_journal_oldest_seconds",
    "roomcast_journal_refused_total",
    "roomcast_journal_replayed_total",
    "roomcast_journaled_total",
    "roomcast_gaps_total",
    "roomcast_nodes_reaped_total",
    "roomcast_offered_again_total",
    "roomcast_retained_entries",
    "roomcast_counted_alone_total",
    "roomcast_orphaned_edits_total",
];

/// What a sound client cannot bring about: `cluster::logging` sees the first move,
/// `cluster::degraded` the second, `log_contract` the next two, `retention` the fifth,
/// `cluster::set_back` the sixth, `auth::public_keys` the seventh; the rest stand still as long as
/// a process runs, but for the one that says that it leaves.
const ELSEWHERE: [&str; 12] = [
    "roomcast_log_lines_dropped_total",
    "roomcast_condition",
    "roomcast_sync_orphaned_total",
    "roomcast_sync_quarantined_total",
    "roomcast_sync_expired_total",
    "roomcast_sync_log_gaps_total",
    "roomcast_key_set_failures_total",
    "roomcast_connections_max",
    "roomcast_retained_bytes_max",
    "roomcast_build_info",
    "roomcast_memory_bytes_max",
    "roomcast_draining",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_registered_series_moves() {
    let options = GatewayOptions::default()
        .with_env("ROOMCAST_HEARTBEAT_INTERVAL_MS", "100")
        .with_env("ROOMCAST_STREAM_TIMEOUT_MS", "500")
        .with_env("ROOMCAST_SYNC_RETRY_DELAY_MAX_MS", "50")
        .with_env("WEBSOCKET_RATE_LIMIT_ROOM_JOIN", "5")
        .with_env("ROOMCAST_BLOCK_AFTER", "3");
    let fleet = Fleet::embedded(options).await.unwrap();
    let gateway = fleet.gateway();
    let mut watch = Watch::begin(gateway).await;
    let alice = client(gateway, "alice").await;
    let bob = client(gateway, "bob").await;
    talk(gateway, &alice, &bob).await;
    write(&bob, &mut watch).await;
    come_back(&alice, &bob).await;
    spend(gateway, &alice).await;
    hammer(gateway).await;
    fail(gateway, &alice, &mut watch).await;
    let _silent = silent_reader(gateway, &alice, &mut watch).await;
    // A plain request is no handshake.
    assert_ne!(gateway.get("/ws").await.unwrap().status, 101);
    assert_eq!(gateway.get("/api/nothing").await.unwrap().status, 404);
    bob.close(1000).await;
    watch.until("connections_closed_total").await;
    watch.until("presence_changes_total").await;

    watch.look().await;
    let elsewhere = [&ONLY_IN_A_CLUSTER[..], &ELSEWHERE[..]].concat();
    let still = watch.initial.keys().filter(|name| !watch.moved.contains(*name));
    let dead: Vec<&String> = still.filter(|name| !elsewhere.contains(&name.as_str())).collect();
    assert!(dead.is_empty(), "these never moved: {dead:?}");
}

/// Messages, one of them twice, one refused, one under an id that another has.
async fn talk(gateway: &GatewayNode, alice: &Client, bob: &Client) {
    let id = unique_id();
    let refused = alice.send("r", &id, "too early").await.unwrap_err();
    assert_eq!(refused.code(), Some("not_joined"));
    alice.join("r", None).await.unwrap();
    bob.join("r", None).await.unwrap();
    alice.send("r", &id, "hello").await.unwrap();
    assert!(alice.send("r", &id, "hello").await.unwrap().duplicate);
    assert!(!bob.send("r", &id, "hello").await.unwrap().duplicate);
    let change = json!({ "roomId": "r", "id": id, "content": "good bye" });
    alice.command("message:edit", change).await.unwrap();
    let mallory = client(gateway, "mallory").await;
    mallory.join("r", None).await.unwrap();
    let api = harness::Api::new(gateway.port());
    api.ask("DELETE", "/api/rooms/r/members/mallory", None).await.expect(200);
    // What another program has put into the table meanwhile is a duplicate for the worker.
    let id = unique_id();
    insert(&database(gateway), &id);
    assert!(!alice.send("r", &id, "found there").await.unwrap().duplicate);
}

fn insert(database: &Connection, id: &str) {
    let insert = "INSERT INTO team_chat_messages (id, client_id, team_chat_id, user_id, content,
        message_type, metadata, created_at, updated_at, accessed_at, send_time, epoch, seq,
        changed_epoch, changed_seq)
        VALUES (?1, ?1, 'r', 'alice', 'found there', 'user', '{}', 1, 1, 1, 1, 0, 1, 0, 1)";
    database.execute(insert, [id]).unwrap();
}

/// An answer that is ended, and one that is left.
async fn write(bob: &Client, watch: &mut Watch<'_>) {
    for _ in 0..2 {
        let answer = json!({ "roomId": "r", "id": unique_id() });
        bob.command("message:stream:start", answer.clone()).await.unwrap();
        let mut delta = answer.clone();
        delta["delta"] = json!("so");
        delta["offset"] = json!(0);
        bob.command("message:stream:append", delta).await.unwrap();
        if !watch.moved.contains("roomcast_streams_ended_total") {
            bob.command("message:stream:end", answer).await.unwrap();
            watch.until("streams_ended_total").await;
        }
    }
    watch.until("stream_bytes_out_total").await;
    watch.until("streams_aborted_total").await;
}

/// Resumed with more than fits, and reset.
async fn come_back(alice: &Client, bob: &Client) {
    let said = flood(alice, "r", 300).await;
    let joined = bob.join("r", Some(&since(&said[0]))).await.unwrap();
    assert!(joined.recovered && joined.has_more);
    let future = Since { position: Position::new(9, 9), message_id: unique_id() };
    assert!(bob.join("r", Some(&future)).await.unwrap().reset);
}

/// Credits that are used, under an id that the ledger has with another amount.
async fn spend(gateway: &GatewayNode, alice: &Client) {
    let insert = "INSERT INTO credits (id, user_id, amount, timestamp, metadata)
        VALUES ('used', 'bob', -1, 1, '{}')";
    database(gateway).execute(insert, []).unwrap();
    let usage = json!({ "userId": "bob", "amount": 2, "id": "used" });
    alice.command("credits:track", usage).await.unwrap();
}

/// Somebody who is refused until they are blocked.
async fn hammer(gateway: &GatewayNode) {
    let dave = client(gateway, "dave").await;
    let blocked = || async {
        match dave.command("room:join", json!({ "roomId": "r" })).await {
            Err(error) if error.code() == Some("blocked") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    eventually(SOON, "whoever hammers is blocked", blocked).await;
}

/// A database that is held up, one row refused, a shard stopped.
async fn fail(gateway: &GatewayNode, alice: &Client, watch: &mut Watch<'_>) {
    let held = database(gateway);
    held.execute_batch(POISON).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (_, waiting) = say(alice, "r", "waits").await;
    watch.until("sync_log_lag_entries").await;
    watch.until("sync_log_lag_seconds").await;
    held.execute_batch("COMMIT").unwrap();
    accepted(waiting).await;

    let (_, poison) = say(alice, "r", "poison").await;
    assert_eq!(poison.reply(SOON).await.unwrap_err().code(), Some("rejected"));
    let many = in_one_batch(gateway, alice, "r", &["poison"; 20]).await;
    watch.until("sync_shards_stopped_total").await;
    held.execute_batch("DROP TRIGGER poison").unwrap();
    for (_, reply) in many {
        accepted(reply).await;
    }
}

/// Somebody who asks for much and reads nothing of it.
async fn silent_reader(gateway: &GatewayNode, alice: &Client, watch: &mut Watch<'_>) -> RawSocket {
    for _ in 0..5 {
        let data = json!({ "roomId": "r", "id": unique_id(), "content": "x".repeat(200 * 1024) });
        alice.command("message:send", data).await.unwrap();
    }
    let path = "/ws?user=carol";
    let mut silent = RawSocket::upgraded(gateway.port(), path, SOON).await.unwrap();
    for reference in 0..40 {
        let ask = json!({ "event": "history:get", "ref": reference, "data": { "roomId": "r" } });
        silent.send(&text(&ask.to_string())).await.unwrap();
    }
    watch.until("send_queue_bytes").await;
    silent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_figures_have_the_names_that_operators_know() {
    let fleet = gateway().await;
    let alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    flood(&alice, "r", 10).await;
    let stats = fleet.gateway().stats().await.unwrap();
    let names =
        |part: &Value| -> Vec<String> { part.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(names(&stats), ["connections", "readiness", "redis", "sync"]);
    assert_eq!(
        names(&stats["connections"]),
        ["activeConnections", "totalConnections", "totalMessages", "totalRooms", "uptime"]
    );
    assert_eq!(
        names(&stats["redis"]),
        ["errorCount", "isConnected", "lastPing", "reconnectAttempts"]
    );
    assert_eq!(
        names(&stats["sync"]),
        ["errors", "failedSyncs", "lastSyncTime", "syncDuration", "totalSynced"]
    );
    assert_eq!(stats["readiness"], json!({"state": "ready", "reasons": {}}));
    let connections = &stats["connections"];
    assert_eq!(
        (&connections["activeConnections"], &connections["totalRooms"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (&connections["totalMessages"], &stats["sync"]["totalSynced"]),
        (&json!(10), &json!(10))
    );
    assert!(stats["sync"]["lastSyncTime"].is_number());
    assert_eq!(stats["redis"]["isConnected"], json!(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_is_alive_but_not_ready() {
    let mut fleet = gateway().await;
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let ready = fleet.gateway().operator_get("/readyz").await.unwrap();
    assert_eq!(ready.status, 200);
    // It cannot end before what is under way is answered, and that waits for the database.
    let held = database(fleet.gateway());
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (_, reply) = say(&alice, "r", "the last").await;
    alice.command("heartbeat", json!({})).await.unwrap();
    let operator = fleet.gateway().operator_port();
    let watching = async {
        let status = |path: &'static str| async move {
            fleet::get(operator, path, SOON).await.map(|answer| answer.status)
        };
        let unready = || async { status("/readyz").await.is_ok_and(|status| status == 503) };
        eventually(SOON, "the node says that it leaves", unready).await;
        assert_eq!(status("/livez").await.unwrap(), 200);
        held.execute_batch("COMMIT").unwrap();
    };
    let (status, ()) = tokio::join!(fleet.gateway_mut().terminate(SOON), watching);
    assert!(status.unwrap().success());
    assert!(!accepted(reply).await.duplicate);
    assert_eq!(alice.closed(SOON).await.unwrap().code, Some(1012));
}
