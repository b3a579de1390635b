//! The loop over the shards that this worker has leased: round after round.
//!
//! While a round is committed, what the one before has stored is told to the log, and where more
//! waits than a round takes, the next one is read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use shared::contract::id::{Shard, UserId};
use shared::contract::limits::{BATCH_ENTRY_BYTES, BATCH_MS};
use shared::log::{Log, LogError, LogId, PageLimit, Waiting, Watermark};
use shared::process::backoff::Backoff;
use shared::process::error_chain::error_chain;
use shared::store::{Cursor, StoreError};
use shared::trouble;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::additions;
use crate::pace::Pace;
use crate::retention;
use crate::round::{self, Outcome, Part, Round};
use crate::shard_reader::ShardReader;

pub use crate::deps::{Deps, LoopSettings};
pub use crate::lag::Lag;

/// How often the lag is told.
const LAG_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked what the log keeps for too long.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);
/// Shards of which what is stored already is read at a time.
const TURNS: usize = 4;
/// Longest pause after the log did not answer.
const LOG_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long the last look waits for entries.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// Moves this worker's shards into the database until `stop`.
///
/// Never gives up on a database or a log that does not answer. After `stop` it finishes the
/// batches at work, and alone, where the log dies with the process, everything that is in the log;
/// the caller bounds that wait.
pub async fn run(parts: Deps, stop: CancellationToken) {
    let parts = Arc::new(parts);
    let mut shards = Shards::new(Arc::clone(&parts));
    let first = Arc::clone(&shards.first);
    let expiring =
        parts.tasks.spawn("expiry", retention::run(Arc::clone(&parts), first, stop.clone()));
    let adding = parts.tasks.spawn(
        "additions",
        additions::run(Arc::clone(&parts), Arc::clone(&shards.first), stop.clone()),
    );
    let telling = parts.tasks.spawn("lag_figures", tell_lag(Arc::clone(&parts), stop.clone()));
    while !stop.is_cancelled() {
        let next_tick = shards.tick().await;
        let (places, pause) = (shards.places(), shards.pause());
        let ready = tokio::select! {
            () = stop.cancelled() => break,
            () = shards.settled() => continue,
            ready = gather(&*parts.log, &places, pause, next_tick) => ready,
        };
        match ready {
            Ok(ready) if ready.is_empty() => {}
            Ok(ready) => shards.run_rounds(&ready, next_tick, &stop).await,
            Err(error) => {
                trouble!(error = error_chain(&error), "log does not answer");
                shards.rest_until = Instant::now() + shards.backoff.next_delay().min(LOG_PAUSE_MAX);
            }
        }
    }
    shards.end().await;
    // It ends at once; a panic in it was reported when it happened.
    let _ = expiring.await;
    let _ = adding.await;
    let _ = telling.await;
    parts.lag.tell(&parts.metrics, parts.clock.now_ms());
}

/// Tells the metrics how far behind the database is, whatever a round waits for.
async fn tell_lag(parts: Arc<Deps>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        parts.lag.tell(&parts.metrics, parts.clock.now_ms());
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LAG_INTERVAL) => {}
        }
    }
}

/// Waits until a round may begin and has something, but no longer than `until`.
async fn gather(
    log: &dyn Log,
    places: &[(Shard, LogId)],
    pause: Duration,
    until: Instant,
) -> Result<Vec<Waiting>, LogError> {
    let began = Instant::now();
    tokio::time::sleep_until((began + pause).min(until)).await;
    if began + pause > until {
        return Ok(Vec::new());
    }
    log.wait(places, until.saturating_duration_since(Instant::now())).await
}

/// The shards of this worker: those that go in rounds, and those that have to settle first.
struct Shards {
    parts: Arc<Deps>,
    owned: HashSet<Shard>,
    /// Whether the first shard is among them.
    first: Arc<AtomicBool>,
    /// The log has little memory left.
    short: Arc<AtomicBool>,
    /// Of the readers, where they look at what is stored already.
    turns: Arc<Semaphore>,
    readers: HashMap<Shard, ShardReader>,
    settling: JoinSet<ShardReader>,
    pace: Pace,
    /// Of a round that failed as a whole, and when the next one may begin after it.
    backoff: Backoff,
    rest_until: Instant,
    /// What the next round may have.
    round_bytes: usize,
    /// Counts the parts of all rounds: where not every shard has its turn, it says whose it is.
    turn: usize,
    forget_at: Instant,
    renew_at: Instant,
}

