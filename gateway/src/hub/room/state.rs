//! The state of a room. Pure: it starts no task and awaits nothing. What a change calls for is
//! returned as [`Effects`], and counts as running until the caller has started it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::SYNC_BUFFER_ENTRIES_MAX;
use shared::contract::position::Position;
use shared::contract::protocol::RoomNotice;
use shared::contract::signal::{ReadMark, RoomSignal};
use shared::log::RejectedEntry;
use shared::process::byte_budget::ByteShare;

use super::ephemeral::Ephemeral;
use super::lagging::{Handover, Step};
use super::members::{Member, RoomMembers};
use super::refusals::{RoomRefusals, rejected_frame};
use super::{Deps, Effects, JoinRetry, MemberId};
use crate::hub::cache::RoomCache;
use crate::hub::entry::{Cursor, RoomEntry};
use crate::hub::history::{Page, SideState, Snapshot};
use crate::presence::local::Parting;
use crate::stream::StoredStream;
use crate::wire::codec;
use crate::wire::send_queue::SendQueue;

/// What a room knows.
#[derive(Debug)]
pub(in crate::hub) struct RoomState {
    pub(super) id: RoomId,
    parts: Arc<Deps>,
    phase: RoomPhase,
    /// Whether it was ever live; before that there is nothing to join.
    pub(in crate::hub) settled: bool,
    /// The last try to read it failed.
    pub(in crate::hub) failing: bool,
    /// Taken out of the hub; whoever still holds it asks the hub anew.
    pub(in crate::hub) retired: bool,
    pub(in crate::hub) cache: RoomCache,
    pub(in crate::hub) head: Position,
    /// The log's when it was last read, which is the one of the next entry.
    pub(in crate::hub) epoch: u64,
    /// The last entry that anyone saw.
    pub(super) last: Cursor,
    /// Up to where the database has it, as whoever joins is told.
    pub(in crate::hub) persisted: Position,
    /// What was said of that while the room synchronised.
    persisted_since: Position,
    pub(super) refusals: RoomRefusals,
    /// How often messages of it were erased.
    pub(in crate::hub) erasures: u64,
    pub(super) members: RoomMembers,
    /// Who was removed, and up to which place of the order that is known.
    removed: HashMap<UserId, Position>,
    pub(in crate::hub) ephemeral: Ephemeral,
}

#[derive(Debug)]
enum RoomPhase {
    /// A task reads the room; what is published meanwhile waits here.
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
    /// A room that is about to be read.
    pub(super) fn new(id: RoomId, parts: Arc<Deps>) -> RoomState {
        RoomState {
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
            members: RoomMembers::default(),
            removed: HashMap::new(),
            ephemeral: Ephemeral::new(id.clone(), Arc::clone(&parts)),
            id,
            parts,
        }
    }

    // --- From the first try to read it until it is taken out of use ---

    /// A try to read it has failed, or has not.
    pub(in crate::hub) fn tried(&mut self, failed: bool) {
        self.failing = failed;
        if failed {
            self.notify_if_empty();
        }
    }

    /// Takes the room out of use if nobody is in it.
    pub(in crate::hub) fn retire_if_empty(&mut self) -> bool {
        // One that was never read and cannot be read now is nobody's either: whoever waits for it
        // is told so.
        self.retired = self.members.by_id.is_empty() && (self.settled || self.failing);
        self.retired
    }

    fn notify_if_empty(&self) {
        if self.members.by_id.is_empty() {
            self.parts.empty.notify_one();
        }
    }

    // --- Publications ---

    /// Whether it has everything that was published, as long as the broker hears.
    pub(in crate::hub) fn is_live(&self) -> bool {
        matches!(self.phase, RoomPhase::Live)
    }

    /// Whether the cursor's entry is in memory.
    pub(in crate::hub) fn knows(&self, cursor: &Cursor) -> bool {
        cursor.position <= self.head && self.cache.knows(cursor)
    }

    /// Whether nothing can lie between the head and this place. Where the head is of an earlier
    /// epoch than it was read in, all that stands of the earlier ones was then in the database.
    fn is_next(&self, at: Position) -> bool {
        at == Position::new(self.epoch, self.head.seq + 1)
    }

