//! Where a shard stands, and what it does apart from the rounds: it finds out where it is, and
//! looks for what is at fault in it, step by step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::adding::{self, AddError};
use shared::contract::envelope::Envelope;
use shared::contract::id::{Shard, UserId};
use shared::contract::limits::{
    BATCH_ENTRY_BYTES, BATCH_MS, DEAD_LETTERS_IN_A_ROW_MAX, LOG_KEPT_LATE_MS,
};
use shared::contract::timestamp::Timestamp;
use shared::epoch::{self, EpochError};
use shared::log::{Append, LogEntry, LogError, LogId, PageLimit, Past, Watermark};
use shared::process::backoff::Backoff;
use shared::process::error_chain::error_chain;
use shared::store::{Committed, Cursor, Store, StoreError};
use shared::trouble;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, error};

use crate::batch::Entries;
use crate::deps::Deps;
use crate::kept::Kept;
use crate::refusing;

/// Refusals that are told when a shard is taken; more than any gap between a commit and its telling
/// leaves.
const UNTOLD_ROWS: u32 = 1000;

/// From hearing that the epoch is another to asking which: as long as whoever claimed it may take
/// to have it minted and armed.
const EPOCH_PAUSE: Duration = Duration::from_secs(1);

/// Why a step did not come through; every one of them is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error("entry {0} was written by a later version, which has to store it")]
    Later(LogId),
    #[error("what was refused cannot be told")]
    Add(#[from] AddError),
    #[error("all {rows} rows of a batch were refused; shard {shard} waits for someone to look")]
    AllRefused { shard: Shard, rows: usize },
}

/// Where a shard stands, as its reader believes; the database compares it with every batch.
#[derive(Debug)]
pub(crate) struct ShardReader {
    shard: Shard,
    cursor: Option<Cursor>,
    /// Up to where the log knows what is persisted, and under which epoch it was told. A failure
    /// does not forget it, nor what is kept: both are what frees the log.
    told: Cursor,
    kept: Kept,
    /// Something in it is at fault or odd: it gets a transaction of its own.
    doubtful: bool,
    /// What that may have.
    batch_bytes: usize,
    /// Entries in a row that were given up although each passed for itself.
    given_up: usize,
    /// The log has little memory left.
    short: Arc<AtomicBool>,
    /// Of those who read what is stored already.
    turns: Arc<Semaphore>,
    parts: Arc<Deps>,
    backoff: Backoff,
    /// The last thing that it did was to fail: how long it waits then at least.
    failed: Option<Duration>,
}

impl ShardReader {
    pub(crate) fn new(
        shard: Shard,
        parts: Arc<Deps>,
        (short, turns): (Arc<AtomicBool>, Arc<Semaphore>),
    ) -> ShardReader {
        let backoff = Backoff::new(parts.settings.retry_delay, parts.settings.retry_delay_max);
        ShardReader {
            shard,
            cursor: None,
            told: Cursor { upto: LogId::ZERO, epoch: 0 },
            kept: Kept::default(),
            doubtful: false,
            batch_bytes: parts.settings.batch_bytes,
            given_up: 0,
            short,
            turns,
            parts,
            backoff,
            failed: None,
        }
    }

    pub(crate) fn shard(&self) -> Shard {
        self.shard
    }

