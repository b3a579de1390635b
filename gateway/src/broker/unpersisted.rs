//! Entries that a shard's log accepted and that are not known to be in the database, and who waits
//! for that.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, MessageKey, RoomId, UserId};
use shared::contract::position::Position;
use shared::log::{Append, LogId, Placement, RejectedEntry, Watermark};
use shared::process::byte_budget::ByteShare;
use tokio::sync::Notify;

use super::waiters::{Covered, Told, Waiter, Waiters};

/// What an entry costs beside its bodies, about.
const ENTRY_BYTES: usize = 1024;

/// What an entry costs that lies in the journal, about.
pub(super) const ROW_BYTES: usize = 512;

/// About how many bytes it costs to keep an append.
pub(super) fn bytes(append: &Append) -> usize {
    let cost = append.cost.as_ref().map_or(0, |cost| cost.body.len());
    ENTRY_BYTES + append.envelope.body.len() + cost
}

/// Under which an entry is offered again: movements of credits have ids of their own.
type Name = (bool, RoomId, UserId, MessageId);

/// Under which an entry is waited for.
pub(super) fn key(envelope: &Envelope) -> MessageKey {
    let Envelope { room, user, .. } = envelope;
    MessageKey { room: room.clone(), user: user.clone(), id: envelope.key().clone() }
}

fn name(envelope: &Envelope) -> Name {
    let Envelope { kind, room, user, .. } = envelope;
    (*kind == EntryKind::Usage, room.clone(), user.clone(), envelope.key().clone())
}

/// An entry that was accepted.
#[derive(Debug)]
pub(super) struct Unpersisted {
    /// To be offered again.
    pub(super) kept: Kept,
    name: Name,
    is_placed: bool,
    /// The place it has in its room, or in the log where it has none there.
    position: Position,
    /// The epoch under which the log last said so; only a watermark of that epoch speaks of it.
    epoch: u64,
    /// What it costs.
    pub(super) share: ByteShare,
}

/// Where an entry is kept.
#[derive(Debug)]
pub(super) enum Kept {
    Memory(Box<Append>),
    /// In this row.
    Journal(u64),
}

/// What becomes of a row of the journal.
#[derive(Debug)]
pub(crate) enum RowFate {
    /// The database has it.
    Gone(u64),
    /// The log takes it never.
    Refused(u64, String),
}

/// What is told of rows, each of which has one fate; nobody takes it where there is no journal.
#[derive(Debug, Default)]
pub(crate) struct RowFates {
    told: Mutex<Vec<RowFate>>,
    wake: Notify,
}

impl RowFates {
    pub(super) fn tell(&self, fate: RowFate) {
        self.told.lock().push(fate);
        self.wake.notify_one();
    }

    /// Waits until something is told, and takes all of it.
    pub(super) async fn take(&self) -> Vec<RowFate> {
        loop {
            let told = std::mem::take(&mut *self.told.lock());
            if !told.is_empty() {
                return told;
            }
            self.wake.notified().await;
        }
    }
}

impl Unpersisted {
    /// What the log placed under an epoch.
    pub(super) fn new(
        append: &Append,
        row: Option<u64>,
        (position, epoch): (Position, u64),
        mut share: ByteShare,
    ) -> Unpersisted {
        let (name, is_placed) = (name(&append.envelope), append.envelope.kind.is_placed());
        let kept = match row {
            Some(row) => {
                share.set(ROW_BYTES);
                Kept::Journal(row)
            }
            None => Kept::Memory(Box::new(append.clone())),
        };
        Unpersisted { kept, name, is_placed, position, epoch, share }
    }

    fn is_covered(&self, covered: &Covered) -> bool {
        self.is_placed && covered.covers(&self.name.1, (self.position, self.epoch))
    }

    fn row(&self) -> Option<u64> {
        match self.kept {
            Kept::Memory(_) => None,
            Kept::Journal(row) => Some(row),
        }
    }

    /// From now on it lies in this row.
    fn spill(&mut self, row: u64) {
        self.kept = Kept::Journal(row);
        self.share.set(ROW_BYTES);
    }
}

