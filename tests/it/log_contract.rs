//! What every log and broker keep: run on memory, and unchanged on whatever comes beside it.
//!
//! A scenario gets an empty log, its broker, and a database that the real worker fills from it:
//! the log in memory shows nothing before it is stored, another may show it at once, and both keep
//! this contract.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

mod any_rows;
mod bounds;
mod epochs;
mod erasing;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet::{ClusterOptions, Fleet};
use gateway::broker::{Broker, redis::RedisBroker};
use prometheus::IntCounter;
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, MessageKey, RoomId, Shard, UserId};
use shared::contract::limits::HYDRATION_AGE_MS_MAX;
use shared::contract::message::{Message, MessageType, Metadata};
use shared::contract::position::Position;
use shared::contract::timestamp::Timestamp;
use shared::epoch::establish;
use shared::log::deliveries::DeliveryReceiver;
use shared::log::memory::MemoryLog;
use shared::log::redis::RedisLog;
use shared::log::redis::connection::RedisConnection;
use shared::log::{
    Append, AppendBatchResult, AppendStop, Appended, Claim, Delivery, Epoch, Hydration, Log,
    LogError, LogId, PageLimit, Past, Placement,
};
use shared::process::clock::Clock;
use shared::process::readiness::Readiness;
use shared::process::settings::Secret;
use shared::process::tasks::Tasks;
use shared::store::sqlite::SqliteStore;
use shared::store::{Span, Store};
use sync_worker::metrics::Metrics;
use sync_worker::worker as sync;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::bounds::{
    a_log_is_full_by_its_bytes_too, a_reading_ends_at_its_bytes_and_the_next_goes_on,
    a_ring_keeps_so_many_bytes_of_what_is_persisted, what_is_persisted_does_not_fill_the_log,
};
use self::epochs::{
    an_epoch_over_what_has_yet_to_be_stored_is_not_quiet, claims_give_one_token_and_only_that_arms,
};
use self::erasing::what_is_erased_is_forgotten_by_database_log_and_nodes;
use self::worker::{
    a_message_and_a_movement_of_one_id_are_two,
    a_movement_that_the_database_refused_is_told_and_not_a_duplicate,
    dead_letters_of_an_untrimmed_batch_are_refused_by_the_next_owner,
    what_comes_to_nothing_is_counted,
};

/// How long a scenario waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A log under test, and what works with it.
struct Subject {
    log: Arc<dyn Log>,
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    deliveries: DeliveryReceiver,
    clock: Clock,
    /// Ends the worker; without one nothing is stored.
    worker: Option<CancellationToken>,
    /// What that worker counts.
    metrics: Option<Arc<Metrics>>,
    kept: Box<dyn std::any::Any + Send + Sync>,
}

/// Entries that a shard of the subject may hold.
const ENTRIES_MAX: usize = 300;

async fn memory() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let (log, deliveries) = MemoryLog::new(clock.clone(), ENTRIES_MAX);
    let log = Arc::new(log);
    let store = Arc::new(SqliteStore::open(folder.path(), clock.clone()).unwrap());
    let broker = Arc::clone(&log);
    let kept = Box::new(folder);
    Subject { log, broker, store, deliveries, clock, worker: None, metrics: None, kept }
}

