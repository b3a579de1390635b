//! The lag of a shard: entries that are in the log and not in the database.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use shared::contract::id::Shard;

use crate::metrics::Metrics;

/// Entries that wait, and when the oldest of them was accepted, by shard.
#[derive(Debug)]
pub struct Lag {
    shards: Vec<ShardLag>,
}

#[derive(Debug, Default)]
struct ShardLag {
    entries: AtomicU64,
    /// In Unix milliseconds; 0 where none waits.
    oldest_ms: AtomicI64,
}

impl Default for Lag {
    fn default() -> Lag {
        Lag { shards: Shard::all().map(|_| ShardLag::default()).collect() }
    }
}

impl Lag {
    pub(crate) fn set(&self, shard: Shard, entries: u64, oldest_ms: i64) {
        let lag = &self.shards[usize::from(shard.number())];
        lag.entries.store(entries, Ordering::Relaxed);
        lag.oldest_ms.store(oldest_ms, Ordering::Relaxed);
    }

    pub(crate) fn clear(&self, shard: Shard) {
        self.set(shard, 0, 0);
    }

    /// Tells the metrics.
    pub(crate) fn tell(&self, metrics: &Metrics, now_ms: i64) {
        let entries: u64 = self.shards.iter().map(|lag| lag.entries.load(Ordering::Relaxed)).sum();
        metrics.log_lag_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        let oldest = self.shards.iter().map(|lag| lag.oldest_ms.load(Ordering::Relaxed));
        let age_ms = oldest.filter(|at| *at > 0).map(|at| (now_ms - at).max(0)).max().unwrap_or(0);
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
        metrics.log_lag_seconds.set(age.as_secs_f64());
    }
}