/// A shard's retained entries, in the order in which they were accepted.
#[derive(Debug)]
pub(super) struct Retention {
    state: Mutex<UnpersistedState>,
    bytes_max: usize,
    fates: Arc<RowFates>,
}

#[derive(Debug, Default)]
struct UnpersistedState {
    entries: VecDeque<Unpersisted>,
    names: HashSet<Name>,
    bytes: usize,
    waiters: Waiters,
    /// Watermarks that came while an append was under way: they may speak of what it appends.
    passed: Option<Vec<Covered>>,
}

impl UnpersistedState {
    fn remove(&mut self, gone: impl Fn(&Unpersisted) -> bool, fates: &RowFates) {
        let UnpersistedState { entries, names, bytes, .. } = self;
        entries.retain(|entry| {
            let gone = gone(entry);
            if gone {
                names.remove(&entry.name);
                *bytes -= entry.share.bytes();
                if let Some(row) = entry.row() {
                    fates.tell(RowFate::Gone(row));
                }
            }
            !gone
        });
    }

    fn release(&mut self, covered: &Covered, (told, fates): (&mut Told, &RowFates)) {
        self.remove(|entry| entry.is_covered(covered), fates);
        self.waiters.release(covered, told);
    }

    /// One that is kept already came once more, perhaps by way of the journal.
    fn keep_again(&mut self, again: &Unpersisted, fates: &RowFates) {
        let (Some(row), UnpersistedState { entries, bytes, .. }) = (again.row(), self) else {
            return;
        };
        match entries.iter_mut().find(|entry| entry.name == again.name) {
            Some(entry) if entry.row().is_none() => {
                *bytes -= entry.share.bytes();
                entry.spill(row);
                *bytes += entry.share.bytes();
            }
            Some(entry) if entry.row() == Some(row) => {}
            Some(_) | None => fates.tell(RowFate::Gone(row)),
        }
    }
}

