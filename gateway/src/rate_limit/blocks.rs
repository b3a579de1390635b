//! Counts refusals per user, and blocks for a while.

use dashmap::DashMap;
use shared::contract::id::UserId;
use shared::contract::limits::{RATE_WINDOW_MS, RATED_USERS_MAX};

use super::Rules;

/// Of all users.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    refusals: DashMap<UserId, RefusalCount>,
    /// Until when, in Unix milliseconds.
    blocked: DashMap<UserId, i64>,
}

/// How often one user was refused on this node.
#[derive(Debug, Default)]
struct RefusalCount {
    ends_ms: i64,
    count: u32,
    /// What the fleet was not told yet.
    unreported: u32,
    /// Whether somebody tells it.
    is_reported: bool,
}

/// What a refusal leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    /// It was one too many.
    pub(super) is_over: bool,
    /// Nobody tells the fleet yet.
    pub(super) is_first: bool,
}

impl Blocks {
    /// Counts a refusal.
    pub(super) fn refused(&self, user: &UserId, rules: &Rules, now_ms: i64) -> Noted {
        if self.refusals.len() >= RATED_USERS_MAX && !self.refusals.contains_key(user) {
            return Noted { is_over: false, is_first: false };
        }
        // The guard ends with the function; nothing in it looks at the map again.
        let mut refusals = self.refusals.entry(user.clone()).or_default();
        if !(now_ms < refusals.ends_ms && refusals.ends_ms <= now_ms + RATE_WINDOW_MS) {
            refusals.ends_ms = now_ms + RATE_WINDOW_MS;
            refusals.count = 0;
        }
        refusals.count += 1;
        let is_over = refusals.count >= rules.block_after;
        if is_over {
            refusals.count = 0;
        }
        // The fleet's minute may have begun later: who is blocked here is blocked everywhere.
        let told = if is_over { rules.block_after } else { 1 };
        refusals.unreported = refusals.unreported.saturating_add(told);
        let is_first = !std::mem::replace(&mut refusals.is_reported, true);
        Noted { is_over, is_first }
    }

    /// Takes what the fleet was not told; 0 ends the telling.
    pub(super) fn take_unreported(&self, user: &UserId) -> u32 {
        let Some(mut refusals) = self.refusals.get_mut(user) else { return 0 };
        refusals.is_reported = refusals.unreported > 0;
        std::mem::take(&mut refusals.unreported)
    }

    /// Blocks somebody; says whether they were not blocked before.
    pub(super) fn block(&self, user: &UserId, until_ms: i64, now_ms: i64) -> bool {
        if self.blocked.len() >= RATED_USERS_MAX && !self.blocked.contains_key(user) {
            return false;
        }
        let before_ms = self.blocked.insert(user.clone(), until_ms);
        before_ms.is_none_or(|before_ms| before_ms <= now_ms)
    }

    /// For how long somebody is blocked still.
    pub(super) fn rest_ms(&self, user: &UserId, now_ms: i64) -> Option<u64> {
        let until_ms = *self.blocked.get(user)?;
        u64::try_from(until_ms - now_ms).ok().filter(|rest_ms| *rest_ms > 0)
    }

    /// Forgets what is over.
    pub(super) fn sweep(&self, now_ms: i64) {
        self.refusals.retain(|_, refusals| refusals.ends_ms > now_ms || refusals.is_reported);
        self.blocked.retain(|_, until_ms| *until_ms > now_ms);
    }
}
