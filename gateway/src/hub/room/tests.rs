use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use shared::contract::id::MessageId;
use shared::contract::limits::{ENVELOPE_BYTES_MAX, SEND_QUEUE_BYTES_MAX};
use shared::contract::message::{Message, MessageType, Metadata};
use shared::contract::protocol::StreamState;
use shared::contract::signal::{RoomSignal, StreamPart};
use shared::contract::timestamp::Timestamp;
use shared::log::memory::MemoryLog;
use shared::process::byte_budget::ByteBudget;
use shared::process::clock::Clock;
use shared::process::memory::MIB;
use shared::process::readiness::Readiness;
use shared::process::tasks::Tasks;
use shared::store::sqlite::SqliteStore;

use super::*;
use crate::broker::SignalPublisher;
use crate::broker::epochs::Epochs;
use crate::hub::cache::RoomCache;
use crate::hub::entry::RoomEntry;
use crate::hub::history::{History, Snapshot};
use crate::hub::sync;
use crate::metrics::Metrics;
use crate::presence::local::LocalPresence;
use crate::presence::memory::MemoryPresence;
use crate::stream::memory::MemoryStreamStore;
use crate::wire::frame::Frame;

/// How long a task that never waits may keep this test from going on before it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How full the queue of a reader that has stopped is, in bytes.
const FILLS: usize = 24;

fn room(folder: &std::path::Path) -> Arc<Room> {
    let clock = Clock::system();
    let (log, _) = MemoryLog::new(clock.clone(), 1000);
    let log = Arc::new(log);
    let store = Arc::new(SqliteStore::open(folder, clock.clone()).unwrap());
    let broker = Arc::clone(&log);
    let metrics = Arc::new(Metrics::register(&prometheus::Registry::new()));
    let presence = Arc::new(MemoryPresence::default());
    let presence =
        LocalPresence::new(presence, broker.clone(), clock.clone(), Arc::clone(&metrics));
    let epochs = Arc::new(Epochs::new(log.clone(), store.clone()));
    let history = History::new(log, store, epochs, 256 * MIB);
    let parts = Deps {
        signals: SignalPublisher::start(broker.clone(), &Tasks::new(&Readiness::new())),
        broker,
        history,
        syncing: ByteBudget::new(64 * MIB),
        streams: Arc::new(MemoryStreamStore::default()),
        metrics,
        clock,
        presence: Arc::new(presence),
        empty: Notify::new(),
        unsure: Notify::new(),
    };
    let room = Room::new(RoomId::parse("r").unwrap(), Arc::new(parts));
    room.change(|state| state.begin_reading());
    let (live, _) = room.change(|state| state.finish(Vec::new(), (1, 0), Position::ZERO));
    assert!(live);
    room
}

/// The next message of a room, whose frame has about so many bytes. As the database has it: there
/// may be larger ones than anybody can send.
fn entry(room: &Room, bytes: usize) -> RoomEntry {
    entry_at(room, room.head().seq + 1, bytes)
}

fn entry_at(room: &Room, seq: u64, bytes: usize) -> RoomEntry {
    let position = Position::new(1, seq);
    let message = Message {
        room_id: room.id.clone(),
        id: MessageId::parse(&format!("m{}", position.seq)).unwrap(),
        user_id: UserId::parse("u").unwrap(),
        kind: MessageType::User,
        content: "x".repeat(bytes),
        metadata: Metadata::default(),
        created_at: Timestamp(0),
        edited_at: None,
        deleted_at: None,
        credits: None,
        changed_position: None,
        change_id: None,
        position: Some(position),
    };
    RoomEntry::from_message(&message).unwrap()
}

fn joiner(member: MemberId, queue: &Arc<SendQueue>) -> Joiner<'static> {
    Joiner {
        member,
        user: UserId::parse("reader").unwrap(),
        queue: Arc::clone(queue),
        limit: 1,
        progress: ReadProgress::default(),
        reply: &|_| (),
    }
}

/// A member that reads only when it is told to.
fn join(room: &Arc<Room>, member: MemberId, queue: &Arc<SendQueue>) -> Membership {
    let older = Messages { messages: Vec::new(), more: false, epoch: 1 };
    let older = Some((room.read(|state| state.cache.floor()), older));
    let (membership, effects) =
        room.join_latest(&joiner(member, queue), Resumption::Fresh, older).unwrap();
    assert!(effects.catch_up.is_empty());
    membership
}

/// Takes what waits, as a client that reads does; gives the bytes.
fn write_some(queue: &SendQueue) -> usize {
    queue.read().iter().map(Bytes::len).sum()
}

fn empty(queue: &SendQueue) {
    while queue.bytes() > 0 {
        write_some(queue);
    }
}

/// Whether somebody who waits for this goes on at once.
async fn is_over(waiting: impl Future<Output = bool>) -> bool {
    let mut waiting = pin!(waiting);
    poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_ready())).await
}

