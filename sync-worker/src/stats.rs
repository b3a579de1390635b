//! What `/stats` says of the worker.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use shared::contract::id::Shard;
use shared::contract::limits::TROUBLE_MS_MAX;
use shared::contract::timestamp::Timestamp;
use shared::process::readiness::Condition;
use tokio::time::Instant;

/// How many of the last errors are kept.
const ERRORS_KEPT: usize = 10;
/// How often it is looked whether shards fail.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How long a failure counts that is not repeated: longer than the longest pause between tries.
const FAILING_MEMORY: Duration = Duration::from_secs(120);

/// Counts of one worker since its start.
#[derive(Debug, Default)]
pub struct Stats {
    state: Mutex<StatsState>,
}

#[derive(Debug, Default)]
struct StatsState {
    synced: u64,
    failed: u64,
    last_sync_ms: Option<i64>,
    duration: Duration,
    errors: VecDeque<ShardFailure>,
    failing: HashMap<Shard, Failing>,
}

/// The same error as often as it comes.
#[derive(Debug)]
struct ShardFailure {
    text: String,
    first: Timestamp,
    last: Timestamp,
    times: u64,
}

impl ShardFailure {
    fn shown(&self) -> String {
        let ShardFailure { text, first, last, times } = self;
        match times {
            1 => format!("{last} {text}"),
            times => format!("{last} {text} ({times} times since {first})"),
        }
    }
}

/// A shard whose last try failed.
#[derive(Debug)]
struct Failing {
    since: Instant,
    last: Instant,
}

impl Stats {
    pub(crate) fn synced(&self, rows: u64, now_ms: i64, duration: Duration) {
        let mut state = self.state.lock();
        state.synced += rows;
        state.last_sync_ms = Some(now_ms);
        state.duration = duration;
    }

    pub(crate) fn failed(&self, shard: Shard, text: String, now_ms: i64) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let failing = state.failing.entry(shard).or_insert(Failing { since: now, last: now });
        failing.last = now;
        state.failed += 1;
        let at = Timestamp(now_ms);
        let known = state.errors.iter().position(|known| known.text == text);
        let before = known.and_then(|place| state.errors.remove(place));
        let (first, times) = before.map_or((at, 0), |before| (before.first, before.times));
        state.errors.push_back(ShardFailure { text, first, last: at, times: times + 1 });
        if state.errors.len() > ERRORS_KEPT {
            state.errors.pop_front();
        }
    }

    /// A shard went on, or is another worker's.
    pub(crate) fn recovered(&self, shard: Shard) {
        self.state.lock().failing.remove(&shard);
    }

    /// How many shards have been failing for longer than a moment.
    fn stuck(&self) -> usize {
        let mut state = self.state.lock();
        // One with nothing left to do is not tried again.
        state.failing.retain(|_, failing| failing.last.elapsed() < FAILING_MEMORY);
        let long = Duration::from_millis(TROUBLE_MS_MAX);
        state.failing.values().filter(|failing| failing.since.elapsed() >= long).count()
    }

    /// Tells `ready` whether what was accepted gets into the database; never returns.
    pub async fn watch(stats: Arc<Stats>, ready: Condition) {
        loop {
            match stats.stuck() {
                0 => ready.ready(),
                // Not how many: each change is a line of the log.
                _ => ready.degraded("what was accepted does not get into the database"),
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }

    /// `totalSynced` entries, `failedSyncs` tries, `lastSyncTime` in Unix milliseconds or null,
    /// `syncDuration` of the last batch in milliseconds, the last different `errors`, each with
    /// when it last came, and where it came again how often and since when.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let state = self.state.lock();
        json!({
            "totalSynced": state.synced,
            "failedSyncs": state.failed,
            "lastSyncTime": state.last_sync_ms,
            "syncDuration": state.duration.as_secs_f64() * 1000.0,
            "errors": state.errors.iter().map(ShardFailure::shown).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn errors_are_dated_and_each_is_told_once() {
        let (stats, shard) = (Stats::default(), Shard::all().next().unwrap());
        for ms in 0..12 {
            stats.failed(shard, "the database does not answer".to_owned(), ms * 1000);
        }
        stats.failed(shard, "the log does not answer".to_owned(), 20_000);
        let errors = stats.to_json()["errors"].clone();
        let expected = json!([
            "1970-01-01T00:00:11.000Z the database does not answer \
             (12 times since 1970-01-01T00:00:00.000Z)",
            "1970-01-01T00:00:20.000Z the log does not answer",
        ]);
        assert_eq!(errors, expected);
        assert_eq!(stats.to_json()["failedSyncs"], 13);
        for number in 0..20 {
            stats.failed(shard, format!("error {number}"), 30_000);
        }
        assert_eq!(stats.to_json()["errors"].as_array().map(Vec::len), Some(ERRORS_KEPT));
    }
}
