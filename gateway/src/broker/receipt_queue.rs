//! Coalesces receipts: one in flight for each user in a room, and one each second for a user in all
//! rooms.
//!
//! What is said while one is under way or waits for its turn waits too, the furthest of it, and all
//! who said it are answered together.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use shared::contract::id::{RoomId, UserId};
use shared::contract::limits::RECEIPT_TURNS_MAX;
use shared::contract::protocol::ReceiptReply;
use shared::contract::refusal::Refusal;
use shared::contract::signal::ReadMark;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How far one has read then, or why that is not known.
pub(crate) type Read = Result<ReceiptReply, Refusal>;

/// By room and user, what waits for the one that is under way.
type Lines = HashMap<(RoomId, UserId), Option<QueuedReceipt>>;

/// The receipts under way on this node.
#[derive(Debug, Default)]
pub(crate) struct ReceiptQueue {
    lines: Mutex<Lines>,
    /// When the next receipt of each user may go.
    turns: Mutex<HashMap<UserId, Instant>>,
}

/// A mark, and who waits for it.
#[derive(Debug)]
pub(crate) struct QueuedReceipt {
    pub(crate) mark: ReadMark,
    pub(crate) answers: Vec<oneshot::Sender<Read>>,
}

impl QueuedReceipt {
    /// Together with another: the further mark, for all who wait.
    fn add(&mut self, other: QueuedReceipt) {
        self.answers.extend(other.answers);
        if other.mark.position > self.mark.position {
            self.mark = other.mark;
        }
    }
}

impl ReceiptQueue {
    /// Adds to what waits; gives it back where nothing is under way, so that it can be.
    pub(crate) fn line_up(
        &self,
        key: &(RoomId, UserId),
        waiting: QueuedReceipt,
    ) -> Option<QueuedReceipt> {
        let mut lines = self.lines.lock();
        let Some(line) = lines.get_mut(key) else {
            lines.insert(key.clone(), None);
            return Some(waiting);
        };
        match line {
            Some(before) => before.add(waiting),
            None => *line = Some(waiting),
        }
        None
    }

    /// When it is this receipt's turn, no sooner than `interval` after the user's last.
    pub(crate) fn turn(&self, user: &UserId, interval: Duration) -> Instant {
        let mut turns = self.turns.lock();
        let now = Instant::now();
        if turns.len() >= RECEIPT_TURNS_MAX {
            turns.retain(|_, next| *next > now);
        }
        let next = turns.entry(user.clone()).or_insert(now);
        let turn = (*next).max(now);
        *next = turn + interval;
        turn
    }

    /// Adds to a receipt what was said while it waited for its turn.
    pub(crate) fn gather(&self, key: &(RoomId, UserId), waiting: &mut QueuedReceipt) {
        if let Some(more) = self.lines.lock().get_mut(key).and_then(Option::take) {
            waiting.add(more);
        }
    }

    /// What is next when one is done.
    pub(crate) fn next(&self, key: &(RoomId, UserId)) -> Option<QueuedReceipt> {
        let mut lines = self.lines.lock();
        let next = lines.get_mut(key).and_then(Option::take);
        if next.is_none() {
            lines.remove(key);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use shared::contract::position::Position;
    use shared::contract::timestamp::Timestamp;

    use super::*;

    fn waiting(seq: u64) -> (QueuedReceipt, oneshot::Receiver<Read>) {
        let (answer, read) = oneshot::channel();
        let user = UserId::parse("ann").unwrap();
        let (position, read_at) = (Position::new(1, seq), Timestamp(0));
        let mark = ReadMark { user, position, message_id: None, read_at };
        (QueuedReceipt { mark, answers: vec![answer] }, read)
    }

    #[tokio::test(start_paused = true)]
    async fn a_users_receipts_have_their_turns_and_another_user_has_others() {
        let receipts = ReceiptQueue::default();
        let (ann, bob) = (UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        let (now, second) = (Instant::now(), Duration::from_millis(1000));
        for turn in 0..3 {
            assert_eq!(receipts.turn(&ann, second), now + turn * second);
        }
        assert_eq!(receipts.turn(&bob, second), now);
        tokio::time::advance(10 * second).await;
        assert_eq!(receipts.turn(&ann, second), now + 10 * second);
    }

    #[test]
    fn what_comes_while_a_receipt_waits_for_its_turn_goes_with_it() {
        let receipts = ReceiptQueue::default();
        let key = (RoomId::parse("r").unwrap(), UserId::parse("ann").unwrap());
        let mut first = receipts.line_up(&key, waiting(5).0).unwrap();
        assert!(receipts.line_up(&key, waiting(9).0).is_none());
        assert!(receipts.line_up(&key, waiting(2).0).is_none());
        receipts.gather(&key, &mut first);
        assert_eq!((first.mark.position.seq, first.answers.len()), (9, 3));
        assert!(receipts.next(&key).is_none());
    }

    #[test]
    fn what_comes_while_one_is_under_way_waits_and_the_furthest_goes_next() {
        let receipts = ReceiptQueue::default();
        let key = (RoomId::parse("r").unwrap(), UserId::parse("ann").unwrap());
        assert!(receipts.line_up(&key, waiting(1).0).is_some());
        assert!(receipts.line_up(&key, waiting(7).0).is_none());
        assert!(receipts.line_up(&key, waiting(3).0).is_none());
        let next = receipts.next(&key).unwrap();
        assert_eq!((next.mark.position.seq, next.answers.len()), (7, 2));
        assert!(receipts.next(&key).is_none());
        assert!(receipts.lines.lock().is_empty());
        assert!(receipts.line_up(&key, waiting(8).0).is_some(), "the next is the first again");
    }
}
