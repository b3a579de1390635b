//! One room on this node: its order, its memory, its members.
//!
//! ```text
//! Syncing{buffer}  |  Live
//! on publication:  not above the head → drop     the next → emit        beyond → Syncing
//! ```
//! Everything here happens under one lock and in short sections: handing a frame to a member never
//! waits. The state is the room's, not the client's: ten thousand clients that come back within its
//! memory cost nobody a question.

mod join;
mod activity;
mod reading;
mod ephemeral;
mod lagging;
mod members;
mod lifetime;
mod refusals;
mod presence;
mod receipts;
mod streams;
mod typing;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::SYNC_BUFFER_ENTRIES_MAX;
use shared::contract::message::Message;
use shared::contract::position::Position;
use shared::contract::protocol::Receipt;
use shared::process::byte_budget::ByteShare;
use tokio::sync::Notify;

use self::ephemeral::Ephemeral;
use self::refusals::RoomRefusals;
use super::Deps;
use super::cache::RoomCache;
use super::catch_up;
use super::entry::{Cursor, RoomEntry};
use super::history::Snapshot;
use super::sync;
use crate::presence::local::{ConnectionId, Parting};
use crate::wire::send_queue::SendQueue;

pub(crate) use self::ephemeral::InitialState;
pub(super) use self::lagging::{Handover, Lagging, Step};
pub(crate) use self::reading::Reading;

/// Names a connection within a node.
pub(crate) type MemberId = ConnectionId;

/// One room.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(super) parts: Arc<Deps>,
    state: Mutex<RoomState>,
    /// Wakes those who wait for the first synchronisation.
    settled: Notify,
}

#[derive(Debug)]
struct RoomState {
    phase: RoomPhase,
    /// Whether it was ever live; before that there is nothing to join.
    settled: bool,
    /// The last try to read it failed.
    failing: bool,
    /// Taken out of the hub; whoever still holds it asks the hub anew.
    retired: bool,
    cache: RoomCache,
    head: Position,
    /// The log's when it was last read, which is the one of the next entry.
    epoch: u64,
    /// The last entry that anyone saw.
    last: Cursor,
    persisted: Position,
    /// What was said of that while the room synchronised.
    persisted_since: Position,
    refusals: RoomRefusals,
    /// How often messages of it were erased.
    erasures: u64,
    members: HashMap<MemberId, Member>,
    /// Who was removed, and up to which place of the order that is known.
    removed: HashMap<UserId, Position>,
    ephemeral: Ephemeral,
}

#[derive(Debug)]
enum RoomPhase {
    /// What is published meanwhile waits here.
    Syncing {
        buffer: Vec<Arc<RoomEntry>>,
        /// Of the buffer.
        bytes: ByteShare,
        overflow: bool,
    },
    Live,
}

impl RoomPhase {
    fn syncing(parts: &Deps) -> RoomPhase {
        let bytes = parts.syncing.share();
        RoomPhase::Syncing { buffer: Vec::new(), bytes, overflow: false }
    }
}

impl RoomState {
    /// Whether nothing can lie between the head and this place. Where the head is of an earlier
    /// epoch than it was read in, all that stands of the earlier ones was then in the database.
    fn is_next(&self, at: Position) -> bool {
        at == Position::new(self.epoch, self.head.seq + 1)
    }
}

/// A connection in a room.
#[derive(Debug)]
struct Member {
    user: UserId,
    queue: Arc<SendQueue>,
    lagging: Option<Lagging>,
    /// Receipts went by that it could not take.
    missed_receipts: bool,
    /// It could not take a change of who is here.
    missed: bool,
    /// Told when the room ends the membership.
    ended: Arc<AtomicBool>,
}

/// Who joins.
#[derive(Clone, Debug)]
pub(crate) struct Joiner {
    pub(crate) member: MemberId,
    pub(crate) user: UserId,
    pub(crate) queue: Arc<SendQueue>,
    pub(crate) limit: u32,
    pub(crate) reading: Reading,
}

/// What a join found; its reply is made under the room's lock.
#[derive(Debug)]
pub(crate) struct Joined<'a> {
    pub(crate) messages: &'a [Bytes],
    pub(crate) head: Position,
    pub(crate) persisted: Position,
    pub(crate) more: bool,
    /// Who has read how far.
    pub(crate) receipts: BTreeMap<UserId, Receipt>,
    /// Messages of others that this one has not read.
    pub(crate) unread: u64,
    pub(crate) found: InitialState,
}

/// Why a join has to be tried differently.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JoinRetry {
    /// The room left the hub.
    Retired,
    /// The room's memory does not reach back to what is needed.
    Memory,
    /// What was read is ahead of what the room has heard of.
    Ahead,
    /// This one was removed from the room at that place, or before.
    Removed(Position),
}

/// A membership as the connection holds it; leaving is dropping it.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) room: Arc<Room>,
    member: MemberId,
    ended: Arc<AtomicBool>,
}

