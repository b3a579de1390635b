//! How many handshakes a node begins within a second.

use parking_lot::Mutex;
use tokio::time::Instant;

/// A bucket that holds a second's worth.
#[derive(Debug)]
pub(crate) struct ConnectRate {
    per_second: f64,
    /// What is left, and since when it has not been filled.
    state: Mutex<(f64, Instant)>,
}

impl ConnectRate {
    pub(crate) fn new(per_second: u32) -> ConnectRate {
        let per_second = f64::from(per_second);
        ConnectRate { per_second, state: Mutex::new((per_second, Instant::now())) }
    }

    /// Whether one more may begin now.
    pub(crate) fn take(&self) -> bool {
        let mut state = self.state.lock();
        let now = Instant::now();
        let filled = state.0 + now.duration_since(state.1).as_secs_f64() * self.per_second;
        let left = filled.min(self.per_second) - 1.0;
        *state = (if left < 0.0 { left + 1.0 } else { left }, now);
        left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_begin_within_a_second_and_no_more() {
        let rate = ConnectRate::new(50);
        let begun = || (0..1000).filter(|_| rate.take()).count();
        assert_eq!(begun(), 50, "at once");
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(begun(), 25);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(begun(), 50, "what was not used is not kept");
    }
}
