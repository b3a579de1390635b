//! How many control frames a client may send.
//!
//! Every ping costs a pong, so a client that floods pings makes the server write; the protocol
//! itself sets no limit. Whoever exceeds the budget is closed with 1008.

use std::time::Duration;

use tokio::time::Instant;

/// Control frames a second that a client may send in the long run.
pub(crate) const CONTROL_FRAMES_PER_SECOND: u32 = 10;

/// Control frames a client may send at once after a silence.
pub(crate) const CONTROL_FRAMES_BURST: u32 = 20;

const NANOS_PER_FRAME: u64 = 1_000_000_000 / CONTROL_FRAMES_PER_SECOND as u64;
/// The time one token takes to come back.
const REFILL: Duration = Duration::from_nanos(NANOS_PER_FRAME);
/// The time an empty bucket takes to fill.
const REFILL_ALL: Duration = Duration::from_nanos(NANOS_PER_FRAME * CONTROL_FRAMES_BURST as u64);

/// A token bucket for one connection's incoming pings, pongs and closes.
///
/// Kept as one point in time, the moment at which the bucket is full again: exact, and sixteen
/// bytes for each connection.
#[derive(Debug, Clone)]
pub(crate) struct ControlBudget {
    full_at: Instant,
}

impl ControlBudget {
    /// A full bucket.
    pub(crate) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes a token for one control frame; false when there is none, which takes nothing.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + REFILL;
        let allowed = full_at.duration_since(now) <= REFILL_ALL;
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut ControlBudget, now: Instant, tries: u32) -> u32 {
        (0..tries).map(|_| u32::from(budget.take(now))).sum()
    }

    #[test]
    fn a_burst_of_twenty_passes_and_the_next_does_not() {
        let now = Instant::now();
        let mut budget = ControlBudget::new(now);
        assert_eq!(taken(&mut budget, now, 100), 20);
    }

    #[test]
    fn a_token_returns_every_hundred_milliseconds() {
        let start = Instant::now();
        let mut budget = ControlBudget::new(start);
        taken(&mut budget, start, 20);
        assert!(!budget.take(start + Duration::from_millis(99)));
        assert!(budget.take(start + Duration::from_millis(100)));
        assert!(!budget.take(start + Duration::from_millis(100)));
        assert_eq!(taken(&mut budget, start + Duration::from_millis(600), 100), 5);
    }

    #[test]
    fn silence_saves_no_more_than_the_burst() {
        let start = Instant::now();
        let mut budget = ControlBudget::new(start);
        taken(&mut budget, start, 20);
        assert_eq!(taken(&mut budget, start + Duration::from_secs(3600), 100), 20);
    }

    #[test]
    fn ten_a_second_pass_for_ever() {
        let mut now = Instant::now();
        let mut budget = ControlBudget::new(now);
        for _ in 0..1_000 {
            assert!(budget.take(now));
            now += Duration::from_millis(100);
        }
    }

    #[test]
    fn a_client_that_hammers_gets_what_the_rate_allows() {
        let start = Instant::now();
        let mut budget = ControlBudget::new(start);
        let passed: u32 =
            (0..10_000).map(|ms| taken(&mut budget, start + Duration::from_millis(ms), 1)).sum();
        assert_eq!(passed, 20 + 99);
    }

    #[test]
    fn a_moment_before_the_last_one_is_no_free_token() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut budget = ControlBudget::new(start);
        taken(&mut budget, start, 20);
        assert!(!budget.take(start - Duration::from_secs(5)));
    }
}
