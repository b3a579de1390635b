//! The hub: which local connections are in which room.

pub(crate) mod room_quota;
mod joins;
mod sync;
mod catch_up;
mod presence_sync;
pub(crate) mod room;
mod changes;
pub(crate) mod history;
mod cache;
mod view;
pub(crate) mod entry;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::{
    APPEND_TIMEOUT_MS, COMPARE_GRACE_MS, COMPARE_INTERVAL_MS, ROOM_LINGER_MS,
};
use shared::contract::message::Message;
use shared::contract::position::Position;
use shared::contract::protocol::{EventName, Rejected, Since};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::signal::{ReadMark, Signal};
use shared::log::{Append, Delivery, RingEntry, Watermark};
use shared::process::byte_budget::ByteBudget;
use shared::process::clock::Clock;
use shared::process::error_chain::error_chain;
use shared::trouble;
use tokio::sync::Notify;
use tracing::{debug, error, warn};

use self::changes::ChangePage;
use self::entry::{Cursor, RoomEntry};
use self::history::{History, HistoryError, Messages};
use self::joins::JoinError;
use self::room::{Joiner, Membership, Room};
use crate::broker::append_queue::journaling::RefusedEntry;
use crate::broker::{Broker, SignalPublisher};
use crate::metrics::Metrics;
use crate::presence::local::LocalPresence;
use crate::stream::StreamStore;
use crate::wire::codec;
use crate::wire::send_queue::SendQueue;

/// How long a join waits to be told by the database what its user has not read.
const READING_PATIENCE: Duration = Duration::from_millis(500);

/// What every room works with.
#[derive(Debug)]
pub(crate) struct Deps {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) history: History,
    /// What rooms that synchronise may keep together of what is published meanwhile. Not of what
    /// rooms remember: that does not drain by itself, and no room would become live.
    pub(crate) syncing: Arc<ByteBudget>,
    pub(crate) streams: Arc<dyn StreamStore>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    pub(crate) presence: Arc<LocalPresence>,
    pub(crate) signals: SignalPublisher,
    /// Some room has lost its last member.
    pub(crate) empty: Notify,
    /// Who is in the rooms has to be compared with what is kept.
    pub(crate) unsure: Notify,
}

/// How a join went, for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumption {
    /// No `since`.
    Fresh,
    /// `since` was found.
    Recovered,
    /// `since` was not found.
    Reset,
}

/// The rooms of this node.
#[derive(Debug)]
pub(crate) struct Hub {
    rooms: DashMap<RoomId, Arc<Room>>,
    parts: Arc<Deps>,
}

impl Hub {
    pub(crate) fn new(parts: Deps) -> Hub {
        Hub { rooms: DashMap::new(), parts: Arc::new(parts) }
    }

    /// Bytes that rooms remember.
    pub(crate) fn remembered_bytes(&self) -> usize {
        self.parts.history.memory.used()
    }

    /// How many rooms have members here, or had a moment ago.
    pub(crate) fn len(&self) -> usize {
        self.rooms.len()
    }

    fn room(&self, id: &RoomId) -> Arc<Room> {
        if let Some(room) = self.known(id) {
            return room;
        }
        // The guard of the entry ends with the statement; the task it starts only reads.
        let room = self.rooms.entry(id.clone()).or_insert_with(|| {
            let room = Room::new(id.clone(), Arc::clone(&self.parts));
            self.parts.metrics.rooms.inc();
            tokio::spawn(sync::run(Arc::clone(&room)));
            room
        });
        Arc::clone(&room)
    }

    /// Every room at this moment: no guard is held while they work.
    fn all(&self) -> Vec<Arc<Room>> {
        self.rooms.iter().map(|room| Arc::clone(&room)).collect()
    }

    fn known(&self, id: &RoomId) -> Option<Arc<Room>> {
        // The guard ends with the statement.
        self.rooms.get(id).map(|room| Arc::clone(&room))
    }

    /// What the broker says.
    pub(crate) fn take(&self, delivery: Delivery) {
        match delivery {
            Delivery::Entry(entry) => self.deliver(&entry),
            Delivery::Watermark(watermark) => self.watermark(&watermark),
            Delivery::Signal(Signal::Room { room, what }) => {
                if let Some(room) = self.known(&room) {
                    sync::start(&room, room.change(|state| state.signal(what)));
                }
            }
            // What is for the whole node is none of the rooms' business.
            Delivery::Signal(Signal::Nodes(_)) => {}
            Delivery::Gap => {
                let rooms = self.all();
                if !rooms.is_empty() {
                    warn!(
                        rooms = rooms.len(),
                        "publications may be lost; rooms read what they missed"
                    );
                }
                rooms.iter().for_each(sync::resync);
            }
        }
    }

