//! How often rounds begin.

use std::time::Duration;

use tokio::time::Instant;

/// Entries that are worth a longest pause: at so many in one, a transaction costs each of them a
/// small part of what it costs a single one.
const WORTH_ENTRIES: f64 = 20.0;

/// The pause between the beginnings of two rounds: the longer, the more comes in, so that what a
/// transaction costs is shared; after quiet, none.
#[derive(Debug)]
pub(crate) struct Pace {
    least: Duration,
    most: Duration,
    began: Option<Instant>,
    /// Entries that come in within the longest pause, as it looks.
    expected: f64,
}

impl Pace {
    pub(crate) fn new(least: Duration, most: Duration) -> Pace {
        Pace { least, most: most.max(least), began: None, expected: 0.0 }
    }

    /// A round begins with so many entries.
    pub(crate) fn begin(&mut self, entries: usize) {
        let now = Instant::now();
        let most = self.most.as_secs_f64();
        let since = self.began.map_or(most, |began| (now - began).as_secs_f64().max(1e-3));
        // The longer ago, the less it says.
        let before = self.expected * most / (most + since);
        self.expected = before + entries as f64 * most / (most + since);
        self.began = Some(now);
    }

    /// How long until the next one may begin.
    pub(crate) fn pause(&self) -> Duration {
        let share = (self.expected / WORTH_ENTRIES).min(1.0);
        let interval = self.most.mul_f64(share).max(self.least);
        self.began.map_or(Duration::ZERO, |began| interval.saturating_sub(began.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(20);
    const MOST: Duration = Duration::from_millis(100);

    /// The pause after a while of so many entries in each round.
    async fn settled(per_ms: f64) -> Duration {
        let mut pace = Pace::new(LEAST, MOST);
        assert_eq!(pace.pause(), Duration::ZERO);
        pace.begin(1);
        for _ in 0..20 {
            // Where nothing has come in by then, the round waits for the first.
            let waited = pace.pause().max(Duration::from_secs_f64(0.001 / per_ms));
            tokio::time::advance(waited).await;
            pace.begin((per_ms * waited.as_secs_f64() * 1000.0).round() as usize);
        }
        pace.pause()
    }

    #[tokio::test(start_paused = true)]
    async fn the_more_comes_in_the_longer_is_the_pause_and_after_quiet_there_is_none() {
        assert_eq!(settled(0.5).await, MOST);
        assert_eq!(settled(50.0).await, MOST);
        assert_eq!(settled(0.02).await, LEAST);
        let some = settled(0.1).await;
        assert!(LEAST < some && some < MOST, "{some:?}");

        let mut pace = Pace::new(LEAST, MOST);
        pace.begin(1000);
        tokio::time::advance(MOST).await;
        assert_eq!(pace.pause(), Duration::ZERO);
        pace.begin(1);
        tokio::time::advance(Duration::from_secs(10)).await;
        pace.begin(1);
        tokio::time::advance(Duration::from_secs(10)).await;
        pace.begin(1);
        assert!(pace.pause() < MOST, "a burst is forgotten");
    }
}
