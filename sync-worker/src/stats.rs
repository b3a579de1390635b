//! What `/stats` says of the worker, under the seed's names.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// How many of the last errors are kept.
const ERRORS_KEPT: usize = 10;

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
}

impl Stats {
    pub(crate) fn synced(&self, rows: u64, now_ms: i64, duration: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.synced += rows;
        state.last_sync_ms = Some(now_ms);
        state.duration = duration;
    }

    pub(crate) fn failed(&self, error: String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failed += 1;
        state.errors.push_back(error);
        if state.errors.len() > ERRORS_KEPT {
            state.errors.pop_front();
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
