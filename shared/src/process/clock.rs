//! The time of day: this machine's, or that of a server which several processes share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How far this machine may be from the server before the server's time is taken: less is no
/// difference, and a time that is corrected by every answer would not only go forward.
const STEP_MS: i64 = 1_000;

/// Tells the time of day; clones share it.
///
/// Deadlines and intervals belong to `tokio::time`; this is for the times that are written down:
/// when a message was made, when a token ends.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Milliseconds added to the system's time in tests.
    offset_ms: Arc<AtomicI64>,
    /// Milliseconds added because the server's time is another.
    followed_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { offset_ms: Arc::default(), followed_ms: Arc::default() }
    }

    /// Milliseconds since 1970-01-01T00:00:00 UTC.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        system_ms()
            .saturating_add(self.followed_ms.load(Ordering::Relaxed))
            .saturating_add(self.offset_ms.load(Ordering::Relaxed))
    }

    /// Goes by a server's time from now on, where this machine's is another: several processes
    /// compare what they write down, and each may have a wrong clock. Gives by how much the
    /// server's time is ahead of this machine's.
    #[must_use]
    pub fn follow(&self, server_ms: i64) -> i64 {
        let ahead = server_ms.saturating_sub(system_ms());
        let followed = self.followed_ms.load(Ordering::Relaxed);
        if ahead.saturating_sub(followed).saturating_abs() > STEP_MS {
            let ahead = if ahead.saturating_abs() > STEP_MS { ahead } else { 0 };
            self.followed_ms.store(ahead, Ordering::Relaxed);
        }
        ahead
    }

    /// By how much a server's time is ahead of this machine's.
    #[must_use]
    pub fn behind(server_ms: i64) -> i64 {
        server_ms.saturating_sub(system_ms())
    }

    /// Sets this clock and its clones forward, so that "20 minutes later" needs no sleep in a test.
    pub fn advance(&self, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

fn system_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_tells_the_time_since_1970() {
        let long_after_2020_ms = 1_600_000_000_000;
        assert!(Clock::system().now_ms() > long_after_2020_ms);
    }

    #[test]
    fn clones_are_advanced_together_and_other_clocks_are_not() {
        let clock = Clock::system();
        let clone = clock.clone();
        let other = Clock::system();
        clock.advance(Duration::from_secs(20 * 60));
        assert!(clone.now_ms() - other.now_ms() >= 20 * 60 * 1000 - 1000);
        assert!(clone.now_ms() - other.now_ms() <= 20 * 60 * 1000 + 60_000);
    }

    #[test]
    fn a_clock_that_is_off_goes_by_the_servers_time_and_a_right_one_stays() {
        let clock = Clock::system();
        let hour = 60 * 60 * 1000;
        for ahead in [hour, -hour] {
            let told = clock.follow(system_ms() + ahead);
            assert!((told - ahead).abs() < 30_000, "{told}");
            let shown = clock.now_ms() - system_ms() - ahead;
            assert!(shown.abs() < 30_000, "{shown}");
        }
        let _ = clock.follow(system_ms());
        assert_eq!(clock.followed_ms.load(Ordering::Relaxed), 0);
        let _ = clock.follow(system_ms() + STEP_MS / 2);
        assert_eq!(clock.followed_ms.load(Ordering::Relaxed), 0);
    }
}
