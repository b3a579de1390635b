//! Entries that a shard's log accepted and that are not known to be in the database.

use std::collections::{HashMap, HashSet, VecDeque};

use parking_lot::Mutex;
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::{RETAINED_BYTES_MAX, RETAINED_ENTRIES_MAX};
use shared::contract::position::Position;
use shared::log::{Append, LogId, Watermark};
use shared::process::byte_budget::ByteShare;

/// Bytes of what one gateway has accepted and the database is not known to have, and of what waits
/// for the log, over all shards; beyond it senders are told `backpressure`.
pub(crate) const ACCEPTED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What an entry costs beside its bodies, about.
const ENTRY_BYTES: usize = 1024;

/// About how many bytes it costs to keep an append.
pub(super) fn bytes(append: &Append) -> usize {
    let cost = append.cost.as_ref().map_or(0, |cost| cost.body.len());
    ENTRY_BYTES + append.envelope.body.len() + cost
}

/// Under which an entry is offered again: movements of credits have ids of their own.
type Name = (bool, RoomId, UserId, MessageId);

fn name(envelope: &Envelope) -> Name {
    let Envelope { kind, room, user, .. } = envelope;
    (*kind == EntryKind::Usage, room.clone(), user.clone(), envelope.key().clone())
}

/// An entry that was accepted.
#[derive(Debug)]
pub(super) struct Unpersisted {
    /// To be offered again.
    pub(super) append: Append,
    /// The place it has in its room, or in the log where it has none there.
    pub(super) position: Position,
    /// The epoch under which the log last said so; only a watermark of that epoch speaks of it.
    pub(super) epoch: u64,
    /// What it costs.
    pub(super) share: ByteShare,
}

impl Unpersisted {
    fn is_placed(&self) -> bool {
        self.append.envelope.kind.is_placed()
    }
}

/// A shard's retained entries, in the order in which they were accepted.
#[derive(Debug, Default)]
pub(super) struct Retention {
    state: Mutex<UnpersistedState>,
}

#[derive(Debug, Default)]
struct UnpersistedState {
    entries: VecDeque<Unpersisted>,
    names: HashSet<Name>,
    bytes: usize,
}

impl UnpersistedState {
    fn remove(&mut self, gone: impl Fn(&Unpersisted) -> bool) {
        let UnpersistedState { entries, names, bytes } = self;
        entries.retain(|entry| {
            let gone = gone(entry);
            if gone {
                names.remove(&name(&entry.append.envelope));
                *bytes -= entry.share.bytes();
            }
            !gone
        });
    }
}

impl Retention {
    pub(super) fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// Whether nothing more may be accepted before the database has caught up.
    pub(super) fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.entries.len() >= RETAINED_ENTRIES_MAX || state.bytes >= RETAINED_BYTES_MAX
    }

    /// Keeps an entry; one that is offered again while it is kept is kept once.
    pub(super) fn keep(&self, entry: Unpersisted) {
        let mut state = self.state.lock();
        if state.names.insert(name(&entry.append.envelope)) {
            state.bytes += entry.share.bytes();
            state.entries.push_back(entry);
        }
    }

    /// Lets go of what a watermark covers.
    pub(super) fn release(&self, watermark: &Watermark) {
        // A room of two epochs is there twice.
        let mut rooms: HashMap<&RoomId, Position> = HashMap::new();
        for (room, upto) in &watermark.rooms {
            let furthest = rooms.entry(room).or_insert(*upto);
            *furthest = (*furthest).max(*upto);
        }
        self.state.lock().remove(|entry| {
            let covered = match entry.is_placed() {
                true => rooms
                    .get(&entry.append.envelope.room)
                    .is_some_and(|upto| entry.position <= *upto),
                false => LogId::from(entry.position) <= watermark.upto,
            };
            entry.epoch == watermark.epoch && covered
        });
    }

    /// Lets go of what a room's head, read under `epoch`, says is persisted.
    pub(super) fn release_room(&self, room: &RoomId, epoch: u64, persisted: Position) {
        self.state.lock().remove(|entry| {
            entry.epoch == epoch
                && entry.is_placed()
                && entry.append.envelope.room == *room
                && entry.position <= persisted
        });
    }

    /// Lets go of what has no place in a room and is persisted, read under `epoch`.
    pub(super) fn release_log(&self, epoch: u64, upto: LogId) {
        self.state.lock().remove(|entry| {
            entry.epoch == epoch && !entry.is_placed() && LogId::from(entry.position) <= upto
        });
    }

    /// The rooms of what was accepted under `epoch` and has a place in one.
    pub(super) fn rooms(&self, epoch: u64) -> HashSet<RoomId> {
        let state = self.state.lock();
        let entries =
            state.entries.iter().filter(|entry| entry.epoch == epoch && entry.is_placed());
        entries.map(|entry| entry.append.envelope.room.clone()).collect()
    }

    /// Takes out what was accepted under an epoch below this one, in order.
    pub(super) fn take_below(&self, epoch: u64) -> Vec<Unpersisted> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        // Epochs only grow, so those of earlier ones are in front.
        while state.entries.front().is_some_and(|entry| entry.epoch < epoch) {
            let Some(entry) = state.entries.pop_front() else { break };
            state.bytes -= entry.share.bytes();
            state.names.remove(&name(&entry.append.envelope));
            taken.push(entry);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use shared::contract::timestamp::Timestamp;
    use shared::process::byte_budget::ByteBudget;
    use uuid::Uuid;

    use super::*;

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

    #[test]
    fn what_is_offered_again_and_again_is_kept_once() {
        let (budget, retention) = (ByteBudget::new(10_000), Retention::default());
        let keep = |id: &str, kind, seq| {
            let append = append(id, kind);
            let share = budget.take(bytes(&append)).expect("there is room for it");
            let position = Position::new(1, seq);
            retention.keep(Unpersisted { append, position, epoch: 1, share });
        };
        (0..300).for_each(|_| keep("a", EntryKind::Message, 1));
        assert_eq!(retention.len(), 1);
        keep("a", EntryKind::Usage, 2);
        keep("b", EntryKind::Message, 2);
        assert_eq!(retention.len(), 3, "a movement of credits is none of the messages");
        let room = RoomId::parse("r").unwrap();
        retention.release_room(&room, 1, Position::new(1, 1));
        assert_eq!(retention.len(), 2);
        keep("a", EntryKind::Message, 1);
        let taken = retention.take_below(2);
        assert_eq!((taken.len(), retention.len()), (3, 0));
        keep("a", EntryKind::Message, 1);
        drop(taken);
        assert_eq!(budget.used(), retention.state.lock().bytes);
    }
}