impl Retention {
    /// Nothing yet, and full from so many bytes on.
    pub(super) fn new(bytes_max: usize, fates: Arc<RowFates>) -> Retention {
        Retention { state: Mutex::default(), bytes_max, fates }
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// Whether nothing more may be accepted before the database has caught up.
    pub(super) fn is_full(&self) -> bool {
        self.state.lock().bytes >= self.bytes_max
    }

    /// From here on until [`Retention::end_append`] watermarks are remembered: one may come before
    /// the answer to the append of what it speaks of.
    pub(super) fn begin_append(&self) {
        self.state.lock().passed = Some(Vec::new());
    }

    /// What was appended is kept; gives whom to tell of what has been passed already.
    pub(super) fn end_append(&self) -> Told {
        let mut state = self.state.lock();
        let passed = state.passed.take().unwrap_or_default();
        let mut told = Told::default();
        for covered in &passed {
            state.release(covered, (&mut told, &self.fates));
        }
        told
    }

    /// Keeps an entry; one that is offered again while it is kept is kept once.
    pub(super) fn keep(&self, entry: Unpersisted, waiters: impl IntoIterator<Item = Waiter>) {
        let mut state = self.state.lock();
        let under = (entry.position, entry.epoch);
        let (_, room, user, id) = entry.name.clone();
        let key = MessageKey { room, user, id };
        state.waiters.place(key.clone(), under, None);
        for waiter in waiters {
            state.waiters.place(key.clone(), under, Some(waiter));
        }
        if state.names.insert(entry.name.clone()) {
            state.bytes += entry.share.bytes();
            state.entries.push_back(entry);
        } else {
            state.keep_again(&entry, &self.fates);
        }
    }

    /// What is kept in memory where it is more than a half of what may be, or others have more: the
    /// oldest, about so many bytes.
    pub(super) fn to_spill(&self, is_short: bool, bytes_max: usize) -> Vec<Append> {
        let state = self.state.lock();
        if !is_short && state.bytes < self.bytes_max / 2 {
            return Vec::new();
        }
        let mut bytes = 0;
        let in_memory = state.entries.iter().filter_map(|entry| match &entry.kept {
            Kept::Memory(append) => Some((entry.share.bytes(), append)),
            Kept::Journal(_) => None,
        });
        let fits = in_memory.take_while(|(cost, _)| {
            let is_first = bytes == 0;
            bytes += cost;
            is_first || bytes <= bytes_max
        });
        fits.map(|(_, append)| (**append).clone()).collect()
    }

    /// These lie in rows now.
    pub(super) fn spilled(&self, rows: impl Iterator<Item = (Append, u64)>) {
        let mut rows: HashMap<Name, u64> =
            rows.map(|(append, row)| (name(&append.envelope), row)).collect();
        let mut state = self.state.lock();
        let UnpersistedState { entries, bytes, .. } = &mut *state;
        for entry in entries.iter_mut().filter(|entry| entry.row().is_none()) {
            if let Some(row) = rows.remove(&entry.name) {
                *bytes -= entry.share.bytes();
                entry.spill(row);
                *bytes += entry.share.bytes();
            }
        }
        // The database has them by now.
        for row in rows.into_values() {
            self.fates.tell(RowFate::Gone(row));
        }
    }

    /// Somebody waits for something, where it is kept; says whether it is.
    pub(super) fn wait_if_kept(&self, key: &MessageKey, waiter: &Waiter) -> bool {
        let mut state = self.state.lock();
        let MessageKey { room, user, id } = key.clone();
        let name = (false, room, user, id);
        if !state.names.contains(&name) {
            return false;
        }
        let kept = state.entries.iter().find(|entry| entry.name == name);
        let Some(under) = kept.map(|entry| (entry.position, entry.epoch)) else { return false };
        state.waiters.place(key.clone(), under, Some(waiter.clone()));
        true
    }

    /// Somebody waits for what stands at this place, whoever keeps it.
    pub(super) fn wait(&self, key: MessageKey, place: &Placement, waiter: Waiter) {
        let under = (place.position, place.position.epoch);
        self.state.lock().waiters.place(key, under, Some(waiter));
    }

    /// Lets go of what a watermark covers; gives whom to tell of what.
    pub(super) fn release(&self, watermark: &Watermark) -> Told {
        let Watermark { epoch, rooms, rejected, upto, .. } = watermark;
        self.release_log(*epoch, *upto);
        let covered = Covered::new(*epoch, rooms, rejected);
        let mut told = Told::default();
        let mut state = self.state.lock();
        state.release(&covered, (&mut told, &self.fates));
        if let Some(passed) = &mut state.passed {
            passed.push(covered);
        }
        told
    }

    /// Lets go of what a room's head, read under `epoch`, says is persisted, where these were
    /// refused; gives whom to tell of what.
    pub(super) fn release_room(
        &self,
        epoch: u64,
        persisted: (RoomId, Position),
        refused: &[RejectedEntry],
    ) -> Told {
        let mut told = Told::default();
        let covered = Covered::new(epoch, &[persisted], refused);
        self.state.lock().release(&covered, (&mut told, &self.fates));
        told
    }

    /// Whether anything of a room is kept or waited for that stands up to there.
    pub(super) fn awaits(&self, epoch: u64, persisted: &(RoomId, Position)) -> bool {
        let covered = Covered::new(epoch, std::slice::from_ref(persisted), &[]);
        let state = self.state.lock();
        state.entries.iter().any(|entry| entry.is_covered(&covered)) || state.waiters.any(&covered)
    }

    /// Lets go of what has no place in a room and is persisted, read under `epoch`.
    pub(super) fn release_log(&self, epoch: u64, upto: LogId) {
        let is_gone = |entry: &Unpersisted| {
            entry.epoch == epoch && !entry.is_placed && LogId::from(entry.position) <= upto
        };
        self.state.lock().remove(is_gone, &self.fates);
    }

    /// What somebody waits for that stood under an epoch below this one, and is kept by others: it
    /// may have another place by now.
    pub(super) fn astray(&self, epoch: u64) -> Vec<MessageKey> {
        self.state.lock().waiters.below(epoch)
    }

    /// The database has what somebody waits for, at this place.
    pub(super) fn found(&self, key: &MessageKey, position: Position) -> Told {
        self.state.lock().waiters.found(key, position)
    }

    /// Whether nothing is kept, and nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.entries.is_empty() && state.waiters.is_empty()
    }