fn fills() -> impl Iterator<Item = usize> {
    (0..=FILLS).map(|step| step * (SEND_QUEUE_BYTES_MAX + 64 * 1024) / FILLS)
}

fn frames() -> [usize; 6] {
    [100, 256 * 1024, 700 * 1024, 1024 * 1024, ENVELOPE_BYTES_MAX - 1000, 3 * 1024 * 1024]
}

/// Runs this on one thread, so that a task that never waits lets nothing else run, and says so
/// instead of standing still for ever.
fn on_one_thread(what: impl AsyncFnOnce() + Send + 'static) {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(what());
        done.send(()).unwrap();
    });
    let ended = ended.recv_timeout(PATIENCE);
    assert!(ended.is_ok(), "something failed, or goes round without waiting: {ended:?}");
}

#[test]
fn a_member_that_has_stopped_reading_holds_up_nobody_however_full_its_queue_is() {
    on_one_thread(async || {
        let folder = tempfile::tempdir().unwrap();
        let room = room(folder.path());
        for (number, fill) in fills().enumerate() {
            for frame in frames() {
                let (member, queue) = (number as MemberId, Arc::new(SendQueue::default()));
                let membership = join(&room, member, &queue);
                empty(&queue);
                queue.push(Frame::text(&vec![b'x'; fill]));
                let entry = entry(&room, frame);
                sync::start(&room, room.change(|state| state.deliver(entry)));
                // The task that catches the member up runs until it waits.
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                let read = async {
                    let mut bytes = 0;
                    while bytes < fill + frame {
                        bytes += write_some(&queue);
                        tokio::task::yield_now().await;
                    }
                };
                let read = tokio::time::timeout(PATIENCE / 2, read).await;
                read.unwrap_or_else(|_| panic!("{frame} bytes behind {fill} never come"));
                drop(membership);
            }
        }
    });
}

#[tokio::test]
async fn a_page_that_is_refused_is_waited_for_however_full_the_queue_is() {
    let folder = tempfile::tempdir().unwrap();
    let room = room(folder.path());
    for (number, fill) in fills().enumerate() {
        for frame in frames() {
            let (member, queue) = (number as MemberId, Arc::new(SendQueue::default()));
            let membership = join(&room, member, &queue);
            empty(&queue);
            let from = room.state.lock().last.clone();
            let entry = entry(&room, frame);
            room.state.lock().head = entry.at;
            let lagging = Lagging::behind(from.clone(), true);
            room.state.lock().members.by_id.get_mut(&member).unwrap().lagging = Some(lagging);
            queue.push(Frame::text(&vec![b'x'; fill]));
            let page = Page { head: entry.at, entries: vec![entry], complete: true, epoch: 1 };
            let given = room.state.lock().hand_over(member, &from, Position::ZERO, (&page, 1));
            if let Handover::Refused(bytes) = given {
                assert!(!is_over(queue.room_for(bytes)).await, "{bytes} behind {fill}");
                empty(&queue);
                assert!(is_over(queue.room_for(bytes)).await, "{bytes} fit into an empty queue");
            } else {
                assert_eq!((given, queue.bytes() > fill), (Handover::Some, true));
            }
            drop(membership);
        }
    }
}

#[tokio::test]
async fn an_empty_page_moves_nobody_past_what_was_not_there_when_it_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let room = room(folder.path());
    let queue = Arc::new(SendQueue::default());
    let _membership = join(&room, 1, &queue);
    let from = Cursor { position: Position::new(1, 1), key: None };
    let lagging = Lagging::behind(from.clone(), true);
    room.state.lock().members.by_id.get_mut(&1).unwrap().lagging = Some(lagging);
    let cursor = || {
        room.state.lock().members.by_id.get(&1).unwrap().lagging.clone().unwrap().cursor.position
    };
    // Somebody else asked for it, before the room's memory began where it begins now.
    let page = |seq: u64| Page {
        entries: Vec::new(),
        complete: true,
        head: Position::new(1, seq),
        epoch: 1,
    };
    let floor = Position::new(1, 9);
    room.state.lock().hand_over(1, &from, floor, (&page(1), 1));
    assert_eq!(cursor(), from.position, "what lies between was in no page");
    room.state.lock().hand_over(1, &from, floor, (&page(9), 1));
    assert_eq!(cursor(), floor);
}

#[tokio::test]
async fn what_was_read_before_messages_were_erased_is_not_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let room = room(folder.path());
    let erasures = room.state.lock().erasures;
    room.change(|state| state.begin_reading());
    let read = entry(&room, 10);
    let at = read.at;
    let mut cache = RoomCache::new(Cursor::ZERO, &room.parts.history.memory);
    cache.push(Arc::new(read));
    room.change(|state| state.erased());
    let snapshot = Snapshot {
        cache,
        last: Cursor { position: at, key: None },
        head: at,
        epoch: 1,
        persisted: at,
    };
    let (live, _) = room.change(|state| state.load(snapshot, erasures));
    assert!(!live, "it is to be read anew");
    assert!(room.state.lock().cache.latest(9).is_empty());
    let entries = vec![entry(&room, 10)];
    let (live, _) = room.change(|state| state.finish(entries, (1, erasures), at));
    assert!(!live);
    assert!(room.state.lock().cache.latest(9).is_empty());
}