    /// After which entry of the log, and under which epoch, it goes on in rounds; `None` where it
    /// must settle first.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.cursor.filter(|_| !self.doubtful)
    }

    /// A round has got it so far.
    pub(crate) fn moved(&mut self, cursor: Cursor) {
        self.cursor = Some(cursor);
    }

    /// Its part was refused, or is none of a round's: it is looked at more closely.
    pub(crate) fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// A round did not get it further: where it stands is found out anew.
    pub(crate) fn fail(&mut self, failure: impl Into<StepError>) {
        self.report(&failure.into());
    }

    /// Whether the log keeps what is old enough and should have gone with some later batch.
    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue() > LogId::ZERO
    }

    /// Finds out where it stands, or has a batch of its own if it is doubtful; after a failure only
    /// when some time has passed, in which whoever changes the epoch gets done. Where it fails, it
    /// has to settle still.
    pub(crate) async fn settle(&mut self) {
        if let Some(pause) = self.failed.take() {
            tokio::time::sleep(self.backoff.next_delay().max(pause)).await;
        }
        let tried = match self.doubtful {
            true => self.step().await,
            false => self.load().await.map(drop),
        };
        match tried {
            Ok(()) => {
                self.doubtful = false;
                self.backoff.reset();
                // What is left, if anything, the next round reads, and says so.
                self.parts.lag.clear(self.shard);
                self.parts.stats.recovered(self.shard);
            }
            Err(failure) => self.report(&failure),
        }
    }

    fn report(&mut self, failure: &StepError) {
        // Whatever it was, what is believed of the shard may be wrong now.
        let is_stale = matches!(failure, StepError::Log(LogError::Stale { .. }));
        self.cursor = None;
        self.failed = Some(if is_stale { EPOCH_PAUSE } else { Duration::ZERO });
        self.parts.metrics.retries_total.inc();
        let error = error_chain(failure);
        if self.parts.log.is_away() {
            // That is nobody's fault here, and is said already.
            self.parts.stats.recovered(self.shard);
            return debug!(shard = %self.shard, error, "the log is away");
        }
        let now_ms = self.parts.clock.now_ms();
        self.parts.stats.failed(self.shard, error.clone(), now_ms);
        match failure {
            StepError::AllRefused { .. } => {
                error!(shard = %self.shard, error, "shard stopped");
            }
            StepError::Log(_)
            | StepError::Store(_)
            | StepError::Epoch(_)
            | StepError::Later(_)
            | StepError::Add(_) => {
                trouble!(shard = %self.shard, error, "batch will be tried again");
            }
        }
    }

    /// One batch, if there is one.
    async fn step(&mut self) -> Result<(), StepError> {
        // Before anything that may fail: it goes by the clock, whatever is new or away.
        self.forget_overdue().await?;
        let cursor = match self.cursor {
            Some(cursor) => cursor,
            None => self.load().await?,
        };
        let parts = Arc::clone(&self.parts);
        let limit = parts.settings.batch_entries;
        let most = parts.settings.page();
        let mut read = parts.log.read(self.shard, cursor.epoch, cursor.upto, most).await?;
        let whole = read.len();
        if let Some(later) = read.iter().position(|entry| Envelope::is_later(&entry.raw)) {
            if later == 0 {
                return Err(StepError::Later(read[0].id));
            }
            read.truncate(later);
        }
        let beyond = read.split_off(affordable(&read, self.batch_bytes).min(whole));
        let (began, full) = (Instant::now(), read.len() < whole || whole == limit);
        let Some(all) = Entries::decode(self.shard, read.clone()) else {
            return Ok(());
        };
        self.note_lag(&all, full).await?;
        let (entries, committed) = match self.commit(&mut read, beyond, cursor).await {
            Ok(done) => done,
            Err(failure) => {
                // Whatever it was, the next try is another one. Where all were refused, one that is
                // not is looked for, among more.
                self.batch_bytes = match failure {
                    StepError::AllRefused { .. } => self.parts.settings.batch_bytes,
                    StepError::Log(_)
                    | StepError::Store(_)
                    | StepError::Epoch(_)
                    | StepError::Later(_)
                    | StepError::Add(_) => half(cost(&read)),
                };
                return Err(failure);
            }
        };
        self.adapt(began.elapsed());
        self.count(&entries, &committed, began);
        self.cursor = Some(Cursor { upto: entries.upto(), epoch: cursor.epoch });
        // Before the watermark, which says that the rooms are in the database beyond it; should it
        // fail, the next reading of the cursor makes up for it.
        self.tell_refused(&entries.refusals(Timestamp(self.parts.clock.now_ms()))).await?;
        // Should this fail: the cursor is read anew, and what is behind `told` is told again; by
        // the next owner, should this one go.
        self.trim(&entries, read.len() as u64, cursor.epoch, &committed.balances).await?;
        Ok(())
    }

    /// What the next batch may have, after one that took so long.
    fn adapt(&mut self, took: Duration) {
        let aim = Duration::from_millis(BATCH_MS);
        if took > aim {
            self.batch_bytes = half(self.batch_bytes);
        } else if took < aim / 2 {
            self.batch_bytes = (self.batch_bytes * 2).min(self.parts.settings.batch_bytes);
        }
    }

    /// Has rooms say what was refused, each once as long as the log remembers it. Nobody sees what
    /// is not stored yet where the log dies with its process.
    async fn tell_refused(&self, refusals: &[Append]) -> Result<(), StepError> {
        let Deps { log, store, lease, .. } = &*self.parts;
        if lease.is_some() && !refusals.is_empty() {
            adding::add(self.shard, refusals, Past::Caps, (&**log, &**store)).await?;
        }
        Ok(())
    }

    async fn load(&mut self) -> Result<Cursor, StepError> {
        let parts = Arc::clone(&self.parts);
        let Deps { log, store, .. } = &*parts;
        let stored = store.cursor(self.shard).await?;
        let epoch = epoch::establish(self.shard, stored.epoch, &**log, &**store).await?;
        let cursor = Cursor { upto: stored.upto, epoch: epoch.number };
        if self.told.epoch != cursor.epoch || self.told.upto > cursor.upto {
            // Another log, or a database that failed over and forgot: looked at from its beginning.
            self.kept = Kept::default();
            self.told = Cursor { upto: LogId::ZERO, epoch: cursor.epoch };
        }
        if parts.lease.is_some() {
            let now = Timestamp(parts.clock.now_ms());
            let untold = parts.store.untold(self.shard, UNTOLD_ROWS).await?;
            let untold: Vec<Append> =
                untold.iter().filter_map(|letter| refusing::refusal(letter, now)).collect();
            self.tell_refused(&untold).await?;
        }
        self.trim_what_is_stored(cursor).await?;
        self.look_for_a_gap(cursor).await?;
        self.cursor = Some(cursor);
        Ok(cursor)
    }

    /// A database that was set back by more than the log keeps lacks what lies between, and nobody
    /// has it any more: the shard goes on, and somebody has to look.
    async fn look_for_a_gap(&self, cursor: Cursor) -> Result<(), StepError> {
        let Deps { log, .. } = &*self.parts;
        let told = log.synced(self.shard).await?;
        if told <= cursor.upto {
            return Ok(());
        }
        let most = PageLimit::entries(1);
        let first = log.read(self.shard, cursor.epoch, cursor.upto, most).await?;
        let next = LogId { n: cursor.upto.n + 1, ..cursor.upto };
        if first.first().is_none_or(|first| first.id != next && first.id.n > 0) {
            let (lost_after, lost_upto) = (cursor.upto.to_string(), told.to_string());
            let text = "the database lacks what it had, and the log has forgotten it";
            error!(shard = %self.shard, lost_after, lost_upto, "{text}");
            self.parts.metrics.log_gaps_total.inc();
            let (stats, now_ms) = (&self.parts.stats, self.parts.clock.now_ms());
            stats.failed(self.shard, format!("{text}: {lost_after} to {lost_upto}"), now_ms);
        }
        Ok(())
    }

    /// Whoever had the shard before may have gone between its commit and its trim.
    async fn trim_what_is_stored(&mut self, cursor: Cursor) -> Result<(), StepError> {
        let (parts, turns) = (Arc::clone(&self.parts), Arc::clone(&self.turns));
        loop {
            // Whoever takes over many shards has not a page of each of them at a time.
            let _turn = turns.acquire().await;
            let from = self.told.upto;
            let most = parts.settings.page();
            if from >= cursor.upto {
                return Ok(());
            }
            let mut read = parts.log.read(self.shard, cursor.epoch, from, most).await?;
            read.retain(|entry| entry.id <= cursor.upto);
            let count = read.len();
            let Some(mut entries) = Entries::decode(self.shard, read) else { return Ok(()) };
            let dead = parts.store.dead_places(self.shard, from, entries.upto()).await?;
            entries.mark_dead(&dead);
            // Balances that moved then are told when they move again, or are asked for.
            self.trim(&entries, count as u64, cursor.epoch, &[]).await?;
        }
    }

    /// Tells the log what of it is persisted, and what it may forget of that.
    async fn trim(
        &mut self,
        entries: &Entries,
        count: u64,
        epoch: u64,
        balances: &[(UserId, i64)],
    ) -> Result<(), LogError> {
        let watermark = self.watermark(entries, count, epoch, balances);
        let trimmed = self.parts.log.trim(&watermark).await;
        self.told(&watermark, trimmed.is_ok());
        trimmed
    }

    /// What the log is to be told of a batch: that it is persisted, and what may be forgotten of
    /// what is, because it is old enough or too much. Whether it was told is for
    /// [`ShardReader::told`], before the next one.
    pub(crate) fn watermark(
        &mut self,
        entries: &Entries,
        count: u64,
        epoch: u64,
        balances: &[(UserId, i64)],
    ) -> Watermark {
        self.kept.push(entries.upto(), count, entries.bytes() as u64);
        entries.watermark(epoch, self.kept.forgettable(self.keep()), balances)
    }

    pub(crate) fn told(&mut self, watermark: &Watermark, is_told: bool) {
        if is_told {
            self.told = Cursor { upto: watermark.upto, epoch: watermark.epoch };
            self.kept.forget(watermark.forget);
        } else {
            self.kept.take_back();
        }
    }

    /// For how long the log keeps what is persisted.
    fn keep(&self) -> Duration {
        let short = self.short.load(Ordering::Relaxed);
        if short { Duration::ZERO } else { self.parts.settings.log_keep }
    }

    fn overdue(&self) -> LogId {
        self.kept.forgettable(self.keep() + Duration::from_millis(LOG_KEPT_LATE_MS))
    }

    /// Has the log forget what is old enough, whether anybody writes or not.
    pub(crate) async fn forget_overdue(&mut self) -> Result<(), LogError> {
        let upto = self.overdue();
        if upto > LogId::ZERO {
            self.parts.log.forget(self.shard, self.told.epoch, upto).await?;
            self.kept.forget(upto);
        }
        Ok(())
    }

    async fn note_lag(&self, entries: &Entries, full: bool) -> Result<(), StepError> {
        let waiting = match full {
            true => self.parts.log.len(self.shard).await?.saturating_sub(self.kept.entries()),
            false => entries.len() as u64,
        };
        self.parts.lag.set(self.shard, waiting, entries.oldest_ms().unwrap_or(0));
        Ok(())
    }

    /// Commits what was read, or, where that is refused although each row of it passes for itself,
    /// the first half, as often as it takes: what is left of `read` is what was committed. An entry
    /// that is refused alone is given up.
    async fn commit(
        &mut self,
        read: &mut Vec<LogEntry>,
        mut beyond: Vec<LogEntry>,
        cursor: Cursor,
    ) -> Result<(Entries, Committed), StepError> {
        let Deps { store, metrics, lease, .. } = &*self.parts;
        let began = Instant::now();
        loop {
            let Some(mut entries) = Entries::decode(self.shard, read.clone()) else {
                unreachable!("something was read, and a half of it is something")
            };
            let committed = match self.commit_sound(&mut entries, &beyond, cursor).await {
                Err(StepError::Store(StoreError::Data { .. })) if read.len() > 1 => {
                    beyond.splice(0..0, read.split_off(read.len() / 2));
                    self.batch_bytes = cost(read);
                    continue;
                }
                Err(StepError::Store(error @ StoreError::Data { .. })) => {
                    if self.given_up >= DEAD_LETTERS_IN_A_ROW_MAX {
                        metrics.shards_stopped_total.inc();
                        let rows = self.given_up + 1;
                        return Err(StepError::AllRefused { shard: self.shard, rows });
                    }
                    entries.give_up(&error);
                    let committed = store.commit(&entries.batch(cursor, lease.as_ref())).await?;
                    self.given_up += 1;
                    committed
                }
                done => {
                    let committed = done?;
                    self.given_up = 0;
                    committed
                }
            };
            metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
            entries.observe_persisted(&metrics.persist_seconds, self.parts.clock.now_ms());
            return Ok((entries, committed));
        }
    }

    /// Commits the entries without those that are refused alone while others pass, these here or
    /// some beyond them.
    async fn commit_sound(
        &self,
        entries: &mut Entries,
        beyond: &[LogEntry],
        cursor: Cursor,
    ) -> Result<Committed, StepError> {
        let Deps { store, metrics, lease, .. } = &*self.parts;
        match store.commit(&entries.batch(cursor, lease.as_ref())).await {
            Err(StoreError::Data { .. }) => {}
            other => return Ok(other?),
        }
        let (failed, rows) = entries.bisect(&**store).await?;
        let beyond = Entries::decode(self.shard, beyond.to_vec());
        if failed == rows
            && rows > DEAD_LETTERS_IN_A_ROW_MAX
            && !passes(beyond.as_ref(), &**store).await?
        {
            metrics.shards_stopped_total.inc();
            return Err(StepError::AllRefused { shard: self.shard, rows });
        }
        Ok(store.commit(&entries.batch(cursor, lease.as_ref())).await?)
    }

    fn count(&self, entries: &Entries, committed: &Committed, began: Instant) {
        let Deps { metrics, stats, clock, .. } = &*self.parts;
        metrics.count(committed);
        metrics.dead_letters_total.inc_by(entries.dead() as u64);
        stats.synced(entries.len() as u64, clock.now_ms(), began.elapsed());
    }
}

/// What entries take of a batch.
fn cost(read: &[LogEntry]) -> usize {
    read.iter().map(|entry| entry.raw.len() + BATCH_ENTRY_BYTES).sum()
}

/// Half of a batch, down to a single entry.
fn half(bytes: usize) -> usize {
    (bytes / 2).max(BATCH_ENTRY_BYTES)
}

/// How many of these fit into a batch of so many bytes; the first one always does.
fn affordable(read: &[LogEntry], bytes: usize) -> usize {
    let mut cost = 0;
    let fits = |entry: &&LogEntry| {
        cost += entry.raw.len() + BATCH_ENTRY_BYTES;
        cost <= bytes
    };
    read.iter().take_while(fits).count().max(1)
}

/// Whether the database takes any of these.
async fn passes(entries: Option<&Entries>, store: &dyn Store) -> Result<bool, StoreError> {
    match entries {
        Some(entries) => entries.passes(store).await,
        None => Ok(false),
    }
}
