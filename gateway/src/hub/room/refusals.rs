//! How far a room is in the database, and what that has refused of its entries: told to the senders
//! before anything says that the room is persisted beyond it, however they come to hear of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::contract::id::{MessageId, UserId};
use shared::contract::limits::{REFUSAL_MEMORY_MS, REFUSALS_REMEMBERED_MAX};
use shared::contract::position::Position;
use shared::contract::protocol::{EventName, Persisted, Rejected};
use shared::log::RejectedEntry;
use tokio::time::Instant;

use super::{Room, RoomPhase, RoomState};
use crate::wire::codec;
use crate::wire::frame::Frame;

/// The last refused entries, by place, with the time at which they were heard of.
#[derive(Debug, Default)]
pub(super) struct RoomRefusals {
    entries: BTreeMap<Position, (Instant, RejectedEntry)>,
}

impl RoomRefusals {
    /// Takes one in; says whether it is news.
    fn add(&mut self, entry: &RejectedEntry) -> bool {
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
}

impl Room {
    /// The database has the room up to `upto`, as far as that was heard. While the room
    /// synchronises, what was refused below it may have been missed.
    pub(in crate::hub) fn persisted(&self, upto: Position) {
        let mut state = self.lock();
        match state.phase {
            RoomPhase::Live => self.persist(&mut state, upto),
            RoomPhase::Syncing { .. } => state.persisted_since = upto.max(state.persisted_since),
        }
    }

    /// Up to where the members know that the database has it.
    pub(in crate::hub) fn persisted_upto(&self) -> Position {
        self.lock().persisted
    }

    pub(super) fn persist(&self, state: &mut RoomState, upto: Position) {
        if upto <= state.persisted {
            return;
        }
        state.persisted = upto;
        let frame = self.persisted_frame(upto);
        for member in state.members.values().filter(|member| member.lagging.is_none()) {
            // One that does not fit is made up for by the next, or when the member has caught up.
            member.queue.offer(&frame);
        }
    }

    pub(super) fn persisted_frame(&self, up_to: Position) -> Frame {
        codec::event(EventName::MessagePersisted, &Persisted { room_id: self.id.clone(), up_to })
    }

    /// The database refused these entries for good; their senders are told, each once.
    pub(in crate::hub) fn refused(self: &Arc<Self>, refused: &[RejectedEntry]) {
        self.refuse(&mut self.lock(), refused);
    }

    pub(super) fn refuse(&self, state: &mut RoomState, refused: &[RejectedEntry]) {
        for entry in refused {
            if !state.refusals.add(entry) {
                continue;
            }
            let frame = rejected_frame(entry);
            for member in state.members.values().filter(|member| member.user == entry.user) {
                member.queue.push(frame.clone());
            }
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

/// Up to where somebody may be told that the room is persisted who has not heard yet what of theirs
/// was refused.
pub(super) fn persisted_before<'a>(
    persisted: Position,
    mut refused: impl Iterator<Item = &'a RejectedEntry>,
) -> Position {
    match refused.next() {
        Some(first) if first.position <= persisted => {
            Position { seq: first.position.seq.saturating_sub(1), ..first.position }
        }
        Some(_) | None => persisted,
    }
}
