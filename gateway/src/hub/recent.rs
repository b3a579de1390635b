//! The last entries of a room in this node's memory, so that joins and resumes ask nobody.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use shared::contract::limits::{PAGE_BYTES_MAX, RECENT_BYTES_MAX, RECENT_ENTRIES_MAX};
use shared::contract::position::Position;

use super::logged::{Cursor, Logged};

/// What a page's frame may add to its messages.
const PAGE_OVERHEAD_BYTES: usize = 4096;

/// Everything of a room above its floor, in order.
#[derive(Debug)]
pub(crate) struct Recent {
    floor: Cursor,
    entries: VecDeque<Arc<Logged>>,
    bytes: usize,
}

impl Recent {
    /// Nothing yet; what comes next stands above `floor`.
    pub(crate) fn new(floor: Cursor) -> Recent {
        Recent { floor, entries: VecDeque::new(), bytes: 0 }
    }

    /// Remembers the next entry, and forgets the oldest where that is too much.
    pub(crate) fn push(&mut self, entry: Arc<Logged>) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.entries.len() > RECENT_ENTRIES_MAX || self.bytes > RECENT_BYTES_MAX {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.bytes();
            self.floor = oldest.cursor();
        }
    }

    /// Everything above this is here.
    pub(crate) fn floor(&self) -> Position {
        self.floor.position
    }

    /// Whether the cursor's entry is here, so that a reader who got it can go on from here.
    pub(crate) fn knows(&self, cursor: &Cursor) -> bool {
        if cursor.position < self.floor.position {
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
    pub(crate) fn after(&self, position: Position) -> impl Iterator<Item = &Arc<Logged>> {
        let start = self.entries.partition_point(|entry| entry.at <= position);
        self.entries.range(start..)
    }

    /// The messages that stand above the floor, the last `limit` of them, oldest first.
    pub(crate) fn latest(&self, limit: usize) -> Vec<Bytes> {
        let mut standing: Vec<&Arc<Logged>> =
            self.entries.iter().filter(|entry| entry.origin() > self.floor.position).collect();
        standing.sort_by_key(|entry| entry.origin());
        let messages: Vec<Bytes> = standing.iter().filter_map(|entry| entry.message()).collect();
        messages[messages.len().saturating_sub(limit)..].to_vec()
    }
}

/// How many messages from the front fit in one page.
pub(crate) fn fitting<'a>(messages: impl Iterator<Item = &'a Bytes>) -> usize {
    let mut bytes = PAGE_OVERHEAD_BYTES;
    // One always fits: a message is smaller than a page.
    messages
        .take_while(|message| {
            bytes += message.len() + 1;
            bytes <= PAGE_BYTES_MAX
        })
        .count()
        .max(1)
}

#[cfg(test)]
mod tests {
    use shared::contract::envelope::{EntryKind, Envelope};
    use shared::contract::id::{MessageId, RoomId, UserId};
    use shared::contract::timestamp::Timestamp;
    use shared::log::RingEntry;

    use super::*;

    fn entry(seq: u64, content: &str) -> Arc<Logged> {
        let envelope = Envelope {
            kind: EntryKind::Message,
            room: RoomId::parse("r").unwrap(),
            user: UserId::parse("u").unwrap(),
            id: MessageId::parse(&format!("m{seq}")).unwrap(),
            change_id: None,
            accepted_at: Timestamp(0),
            body: Bytes::from(format!("{{\"content\":\"{content}\"}}")),
        };
        let raw = Bytes::from(envelope.encode().unwrap());
        let position = Position::new(1, seq);
        Arc::new(Logged::from_entry(&RingEntry { position, raw }).unwrap().1)
    }

    fn cursor(seq: u64, key: &str) -> Cursor {
        let key = MessageId::parse(key).ok();
        Cursor { position: Position::new(1, seq), key }
    }

    #[test]
    fn the_oldest_are_forgotten_and_the_floor_follows() {
        let mut recent = Recent::new(Cursor::ZERO);
        for seq in 1..=RECENT_ENTRIES_MAX as u64 + 10 {
            recent.push(entry(seq, "x"));
        }
        assert_eq!(recent.floor(), Position::new(1, 10));
        assert!(!recent.knows(&cursor(9, "m9")));
        assert!(recent.knows(&cursor(10, "m10")));
        assert!(!recent.knows(&cursor(10, "other")));
        assert!(recent.knows(&cursor(11, "m11")));
        assert!(!recent.knows(&cursor(11, "other")));
        assert!(recent.knows(&Cursor { position: Position::new(1, 11), key: None }));
        assert!(!recent.knows(&cursor(9999, "m9999")));
        assert_eq!(recent.after(Position::new(1, 500)).count(), 22);
        assert_eq!(recent.latest(3).len(), 3);
        assert!(recent.latest(1)[0].ends_with(b"\"position\":{\"epoch\":1,\"seq\":522}}"));
    }

    #[test]
    fn memory_is_bounded_in_bytes_too() {
        let mut recent = Recent::new(Cursor::ZERO);
        for seq in 1..=40 {
            recent.push(entry(seq, &"x".repeat(RECENT_BYTES_MAX / 20)));
        }
        assert!(recent.floor() >= Position::new(1, 20));
        assert!(recent.bytes <= RECENT_BYTES_MAX);
    }

    #[test]
    fn a_page_stops_at_its_bytes_but_has_at_least_one() {
        let large = Bytes::from(vec![b'x'; PAGE_BYTES_MAX / 3]);
        assert_eq!(fitting([&large, &large, &large, &large].into_iter()), 2);
        let huge = Bytes::from(vec![b'x'; PAGE_BYTES_MAX]);
        assert_eq!(fitting([&huge, &huge].into_iter()), 1);
    }
}