/// What was committed and is not told yet.
#[derive(Debug, Default)]
struct Untold {
    parts: Vec<Part>,
    balances: Vec<(UserId, i64)>,
}

impl Shards {
    fn new(parts: Arc<Deps>) -> Shards {
        let settings = &parts.settings;
        let (now, pace) =
            (Instant::now(), Pace::new(settings.batch_interval, settings.batch_interval_max));
        let batch_bytes = settings.batch_bytes;
        let mut shards = Shards {
            pace,
            backoff: Backoff::new(settings.retry_delay, settings.retry_delay_max),
            rest_until: now,
            parts,
            owned: HashSet::new(),
            first: Arc::default(),
            short: Arc::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
            readers: HashMap::new(),
            settling: JoinSet::new(),
            round_bytes: batch_bytes,
            turn: 0,
            forget_at: now,
            renew_at: now,
        };
        if shards.parts.lease.is_none() {
            shards.own(Shard::all().collect());
        }
        shards
    }

    /// How long until a round may begin.
    fn pause(&self) -> Duration {
        self.pace.pause().max(self.rest_until.saturating_duration_since(Instant::now()))
    }

    /// Does what goes by the clock, between two rounds: whoever gives up a shard has none of its
    /// rows locked. Says when it is due again.
    async fn tick(&mut self) -> Instant {
        let now = Instant::now();
        if now >= self.renew_at {
            // Three tries within a lease. Alone there is nothing to renew.
            let interval = self.parts.lease.as_ref().map(|lease| lease.ms / 3);
            self.renew_at = now + interval.map_or(FORGET_INTERVAL, Duration::from_millis);
            self.renew().await;
        }
        if now >= self.forget_at {
            self.forget_at = now + FORGET_INTERVAL;
            self.forget_overdue().await;
        }
        self.renew_at.min(self.forget_at)
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
        self.readers.retain(|shard, _| owned.contains(shard));
        for shard in owned.difference(&self.owned) {
            // One that is still settling from before is dropped when it comes back; the two would
            // only fence each other.
            let shared = (Arc::clone(&self.short), Arc::clone(&self.turns));
            let reader = ShardReader::new(*shard, Arc::clone(&self.parts), shared);
            self.readers.insert(*shard, reader);
        }
        let first = Shard::all().next().is_some_and(|first| owned.contains(&first));
        self.first.store(first, Ordering::Relaxed);
        self.owned = owned;
    }

    /// Has the log forget what is old enough, or at once where it has little memory left, whether
    /// anybody writes or not.
    async fn forget_overdue(&mut self) {
        match self.parts.log.is_short().await {
            Ok(short) => {
                if self.short.swap(short, Ordering::Relaxed) != short {
                    warn!(short, "the log's memory is nearly used up, or is not any more");
                }
            }
            // Whoever needs the log says so.
            Err(error) => debug!(error = error_chain(&error), "log does not tell its memory"),
        }
        let overdue = self.readers.values_mut().filter(|reader| reader.is_overdue());
        join_all(overdue.map(|reader| async {
            if let Err(error) = reader.forget_overdue().await {
                reader.fail(error);
            }
        }))
        .await;
    }

    /// Where those stand that go in rounds.
    fn cursors(&self) -> HashMap<Shard, Cursor> {
        let sound = self.readers.iter();
        sound.filter_map(|(&shard, reader)| Some((shard, reader.cursor()?))).collect()
    }

    /// As [`Shards::cursors`], for the log; the others begin to settle.
    fn places(&mut self) -> Vec<(Shard, LogId)> {
        for (_, mut reader) in self.readers.extract_if(|_, reader| reader.cursor().is_none()) {
            self.settling.spawn(async move {
                reader.settle().await;
                reader
            });
        }
        self.cursors().into_iter().map(|(shard, cursor)| (shard, cursor.upto)).collect()
    }

