//! The clock of a cluster: Redis's time, whatever the clocks of the machines.
//!
//! An id that is too old to be known without asking, the first quarter of an hour of an epoch, the
//! end of a token: all of it is compared with the time, and two nodes that disagree would take
//! one message twice.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::process::clock::Clock;
use crate::process::readiness::Condition;

/// How far a machine's clock may be off, in milliseconds.
const CLOCK_OFF_MS_MAX: i64 = 60_000;

/// How often the log says that a clock is off.
const SAY_INTERVAL: Duration = Duration::from_secs(10);

/// The clock of a process, kept by Redis's time.
#[derive(Debug)]
pub struct Timing {
    clock: Clock,
    ready: Condition,
    said: Option<Instant>,
}

/// Whose clock is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nobodys,
    This,
    Redis,
}

/// By what this machine is behind Redis, and behind the database, where that is known.
fn wrong(redis: i64, database: Option<i64>) -> Wrong {
    let is_off = |behind: i64| behind.saturating_abs() > CLOCK_OFF_MS_MAX;
    match (is_off(redis), database.map(is_off)) {
        (false, _) => Wrong::Nobodys,
        // Two against one.
        (true, Some(false)) => Wrong::Redis,
        (true, Some(true) | None) => Wrong::This,
    }
}

impl Timing {
    /// Keeps `clock`; `ready` says whether this machine's own is right.
    #[must_use]
    pub fn new(clock: Clock, ready: Condition) -> Timing {
        Timing { clock, ready, said: None }
    }

    /// Redis has told its time; the database was found to be ahead by so much, where it has.
    pub(super) fn told(&mut self, redis_ms: i64, database: Option<i64>) {
        let behind = self.clock.follow(redis_ms);
        let text = match wrong(behind, database) {
            Wrong::Nobodys => {
                self.said = None;
                return self.ready.ready();
            }
            Wrong::This => {
                let (seconds, how) =
                    (behind.saturating_abs() / 1000, if behind > 0 { "behind" } else { "ahead" });
                let text = format!("this machine's clock is {seconds} s {how}");
                self.ready.not_ready(text.clone());
                text
            }
            Wrong::Redis => {
                self.ready.ready();
                "redis's clock is off by more than a minute".to_owned()
            }
        };
        if self.said.is_none_or(|at| at.elapsed() >= SAY_INTERVAL) {
            self.said = Some(Instant::now());
            warn!(ahead_ms = -behind, "{text}; redis's time is used");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * 60 * 1000;

    #[test]
    fn the_one_that_two_contradict_is_wrong() {
        assert_eq!(wrong(0, None), Wrong::Nobodys);
        assert_eq!(wrong(CLOCK_OFF_MS_MAX, Some(HOUR)), Wrong::Nobodys);
        for off in [HOUR, -HOUR, CLOCK_OFF_MS_MAX + 1] {
            assert_eq!(wrong(off, None), Wrong::This);
            assert_eq!(wrong(off, Some(off)), Wrong::This);
            assert_eq!(wrong(off, Some(0)), Wrong::Redis);
        }
    }
}