    fn deliver(&self, entry: &RingEntry) {
        match RoomEntry::from_publication(entry) {
            Ok((id, accepted_at, entry)) => {
                if let Some(room) = self.known(&id) {
                    sync::start(&room, room.change(|state| state.deliver(entry)));
                    let took_ms = self.parts.clock.now_ms().saturating_sub(accepted_at.0).max(0);
                    self.parts.metrics.delivery_seconds.observe(took_ms as f64 / 1000.0);
                }
            }
            Err(error) => error!(error = error_chain(&error), "publication is no entry"),
        }
    }

    fn watermark(&self, watermark: &Watermark) {
        // Senders hear of what was refused before the watermark passes it.
        for rejected in &watermark.rejected {
            if let Some(room) = self.known(&rejected.room) {
                room.change(|state| state.refuse(std::slice::from_ref(rejected)));
            }
        }
        for (id, upto) in &watermark.rooms {
            if let Some(room) = self.known(id) {
                room.change(|state| state.persisted(*upto));
            }
        }
    }

    /// Shows members here a message that only this node's journal has.
    pub(crate) fn pending(&self, id: &RoomId, message: &Bytes) {
        if let Some(room) = self.known(id) {
            let frame = codec::raw_event(EventName::MessagePending, message);
            room.read(|state| state.tell(&frame));
        }
    }

    /// Shows somebody who has joined what only the journal has; what the room has by now is left
    /// out.
    pub(crate) fn show_pending(&self, id: &RoomId, queue: &Arc<SendQueue>, noted: &[Append]) {
        let Some(room) = self.known(id) else { return };
        room.read(|state| {
            for Envelope { kind, id, user, body, .. } in noted.iter().map(|noted| &noted.envelope) {
                let own = state.cache.find(id, user).is_some_and(|(_, own)| own);
                if *kind == EntryKind::Message && !own {
                    queue.offer(&codec::raw_event(EventName::MessagePending, body));
                }
            }
        });
    }

    /// Members here take away what the journal had and the log takes never.
    pub(crate) fn refused(&self, refused: RefusedEntry) {
        let RefusedEntry { room: room_id, user: user_id, id, change_id, error } = refused;
        let Some(room) = self.known(&room_id) else { return };
        let author = user_id.clone();
        let mut told = Rejected { room_id, id, user_id, change_id, error: None };
        let others = codec::event(EventName::MessageRejected, &told);
        told.error = Some(error);
        let sender = codec::event(EventName::MessageRejected, &told);
        room.read(|state| state.tell_of(&author, (&sender, &others)));
    }

    /// Messages of the room were erased.
    pub(crate) fn erased(&self, id: &RoomId) {
        if let Some(room) = self.known(id) {
            room.change(|state| state.erased());
        }
    }

    /// Enters a room.
    pub(crate) async fn join(
        &self,
        id: &RoomId,
        joiner: Joiner<'_>,
        since: Option<Since>,
    ) -> Result<Membership, Refusal> {
        let patience = Duration::from_millis(APPEND_TIMEOUT_MS);
        let cursor = since.map(Cursor::from);
        match tokio::time::timeout(patience, self.try_join(id, joiner, cursor)).await {
            Ok(Ok(membership)) => Ok(membership),
            Ok(Err(JoinError::Removed)) => Err(not_yours()),
            Ok(Err(failure)) => {
                trouble!(room.id = %id, error = error_chain(&failure), "room cannot be joined");
                Err(unreadable())
            }
            Err(_) => Err(unreadable()),
        }
    }

    /// The page of messages below `before`, or above `after`.
    pub(crate) async fn history(
        &self,
        id: &RoomId,
        bound: Bound,
        limit: u32,
    ) -> Result<HistoryPage, Refusal> {
        let history = &self.parts.history;
        let (read, from_back) = match bound {
            Bound::Before(before) => (history.messages_before(id, before, limit).await, true),
            Bound::After(after) => (history.messages_after(id, after, limit).await, false),
        };
        let Messages { messages, mut more, .. } = read.map_err(|failure| unread(id, &failure))?;
        let mut messages: Vec<Bytes> = messages.into_iter().map(|message| message.json).collect();
        let count = messages.len();
        if from_back {
            let fit = cache::fitting(messages.iter().rev()).min(count);
            messages.drain(..count - fit);
        } else {
            messages.truncate(cache::fitting(messages.iter()).min(count));
        }
        more |= messages.len() < count;
        Ok(HistoryPage { messages, more })
    }