    /// Waits for one that settles; for ever when none does.
    async fn settled(&mut self) {
        match self.settling.join_next().await {
            Some(Ok(reader)) => {
                let shard = reader.shard();
                if self.owned.contains(&shard) {
                    self.readers.entry(shard).or_insert(reader);
                } else {
                    self.parts.lag.clear(shard);
                }
            }
            // A panic is a bug; the process goes down loudly instead of leaving a shard behind.
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => std::future::pending().await,
        }
    }

    /// Moves what waits, round after round as long as more waits than one takes, until `until`.
    async fn run_rounds(&mut self, ready: &[Waiting], until: Instant, stop: &CancellationToken) {
        let parts = Arc::clone(&self.parts);
        let mut untold = Untold::default();
        let mut next = Some(self.read(ready, &self.cursors()).await);
        while let Some(mut round) = next.take() {
            self.leave_out(&mut round);
            self.pace.begin(round.entries);
            let began = Instant::now();
            let goes_on = round.full && began < until && !stop.is_cancelled();
            let after = self.cursors_after(&round.parts);
            let watermarks = self.watermarks(&untold);
            let (outcome, (told, ahead)) = join(round::commit(&parts, &mut round.parts), async {
                let told = tell(&*parts.log, &watermarks).await;
                let ahead = match goes_on {
                    true => self.read_ahead(&after).await,
                    false => None,
                };
                (told, ahead)
            })
            .await;
            let (shards, entries) = (round.parts.len(), round.entries);
            debug!(shards, entries, bytes = round.bytes, took = ?began.elapsed(), "round");
            self.adapt(&round, began.elapsed(), outcome.failure.is_some());
            self.note_told(&watermarks, told);
            next = ahead.filter(|_| outcome.failure.is_none());
            untold = self.note_outcome(round, outcome);
        }
        let watermarks = self.watermarks(&untold);
        let told = tell(&*parts.log, &watermarks).await;
        self.note_told(&watermarks, told);
    }

    /// Reads a round of what these shards have.
    async fn read(&self, ready: &[Waiting], from: &HashMap<Shard, Cursor>) -> Round {
        // Large entries: not every shard has its turn in each round, but each has.
        let mut ready = ready.to_vec();
        let mut most = round::affordable(&ready, self.round_bytes);
        if most < ready.len() {
            let turn = self.turn % ready.len();
            ready.rotate_left(turn);
            most = round::affordable(&ready, self.round_bytes);
        }
        let limit =
            PageLimit { entries: self.parts.settings.batch_entries, bytes: self.round_bytes };
        let mut round =
            round::read(&self.parts, &ready[..most.min(ready.len())], from, limit).await;
        round.full |= most < ready.len();
        round
    }

    /// The round after one that is at work, if there is anything for it.
    async fn read_ahead(&self, from: &HashMap<Shard, Cursor>) -> Option<Round> {
        let places: Vec<(Shard, LogId)> =
            from.iter().map(|(&shard, cursor)| (shard, cursor.upto)).collect();
        let ready = self.parts.log.wait(&places, Duration::ZERO).await;
        // Should it not answer, whoever waits for it next says so.
        let ready = ready.ok().filter(|ready| !ready.is_empty())?;
        Some(self.read(&ready, from).await)
    }

    /// Where the shards stand once this is committed.
    fn cursors_after(&self, round: &[Part]) -> HashMap<Shard, Cursor> {
        let mut cursors = self.cursors();
        cursors.extend(round.iter().map(|part| (part.shard, part.upto())));
        cursors
    }

    /// Takes out what cannot go with the others, and what was read from where its shard does not
    /// stand after all.
    fn leave_out(&mut self, round: &mut Round) {
        for (shard, error) in round.unread.drain(..) {
            self.with(shard, |reader| reader.fail(error));
        }
        for shard in round.odd.drain(..) {
            self.with(shard, ShardReader::doubt);
        }
        let cursors = self.cursors();
        round.parts.retain(|part| cursors.get(&part.shard) == Some(&part.from));
    }

