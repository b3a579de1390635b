//! A Redis whose memory is used up, and what leaves it by itself.

use fleet::{ClusterOptions, Fleet, RedisOptions, WorkerOptions};
use harness::client::ClientError;
use harness::{Client, eventually, unique_id};
use shared::contract::id::RoomId;
use shared::contract::keys;

use super::{PATIENCE, stored};
use crate::fixtures::client;

const ROOM: &str = "lobby";
/// The size of one message.
const CONTENT_BYTES: usize = 200 * 1024;

/// The log keeps what is persisted for half a second.
async fn cluster(redis: RedisOptions) -> Fleet {
    let options = ClusterOptions {
        gateways: 1,
        workers: 1,
        redis,
        worker: WorkerOptions::default().with_env("ROOMCAST_LOG_KEEP_MS", "500"),
        ..ClusterOptions::default()
    };
    Fleet::cluster(options).await.expect("a cluster")
}

async fn log_length(fleet: &Fleet) -> i64 {
    let log = keys::log(RoomId::parse(ROOM).expect("a room").shard());
    let length = fleet.redis().command(&["XLEN", &log]).await.expect("a length");
    length.integer().expect("a number")
}

async fn until_the_log_is_empty(fleet: &Fleet) {
    let empty = || async {
        let length = log_length(fleet).await;
        if length == 0 { Ok(()) } else { Err(format!("{length} entries")) }
    };
    eventually(PATIENCE, "what is persisted leaves the log", empty).await;
}

/// Sends something; `false` where it is refused as `backpressure`.
async fn send(client: &Client, content: &str) -> bool {
    match client.send(ROOM, &unique_id(), content).await {
        Ok(_) => true,
        Err(ClientError::Refused(refusal)) if refusal.code == "backpressure" => false,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_persisted_leaves_a_log_that_nobody_writes_to() {
    let fleet = cluster(RedisOptions::default()).await;
    let alice = client(fleet.gateway(), "alice").await;
    alice.join(ROOM, None).await.expect("a room");
    assert!(send(&alice, "soon to be forgotten").await);
    let kept = || async { stored(&fleet).await == 1 };
    eventually(PATIENCE, "it is in the database", kept).await;
    until_the_log_is_empty(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_full_drains_by_itself_when_the_worker_comes_back() {
    let redis = RedisOptions::default().with_setting("maxmemory", "48mb");
    let mut fleet = cluster(redis).await;
    let alice = client(fleet.gateway(), "alice").await;
    alice.join(ROOM, None).await.expect("a room");
    fleet.workers_mut()[0].kill_9().await.expect("a worker");
    let content = "x".repeat(CONTENT_BYTES);
    let mut acked = 0;
    while send(&alice, &content).await {
        acked += 1;
    }
    assert!(acked > 20, "only {acked} fit");
    // Backpressure came before Redis was full; now another program uses up the rest.
    let filler = "x".repeat(64 * 1024);
    let set = async |n: usize| fleet.redis().command(&["SET", &format!("n{n}"), &filler]).await;
    assert!(set(0).await.is_ok(), "it was full already");
    let mut fillers = 1;
    while set(fillers).await.is_ok() {
        fillers += 1;
    }
    assert!(!send(&alice, &content).await, "a full redis took a message");
    // Connections that have gone left a little: from here on it has less than it uses.
    let less = (44 * 1024 * 1024).to_string();
    fleet.redis().command(&["CONFIG", "SET", "maxmemory", &less]).await.expect("a smaller Redis");

    fleet.workers_mut()[0].restart(PATIENCE).await.expect("a worker");
    let all = || async {
        let stored = stored(&fleet).await;
        if stored == acked { Ok(()) } else { Err(format!("{stored} of {acked}")) }
    };
    eventually(PATIENCE, "what was accepted is in the database", all).await;
    until_the_log_is_empty(&fleet).await;
    let on = || async { send(&alice, "and on").await };
    eventually(PATIENCE, "senders go on", on).await;
    eventually(PATIENCE, "it is stored too", || async { stored(&fleet).await > acked }).await;
}
