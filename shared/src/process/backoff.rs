//! Exponential back-off with jitter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Exponential waiting with full jitter: the n-th delay is anything from zero to `base · 2ⁿ`.
///
/// Full jitter, because what fails for one node fails for all of them at once, and they must not
/// come back at once. It never gives up: whether to is the caller's to say.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    ceiling: Duration,
    /// Delays given since the last success.
    failures: u32,
    /// Randomly keyed by the standard library: all the randomness that jitter needs.
    random: RandomState,
}

impl Backoff {
    /// Delays that begin below `base` and never exceed `ceiling`.
    #[must_use]
    pub fn new(base: Duration, ceiling: Duration) -> Self {
        Self { base, ceiling, failures: 0, random: RandomState::new() }
    }

    /// The wait after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        let bound = self.base.saturating_mul(factor).min(self.ceiling);
        let bound_ns = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX - 1);
        let random = self.random.hash_one(self.failures);
        self.failures = self.failures.saturating_add(1);
        Duration::from_nanos(random % bound_ns.saturating_add(1))
    }

    /// Begins again at the base, after a success.
    pub fn reset(&mut self) {
        // New keys, or the next row of delays would be the last one again.
        self.random = RandomState::new();
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CEILING: Duration = Duration::from_secs(5);

    #[test]
    fn no_delay_exceeds_its_doubling_bound_or_the_ceiling() {
        for _ in 0..100 {
            let mut backoff = Backoff::new(BASE, CEILING);
            for failures in 0..100 {
                let bound = BASE.saturating_mul(2_u32.saturating_pow(failures)).min(CEILING);
                assert!(backoff.next_delay() <= bound);
            }
        }
    }

    #[test]
    fn delays_are_spread_over_the_whole_range() {
        let mut backoff = Backoff::new(CEILING, CEILING);
        let delays: Vec<Duration> = (0..1000).map(|_| backoff.next_delay()).collect();
        let early = delays.iter().filter(|delay| **delay < CEILING / 2).count();
        assert!((350..=650).contains(&early), "{early} of 1000 in the lower half");
    }

    #[test]
    fn a_success_begins_again_at_the_base() {
        let mut backoff = Backoff::new(BASE, CEILING);
        for _ in 0..20 {
            backoff.next_delay();
        }
        backoff.reset();
        assert!(backoff.next_delay() <= BASE);
    }

    #[test]
    fn two_rows_of_delays_differ() {
        let mut backoff = Backoff::new(CEILING, CEILING);
        let first: Vec<Duration> = (0..5).map(|_| backoff.next_delay()).collect();
        backoff.reset();
        let second: Vec<Duration> = (0..5).map(|_| backoff.next_delay()).collect();
        assert_ne!(first, second);
    }

    #[test]
    fn extreme_durations_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX);
        for _ in 0..100 {
            backoff.next_delay();
        }
        assert_eq!(Backoff::new(Duration::ZERO, CEILING).next_delay(), Duration::ZERO);
    }
}
