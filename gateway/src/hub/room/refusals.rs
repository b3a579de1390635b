//! Refused entries of a room: told to their senders before anything says that the room is persisted
//! beyond them.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::contract::id::{MessageId, UserId};
use shared::contract::limits::{REFUSAL_MEMORY_MS, REFUSALS_REMEMBERED_MAX};
use shared::contract::position::Position;
use shared::contract::protocol::{EventName, Rejected};
use shared::log::RejectedEntry;
use tokio::time::Instant;

use crate::wire::codec;
use crate::wire::frame::Frame;

/// The last refused entries, by place, with the time at which they were heard of.
#[derive(Debug, Default)]
pub(super) struct RoomRefusals {
    entries: BTreeMap<Position, (Instant, RejectedEntry)>,
}

impl RoomRefusals {
    /// Takes one in; says whether it is news.
    pub(super) fn add(&mut self, entry: &RejectedEntry) -> bool {
        let memory = Duration::from_millis(REFUSAL_MEMORY_MS.unsigned_abs());
        self.entries.retain(|_, (heard, _)| heard.elapsed() < memory);
        if self.entries.contains_key(&entry.position) {
            return false;
        }
        self.entries.insert(entry.position, (Instant::now(), entry.clone()));
        if self.entries.len() > REFUSALS_REMEMBERED_MAX {
            self.entries.pop_first();
        }
        true
    }

    /// Forgets what its sender sent again and was taken.
    pub(super) fn lift(&mut self, user: &UserId, key: &MessageId) {
        if !self.entries.is_empty() {
            self.entries.retain(|_, (_, entry)| entry.user != *user || entry.key != *key);
        }
    }

    /// Those of one sender, by place.
    pub(super) fn of<'a>(&'a self, user: &'a UserId) -> impl Iterator<Item = &'a RejectedEntry> {
        let entries = self.entries.values().map(|(_, entry)| entry);
        entries.filter(move |entry| entry.user == *user)
    }

    /// Up to where somebody may be told that the room is persisted, who has not heard yet what of
    /// theirs was refused.
    pub(super) fn persisted_before(&self, user: &UserId, persisted: Position) -> Position {
        match self.of(user).next() {
            Some(first) if first.position <= persisted => {
                Position { seq: first.position.seq.saturating_sub(1), ..first.position }
            }
            Some(_) | None => persisted,
        }
    }
}

/// As the sender is told.
pub(super) fn rejected_frame(entry: &RejectedEntry) -> Frame {
    let RejectedEntry { room: room_id, user: user_id, id, key, is_change, error, .. } =
        entry.clone();
    let change_id = is_change.then_some(key);
    let told = Rejected { room_id, id, user_id, change_id, error: Some(error) };
    codec::event(EventName::MessageRejected, &told)
}
