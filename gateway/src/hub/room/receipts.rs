//! Receipts of a room: a maximum per user, which only grows.
//!
//! A user's mark is told at most once in a while; what comes meanwhile is told then, the furthest
//! of it. The board holds so many marks at most, the furthest; of those that it let go it remembers
//! how far the furthest was, so that a late lower one is never taken for news.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::{RECEIPT_INTERVAL_MS, RECEIPTS_LISTED_MAX, RECEIPTS_REMEMBERED_MAX};
use shared::contract::position::Position;
use shared::contract::protocol::{EventName, Receipt, ReceiptChanged};
use shared::contract::signal::ReadMark;
use tokio::time::Instant;

use crate::wire::codec;
use crate::wire::frame::Frame;

/// The board of one room.
#[derive(Debug, Default)]
pub(super) struct RoomReceipts {
    marks: HashMap<UserId, Held>,
    /// Nobody who is not on the board has read further.
    forgotten: Position,
    /// Log and database were read: who is not on the board and above `forgotten` has read nothing.
    loaded: bool,
    /// Some marks wait to be told.
    waiting: bool,
    /// A task tells what waits.
    telling: bool,
}

#[derive(Debug)]
struct Held {
    mark: ReadMark,
    told_at: Option<Instant>,
    untold: bool,
}

/// What is told of what waited.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) frames: Vec<Frame>,
    /// Some may still not be told.
    pub(super) more: bool,
}

impl RoomReceipts {
    /// Takes a signal; gives what members are told of it now, if anything.
    pub(super) fn apply(&mut self, room: &RoomId, mark: ReadMark) -> Option<Frame> {
        let held = self.raise(mark)?;
        let now = Instant::now();
        if held.told_at.is_some_and(|told_at| now < told_at + interval()) {
            held.untold = true;
            self.waiting = true;
            return None;
        }
        Some(held.tell(room, now))
    }

    /// Takes what log and database know; what is news waits to be told. `whole` says that they
    /// know no more.
    pub(super) fn load(&mut self, marks: Vec<ReadMark>, whole: bool) {
        for mark in marks {
            if let Some(held) = self.raise(mark) {
                held.untold = true;
                self.waiting = true;
            }
        }
        self.loaded = self.loaded || whole;
    }

    /// Remembers a mark that is further than what is known.
    fn raise(&mut self, mark: ReadMark) -> Option<&mut Held> {
        let user = mark.user.clone();
        match self.marks.get_mut(&user) {
            Some(held) if held.mark.position >= mark.position => return None,
            Some(held) => held.mark = mark,
            None if mark.position <= self.forgotten => return None,
            None => {
                self.marks.insert(user.clone(), Held { mark, told_at: None, untold: false });
                self.forget();
            }
        }
        self.marks.get_mut(&user)
    }

    fn forget(&mut self) {
        if self.marks.len() > RECEIPTS_REMEMBERED_MAX {
            let last = self.marks.values().min_by_key(|held| held.mark.position);
            if let Some(ReadMark { user, position, .. }) = last.map(|held| held.mark.clone()) {
                self.forgotten = self.forgotten.max(position);
                self.marks.remove(&user);
            }
        }
    }

    /// Whether something waits to be told and nobody sees to it; the caller does from now on.
    pub(super) fn begin_telling(&mut self) -> bool {
        self.waiting && !std::mem::replace(&mut self.telling, self.waiting)
    }

    /// What has waited long enough.
    pub(super) fn due(&mut self, room: &RoomId) -> Due {
        let now = Instant::now();
        let mut due = Due { frames: Vec::new(), more: false };
        for held in self.marks.values_mut().filter(|held| held.untold) {
            if held.told_at.is_some_and(|told_at| now < told_at + interval()) {
                due.more = true;
            } else {
                due.frames.push(held.tell(room, now));
            }
        }
        (self.waiting, self.telling) = (due.more, due.more);
        due
    }

    /// How far this one has read, if that is remembered.
    pub(super) fn of(&self, user: &UserId) -> Option<&ReadMark> {
        self.marks.get(user).map(|held| &held.mark)
    }

    /// Whether everybody who has read anything is on the board.
    pub(super) fn is_whole(&self) -> bool {
        self.loaded && self.forgotten == Position::ZERO
    }

    /// The last message that somebody has read, where that is known.
    pub(super) fn last_seen(&self, user: &UserId) -> Option<MessageId> {
        self.of(user)?.message_id.clone()
    }

