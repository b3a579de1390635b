//! The loop over the shards that this worker has leased.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::contract::id::Shard;
use shared::log::LogId;
use shared::process::error_chain::error_chain;
use shared::trouble;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::additions;
use crate::retention;
use crate::shard_reader::ShardReader;

pub use crate::deps::{Deps, LoopSettings};
pub use crate::lag::Lag;

/// How often the lag is told.
const LAG_INTERVAL: Duration = Duration::from_secs(1);

/// Moves this worker's shards into the database until `stop`.
///
/// Never gives up on a database or a log that does not answer. After `stop` it finishes the
/// batches at work, and alone, where the log dies with the process, everything that is in the log;
/// the caller bounds that wait.
pub async fn run(parts: Deps, stop: CancellationToken) {
    let parts = Arc::new(parts);
    let mut readers = Readers::new(Arc::clone(&parts));
    let first = Arc::clone(&readers.first);
    let expiring =
        parts.tasks.spawn("expiry", retention::run(Arc::clone(&parts), first, stop.clone()));
    let adding = parts.tasks.spawn(
        "additions",
        additions::run(Arc::clone(&parts), Arc::clone(&readers.first), stop.clone()),
    );
    let mut measure = tokio::time::interval(LAG_INTERVAL);
    measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renew = tokio::time::interval(renewal(&parts));
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let idle = readers.idle_at();
        tokio::select! {
            () = stop.cancelled() => break,
            _ = renew.tick() => readers.renew().await,
            () = readers.finished() => {}
            _ = measure.tick() => {
                parts.lag.tell(&parts.metrics, parts.clock.now_ms());
                readers.start_overdue().await;
            }
            ready = parts.log.wait(&idle) => match ready {
                // A little later there is more to take along in the same transaction.
                Ok(ready) if !ready.is_empty() => {
                    tokio::time::sleep(parts.settings.batch_interval).await;
                    readers.start(&ready);
                }
                Ok(_) => {}
                Err(error) => {
                    trouble!(error = error_chain(&error), "log does not answer");
                    tokio::time::sleep(parts.settings.retry_delay_max.min(LAG_INTERVAL)).await;
                }
            },
        }
    }
    readers.end().await;
    // It ends at once; a panic in it was reported when it happened.
    let _ = expiring.await;
    let _ = adding.await;
    parts.lag.tell(&parts.metrics, parts.clock.now_ms());
}

fn renewal(parts: &Deps) -> Duration {
    // Three tries within a lease. Alone there is nothing to renew.
    parts.lease.as_ref().map_or(LAG_INTERVAL, |lease| Duration::from_millis(lease.ms / 3))
}

/// A reader per shard: waiting for entries, or at work.
struct Readers {
    parts: Arc<Deps>,
    owned: HashSet<Shard>,
    /// Whether the first shard is among them.
    first: Arc<AtomicBool>,
    /// The log has little memory left.
    short: Arc<AtomicBool>,
    idle: HashMap<Shard, ShardReader>,
    busy: JoinSet<(ShardReader, bool)>,
}

impl Readers {
    fn new(parts: Arc<Deps>) -> Readers {
        let mut readers = Readers {
            parts,
            owned: HashSet::new(),
            first: Arc::default(),
            short: Arc::default(),
            idle: HashMap::new(),
            busy: JoinSet::new(),
        };
        if readers.parts.lease.is_none() {
            readers.own(Shard::all().collect());
        }
        readers
    }

    /// Asks the database which shards are this worker's now. While it does not answer, those it
    /// had remain: safety rests on the cursor.
    async fn renew(&mut self) {
        let Some(lease) = &self.parts.lease else { return };
        match self.parts.store.lease(lease).await {
            Ok(shards) => self.own(shards),
            Err(error) => trouble!(error = error_chain(&error), "lease cannot be renewed"),
        }
    }

    fn own(&mut self, shards: Vec<Shard>) {
        let owned: HashSet<Shard> = shards.into_iter().collect();
        // Alone it has them all, which is nothing to tell.
        if owned != self.owned && self.parts.lease.is_some() {
            info!(shards = owned.len(), "shards of this worker changed");
        }
        for gone in self.owned.difference(&owned) {
            self.parts.lag.clear(*gone);
            self.parts.stats.recovered(*gone);
        }
        self.idle.retain(|shard, _| owned.contains(shard));
        for shard in owned.difference(&self.owned) {
            // One that is still at work on it from before comes back by itself; the two would
            // only fence each other.
            let (parts, short) = (Arc::clone(&self.parts), Arc::clone(&self.short));
            let reader = ShardReader::new(*shard, parts, short);
            self.idle.insert(*shard, reader);
        }
        let first = Shard::all().next().is_some_and(|first| owned.contains(&first));
        self.first.store(first, Ordering::Relaxed);
        self.owned = owned;
    }

    fn idle_at(&self) -> Vec<(Shard, LogId)> {
        self.idle.values().map(|reader| (reader.shard(), reader.at())).collect()
    }

    /// What goes by the clock: what is persisted leaves the log when it is old enough, or at once
    /// where the log has little memory left, whether anybody writes or not.
    async fn start_overdue(&mut self) {
        match self.parts.log.is_short().await {
            Ok(short) => {
                if self.short.swap(short, Ordering::Relaxed) != short {
                    warn!(short, "the log's memory is nearly used up, or is not any more");
                }
            }
            // Whoever needs the log says so.
            Err(error) => debug!(error = error_chain(&error), "log does not tell its memory"),
        }
        let overdue = self.idle.values().filter(|reader| reader.is_overdue());
        let overdue: Vec<Shard> = overdue.map(ShardReader::shard).collect();
        self.start(&overdue);
    }

    fn start(&mut self, shards: &[Shard]) {
        for shard in shards {
            if let Some(mut reader) = self.idle.remove(shard) {
                self.busy.spawn(async move {
                    let empty = reader.empty().await;
                    (reader, empty)
                });
            }
        }
    }

    /// Waits for one that is at work; for ever when none is.
    async fn finished(&mut self) {
        match self.busy.join_next().await {
            Some(Ok((reader, _))) => {
                if self.owned.contains(&reader.shard()) {
                    self.idle.insert(reader.shard(), reader);
                }
            }
            // A panic is a bug; the process goes down loudly instead of leaving a shard behind.
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => std::future::pending().await,
        }
    }

    async fn end(&mut self) {
        while !self.busy.is_empty() {
            self.finished().await;
        }
        if let Some(lease) = &self.parts.lease {
            if let Err(error) = self.parts.store.release(&lease.owner).await {
                trouble!(error = error_chain(&error), "lease is left to lapse");
            }
            return;
        }
        let mut left: Vec<Shard> = self.idle.keys().copied().collect();
        while !left.is_empty() {
            self.start(&left);
            left.clear();
            while let Some(ended) = self.busy.join_next().await {
                match ended {
                    Ok((_, true)) => {}
                    Ok((reader, false)) => {
                        left.push(reader.shard());
                        self.idle.insert(reader.shard(), reader);
                    }
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            }
        }
    }
}
