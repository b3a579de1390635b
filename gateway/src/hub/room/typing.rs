//! Typing marks of a room. Pure: the callers bring the time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use shared::contract::id::UserId;
use shared::contract::limits::{TYPING_MARKS_MAX, TYPING_MS, TYPING_STEP_MS};
use shared::contract::protocol::TypingMark;
use tokio::time::Instant;

const STEP: Duration = Duration::from_millis(TYPING_STEP_MS);
const MARK: Duration = Duration::from_millis(TYPING_MS);

/// The board of one room.
#[derive(Debug, Default)]
pub(super) struct RoomTyping {
    marks: HashMap<UserId, Mark>,
}

/// Somebody's mark.
#[derive(Debug, Default)]
struct Mark {
    /// Until when members believe that they type.
    ends: Option<Instant>,
    /// When this node signalled it last.
    signalled: Option<Instant>,
}

/// What members are to be told of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TypingEffect {
    /// They type, for so many milliseconds unless it is renewed.
    Start {
        /// At most [`TYPING_MS`].
        ms: u64,
    },
    /// They type no more.
    Stop,
}

impl RoomTyping {
    /// Takes a signal; gives what members are told of it, if anything.
    pub(super) fn apply(&mut self, user: &UserId, ms: u64, now: Instant) -> Option<TypingEffect> {
        if ms == 0 {
            return self.stop(user);
        }
        if self.marks.len() >= TYPING_MARKS_MAX && !self.marks.contains_key(user) {
            return None;
        }
        let ms = ms.min(TYPING_MS);
        let mark = self.marks.entry(user.clone()).or_default();
        mark.ends = Some(now + Duration::from_millis(ms));
        Some(TypingEffect::Start { ms })
    }

    /// Takes somebody's mark away; gives what members are told of it.
    pub(super) fn stop(&mut self, user: &UserId) -> Option<TypingEffect> {
        self.marks.remove(user)?.ends.map(|_| TypingEffect::Stop)
    }

    /// Whether somebody's typing on this node is to be signalled: the first, and then once a while.
    pub(super) fn begins(&mut self, user: &UserId, now: Instant) -> bool {
        if self.marks.len() >= TYPING_MARKS_MAX && !self.marks.contains_key(user) {
            return false;
        }
        let mark = self.marks.entry(user.clone()).or_default();
        let signals = mark.signalled.is_none_or(|last| now - last >= STEP);
        if signals {
            mark.signalled = Some(now);
        }
        signals
    }

    /// Whether it is to be signalled that they stopped: where there is anything to stop.
    pub(super) fn ends(&mut self, user: &UserId) -> bool {
        let Some(mark) = self.marks.get_mut(user) else { return false };
        mark.signalled = None;
        if mark.ends.is_none() {
            self.marks.remove(user);
        }
        true
    }

    /// When the next mark ends.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.marks.values().filter_map(Mark::over_at).min()
    }

    /// Whose marks end at this moment, of those that members know.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<UserId> {
        let over = |mark: &Mark| mark.over_at().is_none_or(|at| at <= now);
        let over = self.marks.extract_if(|_, mark| over(mark));
        over.filter(|(_, mark)| mark.ends.is_some()).map(|(user, _)| user).collect()
    }

    /// Who types, for somebody who joins: themselves left out.
    pub(super) fn list(&self, own: &UserId, now: Instant) -> BTreeMap<UserId, TypingMark> {
        let mark = |(user, mark): (&UserId, &Mark)| {
            let left = mark.ends?.checked_duration_since(now)?;
            let expires_in_ms = u64::try_from(left.as_millis()).unwrap_or(TYPING_MS);
            Some((user.clone(), TypingMark { user_id: user.clone(), expires_in_ms }))
        };
        self.marks.iter().filter(|(user, _)| *user != own).filter_map(mark).collect()
    }
}

impl Mark {
    /// One that was signalled and never came back is forgotten like one that ended.
    fn over_at(&self) -> Option<Instant> {
        self.ends.max(self.signalled.map(|last| last + MARK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    #[test]
    fn a_mark_is_told_renewed_and_ends_by_itself() {
        let (mut board, ann, now) = (RoomTyping::default(), user("ann"), Instant::now());
        let after = |ms| now + Duration::from_millis(ms);
        let told = Some(TypingEffect::Start { ms: TYPING_MS });
        assert_eq!(board.apply(&ann, TYPING_MS, now), told);
        assert_eq!(board.apply(&ann, u64::MAX, after(3000)), told, "nobody types for ever");
        assert!(board.expire(after(7999)).is_empty());
        assert_eq!(board.due_at(), Some(after(8000)));
        let listed = board.list(&user("bob"), after(7000));
        assert_eq!(listed[&ann].expires_in_ms, 1000);
        assert!(board.list(&ann, after(7000)).is_empty());
        assert_eq!(board.expire(after(8000)), [ann]);
        assert!(board.marks.is_empty() && board.due_at().is_none());
    }

    #[test]
    fn a_stop_is_told_once_and_only_of_somebody_who_types() {
        let (mut board, ann, now) = (RoomTyping::default(), user("ann"), Instant::now());
        assert_eq!(board.apply(&ann, 0, now), None);
        board.apply(&ann, TYPING_MS, now);
        assert_eq!(board.apply(&ann, 0, now), Some(TypingEffect::Stop));
        assert_eq!(board.apply(&ann, 0, now), None);
    }

    #[test]
    fn typing_on_is_signalled_once_a_second_and_stopping_once() {
        let (mut board, ann, now) = (RoomTyping::default(), user("ann"), Instant::now());
        let after = |ms| now + Duration::from_millis(ms);
        let signalled = (0..3000).step_by(100).filter(|ms| board.begins(&ann, after(*ms))).count();
        assert_eq!(signalled, 3);
        assert!(board.ends(&ann));
        assert!(!board.ends(&ann), "nothing came back");
        assert!(board.begins(&ann, after(3000)), "after a stop it begins anew");
        board.apply(&ann, TYPING_MS, after(3000));
        assert!(board.ends(&ann));
        assert!(board.begins(&ann, after(3100)));
    }

    #[test]
    fn what_was_signalled_and_never_came_back_is_forgotten() {
        let (mut board, ann, now) = (RoomTyping::default(), user("ann"), Instant::now());
        board.begins(&ann, now);
        assert_eq!(board.due_at(), Some(now + MARK));
        assert!(board.expire(now + MARK).is_empty());
        assert!(board.marks.is_empty());
    }

    #[test]
    fn a_room_shows_so_many_marks_and_no_more() {
        let (mut board, now) = (RoomTyping::default(), Instant::now());
        for number in 0..TYPING_MARKS_MAX {
            assert!(board.apply(&user(&format!("user-{number}")), TYPING_MS, now).is_some());
        }
        assert!(!board.begins(&user("late"), now));
        assert_eq!(board.apply(&user("late"), TYPING_MS, now), None);
        assert!(board.apply(&user("user-0"), TYPING_MS, now).is_some());
    }
}