impl Membership {
    /// Whether the room still counts this connection as its member.
    pub(crate) fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// Leaves; `reply` is called when no event can follow any more.
    pub(crate) fn leave(self, reply: impl FnOnce()) {
        self.room.remove(self.member, &self.ended, Parting::Left, reply);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.room.remove(self.member, &self.ended, Parting::Dropped, || ());
    }
}

impl Room {
    /// A room that is about to read where it stands.
    pub(super) fn new(id: RoomId, parts: Arc<Deps>) -> Arc<Room> {
        let state = RoomState {
            phase: RoomPhase::syncing(&parts),
            settled: false,
            failing: false,
            retired: false,
            cache: RoomCache::new(Cursor::ZERO, &parts.history.memory),
            head: Position::ZERO,
            epoch: 0,
            last: Cursor::ZERO,
            persisted: Position::ZERO,
            persisted_since: Position::ZERO,
            refusals: RoomRefusals::default(),
            erasures: 0,
            members: HashMap::new(),
            removed: HashMap::new(),
            ephemeral: Ephemeral::default(),
        };
        Arc::new(Room { id, parts, state: Mutex::new(state), settled: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has everything that was published, as far as this node can tell.
    pub(super) fn is_current(&self) -> bool {
        matches!(self.lock().phase, RoomPhase::Live) && self.parts.broker.hears()
    }

    /// Where the room stands.
    pub(crate) fn head(&self) -> Position {
        self.lock().head
    }

    /// The epoch in which it was last read.
    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    // --- Publications ---

    /// An entry was published.
    pub(super) fn deliver(self: &Arc<Self>, entry: RoomEntry) {
        let mut state = self.lock();
        let entry = Arc::new(entry);
        if let RoomPhase::Syncing { buffer, overflow, bytes } = &mut state.phase {
            // What does not fit is read again, and so is all that came after it.
            if !*overflow && buffer.len() < SYNC_BUFFER_ENTRIES_MAX && bytes.grow(entry.bytes()) {
                buffer.push(entry);
            } else {
                *overflow = true;
            }
        } else if state.is_next(entry.at) {
            self.emit(&mut state, &entry);
        } else if entry.at > state.head {
            self.parts.metrics.gaps_total.inc();
            self.begin_sync(&mut state);
        }
    }

    /// Something may have been missed.
    pub(super) fn resynchronise(self: &Arc<Self>) {
        let mut state = self.lock();
        match state.phase {
            RoomPhase::Live => self.begin_sync(&mut state),
            // What was buffered may have a hole.
            RoomPhase::Syncing { ref mut overflow, .. } => *overflow = true,
        }
    }

    fn begin_sync(self: &Arc<Self>, state: &mut RoomState) {
        state.phase = RoomPhase::syncing(&self.parts);
        tokio::spawn(sync::run(Arc::clone(self)));
    }

    /// Hands the next entry to every member.
    fn emit(self: &Arc<Self>, state: &mut RoomState, entry: &Arc<RoomEntry>) {
        let before = state.last.clone();
        let entry = state.cache.fold(Arc::clone(entry));
        let refused = entry.refused().cloned();
        if let Some(refused) = &refused {
            // Its sender, with the reason; the others below.
            self.refuse(state, std::slice::from_ref(refused));
        } else {
            // What was refused stands after all: it was driven again.
            state.refusals.lift(entry.subject().1, entry.key());
        }
        if let Some(frame) = entry.next_frame() {
            let mut delivered = 0;
            for (id, member) in &mut state.members {
                if member.lagging.is_some() {
                    continue;
                }
                if refused.as_ref().is_some_and(|refused| refused.user == member.user) {
                    continue;
                }
                if member.queue.offer(frame) {
                    delivered += 1;
                } else {
                    self.lag(*id, member, Lagging::behind(before.clone(), true));
                }
            }
            self.parts.metrics.deliveries_total.inc_by(delivered);
            state.last = entry.cursor();
        }
        if let Some(speaker) = entry.author() {
            self.clear_typing(state, speaker);
        }
        if let Some(id) = entry.message_id() {
            state.ephemeral.streams.settle(id);
        }
        state.head = entry.at;
        if let Some(removed) = entry.removed() {
            self.kick(state, removed, entry.at);
        }
        let is_over = entry.ends_what_was();
        state.cache.push(entry);
        if is_over {
            // What the change had changed is sound, and nobody here knows it any more.
            self.begin_anew(state);
        }
    }

    /// From here on the member catches up by its cursor.
    fn lag(self: &Arc<Self>, id: MemberId, member: &mut Member, lagging: Lagging) {
        let began = member.lagging.replace(lagging).is_none();
        if began {
            self.parts.metrics.lagging_total.inc();
            tokio::spawn(catch_up::run(Arc::clone(self), id, Arc::clone(&member.queue)));
        }
    }

    // --- Synchronising ---

    /// Before the ring is read: what is published from here on is kept. Gives the head that the
    /// reading goes on from, or `None` when the room knows nothing yet.
    pub(super) fn begin_reading(&self) -> Option<Position> {
        let mut state = self.lock();
        // What was published before is in what will be read.
        state.phase = RoomPhase::syncing(&self.parts);
        state.settled.then_some(state.head)
    }

    /// What the ring had above the head, densely, as of when messages had been erased so often;
    /// `false` when there was more than fits, or more was erased.
    pub(super) fn finish(
        self: &Arc<Self>,
        entries: Vec<RoomEntry>,
        (epoch, erasures): (u64, u64),
        persisted: Position,
    ) -> bool {
        let mut state = self.lock();
        if state.erasures != erasures {
            return false;
        }
        state.epoch = epoch;
        for entry in entries {
            self.emit(&mut state, &Arc::new(entry));
        }
        self.go_live(&mut state, persisted)
    }

    /// The room's memory, read anew, because the head could not simply go on: each member has to
    /// show that its cursor stands in this order.
    pub(super) fn snapshot(self: &Arc<Self>, snapshot: Snapshot, erasures: u64) -> bool {
        let mut state = self.lock();
        // What was erased since it was read must not be remembered until it is read again.
        if state.erasures != erasures {
            return false;
        }
        let last = state.last.clone();
        // Nothing of it is told entry by entry; what it says of people counts all the same.
        for entry in snapshot.cache.after(state.head) {
            if let Some(speaker) = entry.author() {
                self.clear_typing(&mut state, speaker);
            }
            if let Some(removed) = entry.removed() {
                self.kick(&mut state, removed, entry.at);
            }
        }
        state.cache = snapshot.cache;
        state.head = snapshot.head;
        state.epoch = snapshot.epoch;
        state.last = snapshot.last;
        let RoomState { members, .. } = &mut *state;
        for (id, member) in members {
            let all = || Lagging::behind(last.clone(), false);
            let lagging = member.lagging.clone().unwrap_or_else(all);
            self.lag(*id, member, Lagging { verified: false, ..lagging });
        }
        self.go_live(&mut state, snapshot.persisted)
    }

    /// Drains what was published meanwhile; `false` when some of it is missing.
    fn go_live(self: &Arc<Self>, state: &mut RoomState, persisted: Position) -> bool {
        let live = std::mem::replace(&mut state.phase, RoomPhase::Live);
        let RoomPhase::Syncing { buffer, overflow, .. } = live else { return true };
        let mut dense = !overflow;
        for entry in buffer {
            if dense && entry.at > state.head {
                dense = state.is_next(entry.at);
                if dense {
                    self.emit(state, &entry);
                }
            }
        }
        if dense {
            state.settled = true;
            self.settled.notify_waiters();
            if state.members.is_empty() {
                self.parts.empty.notify_one();
            }
        } else {
            state.phase = RoomPhase::syncing(&self.parts);
        }
        let heard = if dense { std::mem::take(&mut state.persisted_since) } else { persisted };
        self.persist(state, persisted.max(heard));
        dense
    }

    // --- Members ---

    /// A message that the room remembers, and whether it is this one's own.
    pub(super) fn find(&self, id: &MessageId, user: &UserId) -> Option<(Message, bool)> {
        self.lock().cache.find(id, user)
    }

    /// The floor of the room's memory.
    pub(super) fn floor(&self) -> Position {
        self.lock().cache.floor()
    }

    fn add(
        self: &Arc<Self>,
        state: &mut RoomState,
        joiner: Joiner,
        lagging: Option<Lagging>,
    ) -> Membership {
        let Joiner { member: id, user, queue, .. } = joiner;
        let ended = Arc::new(AtomicBool::new(false));
        let mut member = Member {
            user,
            queue,
            lagging: None,
            missed_receipts: false,
            missed: false,
            ended: Arc::clone(&ended),
        };
        if let Some(lagging) = lagging {
            self.lag(id, &mut member, lagging);
        }
        if let Some(replaced) = state.members.insert(id, member) {
            replaced.ended.store(true, Ordering::Release);
        }
        self.send_initial_state(state, id);
        Membership { room: Arc::clone(self), member: id, ended }
    }

    fn remove(
        self: &Arc<Self>,
        id: MemberId,
        ended: &Arc<AtomicBool>,
        how: Parting,
        reply: impl FnOnce(),
    ) {
        let mut state = self.lock();
        // A membership that was replaced or ended by the room does not end its successor.
        let member = state.members.get(&id).filter(|member| Arc::ptr_eq(&member.ended, ended));
        if let Some(user) = member.map(|member| member.user.clone()) {
            state.members.remove(&id);
            self.remove_presence(&mut state, id, &user, how);
        }
        ended.store(true, Ordering::Release);
        reply();
        if state.members.is_empty() {
            self.parts.empty.notify_one();
        }
    }
}
