//! Reads rows of the database in steps, so that a page of large ones is not read at once.

use shared::contract::id::RoomId;
use shared::contract::limits::ROWS_BYTES_MAX;
use shared::contract::message::Message;
use shared::store::{Span, StoreError};

use super::History;

/// Rows of the first step, which may all be of the largest.
const FIRST: u32 = 16;
/// How much longer the next step is at most.
const GROWTH: u32 = 4;

/// What was read.
#[derive(Debug)]
pub(crate) struct Rows {
    /// In ascending order.
    pub(crate) messages: Vec<Message>,
    /// There may be more: they ended at their count or their bytes.
    pub(crate) cut: bool,
}

/// How far a reading has come.
#[derive(Debug)]
struct Steps {
    messages: Vec<Message>,
    bytes: usize,
    limit: u32,
    step: u32,
    ended: bool,
}

impl Steps {
    fn new(limit: u32) -> Steps {
        Steps { messages: Vec::new(), bytes: 0, limit, step: FIRST.min(limit), ended: false }
    }

    /// How many rows to read next; `None` at the end.
    fn next(&self) -> Option<u32> {
        (!self.ended && self.step > 0 && self.bytes < ROWS_BYTES_MAX).then_some(self.step)
    }

    fn take(&mut self, rows: Vec<Message>) {
        self.ended = rows.len() < self.step as usize;
        self.bytes += rows.iter().map(size).sum::<usize>();
        self.messages.extend(rows);
        let read = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        self.step = (self.step * GROWTH).min(self.limit.saturating_sub(read));
    }
}

impl History {
    /// Rows in ascending order, until there are no more, `limit` of them, or the bytes of a page.
    pub(crate) async fn rows(
        &self,
        room: &RoomId,
        span: Span,
        limit: u32,
    ) -> Result<Rows, StoreError> {
        let (store, mut steps) = (&self.store, Steps::new(limit));
        while let Some(step) = steps.next() {
            let last = steps.messages.last();
            let own = last.and_then(|row| row.position);
            let changed = last.and_then(|row| row.changed_position.or(row.position));
            let next = match span {
                Span::Before(at) => Span::Before(own.unwrap_or(at)),
                Span::After(at) => Span::After(own.unwrap_or(at)),
                Span::Changes(at) => Span::Changes(changed.unwrap_or(at)),
                Span::LatestChanges(at) => Span::LatestChanges(changed.unwrap_or(at)),
            };
            let mut rows = store.messages(room, next, step).await?;
            if span.is_backwards() {
                rows.reverse();
            }
            // What changed between two steps moved ahead, and is met again there.
            steps.messages.retain(|read| !rows.iter().any(|row| is_same(read, row)));
            steps.take(rows);
        }
        let Steps { mut messages, ended, .. } = steps;
        if span.is_backwards() {
            messages.reverse();
        }
        Ok(Rows { messages, cut: !ended })
    }
}

fn is_same(one: &Message, other: &Message) -> bool {
    one.id == other.id && one.user_id == other.user_id
}

/// About how many bytes a message takes.
fn size(message: &Message) -> usize {
    size_of::<Message>() + message.content.len() + message.metadata.as_str().len()
}

#[cfg(test)]
mod tests {
    use shared::contract::id::{MessageId, UserId};
    use shared::contract::message::{MessageType, Metadata};
    use shared::contract::timestamp::Timestamp;

    use super::*;

    fn message(bytes: usize) -> Message {
        Message {
            room_id: RoomId::parse("r").unwrap(),
            id: MessageId::parse("m").unwrap(),
            user_id: UserId::parse("u").unwrap(),
            kind: MessageType::User,
            content: "x".repeat(bytes),
            metadata: Metadata::default(),
            created_at: Timestamp(0),
            edited_at: None,
            deleted_at: None,
            credits: None,
            changed_position: None,
            change_id: None,
            position: None,
        }
    }

    /// So many rows of this size are there; gives how many were read, in how many steps, and
    /// whether they were cut.
    fn read(there: usize, bytes: usize, limit: u32) -> (usize, usize, bool) {
        let (mut steps, mut left, mut count) = (Steps::new(limit), there, 0);
        while let Some(step) = steps.next() {
            let given = left.min(step as usize);
            (left, count) = (left - given, count + 1);
            steps.take(vec![message(bytes); given]);
        }
        (steps.messages.len(), count, !steps.ended)
    }

    #[test]
    fn large_rows_end_a_page_and_small_ones_take_few_steps() {
        assert_eq!(read(1000, 10, 201), (201, 3, true));
        assert_eq!(read(7, 10, 201), (7, 1, false));
        assert_eq!(read(0, 10, 201), (0, 1, false));
        assert_eq!(read(1000, 256 * 1024, 201), (16, 1, true));
        assert_eq!(read(1000, 256 * 1024, 5), (5, 1, true));
    }
}
