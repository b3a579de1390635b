//! One shard's way into the database: read, commit, trim.

use std::collections::VecDeque;
use std::sync::Arc;

use shared::contract::id::Shard;
use shared::contract::limits::{DEAD_LETTERS_IN_A_ROW_MAX, LOG_KEPT_ENTRIES_MAX};
use shared::epoch::{self, EpochError};
use shared::log::{LogError, LogId};
use shared::process::backoff::Backoff;
use shared::process::error_chain::error_chain;
use shared::store::{Committed, Cursor, StoreError};
use tokio::time::Instant;
use tracing::{error, warn};

use crate::batch::Entries;
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

/// A batch that is persisted and still in the log.
#[derive(Debug)]
struct Kept {
    since: Instant,
    upto: LogId,
    entries: u64,
}

/// Where a shard stands, as its reader believes; the database compares it with every batch.
#[derive(Debug)]
pub(crate) struct ShardReader {
    shard: Shard,
    cursor: Option<Cursor>,
    /// Oldest first.
    kept: VecDeque<Kept>,
    kept_entries: u64,
    parts: Arc<Parts>,
    backoff: Backoff,
}

impl ShardReader {
    pub(crate) fn new(shard: Shard, parts: Arc<Parts>) -> ShardReader {
        let backoff = Backoff::new(parts.settings.retry_delay, parts.settings.retry_delay_max);
        ShardReader { shard, cursor: None, kept: VecDeque::new(), kept_entries: 0, parts, backoff }
    }

    pub(crate) fn shard(&self) -> Shard {
        self.shard
    }

    /// After which entry of the log it goes on.
    pub(crate) fn at(&self) -> LogId {
        self.cursor.map_or(LogId::ZERO, |cursor| cursor.upto)
    }

    /// Moves everything that is in the log now. Says whether the log is empty; if not, a try has
    /// failed and its pause is over.
    pub(crate) async fn empty(&mut self) -> bool {
        loop {
            match self.step().await {
                Ok(true) => {
                    self.backoff.reset();
                    self.parts.stats.recovered(self.shard);
                }
                Ok(false) => {
                    self.parts.stats.recovered(self.shard);
                    self.parts.lag.clear(self.shard);
                    return true;
                }
                Err(failure) => {
                    self.report(&failure);
                    tokio::time::sleep(self.backoff.next_delay()).await;
                    return false;
                }
            }
        }
    }

    fn report(&mut self, failure: &StepError) {
        // Whatever it was, what is believed of the shard may be wrong now.
        self.cursor = None;
        self.parts.metrics.retries_total.inc();
        let error = error_chain(failure);
        self.parts.stats.failed(self.shard, error.clone());
        match failure {
            StepError::AllRefused { .. } => {
                error!(shard = %self.shard, error, "shard stopped");
            }
            StepError::Log(_) | StepError::Store(_) | StepError::Epoch(_) => {
                warn!(shard = %self.shard, error, "batch will be tried again");
            }
        }
    }

    /// One batch; says whether there was one.
    async fn step(&mut self) -> Result<bool, StepError> {
        let cursor = match self.cursor {
            Some(cursor) => cursor,
            None => self.load().await?,
        };
        let parts = Arc::clone(&self.parts);
        let limit = parts.settings.batch_entries;
        let read = parts.log.read(self.shard, cursor.epoch, cursor.upto, limit).await?;
        let (began, count) = (Instant::now(), read.len());
        let Some(entries) = Entries::decode(self.shard, read) else { return Ok(false) };
        self.note_lag(&entries, count == limit).await?;
        let (entries, committed) = self.commit(entries, cursor).await?;
        self.count(&entries, &committed, began);
        self.cursor = Some(Cursor { upto: entries.upto(), epoch: cursor.epoch });
        let forget = self.keep(entries.upto(), count as u64);
        // Should this fail: the next owner's first trim covers it, and so does a later batch's.
        let watermark = entries.watermark(cursor.epoch, forget, committed.balances);
        parts.log.trim(&watermark).await?;
        Ok(true)
    }

