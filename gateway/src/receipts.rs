//! The receipts under way on this node: one at a time for each user in a room. What is said while
//! one is under way waits, the furthest of it, and all who said it are answered together.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::contract::id::{RoomId, UserId};
use shared::contract::position::Position;
use shared::contract::refusal::Refusal;
use shared::contract::signal::ReadMark;
use tokio::sync::oneshot;

/// How far one has read then, or why that is not known.
pub(crate) type Read = Result<Position, Refusal>;

/// By room and user, what waits for the one that is under way.
type Lines = HashMap<(RoomId, UserId), Option<Waiting>>;

/// The receipts under way on this node.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    lines: Mutex<Lines>,
}

/// A mark, and who waits for it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) mark: ReadMark,
    pub(crate) answers: Vec<oneshot::Sender<Read>>,
}

impl Receipts {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to what waits; gives it back where nothing is under way, so that it can be.
    pub(crate) fn line_up(&self, key: &(RoomId, UserId), waiting: Waiting) -> Option<Waiting> {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(key) else {
            lines.insert(key.clone(), None);
            return Some(waiting);
        };
        match line {
            Some(before) => {
                before.answers.extend(waiting.answers);
                if waiting.mark.position > before.mark.position {
                    before.mark = waiting.mark;
                }
            }
            None => *line = Some(waiting),
        }
        None
    }

    /// What is next when one is done.
    pub(crate) fn next(&self, key: &(RoomId, UserId)) -> Option<Waiting> {
        let mut lines = self.lock();
        let next = lines.get_mut(key).and_then(Option::take);
        if next.is_none() {
            lines.remove(key);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use shared::contract::timestamp::Timestamp;

    use super::*;

    fn waiting(seq: u64) -> (Waiting, oneshot::Receiver<Read>) {
        let (answer, read) = oneshot::channel();
        let user = UserId::parse("ann").unwrap();
        let (position, read_at) = (Position::new(1, seq), Timestamp(0));
        let mark = ReadMark { user, position, message_id: None, read_at };
        (Waiting { mark, answers: vec![answer] }, read)
    }

    #[test]
    fn what_comes_while_one_is_under_way_waits_and_the_furthest_goes_next() {
        let receipts = Receipts::default();
        let key = (RoomId::parse("r").unwrap(), UserId::parse("ann").unwrap());
        assert!(receipts.line_up(&key, waiting(1).0).is_some());
        assert!(receipts.line_up(&key, waiting(7).0).is_none());
        assert!(receipts.line_up(&key, waiting(3).0).is_none());
        let next = receipts.next(&key).unwrap();
        assert_eq!((next.mark.position.seq, next.answers.len()), (7, 2));
        assert!(receipts.next(&key).is_none());
        assert!(receipts.lock().is_empty());
        assert!(receipts.line_up(&key, waiting(8).0).is_some(), "the next is the first again");
    }
}
