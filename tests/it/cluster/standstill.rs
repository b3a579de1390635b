//! A process that stands still in the middle of a transaction: its locks end, and nothing is lost.

use fleet::{ClusterOptions, Fleet};
use harness::{eventually, unique_id};
use shared::contract::id::RoomId;

use super::set_back::{all_stored, says};
use super::{PATIENCE, options};
use crate::fixtures::client;
use crate::store_contract::postgres::shell;

/// How many sessions are so.
pub(super) async fn sessions(fleet: &Fleet, such: &str) -> Result<u64, String> {
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {such}"
    );
    let answer = fleet.postgres().query(fleet.database(), &count).await;
    let count = answer.map_err(|error| error.to_string())?.pop().and_then(|mut row| row.pop()?);
    count.and_then(|count| count.parse().ok()).ok_or_else(|| "no count".to_owned())
}

async fn some(fleet: &Fleet, such: &str) -> Result<(), String> {
    match sessions(fleet, such).await? {
        0 => Err(format!("no session has {such}")),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stands_still_in_a_transaction_holds_its_locks_for_a_moment_only() {
    let options = ClusterOptions { gateways: 1, workers: 1, ..options() };
    let fleet = Fleet::cluster(options).await.unwrap();
    let alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    says(&alice, "first").await;
    all_stored(&fleet, 1).await;
    // The worker's commit waits for a lock, so that it is in the middle of it.
    let shell = shell(&fleet.postgres().url(fleet.database())).await;
    shell.batch_execute("BEGIN; SELECT FROM shards FOR UPDATE").await.unwrap();
    says(&alice, "second").await;
    let waits = || some(&fleet, "wait_event_type = 'Lock'");
    eventually(PATIENCE, "the worker is in a transaction", waits).await;
    fleet.workers()[0].stop().await.unwrap();
    shell.batch_execute("COMMIT").await.unwrap();
    let holds = || some(&fleet, "state = 'idle in transaction'");
    eventually(PATIENCE, "it has the lock and stands still", holds).await;
    // Whoever needs the row waits for the server to end that transaction, and not for the worker.
    let needs = shell.batch_execute("BEGIN; SELECT FROM shards FOR UPDATE; COMMIT");
    tokio::time::timeout(PATIENCE, needs).await.expect("its lock ends").unwrap();
    assert_eq!(sessions(&fleet, "state = 'idle in transaction'").await, Ok(0));
    fleet.workers()[0].cont().unwrap();
    all_stored(&fleet, 2).await;
}

/// The row of one shard is held by somebody for long: the others' rounds go on without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_others_hold_holds_up_no_other() {
    const ROOMS: [&str; 4] = ["r", "s", "t", "u"];
    let fleet =
        Fleet::cluster(ClusterOptions { gateways: 1, workers: 1, ..options() }).await.unwrap();
    let alice = client(fleet.gateway(), "alice").await;
    for room in ROOMS {
        alice.join(room, None).await.unwrap();
        alice.send(room, &unique_id(), "first").await.unwrap();
    }
    all_stored(&fleet, ROOMS.len()).await;
    let shell = shell(&fleet.postgres().url(fleet.database())).await;
    let held = RoomId::parse("r").unwrap().shard().number();
    let hold = format!("BEGIN; SELECT FROM shards WHERE shard = {held} FOR UPDATE");
    shell.batch_execute(&hold).await.unwrap();
    for said in ["second", "third"] {
        for room in ROOMS {
            alice.send(room, &unique_id(), said).await.unwrap();
        }
    }
    let others = 2 * (ROOMS.len() - 1);
    all_stored(&fleet, ROOMS.len() + others).await;
    shell.batch_execute("COMMIT").await.unwrap();
    all_stored(&fleet, 3 * ROOMS.len()).await;
}
