//! Rate limit windows of this node.

use dashmap::DashMap;
use shared::contract::id::UserId;
use shared::contract::limits::RATED_USERS_MAX;

use super::redis::Portion;
use crate::config::RateClass;

/// The windows of all users.
#[derive(Debug)]
pub(crate) struct Windows {
    users: DashMap<UserId, [Window; RateClass::COUNT]>,
    /// How long the window of each allowance is.
    windows_ms: [i64; RateClass::COUNT],
}

/// One user's use of one allowance.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// When it ends, in Unix milliseconds.
    ends_ms: i64,
    /// Uses on this node.
    used: u32,
    /// Uses that were taken from the fleet's count and are still to be had.
    held: u32,
    /// The fleet has nothing more to give.
    spent: bool,
}

/// What came of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalCount {
    /// This node does not refuse it; it is for the fleet to say, where there is one.
    Locally,
    /// It was taken from the fleet's count before.
    Held,
    /// There is none before so many milliseconds.
    Over {
        /// The rest of the window, at least 1.
        rest_ms: u64,
    },
}

impl Window {
    /// This window, or a new one where it is over.
    fn present(&mut self, now_ms: i64, window_ms: i64) -> &mut Window {
        // A clock that was set back must not make a window longer.
        if !(now_ms < self.ends_ms && self.ends_ms <= now_ms + window_ms) {
            *self = Window { ends_ms: now_ms + window_ms, ..Window::default() };
        }
        self
    }

    fn over(&self, now_ms: i64) -> LocalCount {
        LocalCount::Over { rest_ms: u64::try_from(self.ends_ms - now_ms).unwrap_or(1).max(1) }
    }
}

impl Windows {
    pub(crate) fn new(windows_ms: [i64; RateClass::COUNT]) -> Windows {
        Windows { users: DashMap::new(), windows_ms }
    }

    /// Does something with the present window; `None` where there is no room for one more user.
    fn present<T>(
        &self,
        user: &UserId,
        class: RateClass,
        now_ms: i64,
        act: impl FnOnce(&mut Window) -> T,
    ) -> Option<T> {
        let act = |windows: &mut [Window]| {
            act(windows[class as usize].present(now_ms, self.windows_ms[class as usize]))
        };
        // The guard ends with the statement; nothing in it looks at the map again.
        if let Some(mut windows) = self.users.get_mut(user) {
            return Some(act(&mut *windows));
        }
        // Only now: it looks at every part of the map.
        if self.users.len() >= RATED_USERS_MAX {
            return None;
        }
        Some(act(&mut *self.users.entry(user.clone()).or_default()))
    }

    /// Counts one use, unless it is known to be one too many.
    pub(crate) fn take(
        &self,
        user: &UserId,
        class: RateClass,
        limit: u32,
        now_ms: i64,
    ) -> LocalCount {
        let taken = self.present(user, class, now_ms, |window| {
            if window.used >= limit || (window.spent && window.held == 0) {
                return window.over(now_ms);
            }
            window.used += 1;
            match window.held.checked_sub(1) {
                None => LocalCount::Locally,
                Some(left) => {
                    window.held = left;
                    LocalCount::Held
                }
            }
        });
        taken.unwrap_or(LocalCount::Locally)
    }

    /// What the fleet said of a use that was counted here: it is one of what was given, and the
    /// window ends where the fleet's does.
    pub(super) fn given(
        &self,
        user: &UserId,
        class: RateClass,
        given: Portion,
        now_ms: i64,
    ) -> LocalCount {
        let Portion { count, rest_ms, is_first } = given;
        let window_ms = self.windows_ms[class as usize];
        let took = self.present(user, class, now_ms, |window| {
            window.ends_ms = now_ms + rest_ms.clamp(1, window_ms);
            if is_first {
                // The fleet's window was over a moment before this node's.
                (window.used, window.held) = (1, 0);
            }
            window.spent = count == 0;
            if count == 0 {
                window.used = window.used.saturating_sub(1);
                return window.over(now_ms);
            }
            window.held += count - 1;
            LocalCount::Held
        });
        let over = LocalCount::Over { rest_ms: u64::try_from(rest_ms).unwrap_or(1).max(1) };
        took.unwrap_or(if count == 0 { over } else { LocalCount::Held })
    }

    /// Takes one use back.
    pub(super) fn refund(&self, user: &UserId, class: RateClass, now_ms: i64) {
        self.present(user, class, now_ms, |window| {
            // The window of the use may be over.
            if window.used > 0 {
                window.used -= 1;
                window.held += 1;
            }
        });
    }

    /// Forgets those whose every window is over.
    pub(super) fn sweep(&self, now_ms: i64) {
        self.users.retain(|_, windows| windows.iter().any(|window| window.ends_ms > now_ms));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }
}