    /// An entry was published.
    pub(in crate::hub) fn deliver(&mut self, entry: RoomEntry) -> Effects {
        let mut effects = Effects::default();
        let entry = Arc::new(entry);
        if let RoomPhase::Syncing { buffer, overflow, bytes } = &mut self.phase {
            // What does not fit is read again, and so is all that came after it.
            if !*overflow && buffer.len() < SYNC_BUFFER_ENTRIES_MAX && bytes.grow(entry.bytes()) {
                buffer.push(entry);
            } else {
                *overflow = true;
            }
        } else if self.is_next(entry.at) {
            self.emit(&entry, &mut effects);
        } else if entry.at > self.head {
            self.parts.metrics.gaps_total.inc();
            return self.resync();
        }
        effects
    }

    /// Something may have been missed.
    pub(in crate::hub) fn resync(&mut self) -> Effects {
        let sync = self.is_live();
        match &mut self.phase {
            RoomPhase::Live => self.phase = RoomPhase::syncing(&self.parts),
            // What was buffered may have a hole.
            RoomPhase::Syncing { overflow, .. } => *overflow = true,
        }
        Effects { sync, ..Effects::default() }
    }

    /// Hands the next entry to every member.
    fn emit(&mut self, entry: &Arc<RoomEntry>, effects: &mut Effects) {
        let entry = self.cache.fold(Arc::clone(entry));
        let refused = entry.refused().cloned();
        if let Some(refused) = &refused {
            // Its sender, with the reason; the others below.
            self.refuse(std::slice::from_ref(refused));
        } else {
            // What was refused stands after all: it was driven again.
            self.refusals.lift(entry.subject().1, entry.key());
        }
        if let Some(frame) = entry.next_frame() {
            let sender = refused.as_ref().map(|refused| &refused.user);
            let delivered = self.members.offer(frame, sender, &self.last, effects);
            self.parts.metrics.deliveries_total.inc_by(delivered);
            self.last = entry.cursor();
        }
        if let Some(author) = entry.author() {
            self.ephemeral.clear_typing(&self.members, author);
        }
        if let Some(id) = entry.message_id() {
            self.ephemeral.streams.settle(id);
        }
        self.head = entry.at;
        if let Some(removed) = entry.removed() {
            self.kick(removed, entry.at);
        }
        let is_over = entry.ends_what_was();
        self.cache.push(entry);
        if is_over {
            // What the change had changed is sound, and nobody here knows it any more.
            self.begin_anew();
        }
    }

    // --- Synchronising ---

    /// Before the ring is read: what is published from here on is kept. Gives the head that the
    /// reading goes on from, or `None` when the room knows nothing yet.
    pub(in crate::hub) fn begin_reading(&mut self) -> Option<Position> {
        // What was published before is in what will be read.
        self.phase = RoomPhase::syncing(&self.parts);
        self.settled.then_some(self.head)
    }

    /// What the ring had above the head, densely, as of when messages had been erased so often;
    /// `false` when there was more than fits, or more was erased.
    pub(in crate::hub) fn finish(
        &mut self,
        entries: Vec<RoomEntry>,
        (epoch, erasures): (u64, u64),
        persisted: Position,
    ) -> (bool, Effects) {
        let mut effects = Effects::default();
        if self.erasures != erasures {
            return (false, effects);
        }
        self.epoch = epoch;
        for entry in entries {
            self.emit(&Arc::new(entry), &mut effects);
        }
        (self.go_live(persisted, &mut effects), effects)
    }

    /// The room's memory, read anew, because the head could not simply go on: each member has to
    /// show that its cursor stands in this order.
    pub(in crate::hub) fn load(&mut self, snapshot: Snapshot, erasures: u64) -> (bool, Effects) {
        let mut effects = Effects::default();
        // What was erased since it was read must not be remembered until it is read again.
        if self.erasures != erasures {
            return (false, effects);
        }
        // Nothing of it is told entry by entry; what it says of people counts all the same.
        for entry in snapshot.cache.after(self.head) {
            if let Some(author) = entry.author() {
                self.ephemeral.clear_typing(&self.members, author);
            }
            if let Some(removed) = entry.removed() {
                self.kick(removed, entry.at);
            }
        }
        self.members.verify(&self.last, &mut effects);
        let Snapshot { cache, last, head, epoch, persisted } = snapshot;
        (self.cache, self.last, self.head, self.epoch) = (cache, last, head, epoch);
        (self.go_live(persisted, &mut effects), effects)
    }