    async fn load(&mut self) -> Result<Cursor, StepError> {
        let Parts { log, store, .. } = &*self.parts;
        let stored = store.cursor(self.shard).await?;
        let epoch = epoch::establish(self.shard, stored.epoch, &**log, &**store).await?;
        let cursor = Cursor { upto: stored.upto, epoch: epoch.number };
        self.kept.clear();
        self.kept_entries = 0;
        self.trim_what_is_stored(cursor).await?;
        self.cursor = Some(cursor);
        Ok(cursor)
    }

    /// Whoever had the shard before may have gone between its commit and its trim.
    async fn trim_what_is_stored(&mut self, cursor: Cursor) -> Result<(), StepError> {
        let parts = Arc::clone(&self.parts);
        let mut from = LogId::ZERO;
        loop {
            let limit = parts.settings.batch_entries;
            let mut read = parts.log.read(self.shard, cursor.epoch, from, limit).await?;
            read.retain(|entry| entry.id <= cursor.upto);
            let count = read.len();
            let Some(mut entries) = Entries::decode(self.shard, read) else { return Ok(()) };
            let dead = parts.store.dead_places(self.shard, from, entries.upto()).await?;
            entries.bury(&dead);
            from = entries.upto();
            let forget = self.keep(from, count as u64);
            // Balances that moved then are told when they move again, or are asked for.
            parts.log.trim(&entries.watermark(cursor.epoch, forget, Vec::new())).await?;
            if count < limit {
                return Ok(());
            }
        }
    }

    /// Remembers a batch as persisted and still in the log; gives the place up to which the log
    /// may forget: what is old enough, and what is too much.
    fn keep(&mut self, upto: LogId, entries: u64) -> LogId {
        self.kept.push_back(Kept { since: Instant::now(), upto, entries });
        self.kept_entries += entries;
        let mut forget = LogId::ZERO;
        while let Some(oldest) = self.kept.front() {
            let young = oldest.since.elapsed() < self.parts.settings.log_keep;
            if young && self.kept_entries <= LOG_KEPT_ENTRIES_MAX {
                break;
            }
            forget = oldest.upto;
            self.kept_entries -= oldest.entries;
            self.kept.pop_front();
        }
        forget
    }

    async fn note_lag(&self, entries: &Entries, full: bool) -> Result<(), StepError> {
        let waiting = match full {
            true => self.parts.log.len(self.shard).await?.saturating_sub(self.kept_entries),
            false => entries.len() as u64,
        };
        self.parts.lag.set(self.shard, waiting, entries.oldest_ms().unwrap_or(0));
        Ok(())
    }

    async fn commit(
        &self,
        mut entries: Entries,
        cursor: Cursor,
    ) -> Result<(Entries, Committed), StepError> {
        let Parts { store, metrics, lease, .. } = &*self.parts;
        let began = Instant::now();
        let committed = match store.commit(&entries.batch(cursor, lease.as_ref())).await {
            Err(StoreError::Data { .. }) => {
                let (failed, rows) = entries.bisect(&**store).await?;
                if failed == rows && rows > DEAD_LETTERS_IN_A_ROW_MAX {
                    metrics.shards_stopped_total.inc();
                    return Err(StepError::AllRefused { shard: self.shard, rows });
                }
                store.commit(&entries.batch(cursor, lease.as_ref())).await?
            }
            other => other?,
        };
        metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        Ok((entries, committed))
    }

    fn count(&self, entries: &Entries, committed: &Committed, began: Instant) {
        let Parts { metrics, stats, clock, .. } = &*self.parts;
        metrics.batches_total.inc();
        let messages = committed.inserted + committed.changed + committed.renamed;
        metrics.rows_total.inc_by(messages + committed.read + committed.credited);
        metrics.duplicates_total.inc_by(committed.duplicates);
        metrics.renamed_total.inc_by(committed.renamed);
        metrics.orphaned_total.inc_by(committed.orphaned);
        metrics.quarantined_total.inc_by(committed.quarantined);
        metrics.dead_letters_total.inc_by(entries.dead() as u64);
        stats.synced(entries.len() as u64, clock.now_ms(), began.elapsed());
    }
}
