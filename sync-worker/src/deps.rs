//! Dependencies of the loop.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::limits::LOG_READ_BYTES_MAX;
use shared::log::{Log, PageLimit};
use shared::process::clock::Clock;
use shared::process::tasks::Tasks;
use shared::store::{Lease, Store};

use crate::lag::Lag;
use crate::metrics::Metrics;
use crate::stats::Stats;

/// How the worker goes about it.
#[derive(Clone, Copy, Debug)]
pub struct LoopSettings {
    /// Most entries in one transaction.
    pub batch_entries: usize,
    /// Bytes of one transaction at most; an entry counts for a kibibyte besides.
    pub batch_bytes: usize,
    /// From the beginning of a transaction to that of the next, at least, unless more waits than
    /// one can take.
    pub batch_interval: Duration,
    /// The same where much comes in.
    pub batch_interval_max: Duration,
    /// The first pause after a failure.
    pub retry_delay: Duration,
    /// The longest pause after a failure; what was accepted is tried for ever.
    pub retry_delay_max: Duration,
    /// How long the log keeps what is persisted, for a database that fails over and forgets.
    pub log_keep: Duration,
    /// How long messages stay in the database; `None` for ever.
    pub retention: Option<Duration>,
}

impl LoopSettings {
    /// What of a shard is read at a time.
    pub(crate) fn page(&self) -> PageLimit {
        let bytes = self.batch_bytes.min(LOG_READ_BYTES_MAX);
        PageLimit { entries: self.batch_entries, bytes }
    }
}

/// What the loop works with.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Where entries come from.
    pub log: Arc<dyn Log>,
    /// Where they go.
    pub store: Arc<dyn Store>,
    /// How.
    pub settings: LoopSettings,
    /// Under which name this worker takes shards among others; alone it has them all.
    pub lease: Option<Lease>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What `/stats` says.
    pub stats: Arc<Stats>,
    /// What time it is.
    pub clock: Clock,
    /// What is not in the database yet.
    pub lag: Arc<Lag>,
    /// What is not to end before the loop does.
    pub tasks: Tasks,
}