    /// Drains what was published meanwhile; `false` when some of it is missing.
    fn go_live(&mut self, persisted: Position, effects: &mut Effects) -> bool {
        let phase = std::mem::replace(&mut self.phase, RoomPhase::Live);
        let RoomPhase::Syncing { buffer, overflow, .. } = phase else { return true };
        let mut dense = !overflow;
        for entry in buffer {
            if dense && entry.at > self.head {
                dense = self.is_next(entry.at);
                if dense {
                    self.emit(&entry, effects);
                }
            }
        }
        let mut heard = persisted;
        if dense {
            self.settled = true;
            self.notify_if_empty();
            heard = heard.max(std::mem::take(&mut self.persisted_since));
        } else {
            self.phase = RoomPhase::syncing(&self.parts);
        }
        self.persist(heard);
        dense
    }

    /// What log and database know of the room beside its order, as it was read when the room stood
    /// no further than now.
    pub(in crate::hub) fn take_side_state(&mut self, side_state: SideState) {
        let SideState { receipts, whole, removed } = side_state;
        for user in removed {
            if !self.removed.contains_key(&user) {
                self.kick(&user, self.head);
            }
        }
        self.ephemeral.receipts.load(receipts, whole);
    }

    // --- The database ---

    /// The database has the room up to `upto`, as far as that was heard. While the room
    /// synchronises, what was refused below it may have been missed.
    pub(in crate::hub) fn persisted(&mut self, upto: Position) {
        match self.phase {
            RoomPhase::Live => self.persist(upto),
            RoomPhase::Syncing { .. } => self.persisted_since = upto.max(self.persisted_since),
        }
    }

    pub(super) fn persist(&mut self, upto: Position) {
        self.persisted = self.persisted.max(upto);
    }

    /// The database refused these entries for good; their senders are told, each once.
    pub(in crate::hub) fn refuse(&mut self, refused: &[RejectedEntry]) {
        for entry in refused {
            if self.refusals.add(entry) {
                let frame = rejected_frame(entry);
                self.members.of(&entry.user).for_each(|member| member.queue.push(frame.clone()));
            }
        }
    }

    // --- Members ---

    /// Refuses whom the room does not take.
    pub(super) fn admit(&self, user: &UserId) -> Result<(), JoinRetry> {
        if self.retired {
            return Err(JoinRetry::Retired);
        }
        self.removed.get(user).map_or(Ok(()), |at| Err(JoinRetry::Removed(*at)))
    }

    /// Ends a membership, unless it was replaced or ended already.
    pub(super) fn leave(&mut self, id: MemberId, ended: &Arc<AtomicBool>, how: Parting) {
        if self.members.by_id.get(&id).is_some_and(|member| Arc::ptr_eq(&member.ended, ended)) {
            self.remove(id, how);
        }
        self.notify_if_empty();
    }

    /// Takes a member out.
    fn remove(&mut self, id: MemberId, how: Parting) -> Option<Member> {
        let member = self.members.by_id.remove(&id)?;
        member.end();
        self.ephemeral.remove_presence(&self.members, id, &member.user, how);
        Some(member)
    }

    /// Ends every membership of a user: nothing later reaches them, and what a lagging one had not
    /// got yet is not owed to them.
    fn kick(&mut self, user: &UserId, at: Position) {
        self.removed.insert(user.clone(), at);
        for id in self.members.ids(|_, member| member.user == *user) {
            if let Some(member) = self.remove(id, Parting::Left) {
                let text = "you were removed from this room";
                member.queue.push(codec::notice(&self.id, RoomNotice::Kicked, text));
                self.parts.metrics.kicked_total.inc();
            }
        }
        self.notify_if_empty();
    }

    /// The database says that this one, who was removed at `at`, belongs to the room again. A later
    /// removal stands.
    pub(in crate::hub) fn readmit(&mut self, user: &UserId, at: Position) {
        if self.removed.get(user) == Some(&at) {
            self.removed.remove(user);
        }
    }

    /// What these members have cannot be continued: they are told so and are out of the room.
    fn reset_members(&mut self, such: impl Fn(MemberId, &Member) -> bool) {
        for id in self.members.ids(such) {
            if let Some(member) = self.remove(id, Parting::Dropped) {
                let text = "what you have cannot be continued; join anew without since";
                member.queue.push(codec::notice(&self.id, RoomNotice::Reset, text));
                self.parts.metrics.resets_total.inc();
            }
        }
    }