    /// A message in its present state, wherever it is: of several of one id `user`'s own, else the
    /// first.
    pub(crate) async fn message(
        &self,
        id: &RoomId,
        user: &UserId,
        message: &MessageId,
    ) -> Result<Option<Message>, Refusal> {
        let find = |room: Arc<Room>| room.read(|state| state.cache.find(message, user));
        let remembered = self.known(id).and_then(find);
        if let Some((own, true)) = remembered {
            return Ok(Some(own));
        }
        let remembered = remembered.map(|(others, _)| others);
        // What is remembered need not wait long for the database to know of another.
        let patience = if remembered.is_some() { READING_PATIENCE } else { Duration::MAX };
        let read = self.parts.history.message(id, user, message);
        let read = tokio::time::timeout(patience, read).await;
        match read.unwrap_or(Err(HistoryError::Unsettled)) {
            Ok(found) => Ok(found.or(remembered)),
            Err(_) if remembered.is_some() => Ok(remembered),
            Err(failure) => {
                trouble!(room.id = %id, error = error_chain(&failure),
                    "message cannot be looked up");
                Err(unreadable())
            }
        }
    }

    /// The first `limit` changes after a place; `None` if the room has not come that far.
    pub(crate) async fn changes(
        &self,
        id: &RoomId,
        after: Position,
        limit: u32,
    ) -> Result<Option<ChangePage>, Refusal> {
        let read = self.parts.history.changes(id, after, limit).await;
        read.map_err(|failure| unread(id, &failure))
    }

    /// Where a room stands that has members here.
    pub(crate) fn head(&self, id: &RoomId) -> Option<Position> {
        self.known(id).map(|room| room.head())
    }

    /// The message that stands at a position, if the room remembers it.
    pub(crate) fn message_at(&self, id: &RoomId, position: Position) -> Option<MessageId> {
        self.known(id)?.read(|state| state.cache.at(position))
    }

    /// How far somebody has read a room, as far as it is known here.
    pub(crate) fn receipt(&self, id: &RoomId, user: &UserId) -> Option<ReadMark> {
        self.known(id)?.read(|state| state.receipt(user)).0
    }

    /// Finds rooms whose subscription has died without a word: behind the log, and still behind
    /// when what is on its way should have come. A room that the log has lost is not behind.
    pub(crate) async fn compare_rooms(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(COMPARE_INTERVAL_MS)).await;
            let mut behind = Vec::new();
            for room in self.all() {
                match self.parts.history.head(&room.id).await {
                    Ok((_, head, persisted)) => {
                        if let Err(error) = sync::learn_refused(&room, persisted).await {
                            debug!(room.id = %room.id, error = error_chain(&error),
                                "refusals cannot be read");
                            continue;
                        }
                        room.change(|state| state.persisted(persisted.min(state.head)));
                        if room.head() < head {
                            behind.push((room, head));
                        }
                    }
                    Err(error) => {
                        debug!(room.id = %room.id, error = error_chain(&error),
                            "room cannot be compared");
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(COMPARE_GRACE_MS)).await;
            for (room, head) in behind {
                if room.head() < head {
                    warn!(room.id = %room.id, "room had fallen behind the log");
                    self.parts.metrics.gaps_total.inc();
                    sync::resync(&room);
                }
            }
        }
    }

    /// Takes out rooms that have lost their last member and stay empty for a while.
    pub(crate) async fn retire_rooms(&self) {
        loop {
            self.parts.empty.notified().await;
            tokio::time::sleep(Duration::from_millis(ROOM_LINGER_MS)).await;
            let mut retired = Vec::new();
            self.rooms.retain(|id, room| {
                let retire = room.change(|state| state.retire_if_empty());
                if retire {
                    self.parts.metrics.rooms.dec();
                    retired.push(id.clone());
                }
                !retire
            });
            for id in retired {
                if let Err(error) = self.parts.broker.unsubscribe(&id).await {
                    trouble!(room.id = %id, error = error_chain(&error), "room stays subscribed");
                }
                // Entered again meanwhile: its new room may have subscribed before that.
                if let Some(room) = self.known(&id) {
                    sync::resync(&room);
                }
            }
        }
    }
}

/// A page of a room's history as JSON, oldest first.
#[derive(Debug)]
pub(crate) struct HistoryPage {
    pub(crate) messages: Vec<Bytes>,
    /// There are more on the side that was asked for.
    pub(crate) more: bool,
}

/// Which page of a room's history.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// Ends below this position.
    Before(Position),
    /// Begins above this position.
    After(Position),
}

fn unread(id: &RoomId, failure: &HistoryError) -> Refusal {
    trouble!(room.id = %id, error = error_chain(&failure), "history cannot be read");
    unreadable()
}

fn unreadable() -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "the room cannot be read now").retry_after_ms(1000)
}

/// The same for a room that does not exist.
pub(crate) fn not_yours() -> Refusal {
    Refusal::new(RefusalCode::Forbidden, "this room is not yours").field("roomId")
}
