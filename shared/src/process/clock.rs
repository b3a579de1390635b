//! The time of day, as a handle that a test can set forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Tells the time of day; clones share what [`Clock::advance`] adds.
///
/// Deadlines and intervals belong to `tokio::time`; this is for the times that are written down:
/// when a message was made, when a token ends.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Milliseconds added to the system's time; zero outside tests.
    offset_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { offset_ms: Arc::new(AtomicI64::new(0)) }
    }

    /// Milliseconds since 1970-01-01T00:00:00 UTC.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        jiff::Timestamp::now()
            .as_millisecond()
            .saturating_add(self.offset_ms.load(Ordering::Relaxed))
    }

    /// Sets this clock and its clones forward, so that "20 minutes later" needs no sleep in a test.
    pub fn advance(&self, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
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
}
