//! What `/stats` says of the worker, under the seed's names.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use shared::contract::id::Shard;
use shared::contract::limits::TROUBLE_MS_MAX;
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
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    synced: u64,
    failed: u64,
    last_sync_ms: Option<i64>,
    duration: Duration,
    errors: VecDeque<String>,
    failing: HashMap<Shard, Failing>,
}

/// A shard whose last try failed.
#[derive(Debug)]
struct Failing {
    since: Instant,
    last: Instant,
}

impl Stats {
    pub(crate) fn synced(&self, rows: u64, now_ms: i64, duration: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.synced += rows;
        state.last_sync_ms = Some(now_ms);
        state.duration = duration;
    }

    pub(crate) fn failed(&self, shard: Shard, error: String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let failing = state.failing.entry(shard).or_insert(Failing { since: now, last: now });
        failing.last = now;
        state.failed += 1;
        state.errors.push_back(error);
        if state.errors.len() > ERRORS_KEPT {
            state.errors.pop_front();
        }
    }

    /// A shard went on, or is another worker's.
    pub(crate) fn recovered(&self, shard: Shard) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failing.remove(&shard);
    }

    /// How many shards have been failing for longer than a moment.
    fn stuck(&self) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
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
    /// `syncDuration` of the last batch in milliseconds, the last `errors`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "totalSynced": state.synced,
            "failedSyncs": state.failed,
            "lastSyncTime": state.last_sync_ms,
            "syncDuration": state.duration.as_secs_f64() * 1000.0,
            "errors": state.errors,
        })
    }
}
