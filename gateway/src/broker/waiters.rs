//! Who waits for the database to have what they sent, and telling them.
//!
//! The reply to a message or a change says whether the database has it. Where it does not, the
//! connection is told when it does, and nobody else is: in a room of ten thousand everybody hears
//! of every message, and one waits. It is noted with the entry before the append is sent, moves
//! with it to another place, and ends with the connection.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use shared::contract::id::{MessageId, MessageKey, RoomId};
use shared::contract::position::Position;
use shared::contract::protocol::{EventName, Persisted};
use shared::log::RejectedEntry;

use crate::wire::codec;
use crate::wire::send_queue::SendQueue;

/// A connection that waits; it may have ended.
pub(crate) type Waiter = Weak<SendQueue>;

/// What the database has of some rooms, by the log of an epoch.
#[derive(Debug)]
pub(super) struct Covered {
    epoch: u64,
    rooms: HashMap<RoomId, Position>,
    refused: HashSet<(RoomId, Position)>,
}

impl Covered {
    pub(super) fn new(
        epoch: u64,
        upto: &[(RoomId, Position)],
        refused: &[RejectedEntry],
    ) -> Covered {
        // A room of two epochs is there twice.
        let mut rooms: HashMap<RoomId, Position> = HashMap::new();
        for (room, upto) in upto {
            let furthest = rooms.entry(room.clone()).or_insert(*upto);
            *furthest = (*furthest).max(*upto);
        }
        let refused = refused.iter().map(|entry| (entry.room.clone(), entry.position)).collect();
        Covered { epoch, rooms, refused }
    }

    /// Whether it speaks of a place, of which the log said last under this epoch.
    pub(super) fn covers(&self, room: &RoomId, (position, epoch): (Position, u64)) -> bool {
        epoch == self.epoch && self.rooms.get(room).is_some_and(|upto| position <= *upto)
    }
}

/// Those who wait for entries of one shard.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    by_key: HashMap<MessageKey, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// Where the entry stands, and by which epoch.
    under: (Position, u64),
    connections: Vec<Waiter>,
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// An entry has this place from now on; one more waits for it, or nobody new.
    pub(super) fn place(
        &mut self,
        key: MessageKey,
        under: (Position, u64),
        waiter: Option<Waiter>,
    ) {
        let Some(waiter) = waiter else {
            if let Some(waiting) = self.by_key.get_mut(&key) {
                waiting.under = under;
            }
            return;
        };
        let new = || Waiting { under, connections: Vec::with_capacity(1) };
        let waiting = self.by_key.entry(key).or_insert_with(new);
        waiting.under = under;
        if !waiting.connections.iter().any(|other| other.ptr_eq(&waiter)) {
            waiting.connections.push(waiter);
        }
    }

    /// Whether anything of that is waited for.
    pub(super) fn any(&self, covered: &Covered) -> bool {
        self.by_key.iter().any(|(key, waiting)| covered.covers(&key.room, waiting.under))
    }

    /// The database has what is covered, but for what it refused: those are told by the room.
    pub(super) fn release(&mut self, covered: &Covered, told: &mut Told) {
        self.by_key.retain(|key, waiting| {
            let is_covered = covered.covers(&key.room, waiting.under);
            let position = waiting.under.0;
            let refused = &covered.refused;
            // The names of none are not made.
            if is_covered
                && (refused.is_empty() || !refused.contains(&(key.room.clone(), position)))
            {
                told.add(key, position, &waiting.connections);
            }
            !is_covered && waiting.connections.iter().any(|waiter| waiter.strong_count() > 0)
        });
    }

    /// The database has it, at this place.
    pub(super) fn found(&mut self, key: &MessageKey, position: Position) -> Told {
        let mut told = Told::default();
        if let Some(waiting) = self.by_key.remove(key) {
            told.add(key, position, &waiting.connections);
        }
        told
    }

    /// What stood last under an epoch below this one.
    pub(super) fn below(&self, epoch: u64) -> Vec<MessageKey> {
        let below = self.by_key.iter().filter(|(_, waiting)| waiting.under.1 < epoch);
        below.map(|(key, _)| key.clone()).collect()
    }

    /// The rooms of what stands under an epoch.
    pub(super) fn rooms(&self, epoch: u64) -> impl Iterator<Item = RoomId> {
        let under = self.by_key.iter().filter(move |(_, waiting)| waiting.under.1 == epoch);
        under.map(|(key, _)| key.room.clone())
    }
}

/// Whom to tell of what: each once of each room.
#[derive(Debug, Default)]
#[must_use = "they wait for it"]
pub(super) struct Told(HashMap<(*const SendQueue, RoomId), Telling>);

#[derive(Debug)]
struct Telling {
    queue: Arc<SendQueue>,
    up_to: Position,
    ids: Vec<MessageId>,
}

impl Told {
    fn add(&mut self, key: &MessageKey, position: Position, connections: &[Waiter]) {
        for queue in connections.iter().filter_map(Weak::upgrade) {
            let new = (Arc::as_ptr(&queue), key.room.clone());
            let new = self.0.entry(new);
            let telling =
                new.or_insert_with(|| Telling { queue, up_to: position, ids: Vec::new() });
            telling.up_to = telling.up_to.max(position);
            telling.ids.push(key.id.clone());
        }
    }

    /// Tells them.
    pub(super) fn tell(self) {
        for ((_, room_id), Telling { queue, up_to, ids }) in self.0 {
            let event = Persisted { room_id, up_to, ids };
            queue.push(codec::event(EventName::MessagePersisted, &event));
        }
    }
}
