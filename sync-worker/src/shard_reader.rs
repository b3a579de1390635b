//! One shard's way into the database: read, commit, trim.

use std::sync::Arc;

use shared::contract::id::Shard;
use shared::contract::limits::DEAD_LETTERS_IN_A_ROW_MAX;
use shared::epoch::{self, EpochError};
use shared::log::{LogEntry, LogError, LogId};
use shared::process::backoff::Backoff;
use shared::store::{Committed, Cursor, StoreError};
use tokio::time::Instant;
use tracing::{error, warn};

use crate::batch::{Entries, chain};
use crate::parts::Parts;

/// Why a step did not come through; every one of them is tried again.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error("all {rows} rows of a batch were refused; shard {shard} waits for someone to look")]
    AllRefused { shard: Shard, rows: usize },
}

/// Where a shard stands, as its reader believes; the database compares it with every batch.
#[derive(Debug)]
pub(crate) struct ShardReader {
    shard: Shard,
    cursor: Option<Cursor>,
    parts: Arc<Parts>,
    backoff: Backoff,
}

impl ShardReader {
    pub(crate) fn new(shard: Shard, parts: Arc<Parts>) -> ShardReader {
        let backoff = Backoff::new(parts.settings.retry_delay, parts.settings.retry_delay_max);
        ShardReader { shard, cursor: None, parts, backoff }
    }

    pub(crate) fn shard(&self) -> Shard {
        self.shard
    }

    /// After which entry of the log it goes on.
    pub(crate) fn at(&self) -> LogId {
        self.cursor.map_or(LogId::ZERO, |cursor| cursor.upto)
    }

    /// Moves everything that is in the log now; comes back when the log is empty, or after a
    /// failed try and its pause.
    pub(crate) async fn empty(&mut self) {
        loop {
            match self.step().await {
                Ok(true) => self.backoff.reset(),
                Ok(false) => {
                    self.parts.lag.clear(self.shard);
                    return;
                }
                Err(failure) => {
                    self.report(&failure);
                    tokio::time::sleep(self.backoff.next_delay()).await;
                    return;
                }
            }
        }
    }

    fn report(&mut self, failure: &StepError) {
        // Whatever it was, what is believed of the shard may be wrong now.
        self.cursor = None;
        self.parts.metrics.retries_total.inc();
        self.parts.stats.failed(chain(failure));
        match failure {
            StepError::AllRefused { .. } => {
                error!(shard = %self.shard, error = chain(failure), "shard stopped");
            }
            StepError::Log(_) | StepError::Store(_) | StepError::Epoch(_) => {
                warn!(shard = %self.shard, error = chain(failure), "batch will be tried again");
            }
        }
    }

    /// One batch; says whether there was one.
    async fn step(&mut self) -> Result<bool, StepError> {
        let cursor = match self.cursor {
            Some(cursor) => cursor,
            None => self.load().await?,
        };
        let log = &self.parts.log;
        let limit = self.parts.settings.batch_entries;
        let read = log.read(self.shard, cursor.epoch, cursor.upto, limit).await?;
        let began = Instant::now();
        let Some(entries) = self.decode(read) else { return Ok(false) };
        let (entries, committed) = self.commit(entries, cursor).await?;
        let watermark = entries.watermark();
        self.cursor = Some(Cursor { upto: watermark.upto, epoch: cursor.epoch });
        self.count(&entries, committed, began);
        // Lost trims are made up for: a later one covers them, and so does the next owner's first.
        log.trim(cursor.epoch, &watermark).await?;
        Ok(true)
    }

    async fn load(&mut self) -> Result<Cursor, StepError> {
        let Parts { log, store, .. } = &*self.parts;
        let stored = store.cursor(self.shard).await?;
        let epoch = epoch::establish(self.shard, stored.epoch, &**log, &**store).await?;
        let cursor = Cursor { upto: stored.upto, epoch: epoch.number };
        self.cursor = Some(cursor);
        Ok(cursor)
    }

    fn decode(&self, read: Vec<LogEntry>) -> Option<Entries> {
        let entries = Entries::decode(self.shard, read)?;
        if let Some(oldest_ms) = entries.oldest_ms() {
            self.parts.lag.set(self.shard, oldest_ms);
        }
        Some(entries)
    }

    async fn commit(
        &self,
        mut entries: Entries,
        cursor: Cursor,
    ) -> Result<(Entries, Committed), StepError> {
        let Parts { store, metrics, .. } = &*self.parts;
        let began = Instant::now();
        let first = store.commit(&entries.batch(cursor.epoch, cursor.upto)).await;
        let committed = match first {
            Err(StoreError::Data { .. }) => {
                let (failed, rows) = entries.bisect(&**store).await?;
                if failed == rows && rows > DEAD_LETTERS_IN_A_ROW_MAX {
                    metrics.shards_stopped_total.inc();
                    return Err(StepError::AllRefused { shard: self.shard, rows });
                }
                store.commit(&entries.batch(cursor.epoch, cursor.upto)).await?
            }
            other => other?,
        };
        metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        Ok((entries, committed))
    }

    fn count(&self, entries: &Entries, committed: Committed, began: Instant) {
        let Parts { metrics, stats, clock, .. } = &*self.parts;
        metrics.batches_total.inc();
        metrics.rows_total.inc_by(committed.inserted + committed.changed + committed.renamed);
        metrics.duplicates_total.inc_by(committed.duplicates);
        metrics.renamed_total.inc_by(committed.renamed);
        metrics.dead_letters_total.inc_by(entries.dead() as u64);
        stats.synced(entries.len() as u64, clock.now_ms(), began.elapsed());
    }
}