async fn redis() -> Subject {
    let servers = Fleet::cluster(ClusterOptions::only_servers()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let url = Secret::from(servers.redis_url().as_str());
    let log = RedisLog::new(RedisConnection::new(&url, None, clock.clone()).unwrap(), ENTRIES_MAX);
    let store = Arc::new(SqliteStore::open(folder.path(), clock.clone()).unwrap());
    assert!(log.connection().take("tested").await.unwrap());
    let watched = (&Tasks::new(&Readiness::new()), IntCounter::new("f", "-").unwrap(), 1 << 26);
    let (broker, mut deliveries) = RedisBroker::start(log.clone(), "n1", Arc::default(), watched);
    // It begins with a gap: what was published before it listened is not known.
    let first = tokio::time::timeout(PATIENCE, deliveries.recv()).await.unwrap();
    assert!(matches!(first, Some(Delivery::Gap)), "{first:?}");
    let (log, broker, kept) = (Arc::new(log), Arc::new(broker), Box::new((folder, servers)));
    Subject { log, broker, store, deliveries, clock, worker: None, metrics: None, kept }
}

impl Subject {
    /// Starts the worker and gives the shard an epoch.
    async fn at_work(mut self, shard: Shard) -> (Subject, u64) {
        let epoch = establish(shard, 0, &*self.log, &*self.store).await.unwrap().number;
        let metrics = Arc::new(Metrics::register(&prometheus::Registry::new()));
        let stop = CancellationToken::new();
        let parts = sync::Deps {
            log: Arc::clone(&self.log),
            store: Arc::clone(&self.store),
            settings: sync::LoopSettings {
                batch_entries: 100,
                batch_bytes: 2 * 1024 * 1024,
                batch_interval: Duration::from_millis(1),
                batch_interval_max: Duration::from_millis(1),
                retry_delay: Duration::from_millis(10),
                retry_delay_max: Duration::from_millis(100),
                log_keep: Duration::from_secs(60),
                retention: None,
            },
            lease: None,
            metrics: Arc::clone(&metrics),
            stats: Arc::default(),
            clock: self.clock.clone(),
            lag: Arc::default(),
            tasks: Tasks::new(&Readiness::new()),
        };
        tokio::spawn(sync::run(parts, stop.clone()));
        (self.worker, self.metrics) = (Some(stop), Some(metrics));
        (self, epoch)
    }

    async fn hydrate(&self, epoch: u64, room: &RoomId, head: Position) {
        let asked_at_ms = self.clock.now_ms();
        let heads = vec![(room.clone(), head)];
        let hydration = Hydration { shard: room.shard(), asked_at_ms, heads, refused: Vec::new() };
        self.log.hydrate(epoch, &hydration).await.unwrap();
    }

    async fn append(&self, epoch: u64, entries: &[Append]) -> AppendBatchResult {
        let shard = entries[0].envelope.room.shard();
        let appended = self.log.append(shard, epoch, entries, Past::Nothing);
        tokio::time::timeout(PATIENCE, appended).await.expect("an answer").unwrap()
    }

    async fn delivery(&mut self) -> Delivery {
        tokio::time::timeout(PATIENCE, self.deliveries.recv()).await.expect("a delivery").unwrap()
    }

    /// The next entries that are delivered, by message id and place; watermarks between are
    /// checked to stand behind what they cover.
    async fn entries(&mut self, count: usize) -> Vec<(String, Position)> {
        let mut entries: Vec<(String, Position)> = Vec::new();
        while entries.len() < count {
            match self.delivery().await {
                Delivery::Entry(entry) => {
                    let envelope = Envelope::decode(&entry.raw).unwrap();
                    entries.push((envelope.id.to_string(), entry.position));
                }
                Delivery::Watermark(watermark) => {
                    for (_, upto) in &watermark.rooms {
                        let last = entries.iter().map(|(_, position)| *position).max();
                        assert!(last >= Some(*upto), "a watermark before what it covers");
                    }
                }
                Delivery::Signal(_) => {}
                Delivery::Gap => panic!("nothing was lost here"),
            }
        }
        entries
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(stop) = &self.worker {
            stop.cancel();
        }
    }
}

fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

/// A room of the same shard as another.
fn neighbour(of: &RoomId) -> RoomId {
    let names = (0..).map(|n| room(&format!("neighbour-{n}")));
    names.into_iter().find(|other| other.shard() == of.shard()).unwrap()
}

fn entry(room: &RoomId, user: &str, id: &str, content: &str) -> Append {
    let (user, id) = (UserId::parse(user).unwrap(), MessageId::parse(id).unwrap());
    let message = Message {
        room_id: room.clone(),
        id: id.clone(),
        user_id: user.clone(),
        kind: MessageType::User,
        content: content.to_owned(),
        metadata: Metadata::default(),
        created_at: Timestamp(1_795_000_000_000),
        edited_at: None,
        deleted_at: None,
        credits: None,
        changed_position: None,
        change_id: None,
        position: None,
    };
    let envelope = Envelope {
        kind: EntryKind::Message,
        room: room.clone(),
        user,
        id,
        change_id: None,
        accepted_at: Timestamp(1_795_000_000_000),
        body: Bytes::from(serde_json::to_vec(&message).unwrap()),
    };
    let digest = Uuid::new_v5(&Uuid::NAMESPACE_OID, content.as_bytes());
    Append { envelope, digest, cost: None, author: None }
}

fn places(answers: &AppendBatchResult) -> Vec<(Position, bool)> {
    let placed = |answer: &Appended| match answer {
        Appended::Placed(Placement { position, duplicate, .. }) => (*position, *duplicate),
        Appended::Conflict | Appended::Rejected(_) => panic!("not placed: {answer:?}"),
    };
    answers.done.iter().map(placed).collect()
}

async fn entries_have_dense_places_and_are_delivered_in_their_order(subject: Subject) {
    let lobby = room("lobby");
    let (mut subject, epoch) = subject.at_work(lobby.shard()).await;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    subject.broker.subscribe(&lobby).await.unwrap();
    let batch: Vec<Append> =
        (1..=50).map(|n| entry(&lobby, "ann", &format!("m{n}"), "x")).collect();
    let answers = subject.append(epoch, &batch).await;
    assert!(answers.stop.is_none());
    let wanted: Vec<(String, Position)> =
        (1..=50).map(|n| (format!("m{n}"), Position::new(epoch, n))).collect();
    let given: Vec<Position> = places(&answers).into_iter().map(|(position, _)| position).collect();
    assert_eq!(given, wanted.iter().map(|(_, position)| *position).collect::<Vec<_>>());
    assert_eq!(subject.entries(50).await, wanted);
}

async fn only_rooms_that_are_subscribed_are_delivered(subject: Subject) {
    let (quiet, lobby) = (neighbour(&room("lobby")), room("lobby"));
    let (mut subject, epoch) = subject.at_work(lobby.shard()).await;
    for room in [&quiet, &lobby] {
        subject.hydrate(epoch, room, Position::ZERO).await;
        subject.broker.subscribe(room).await.unwrap();
    }
    subject.broker.unsubscribe(&quiet).await.unwrap();
    let batch = [entry(&quiet, "ann", "unheard", "x"), entry(&lobby, "ann", "heard", "x")];
    subject.append(epoch, &batch).await;
    assert_eq!(subject.entries(1).await[0].0, "heard");
}

async fn an_id_stands_once_for_each_sender_and_room(subject: Subject) {
    let (lobby, other) = (room("lobby"), neighbour(&room("lobby")));
    let (subject, epoch) = subject.at_work(lobby.shard()).await;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    subject.hydrate(epoch, &other, Position::ZERO).await;
    let first = [
        entry(&lobby, "ann", "m1", "hello"),
        entry(&lobby, "ann", "m1", "hello"),
        entry(&lobby, "bob", "m1", "hello"),
        entry(&other, "ann", "m1", "hello"),
    ];
    let at = |seq| Position::new(epoch, seq);
    let answers = subject.append(epoch, &first).await;
    assert_eq!(places(&answers), [(at(1), false), (at(1), true), (at(2), false), (at(1), false)]);
    let again = subject.append(epoch, &first[..1]).await;
    assert_eq!(places(&again), [(at(1), true)]);
    let changed = subject.append(epoch, &[entry(&lobby, "ann", "m1", "other content")]).await;
    assert_eq!(changed.done, [Appended::Conflict]);
    let identity = |id: &str| MessageKey {
        room: lobby.clone(),
        user: UserId::parse("ann").unwrap(),
        id: MessageId::parse(id).unwrap(),
    };
    let known = subject.log.known(&identity("m1")).await.unwrap().unwrap();
    assert_eq!(places(&AppendBatchResult { done: vec![known], stop: None }), [(at(1), true)]);
    assert_eq!(subject.log.known(&identity("m2")).await.unwrap(), None);
}

async fn nothing_is_done_under_another_epoch(subject: Subject) {
    let lobby = room("lobby");
    let (mut subject, epoch) = subject.at_work(lobby.shard()).await;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    subject.broker.subscribe(&lobby).await.unwrap();
    for wrong in [epoch - 1, epoch + 1] {
        let answers = subject.append(wrong, &[entry(&lobby, "ann", "lost", "x")]).await;
        assert_eq!((answers.done, answers.stop), (vec![], Some(AppendStop::Stale)));
        let stale = |result: Result<(), LogError>| {
            assert!(matches!(result, Err(LogError::Stale { believed }) if believed == wrong));
        };
        let most = PageLimit::entries(9);
        stale(subject.log.read(lobby.shard(), wrong, LogId::ZERO, most).await.map(drop));
        stale(subject.log.room(&lobby, wrong, Position::ZERO, 9).await.map(drop));
    }
    subject.append(epoch, &[entry(&lobby, "ann", "kept", "x")]).await;
    assert_eq!(subject.entries(1).await, [("kept".to_owned(), Position::new(epoch, 1))]);
}

async fn an_unknown_room_stops_the_batch_until_it_has_its_head(subject: Subject) {
    let (known, cold) = (room("lobby"), neighbour(&room("lobby")));
    let (subject, epoch) = subject.at_work(known.shard()).await;
    subject.hydrate(epoch, &known, Position::ZERO).await;
    let batch = [
        entry(&known, "ann", "m1", "x"),
        entry(&cold, "ann", "m2", "x"),
        entry(&known, "ann", "m3", "x"),
    ];
    let answers = subject.append(epoch, &batch).await;
    assert_eq!(places(&answers), [(Position::new(epoch, 1), false)]);
    assert_eq!(answers.stop, Some(AppendStop::Unhydrated));
    assert!(subject.log.room(&cold, epoch, Position::ZERO, 9).await.unwrap().is_none());
    let head = Position::new(epoch - 1, 41);
    let old = Hydration {
        shard: cold.shard(),
        asked_at_ms: subject.clock.now_ms() - HYDRATION_AGE_MS_MAX - 1,
        heads: vec![(cold.clone(), head)],
        refused: Vec::new(),
    };
    subject.log.hydrate(epoch, &old).await.unwrap();
    let still = subject.append(epoch, &batch[1..]).await;
    assert_eq!(still.stop, Some(AppendStop::Unhydrated), "an old answer sets no head");
    subject.hydrate(epoch, &cold, head).await;
    subject.hydrate(epoch, &cold, Position::new(epoch - 1, 7)).await;
    let answers = subject.append(epoch, &batch[1..]).await;
    let wanted = [(Position::new(epoch, 42), false), (Position::new(epoch, 2), false)];
    assert_eq!(places(&answers), wanted, "seq goes on from the database's, which is told once");
}

async fn a_full_log_takes_no_more_and_loses_nothing(subject: Subject) {
    let lobby = room("lobby");
    // Without a worker nothing is stored, so the log fills.
    let epoch = establish(lobby.shard(), 0, &*subject.log, &*subject.store).await.unwrap().number;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    let (log, appending) = (Arc::clone(&subject.log), Arc::clone(&subject.log));
    let (shard, count) = (lobby.shard(), ENTRIES_MAX + 7);
    let batch: Vec<Append> =
        (1..=count).map(|n| entry(&lobby, "ann", &format!("m{n}"), "x")).collect();
    let appended = tokio::spawn(async move {
        appending.append(shard, epoch, &batch, Past::Nothing).await.unwrap()
    });
    let full = || async { log.len(shard).await.unwrap() == ENTRIES_MAX as u64 };
    harness::eventually(PATIENCE, "the log is full", full).await;
    let read = log.read(shard, epoch, LogId::ZERO, PageLimit::entries(count)).await.unwrap();
    assert_eq!(read.len(), ENTRIES_MAX);
    assert!(read.is_sorted_by(|a, b| a.id < b.id));
    let page = log.read(shard, epoch, read[9].id, PageLimit::entries(5)).await.unwrap();
    assert_eq!((page[0].id, page.len()), (read[10].id, 5));
    let (_subject, _) = subject.at_work(shard).await;
    let answers = tokio::time::timeout(PATIENCE, appended).await.unwrap().unwrap();
    assert_eq!((answers.done.len(), answers.stop), (ENTRIES_MAX, Some(AppendStop::Full)));
}

async fn a_room_is_read_back_by_place(subject: Subject) {
    let lobby = room("lobby");
    let (mut subject, epoch) = subject.at_work(lobby.shard()).await;
    let before = Position::new(epoch - 1, 10);
    subject.hydrate(epoch, &lobby, before).await;
    subject.broker.subscribe(&lobby).await.unwrap();
    let empty = subject.log.room(&lobby, epoch, Position::ZERO, 9).await.unwrap().unwrap();
    assert_eq!((empty.head, empty.dense_from, empty.entries.len()), (before, None, 0));
    let batch: Vec<Append> =
        (1..=20).map(|n| entry(&lobby, "ann", &format!("m{n}"), "x")).collect();
    subject.append(epoch, &batch).await;
    subject.entries(20).await;
    let after = Position::new(epoch, 15);
    let page = subject.log.room(&lobby, epoch, after, 3).await.unwrap().unwrap();
    assert_eq!(page.head, Position::new(epoch, 30));
    assert_eq!(page.dense_from, Some(Position::new(epoch, 11)));
    let seqs: Vec<u64> = page.entries.iter().map(|entry| entry.position.seq).collect();
    assert_eq!(seqs, [16, 17, 18]);
    let none = subject.log.room(&lobby, epoch, Position::MAX, 3).await.unwrap().unwrap();
    assert!(none.entries.is_empty());
}

async fn what_is_stored_leaves_the_log_and_is_remembered(subject: Subject) {
    let lobby = room("lobby");
    let (mut subject, epoch) = subject.at_work(lobby.shard()).await;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    subject.broker.subscribe(&lobby).await.unwrap();
    let batch: Vec<Append> =
        (1..=30).map(|n| entry(&lobby, "ann", &format!("m{n}"), "x")).collect();
    subject.append(epoch, &batch).await;
    let (log, store) = (Arc::clone(&subject.log), Arc::clone(&subject.store));
    let stored = || async {
        let page = log.room(&lobby, epoch, Position::MAX, 0).await.unwrap().unwrap();
        page.persisted == Position::new(epoch, 30)
    };
    harness::eventually(PATIENCE, "the room is persisted to its head", stored).await;
    let rows = store.messages(&lobby, Span::After(Position::ZERO), 100).await.unwrap();
    assert_eq!(rows.len(), 30);
    let cursor = store.cursor(lobby.shard()).await.unwrap();
    let left = log.read(lobby.shard(), epoch, cursor.upto, PageLimit::entries(9)).await.unwrap();
    assert!(left.is_empty());
    let again = subject.append(epoch, &batch).await;
    assert!(places(&again).iter().all(|(_, duplicate)| *duplicate));
    assert_eq!(store.messages(&lobby, Span::After(Position::ZERO), 100).await.unwrap().len(), 30);
    // A watermark told again changes nothing.
    let entries = subject.entries(30).await;
    assert_eq!(entries.len(), 30);
}

async fn what_the_database_refused_is_refused_when_it_is_offered_again(subject: Subject) {
    let lobby = room("lobby");
    let (subject, epoch) = subject.at_work(lobby.shard()).await;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    let mut unreadable = entry(&lobby, "ann", "m1", "x");
    unreadable.envelope.body = Bytes::from_static(b"{}");
    let batch = [unreadable, entry(&lobby, "ann", "m2", "x")];
    let refused = || async {
        let answers = subject.append(epoch, &batch).await;
        matches!(answers.done[0], Appended::Rejected(_))
    };
    harness::eventually(PATIENCE, "the sender can learn that it was refused", refused).await;
    let stored = subject.append(epoch, &batch[1..]).await;
    assert_eq!(places(&stored), [(Position::new(epoch, 2), true)]);
    assert_eq!(subject.store.dead_letters().await.unwrap().len(), 1);
}

macro_rules! every_scenario {
    ($open:ident) => {
        every_scenario! { $open:
            entries_have_dense_places_and_are_delivered_in_their_order,
            only_rooms_that_are_subscribed_are_delivered,
            an_id_stands_once_for_each_sender_and_room,
            nothing_is_done_under_another_epoch,
            an_unknown_room_stops_the_batch_until_it_has_its_head,
            an_epoch_over_what_has_yet_to_be_stored_is_not_quiet,
            claims_give_one_token_and_only_that_arms,
            a_full_log_takes_no_more_and_loses_nothing,
            a_room_is_read_back_by_place,
            what_is_stored_leaves_the_log_and_is_remembered,
            what_the_database_refused_is_refused_when_it_is_offered_again,
            what_is_erased_is_forgotten_by_database_log_and_nodes,
            a_message_and_a_movement_of_one_id_are_two,
            a_movement_that_the_database_refused_is_told_and_not_a_duplicate,
            what_comes_to_nothing_is_counted,
            dead_letters_of_an_untrimmed_batch_are_refused_by_the_next_owner,
            what_is_persisted_does_not_fill_the_log,
            a_log_is_full_by_its_bytes_too,
            a_reading_ends_at_its_bytes_and_the_next_goes_on,
            a_ring_keeps_so_many_bytes_of_what_is_persisted,
        }
    };
    ($open:ident: $($scenario:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $scenario() {
                super::$scenario(super::$open().await).await;
            }
        )+
    };
}

mod in_redis {
    every_scenario!(redis);
}

mod in_memory {
    every_scenario!(memory);

    use super::*;

    /// Minutes pass by the log's own clock.
    #[tokio::test]
    async fn ids_and_rooms_are_forgotten_when_their_time_has_come() {
        let lobby = room("lobby");
        let (subject, epoch) = memory().await.at_work(lobby.shard()).await;
        subject.hydrate(epoch, &lobby, Position::ZERO).await;
        let message = [entry(&lobby, "ann", "m1", "x")];
        subject.append(epoch, &message).await;
        subject.clock.advance(Duration::from_secs(14 * 60));
        assert!(places(&subject.append(epoch, &message).await)[0].1, "still remembered");
        subject.clock.advance(Duration::from_secs(2 * 60));
        assert!(
            !places(&subject.append(epoch, &message).await)[0].1,
            "the database's business now"
        );
        subject.clock.advance(Duration::from_secs(19 * 60));
        subject.append(epoch, &[entry(&lobby, "ann", "m2", "x")]).await;
        subject.clock.advance(Duration::from_secs(21 * 60));
        let answers = subject.append(epoch, &[entry(&lobby, "ann", "m3", "x")]).await;
        assert_eq!(answers.stop, Some(AppendStop::Unhydrated), "idle for long, it is forgotten");
    }
}
