//! What every shelf of answers must do, in memory and in Redis.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use fleet::{ClusterOptions, Fleet};
use gateway::stream::memory::MemoryStreamStore;
use gateway::stream::redis::RedisStreamStore;
use gateway::stream::{
    ClaimResult, ClosedStream, PutResult, StoredStream, StreamHeader, StreamKey, StreamStore,
};
use harness::eventually;
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::{STREAMS_PER_ROOM_MAX, STREAMS_PER_USER_MAX};
use shared::contract::message::{MessageType, Metadata};
use shared::log::redis::connection::RedisConnection;
use shared::process::clock::Clock;
use shared::process::settings::Secret;
use uuid::Uuid;

use crate::fixtures::SOON;

fn key(id: &str) -> StreamKey {
    StreamKey { room: RoomId::parse("room").unwrap(), id: MessageId::parse(id).unwrap() }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn beginning() -> StreamHeader {
    let metadata = Metadata::from_stored(r#"{"model":"small one"}"#);
    StreamHeader { user: user("bot"), kind: MessageType::Assistant, metadata }
}

fn open(text: &str, mine: bool) -> ClaimResult {
    ClaimResult::Open(StoredStream { beginning: beginning(), text: text.to_owned(), mine })
}

async fn servers() -> (Fleet, RedisConnection) {
    let servers = Fleet::cluster(ClusterOptions::only_servers()).await.unwrap();
    let url = Secret::from(servers.redis_url().as_str());
    let connection = RedisConnection::new(&url, None, Clock::system()).unwrap();
    assert!(connection.take("tested").await.unwrap());
    (servers, connection)
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    keeps_the_contract(Arc::new(MemoryStreamStore::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_keeps_the_contract() {
    let (servers, connection) = servers().await;
    keeps_the_contract(Arc::new(RedisStreamStore::new(connection, Uuid::new_v4()))).await;
    let keys = format!("{:?}", servers.redis().command(&["KEYS", "*"]).await.unwrap());
    for key in keys.split('"').filter(|part| part.contains(":stream")) {
        let left = servers.redis().command(&["PTTL", key]).await.unwrap();
        assert!(!format!("{left:?}").contains("-1"), "{key} stays for ever");
    }
}

async fn keeps_the_contract(shelf: Arc<dyn StreamStore>) {
    let a = key("a");
    // What is begun is found, by its user alone.
    assert_eq!(shelf.take(&a, &user("bot")).await.unwrap(), ClaimResult::Unknown);
    assert_eq!(shelf.begin(&a, &beginning()).await.unwrap(), ClaimResult::Begun);
    assert_eq!(shelf.begin(&a, &beginning()).await.unwrap(), open("", true));
    assert_eq!(shelf.take(&a, &user("other")).await.unwrap(), ClaimResult::NotOwner);
    let other = StreamHeader { user: user("other"), ..beginning() };
    assert_eq!(shelf.begin(&a, &other).await.unwrap(), ClaimResult::NotOwner);
    // Pieces are kept in their place, however often they are offered.
    assert_eq!(shelf.keep(&a, 0, "né 👍").await.unwrap(), PutResult::Done);
    assert_eq!(shelf.keep(&a, 0, "né 👍").await.unwrap(), PutResult::Done);
    assert_eq!(shelf.keep(&a, 8, " on").await.unwrap(), PutResult::Done);
    assert_eq!(shelf.keep(&a, 8, " on and on").await.unwrap(), PutResult::Done);
    assert_eq!(shelf.keep(&a, 18, "").await.unwrap(), PutResult::Done);
    assert_eq!(shelf.keep(&a, 99, "far").await.unwrap(), PutResult::Lost);
    assert_eq!(shelf.keep(&key("unknown"), 0, "x").await.unwrap(), PutResult::Lost);
    assert_eq!(shelf.take(&a, &user("bot")).await.unwrap(), open("né 👍 on and on", true));
    // A room lists what is written in it, and no other room's.
    shelf.begin(&key("b"), &beginning()).await.unwrap();
    let elsewhere = StreamKey { room: RoomId::parse("elsewhere").unwrap(), ..key("c") };
    shelf.begin(&elsewhere, &beginning()).await.unwrap();
    let mut listed = shelf.open_in(&a.room).await.unwrap();
    listed.sort_by(|one, other| one.0.cmp(&other.0));
    let listed: Vec<(&str, &str)> =
        listed.iter().map(|(id, open)| (id.as_str(), open.text.as_str())).collect();
    assert_eq!(listed, [("a", "né 👍 on and on"), ("b", "")]);
    closes(&*shelf, &a).await;
    fills(&*shelf).await;
    falls_silent(&*shelf).await;
}

async fn closes(shelf: &dyn StreamStore, a: &StreamKey) {
    let closed =
        ClosedStream { beginning: beginning(), aborted: true, text: "né 👍".to_owned() };
    shelf.close(a, &closed).await.unwrap();
    assert_eq!(shelf.take(a, &user("bot")).await.unwrap(), ClaimResult::Closed(closed.clone()));
    assert_eq!(shelf.begin(a, &beginning()).await.unwrap(), ClaimResult::Closed(closed.clone()));
    assert_eq!(shelf.claim(a, Duration::ZERO).await.unwrap(), ClaimResult::Closed(closed));
    assert_eq!(shelf.keep(a, 0, "late").await.unwrap(), PutResult::Closed);
    assert_eq!(shelf.open_in(&a.room).await.unwrap().len(), 1);
}

async fn fills(shelf: &dyn StreamStore) {
    // One of them is there.
    for number in 1..STREAMS_PER_USER_MAX {
        let taken = shelf.begin(&key(&format!("n{number}")), &beginning()).await.unwrap();
        assert_eq!(taken, ClaimResult::Begun);
    }
    assert_eq!(shelf.begin(&key("more"), &beginning()).await.unwrap(), ClaimResult::FullForUser);
    for number in STREAMS_PER_USER_MAX..STREAMS_PER_ROOM_MAX {
        let other = StreamHeader { user: user(&format!("user-{}", number / 8)), ..beginning() };
        let taken = shelf.begin(&key(&format!("n{number}")), &other).await.unwrap();
        assert_eq!(taken, ClaimResult::Begun);
    }
    let other = StreamHeader { user: user("late"), ..beginning() };
    assert_eq!(shelf.begin(&key("more"), &other).await.unwrap(), ClaimResult::Full);
    assert_eq!(shelf.begin(&key("b"), &beginning()).await.unwrap(), open("", true));
}

async fn falls_silent(shelf: &dyn StreamStore) {
    let b = key("b");
    let (long, short) = (Duration::from_secs(600), Duration::from_millis(100));
    assert!(shelf.silent(long).await.unwrap().is_empty());
    assert_eq!(shelf.claim(&b, long).await.unwrap(), ClaimResult::StillActive);
    assert_eq!(shelf.claim(&key("unknown"), short).await.unwrap(), ClaimResult::Unknown);
    let silent = || async { shelf.silent(short).await.is_ok_and(|keys| keys.contains(&b)) };
    eventually(SOON, "it is silent", silent).await;
    assert_eq!(shelf.claim(&b, short).await.unwrap(), open("", true));
    assert_eq!(
        shelf.claim(&b, long).await.unwrap(),
        ClaimResult::StillActive,
        "the first to claim has it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_has_taken_is_kept_for_it_alone() {
    let (servers, connection) = servers().await;
    let [one, other] = [(); 2].map(|()| RedisStreamStore::new(connection.clone(), Uuid::new_v4()));
    let a = key("a");
    one.begin(&a, &beginning()).await.unwrap();
    one.keep(&a, 0, "one ").await.unwrap();
    assert_eq!(other.keep(&a, 4, "unasked").await.unwrap(), PutResult::Moved);
    assert_eq!(other.take(&a, &user("bot")).await.unwrap(), open("one ", false));
    assert_eq!(one.keep(&a, 4, "late").await.unwrap(), PutResult::Moved);
    assert_eq!(other.keep(&a, 4, "two").await.unwrap(), PutResult::Done);
    assert_eq!(one.take(&a, &user("bot")).await.unwrap(), open("one two", false));
    // A Redis that was emptied has lost it, and what is put there anew is not the old text.
    servers.redis().command(&["FLUSHALL"]).await.unwrap();
    assert_eq!(one.keep(&a, 7, "three").await.unwrap(), PutResult::Lost);
    assert_eq!(one.begin(&a, &beginning()).await.unwrap(), ClaimResult::Begun);
    assert_eq!(one.keep(&a, 0, "one two three").await.unwrap(), PutResult::Done);
    assert_eq!(one.take(&a, &user("bot")).await.unwrap(), open("one two three", true));
}