    /// The rooms of what was accepted under `epoch` and has a place in one, or is waited for.
    pub(super) fn rooms(&self, epoch: u64) -> HashSet<RoomId> {
        let state = self.state.lock();
        let entries = state.entries.iter().filter(|entry| entry.epoch == epoch && entry.is_placed);
        let rooms = entries.map(|entry| entry.name.1.clone());
        rooms.chain(state.waiters.rooms(epoch)).collect()
    }

    /// Takes out what was accepted under an epoch below this one, in order.
    pub(super) fn take_below(&self, epoch: u64) -> Vec<Unpersisted> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        // Epochs only grow, so those of earlier ones are in front.
        while state.entries.front().is_some_and(|entry| entry.epoch < epoch) {
            let Some(entry) = state.entries.pop_front() else { break };
            state.bytes -= entry.share.bytes();
            state.names.remove(&entry.name);
            taken.push(entry);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use shared::contract::timestamp::Timestamp;
    use shared::log::LogLoad;
    use shared::process::byte_budget::ByteBudget;
    use uuid::Uuid;

    use super::*;
    use crate::wire::send_queue::SendQueue;

    fn append(id: &str, kind: EntryKind) -> Append {
        let envelope = Envelope {
            kind,
            room: RoomId::parse("r").unwrap(),
            user: UserId::parse("u").unwrap(),
            id: MessageId::parse(id).unwrap(),
            change_id: None,
            accepted_at: Timestamp(0),
            body: Bytes::from_static(&[0; 1000]),
        };
        Append { envelope, digest: Uuid::nil(), cost: None, author: None }
    }

    fn retention() -> Retention {
        Retention::new(10_000, Arc::default())
    }

    #[test]
    fn what_is_offered_again_and_again_is_kept_once() {
        let (budget, retention) = (ByteBudget::new(10_000), retention());
        let keep = |id: &str, kind, seq| {
            let append = append(id, kind);
            let share = budget.take(bytes(&append)).expect("there is room for it");
            let position = Position::new(1, seq);
            retention.keep(Unpersisted::new(&append, None, (position, 1), share), None);
        };
        (0..300).for_each(|_| keep("a", EntryKind::Message, 1));
        assert_eq!(retention.len(), 1);
        keep("a", EntryKind::Usage, 2);
        keep("b", EntryKind::Message, 2);
        assert_eq!(retention.len(), 3, "a movement of credits is none of the messages");
        let room = RoomId::parse("r").unwrap();
        drop(retention.release_room(1, (room, Position::new(1, 1)), &[]));
        assert_eq!(retention.len(), 2);
        keep("a", EntryKind::Message, 1);
        let taken = retention.take_below(2);
        assert_eq!((taken.len(), retention.len()), (3, 0));
        keep("a", EntryKind::Message, 1);
        drop(taken);
        assert_eq!(budget.used(), retention.state.lock().bytes);
    }

    fn said(id: &str) -> Unpersisted {
        let append = append(id, EntryKind::Message);
        let share = ByteBudget::new(0).share();
        Unpersisted::new(&append, None, (Position::new(1, 7), 1), share)
    }

    fn watermark(epoch: u64, seq: u64) -> Watermark {
        let room = RoomId::parse("r").unwrap();
        let upto = LogId::from(Position::new(1, seq));
        Watermark {
            shard: room.shard(),
            epoch,
            upto,
            rooms: vec![(room, Position::new(1, seq))],
            rejected: Vec::new(),
            forget: upto,
            balances: Vec::new(),
            ids: Vec::new(),
            load: LogLoad::default(),
            movements: Vec::new(),
        }
    }

    #[test]
    fn a_watermark_that_comes_before_the_answer_to_the_append_tells_who_waits() {
        for (epoch, seq, told) in [(1, 7, 1), (1, 6, 0), (2, 7, 0)] {
            let retention = retention();
            let queue = Arc::new(SendQueue::default());
            retention.begin_append();
            retention.release(&watermark(epoch, seq)).tell();
            retention.keep(said("a"), Some(Arc::downgrade(&queue)));
            retention.end_append().tell();
            assert_eq!(queue.read().len(), told, "{epoch} {seq}");
            assert_eq!(retention.is_idle(), told == 1);
        }
    }
}
