//! The last entries of a room in memory, so that joins and resumes ask nobody.
//!
//! What is promised of it: every message that stands above the floor is here, once, in its last
//! state and at the place of that change. A change whose message is not here is one of a message
//! that stands at or below the floor.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use shared::contract::id::{MessageId, UserId};
use shared::contract::limits::{PAGE_BYTES_MAX, RECENT_BYTES_MAX, RECENT_ENTRIES_MAX};
use shared::contract::message::Message;
use shared::contract::position::Position;
use shared::process::byte_budget::{ByteBudget, ByteShare};

use super::entry::{Cursor, RoomEntry};
use super::view::MessageView;

/// What a page's frame may add to its messages.
const PAGE_OVERHEAD_BYTES: usize = 4096;

/// What a room may remember even where all of them remember too much.
const RECENT_BYTES_LEAST: usize = 64 * 1024;

/// Everything of a room above its floor, in order.
#[derive(Debug)]
pub(crate) struct RoomCache {
    floor: Cursor,
    entries: VecDeque<Arc<RoomEntry>>,
    bytes: ByteShare,
}

impl RoomCache {
    /// Nothing yet; what comes next stands above `floor`.
    pub(crate) fn new(floor: Cursor, budget: &Arc<ByteBudget>) -> RoomCache {
        RoomCache { floor, entries: VecDeque::new(), bytes: budget.share() }
    }

    /// What the next entry is to those who read on from here: a change of a message that is
    /// remembered carries the whole of it.
    pub(crate) fn fold(&self, entry: Arc<RoomEntry>) -> Arc<RoomEntry> {
        if !entry.is_change_alone() {
            return entry;
        }
        let place = entry.overtakes(self.entries.iter().map(|entry| &**entry));
        let message = place.and_then(|place| self.entries[place].read_message());
        message.map_or(entry.clone(), |message| Arc::new(entry.upon(&message)))
    }

    /// Remembers the next entry, folded, in place of the earlier state of its message, and forgets
    /// the oldest where that is too much, for the room or for all rooms together.
    pub(crate) fn push(&mut self, entry: Arc<RoomEntry>) {
        if let Some(refused) = entry.refused() {
            self.take_back(refused.position);
        }
        let is_state = entry.is_shown() && !entry.is_change_alone();
        let place = entry.overtakes(self.entries.iter().map(|entry| &**entry));
        let mut bytes = self.bytes.bytes() + entry.bytes();
        if let Some(place) = place.filter(|_| is_state) {
            let overtaken = Arc::new(self.entries[place].overtaken());
            bytes -= self.entries[place].bytes() - overtaken.bytes();
            self.entries[place] = overtaken;
        }
        self.entries.push_back(entry);
        self.bytes.set(bytes);
        while self.is_too_much() {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes.set(self.bytes.bytes() - oldest.bytes());
            self.floor = oldest.cursor();
        }
    }

    fn is_too_much(&self) -> bool {
        let bytes = self.bytes.bytes();
        self.entries.len() > RECENT_ENTRIES_MAX
            || bytes > RECENT_BYTES_MAX
            || (bytes > RECENT_BYTES_LEAST && self.bytes.is_exceeded())
    }

    /// Leaves out a message that was refused, whatever state it is in.
    fn take_back(&mut self, refused: Position) {
        for place in 0..self.entries.len() {
            let entry = &self.entries[place];
            if entry.is_shown() && (entry.at == refused || entry.message_position() == refused) {
                let overtaken = Arc::new(entry.overtaken());
                let bytes = self.bytes.bytes() - (entry.bytes() - overtaken.bytes());
                self.bytes.set(bytes);
                self.entries[place] = overtaken;
            }
        }
    }

    /// Whether what lies above a position cannot be told to somebody who has what lies below.
    pub(crate) fn breaks_after(&self, position: Position) -> bool {
        self.after(position).any(|entry| entry.ends_what_was())
    }

    /// Everything above this is here.
    pub(crate) fn floor(&self) -> Position {
        self.floor.position
    }

    /// Whether the cursor's entry is here, so that a reader who got it can go on from here.
    pub(crate) fn knows(&self, cursor: &Cursor) -> bool {
        if cursor.position < self.floor.position || self.breaks_after(cursor.position) {
            return false;
        }
        if cursor.at_beginning() {
            return true;
        }
        if cursor.position == self.floor.position {
            return cursor.key.is_none() || cursor.key == self.floor.key;
        }
        let found = self.entries.binary_search_by(|entry| entry.at.cmp(&cursor.position));
        found.is_ok_and(|place| self.entries[place].left(cursor))
    }

    /// The entries above a position, in order.
    pub(crate) fn after(&self, position: Position) -> impl Iterator<Item = &Arc<RoomEntry>> {
        let start = self.entries.partition_point(|entry| entry.at <= position);
        self.entries.range(start..)
    }

    /// The messages that stand above the floor, the last `limit` of them, oldest first.
    pub(crate) fn latest(&self, limit: usize) -> Vec<Bytes> {
        let mut standing: Vec<&Arc<RoomEntry>> = self
            .entries
            .iter()
            .filter(|entry| entry.message_position() > self.floor.position)
            .collect();
        standing.sort_by_key(|entry| entry.message_position());
        let messages: Vec<Bytes> = standing.iter().filter_map(|entry| entry.message()).collect();
        messages[messages.len().saturating_sub(limit)..].to_vec()
    }

    /// Brings messages that were read elsewhere to the state that is known here.
    pub(crate) fn renew(&self, messages: &mut [MessageView]) {
        for entry in &self.entries {
            MessageView::change(messages, entry);
        }
    }

    /// A message by its id, and whether it is this one's own; of several, the own one or the first.
    pub(crate) fn find(&self, id: &MessageId, user: &UserId) -> Option<(Message, bool)> {
        let named =
            self.entries.iter().filter_map(|entry| Some((entry, entry.is_message(id, user)?)));
        let (entry, own) = named.min_by_key(|(entry, own)| (!own, entry.message_position()))?;
        Some((entry.read_message()?, own))
    }

    /// The message that stands at a position.
    pub(crate) fn at(&self, position: Position) -> Option<MessageId> {
        let mut messages = self.entries.iter().filter(|entry| entry.message_position() == position);
        messages.find_map(|entry| Some(entry.read_message()?.id))
    }

    /// How many messages stand above `after` and above the floor that this one should read.
    pub(crate) fn unread(&self, user: &UserId, after: Position) -> u64 {
        let from = after.max(self.floor.position);
        let unread = self
            .entries
            .iter()
            .filter(|entry| entry.message_position() > from && entry.counts_as_unread_for(user));
        unread.count() as u64
    }
}

/// How many messages from the front fit in one page.
pub(crate) fn fitting<'a>(messages: impl Iterator<Item = &'a Bytes>) -> usize {
    let mut bytes = PAGE_OVERHEAD_BYTES;
    // One is always given, or a page of messages that are larger than it would never end.
    messages
        .take_while(|message| {
            bytes += message.len() + 1;
            bytes <= PAGE_BYTES_MAX
        })
        .count()
        .max(1)
}

#[cfg(test)]
mod tests;