    fn with(&mut self, shard: Shard, act: impl FnOnce(&mut ShardReader)) {
        if let Some(reader) = self.readers.get_mut(&shard) {
            act(reader);
        }
    }

    /// What the next round may have, after one that took so long.
    fn adapt(&mut self, round: &Round, took: Duration, failed: bool) {
        let aim = Duration::from_millis(BATCH_MS);
        if failed || took > aim {
            self.round_bytes = (self.round_bytes / 2).max(BATCH_ENTRY_BYTES);
        } else if took < aim / 2 {
            self.round_bytes = (self.round_bytes * 2).min(self.parts.settings.batch_bytes);
        }
        self.turn = self.turn.wrapping_add(round.parts.len());
    }

    /// Takes down what came of a round; gives what is to be told.
    fn note_outcome(&mut self, round: Round, outcome: Outcome) -> Untold {
        let Outcome { fenced, refused, failure, done, balances } = outcome;
        for shard in fenced {
            self.with(shard, |reader| reader.fail(StoreError::Fenced { shard }));
        }
        for shard in refused {
            self.with(shard, ShardReader::doubt);
        }
        match failure {
            Some(error) => {
                let (error, now_ms) = (error_chain(&error), self.parts.clock.now_ms());
                trouble!(error, "round will be tried again");
                self.parts.metrics.retries_total.inc();
                self.rest_until = Instant::now() + self.backoff.next_delay();
                for part in round.parts.iter().filter(|part| !done.contains(&part.shard)) {
                    self.parts.stats.failed(part.shard, error.clone(), now_ms);
                }
            }
            None => self.backoff.reset(),
        }
        let mut parts = round.parts;
        parts.retain(|part| done.contains(&part.shard));
        for part in &parts {
            // Not where the one before could not be told: it is told first, and this with it.
            self.with(part.shard, |reader| {
                if reader.cursor() == Some(part.from) {
                    reader.moved(part.upto());
                }
            });
        }
        let cursors = self.cursors();
        parts.retain(|part| cursors.get(&part.shard) == Some(&part.upto()));
        Untold { parts, balances }
    }

    fn watermarks(&mut self, untold: &Untold) -> Vec<Watermark> {
        let watermark = |part: &Part| {
            let reader = self.readers.get_mut(&part.shard)?;
            Some(reader.watermark(&part.entries, part.count, part.from.epoch, &untold.balances))
        };
        untold.parts.iter().filter_map(watermark).collect()
    }

    fn note_told(&mut self, watermarks: &[Watermark], told: Vec<Result<(), LogError>>) {
        for (watermark, told) in watermarks.iter().zip(told) {
            self.with(watermark.shard, |reader| {
                reader.told(watermark, told.is_ok());
                // The cursor is read anew, and what is behind is told again; by the next owner,
                // should this one go.
                if let Err(error) = told {
                    reader.fail(error);
                }
            });
        }
    }

    async fn end(&mut self) {
        let parts = Arc::clone(&self.parts);
        if let Some(lease) = &parts.lease {
            while !self.settling.is_empty() {
                self.settled().await;
            }
            if let Err(error) = parts.store.release(&lease.owner).await {
                trouble!(error = error_chain(&error), "lease is left to lapse");
            }
            return;
        }
        let stop = CancellationToken::new();
        loop {
            let places = self.places();
            if !self.settling.is_empty() {
                self.settled().await;
                continue;
            }
            tokio::time::sleep_until(self.rest_until).await;
            let Ok(ready) = parts.log.wait(&places, LAST_LOOK).await else { continue };
            if ready.is_empty() {
                return;
            }
            self.run_rounds(&ready, Instant::now() + FORGET_INTERVAL, &stop).await;
        }
    }
}

/// Tells the log what is persisted, all of it at once.
async fn tell(log: &dyn Log, watermarks: &[Watermark]) -> Vec<Result<(), LogError>> {
    join_all(watermarks.iter().map(|watermark| log.trim(watermark))).await
}