    /// Messages were erased: the room forgets what it remembers, and every member has to drop what
    /// it holds. From here on everything below the head is read from the log and the database.
    pub(in crate::hub) fn erased(&mut self) {
        if let RoomPhase::Syncing { overflow, .. } = &mut self.phase {
            // What is being read may have been read before.
            *overflow = true;
        }
        self.erasures += 1;
        self.begin_anew();
    }

    /// The room forgets what it remembers, and every member reads it anew.
    fn begin_anew(&mut self) {
        let floor = Cursor { position: self.head, key: None };
        self.cache = RoomCache::new(floor, &self.parts.history.memory);
        self.reset_members(|_, _| true);
        self.notify_if_empty();
    }

    /// A member has joined with what was read when the room had seen so many erasures: were there
    /// more since, it may have been given what is erased.
    pub(in crate::hub) fn recheck(&mut self, id: MemberId, erasures: u64) {
        if self.erasures != erasures {
            self.reset_members(|other, _| other == id);
        }
    }

    // --- Catching up ---

    /// Goes on with a lagging member from memory as far as its queue takes it.
    pub(in crate::hub) fn advance(&mut self, id: MemberId, queue: &Arc<SendQueue>) -> Step {
        // The same connection may have left and joined again; its new membership has its own task.
        let member =
            self.members.by_id.get_mut(&id).filter(|member| Arc::ptr_eq(&member.queue, queue));
        let Some(member) = member else { return Step::Over };
        let Some(lagging) = &mut member.lagging else { return Step::Over };
        match lagging.advance(&self.cache, queue) {
            Step::Over => {}
            step @ (Step::Wait(_) | Step::Read { .. }) => return step,
        }
        debug_assert!(lagging.cursor.position >= self.last.position, "memory reaches to the last");
        member.lagging = None;
        self.ephemeral.resend_to(member);
        Step::Over
    }

    /// Hands over what was read, as of an epoch, for a lagging member that stood at `from`.
    pub(in crate::hub) fn hand_over(
        &mut self,
        id: MemberId,
        from: &Cursor,
        floor: Position,
        (page, epoch): (&Page, u64),
    ) -> Handover {
        if epoch < self.epoch {
            // The log began anew meanwhile: what was read, and the cursor, may be of what was lost.
            return Handover::Some;
        }
        let Some(member) = self.members.by_id.get_mut(&id) else { return Handover::Some };
        match member.lagging.as_mut().filter(|lagging| lagging.cursor == *from) {
            Some(lagging) => lagging.hand_over(page, floor, self.head, &member.queue),
            None => Handover::Some,
        }
    }

    /// What a member that stood at `from` has cannot be continued.
    pub(in crate::hub) fn reset(&mut self, id: MemberId, from: &Cursor) {
        let stands = |member: &Member| member.lagging.as_ref().is_some_and(|l| l.cursor == *from);
        self.reset_members(|other, member| other == id && stands(member));
    }

    // --- Beside the order ---

    /// A node signalled something.
    pub(in crate::hub) fn signal(&mut self, what: RoomSignal) -> Effects {
        let read_streams = self.ephemeral.signal(&mut self.members, what);
        Effects { read_streams, ..Effects::default() }
    }

    /// Before the stream store is asked.
    pub(in crate::hub) fn begin_reading_streams(&mut self) {
        self.ephemeral.streams.begin_reading();
    }

    /// What the stream store has, if it answered. If not, the next part that does not fit is a
    /// reason to ask it again.
    pub(in crate::hub) fn take_streams(&mut self, open: Option<Vec<(MessageId, StoredStream)>>) {
        let Some(open) = open else { return self.ephemeral.streams.give_up() };
        for frame in self.ephemeral.streams.load(&self.id, open) {
            self.ephemeral.tell_stream(self.members.current(), &frame);
        }
    }

    /// How far somebody has read, and whether the room would know.
    pub(in crate::hub) fn receipt(&self, user: &UserId) -> (Option<ReadMark>, bool) {
        let receipts = &self.ephemeral.receipts;
        let own = receipts.of(user).cloned();
        let known = own.is_some() || receipts.is_whole();
        (own, known)
    }
}
