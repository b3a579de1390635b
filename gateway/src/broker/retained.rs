//! What a shard's log has accepted and the database is not known to have.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::contract::id::RoomId;
use shared::contract::limits::{RETAINED_BYTES_MAX, RETAINED_ENTRIES_MAX};
use shared::contract::position::Position;
use shared::log::{Append, LogId, Watermark};

/// An entry that was accepted.
#[derive(Clone, Debug)]
pub(super) struct Retained {
    /// To be offered again.
    pub(super) append: Append,
    /// The place it has in its room, or in the log where it has none there.
    pub(super) position: Position,
    /// The epoch under which the log last said so; only a watermark of that epoch speaks of it.
    pub(super) epoch: u64,
}

impl Retained {
    fn is_placed(&self) -> bool {
        self.append.envelope.kind.is_placed()
    }
}

/// A shard's retained entries, in the order in which they were accepted.
#[derive(Debug, Default)]
pub(super) struct Retention {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Retained>,
    bytes: usize,
}

impl State {
    fn remove(&mut self, gone: impl Fn(&Retained) -> bool) {
        let bytes = &mut self.bytes;
        self.entries.retain(|entry| {
            let gone = gone(entry);
            if gone {
                *bytes -= entry.append.envelope.body.len();
            }
            !gone
        });
    }
}

impl Retention {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether nothing more may be accepted before the database has caught up.
    pub(super) fn is_full(&self) -> bool {
        let state = self.lock();
        state.entries.len() >= RETAINED_ENTRIES_MAX || state.bytes >= RETAINED_BYTES_MAX
    }

    pub(super) fn keep(&self, entry: Retained) {
        let mut state = self.lock();
        state.bytes += entry.append.envelope.body.len();
        state.entries.push_back(entry);
    }

    /// Lets go of what a watermark covers.
    pub(super) fn release(&self, watermark: &Watermark) {
        self.lock().remove(|entry| {
            let mut rooms = watermark.rooms.iter();
            let covered = match entry.is_placed() {
                true => rooms.any(|(room, upto)| {
                    *room == entry.append.envelope.room && entry.position <= *upto
                }),
                false => LogId::from(entry.position) <= watermark.upto,
            };
            entry.epoch == watermark.epoch && covered
        });
    }

    /// Lets go of what a room's head, read under `epoch`, says is persisted.
    pub(super) fn release_room(&self, room: &RoomId, epoch: u64, persisted: Position) {
        self.lock().remove(|entry| {
            entry.epoch == epoch
                && entry.is_placed()
                && entry.append.envelope.room == *room
                && entry.position <= persisted
        });
    }

    /// Lets go of what has no place in a room and is persisted, read under `epoch`.
    pub(super) fn release_log(&self, epoch: u64, upto: LogId) {
        self.lock().remove(|entry| {
            entry.epoch == epoch && !entry.is_placed() && LogId::from(entry.position) <= upto
        });
    }

    /// The rooms of what was accepted under `epoch` and has a place in one.
    pub(super) fn rooms(&self, epoch: u64) -> HashSet<RoomId> {
        let state = self.lock();
        let entries =
            state.entries.iter().filter(|entry| entry.epoch == epoch && entry.is_placed());
        entries.map(|entry| entry.append.envelope.room.clone()).collect()
    }

    /// Takes out what was accepted under an epoch below this one, in order.
    pub(super) fn take_below(&self, epoch: u64) -> Vec<Append> {
        let mut state = self.lock();
        let mut taken = Vec::new();
        // Epochs only grow, so those of earlier ones are in front.
        while state.entries.front().is_some_and(|entry| entry.epoch < epoch) {
            let Some(entry) = state.entries.pop_front() else { break };
            state.bytes -= entry.append.envelope.body.len();
            taken.push(entry.append);
        }
        taken
    }
}