fn calls_for_nothing(effects: &Effects) -> bool {
    !effects.sync && effects.catch_up.is_empty() && !effects.read_streams
}

fn who_lags(effects: &Effects) -> Vec<MemberId> {
    effects.catch_up.iter().map(|(member, _)| *member).collect()
}

#[tokio::test]
async fn the_next_entry_calls_for_nothing_and_one_behind_a_gap_for_one_reading() {
    let folder = tempfile::tempdir().unwrap();
    let room = room(folder.path());
    let next = entry(&room, 10);
    assert!(calls_for_nothing(&room.change(|state| state.deliver(next))));
    let old = entry_at(&room, 1, 10);
    assert!(calls_for_nothing(&room.change(|state| state.deliver(old))));
    let beyond = entry_at(&room, 3, 10);
    assert!(room.change(|state| state.deliver(beyond)).sync);
    // From here on it counts as being read, whether or not anybody has begun.
    let further = entry_at(&room, 5, 10);
    assert!(calls_for_nothing(&room.change(|state| state.deliver(further))));
    assert!(calls_for_nothing(&room.change(|state| state.resync())));
    room.change(|state| state.begin_reading());
    let entries = vec![entry_at(&room, 2, 10), entry_at(&room, 3, 10)];
    let (live, effects) = room.change(|state| state.finish(entries, (1, 0), Position::ZERO));
    assert!(live && calls_for_nothing(&effects));
    assert!(room.change(|state| state.resync()).sync, "the next reading is another");
}

#[tokio::test]
async fn a_member_that_falls_behind_is_to_be_caught_up_once() {
    let folder = tempfile::tempdir().unwrap();
    let room = room(folder.path());
    let (full, quick) = (Arc::new(SendQueue::default()), Arc::new(SendQueue::default()));
    let memberships = (join(&room, 1, &full), join(&room, 2, &quick));
    full.push(Frame::text(&vec![b'x'; SEND_QUEUE_BYTES_MAX]));
    let next = entry(&room, 10);
    assert_eq!(who_lags(&room.change(|state| state.deliver(next))), [1]);
    let next = entry(&room, 10);
    assert!(calls_for_nothing(&room.change(|state| state.deliver(next))), "it has its task");
    // Read anew, the room asks only those for their cursors who were not asked yet.
    let (head, erasures) = room.read(|state| (state.head, state.erasures));
    let last = Cursor { position: head, key: None };
    let cache = RoomCache::new(last.clone(), &room.parts.history.memory);
    let snapshot = Snapshot { cache, last, head, epoch: 1, persisted: head };
    let (live, effects) = room.change(|state| state.load(snapshot, erasures));
    assert!(live);
    assert_eq!(who_lags(&effects), [2]);
    drop(memberships);
    // Whoever left before the task began is not waited for.
    assert!(matches!(room.change(|state| state.advance(1, &full)), Step::Over));
}

#[tokio::test]
async fn a_join_that_does_not_hold_everything_is_to_be_caught_up() {
    let folder = tempfile::tempdir().unwrap();
    let room = room(folder.path());
    for _ in 0..3 {
        let next = entry(&room, 10);
        assert!(calls_for_nothing(&room.change(|state| state.deliver(next))));
    }
    let queue = Arc::new(SendQueue::default());
    let join = |seq: u64| {
        let cursor = Cursor { position: Position::new(1, seq), key: None };
        let (_, effects) = room.join_after(&joiner(1, &queue), &cursor, None).unwrap();
        who_lags(&effects)
    };
    assert_eq!(join(1), [1], "the reply holds one message of two");
    assert_eq!(join(2), [] as [MemberId; 0]);
}

#[tokio::test]
async fn a_part_that_was_lost_is_asked_for_once() {
    let folder = tempfile::tempdir().unwrap();
    let room = room(folder.path());
    let part = |offset: u64| {
        let (id, user) = (MessageId::parse("a").unwrap(), UserId::parse("bot").unwrap());
        let (kind, state) = (MessageType::Assistant, StreamState::Streaming);
        RoomSignal::Stream(StreamPart { id, user, kind, offset, delta: "x".to_owned(), state })
    };
    assert!(room.change(|state| state.signal(part(5))).read_streams);
    assert!(!room.change(|state| state.signal(part(6))).read_streams, "it is being asked");
    room.change(|state| state.begin_reading_streams());
    room.change(|state| state.take_streams(None));
    assert!(room.change(|state| state.signal(part(7))).read_streams, "it did not answer");
}
