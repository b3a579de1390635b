//! What the loop works with, and what it leaves for others to read.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use shared::contract::id::Shard;
use shared::log::Log;
use shared::process::clock::Clock;
use shared::store::Store;

use crate::metrics::Metrics;
use crate::stats::Stats;

/// How the worker goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most entries in one transaction.
    pub batch_entries: usize,
    /// How long entries may gather before they are stored.
    pub batch_interval: Duration,
    /// The first pause after a failure.
    pub retry_delay: Duration,
    /// The longest pause after a failure; what was accepted is tried for ever.
    pub retry_delay_max: Duration,
}

/// What the loop works with.
#[derive(Clone)]
pub struct Parts {
    /// Where entries come from.
    pub log: Arc<dyn Log>,
    /// Where they go.
    pub store: Arc<dyn Store>,
    /// How.
    pub settings: Settings,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What `/stats` says.
    pub stats: Arc<Stats>,
    /// What time it is.
    pub clock: Clock,
    /// How old the oldest entry of each shard is.
    pub lag: Arc<Lag>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// When the oldest entry that is not in the database was accepted, by shard; 0 where none waits.
#[derive(Debug)]
pub struct Lag {
    oldest_ms: Vec<AtomicI64>,
}

impl Default for Lag {
    fn default() -> Lag {
        Lag { oldest_ms: Shard::all().map(|_| AtomicI64::new(0)).collect() }
    }
}

impl Lag {
    pub(crate) fn set(&self, shard: Shard, oldest_ms: i64) {
        self.oldest_ms[usize::from(shard.number())].store(oldest_ms, Ordering::Relaxed);
    }

    pub(crate) fn clear(&self, shard: Shard) {
        self.set(shard, 0);
    }

    /// The age of the oldest of all.
    #[must_use]
    pub fn age_ms(&self, now_ms: i64) -> i64 {
        let oldest = self.oldest_ms.iter().map(|at| at.load(Ordering::Relaxed));
        oldest.filter(|at| *at > 0).map(|at| (now_ms - at).max(0)).max().unwrap_or(0)
    }
}