    /// For one reader: the furthest, and always their own, here or as it was found elsewhere.
    pub(super) fn listed(
        &self,
        reader: &UserId,
        found: Option<&ReadMark>,
    ) -> BTreeMap<UserId, Receipt> {
        let mut marks: Vec<&ReadMark> = self.marks.values().map(|held| &held.mark).collect();
        if marks.len() > RECEIPTS_LISTED_MAX {
            marks.select_nth_unstable_by_key(RECEIPTS_LISTED_MAX - 1, |mark| {
                std::cmp::Reverse(mark.position)
            });
            marks.truncate(RECEIPTS_LISTED_MAX);
        }
        let mut listed: BTreeMap<UserId, Receipt> =
            marks.into_iter().map(|mark| (mark.user.clone(), receipt(mark))).collect();
        if let Some(own) = self.of(reader).or(found) {
            if listed.len() >= RECEIPTS_LISTED_MAX && !listed.contains_key(reader) {
                let last = listed.iter().min_by_key(|(_, receipt)| receipt.position);
                if let Some(last) = last.map(|(user, _)| user.clone()) {
                    listed.remove(&last);
                }
            }
            listed.insert(reader.clone(), receipt(own));
        }
        listed
    }
}

impl Held {
    fn tell(&mut self, room: &RoomId, now: Instant) -> Frame {
        self.told_at = Some(now);
        self.untold = false;
        let Receipt { user_id, position, last_read_message_id, read_at } = receipt(&self.mark);
        let room_id = room.clone();
        let told = ReceiptChanged { room_id, user_id, position, last_read_message_id, read_at };
        codec::event(EventName::ReceiptUpdate, &told)
    }
}

fn interval() -> Duration {
    Duration::from_millis(RECEIPT_INTERVAL_MS)
}

fn receipt(mark: &ReadMark) -> Receipt {
    Receipt {
        user_id: mark.user.clone(),
        position: mark.position,
        last_read_message_id: mark.message_id.clone(),
        read_at: mark.read_at,
    }
}

#[cfg(test)]
mod tests {
    use shared::contract::timestamp::Timestamp;

    use super::*;

    fn room() -> RoomId {
        RoomId::parse("r").unwrap()
    }

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn mark(name: &str, seq: u64) -> ReadMark {
        let message_id = MessageId::parse(&format!("m{seq}")).ok();
        let position = Position::new(1, seq);
        ReadMark { user: user(name), position, message_id, read_at: Timestamp(0) }
    }

    fn seq(board: &RoomReceipts, name: &str) -> Option<u64> {
        board.of(&user(name)).map(|mark| mark.position.seq)
    }

    #[tokio::test(start_paused = true)]
    async fn a_mark_only_grows_and_is_told_once_in_a_while() {
        let mut board = RoomReceipts::default();
        assert!(board.apply(&room(), mark("ann", 5)).is_some());
        assert!(board.apply(&room(), mark("ann", 4)).is_none());
        assert!(board.apply(&room(), mark("ann", 5)).is_none());
        assert!(!board.begin_telling(), "what is no news does not wait");
        assert!(board.apply(&room(), mark("ann", 6)).is_none());
        assert!(board.apply(&room(), mark("ann", 7)).is_none());
        assert!(board.apply(&room(), mark("bob", 1)).is_some(), "each has a pause of their own");
        assert!(board.begin_telling());
        assert!(!board.begin_telling());
        let due = board.due(&room());
        assert!(due.frames.is_empty() && due.more);
        tokio::time::advance(interval()).await;
        let due = board.due(&room());
        assert!(due.frames.len() == 1 && !due.more);
        assert!(String::from_utf8_lossy(due.frames[0].payload()).contains("\"seq\":7"));
        assert_eq!(
            (seq(&board, "ann"), board.last_seen(&user("ann"))),
            (Some(7), mark("x", 7).message_id)
        );
    }

    #[test]
    fn the_board_keeps_the_furthest_and_takes_no_late_mark_for_news() {
        let mut board = RoomReceipts::default();
        let many = RECEIPTS_REMEMBERED_MAX as u64 + 10;
        board.load((1..=many).map(|seq| mark(&format!("u{seq}"), seq)).collect(), true);
        assert_eq!(board.marks.len(), RECEIPTS_REMEMBERED_MAX);
        assert!(!board.is_whole());
        assert_eq!((seq(&board, "u10"), seq(&board, "u11")), (None, Some(11)));
        assert!(board.apply(&room(), mark("u3", 9)).is_none(), "it may have been further");
        assert!(board.apply(&room(), mark("u3", 500)).is_some());
    }

    #[test]
    fn the_furthest_are_listed_and_always_ones_own() {
        let mut board = RoomReceipts::default();
        board.load((1..=600).map(|seq| mark(&format!("u{seq}"), seq)).collect(), true);
        assert!(board.is_whole());
        let listed = board.listed(&user("u1"), None);
        assert_eq!(listed.len(), RECEIPTS_LISTED_MAX);
        assert!(listed.contains_key(&user("u1")) && listed.contains_key(&user("u600")));
        assert!(!listed.contains_key(&user("u101")) && listed.contains_key(&user("u102")));
        let found = mark("zoe", 3);
        assert!(board.listed(&user("zoe"), Some(&found)).contains_key(&user("zoe")));
    }
}
