//! The loop over all shards.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::contract::id::Shard;
use shared::log::LogId;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::batch::chain;
use crate::shard_reader::ShardReader;

pub use crate::parts::{Lag, Parts, Settings};

/// How often the lag is measured.
const LAG_INTERVAL: Duration = Duration::from_secs(1);

/// Moves every shard's log into the database until `stop`, then what is still in the log.
///
/// Never gives up on a database or a log that does not answer. After `stop` it returns when the
/// log is empty; the caller bounds that wait.
pub async fn run(parts: Parts, stop: CancellationToken) {
    let parts = Arc::new(parts);
    let mut readers = Readers::new(&parts);
    let mut measure = tokio::time::interval(LAG_INTERVAL);
    measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let idle = readers.idle_at();
        tokio::select! {
            () = stop.cancelled() => break,
            () = readers.finished() => {}
            _ = measure.tick() => measure_lag(&parts).await,
            ready = parts.log.wait(&idle) => match ready {
                // A little later there is more to take along in the same transaction.
                Ok(ready) if !ready.is_empty() => {
                    tokio::time::sleep(parts.settings.batch_interval).await;
                    readers.start(&ready);
                }
                Ok(_) => {}
                Err(error) => {
                    warn!(error = chain(&error), "log does not answer");
                    tokio::time::sleep(parts.settings.retry_delay).await;
                }
            },
        }
    }
    readers.drain(&parts).await;
    measure_lag(&parts).await;
}

async fn measure_lag(parts: &Parts) {
    if let Ok(entries) = parts.log.backlog().await {
        parts.metrics.log_lag_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }
    let age_ms = u64::try_from(parts.lag.age_ms(parts.clock.now_ms())).unwrap_or(0);
    parts.metrics.log_lag_seconds.set(Duration::from_millis(age_ms).as_secs_f64());
}

/// A reader per shard: waiting for entries, or at work.
struct Readers {
    idle: HashMap<Shard, ShardReader>,
    busy: JoinSet<ShardReader>,
}

impl Readers {
    fn new(parts: &Arc<Parts>) -> Readers {
        let reader = |shard| (shard, ShardReader::new(shard, Arc::clone(parts)));
        Readers { idle: Shard::all().map(reader).collect(), busy: JoinSet::new() }
    }

    fn idle_at(&self) -> Vec<(Shard, LogId)> {
        self.idle.values().map(|reader| (reader.shard(), reader.at())).collect()
    }

    fn start(&mut self, shards: &[Shard]) {
        for shard in shards {
            if let Some(mut reader) = self.idle.remove(shard) {
                self.busy.spawn(async move {
                    reader.empty().await;
                    reader
                });
            }
        }
    }

    /// Waits for one that is at work; for ever when none is.
    async fn finished(&mut self) {
        match self.busy.join_next().await {
            Some(Ok(reader)) => {
                self.idle.insert(reader.shard(), reader);
            }
            // A panic is a bug; the process goes down loudly instead of leaving a shard behind.
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => std::future::pending().await,
        }
    }

    async fn drain(&mut self, parts: &Parts) {
        loop {
            while !self.busy.is_empty() {
                self.finished().await;
            }
            match parts.log.backlog().await {
                Ok(0) => return,
                Ok(_) | Err(_) => self.start(&self.idle.keys().copied().collect::<Vec<_>>()),
            }
        }
    }
}
