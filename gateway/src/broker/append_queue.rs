//! Batches appends: one call in flight per shard, so that a sender's order holds and the cost is
//! shared.
//!
//! Whatever has to come before an append happens here: the shard's epoch, the lookup of ids that
//! may be late duplicates, the heads of rooms that the log does not know. What needs the database
//! waits [`aside`] and holds up nothing but what may not overtake it.
//! Every send is answered exactly once, at the latest at its deadline, and then with "unknown": it
//! may stand, and is to be offered again under the same id.
//!
//! What was accepted and is not persisted is retained. When the log's epoch rises, it has lost its
//! memory or its master: everything retained is offered again, same ids, in order, before anything
//! newer; what still stands answers that it does. Only an edit whose message is not there waits.

mod aside;
mod held_edits;
mod look;
mod calls;
mod job;
mod dedup;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use shared::contract::id::{MessageKey, Shard};
use shared::contract::limits::{
    APPEND_BATCH_MAX, APPEND_QUEUE_MAX, APPEND_TIMEOUT_MS, ID_LATE_MS, ID_MEMORY_MS,
};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::epoch::EpochError;
use shared::log::{Append, AppendStop, Appended, Epoch, Log, LogError, Past, Placement, Watermark};
use shared::process::backoff::Backoff;
use shared::process::byte_budget::ByteBudget;
use shared::process::clock::Clock;
use shared::process::error_chain::error_chain;
use shared::process::tasks::Tasks;
use shared::store::{Store, StoreError};
use shared::trouble;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info};

pub(crate) use self::dedup::heads;

use self::aside::{Answered, Aside, LookedUp, LookupResult, Needy};
use self::calls::Calls;
use self::held_edits::HeldEdits;
use self::job::{Job, affordable, expire, merge};
use super::epochs::Epochs;
use super::unpersisted::{self, Retention, Unpersisted};
use super::waiters::Waiter;
use crate::config::shares::MemoryShares;
use crate::metrics::Metrics;

/// Pauses between tries while something does not answer.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How long somebody waits for an answer while it is known that the log gives none.
const PATIENCE_WHEN_AWAY: Duration = Duration::from_millis(300);

/// How often a shard that retains something looks whether the log still holds its epoch, and
/// whether a watermark was missed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// For how long an id that the database did not know is not looked up again: the log remembers for
/// longer what is appended meanwhile.
const VOUCHED: Duration = Duration::from_secs(60);

/// When a refused sender should try again, in milliseconds.
const RETRY_AFTER_MS: u64 = 1000;

/// What the queue works with.
#[derive(Clone)]
pub(crate) struct Deps {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: Tasks,
    pub(crate) shares: MemoryShares,
}

/// The way into the log.
#[derive(Debug)]
pub(crate) struct AppendQueue {
    shards: Vec<ShardHandle>,
    /// Of what waits and what is retained.
    accepted: Arc<ByteBudget>,
}

#[derive(Debug)]
struct ShardHandle {
    jobs: mpsc::Sender<Job>,
    retention: Arc<Retention>,
}

/// What became of a send.
pub(crate) type Outcome = Result<Placement, Refusal>;

impl AppendQueue {
    /// Starts a task per shard; they end when the queue is dropped.
    pub(crate) fn start(parts: &Deps) -> AppendQueue {
        let calls = Calls::new(parts.shares.appending);
        let start = |shard| {
            let (sender, jobs) = mpsc::channel(APPEND_QUEUE_MAX);
            let retention = Arc::new(Retention::new(parts.shares.accepted_of_shard));
            let task = ShardQueue {
                shard,
                parts: parts.clone(),
                pauses: Backoff::new(PAUSE, PAUSE_MAX),
                retention: Arc::clone(&retention),
                calls: calls.clone(),
                held: HeldEdits::default(),
                aside: Aside::default(),
                first: 0,
                last: 0,
            };
            parts.tasks.spawn("append_queue", task.run(jobs));
            ShardHandle { jobs: sender, retention }
        };
        let accepted = ByteBudget::new(parts.shares.accepted);
        AppendQueue { shards: Shard::all().map(start).collect(), accepted }
    }

    /// Puts an entry in line; its answer comes later, in the order of the entries of a shard. Where
    /// that says that the database does not have it yet, `waiter` is told when it does.
    pub(crate) fn append(
        &self,
        append: Append,
        waiter: Option<Waiter>,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let (answer, outcome) = oneshot::channel();
        let shard = append.envelope.room.shard();
        let way = &self.shards[usize::from(shard.number())];
        if way.retention.is_full() {
            return Err(full());
        }
        let share = self.accepted.take(unpersisted::bytes(&append)).ok_or_else(full)?;
        let job = Job { waiter, ..Job::new(append, Some(answer), share) };
        match way.jobs.try_send(job) {
            Ok(()) => Ok(outcome),
            Err(mpsc::error::TrySendError::Full(_)) => Err(full()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(unavailable()),
        }
    }
}

impl AppendQueue {
    /// Lets go of what the database has, and tells those who wait for it.
    pub(crate) fn release(&self, watermark: &Watermark) {
        let retention = &self.shards[usize::from(watermark.shard.number())].retention;
        retention.release(watermark).tell();
    }

    /// Tells somebody when the database has what stands at this place.
    pub(crate) fn wait(&self, key: MessageKey, place: &Placement, waiter: Waiter) {
        self.shards[usize::from(key.room.shard().number())].retention.wait(key, place, waiter);
    }

    /// Bytes of those, and of what waits for the log.
    pub(crate) fn retained_bytes(&self) -> usize {
        self.accepted.used()
    }

    /// How many accepted entries are not known to be in the database.
    pub(crate) fn retained(&self) -> usize {
        self.shards.iter().map(|way| way.retention.len()).sum()
    }
}

fn full() -> Refusal {
    Refusal::new(RefusalCode::Backpressure, "more is waiting for the database than is allowed")
        .retry_after_ms(RETRY_AFTER_MS)
}

fn unavailable() -> Refusal {
    let text = "the outcome is not known; offer it again under the same id";
    Refusal::new(RefusalCode::Unavailable, text).retry_after_ms(RETRY_AFTER_MS)
}

/// Why a try did not come through.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the log has no room for what it had accepted")]
    Full,
    #[error("no answer within {APPEND_TIMEOUT_MS} ms")]
    Timeout,
}

struct ShardQueue {
    shard: Shard,
    parts: Deps,
    pauses: Backoff,
    retention: Arc<Retention>,
    calls: Calls,
    held: HeldEdits,
    aside: Aside,
    /// The place in line of the first job, and of the last: what is offered again goes before
    /// everything.
    first: i64,
    last: i64,
}

impl ShardQueue {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(APPEND_BATCH_MAX);
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut line = VecDeque::new();
            tokio::select! {
                count = jobs.recv_many(&mut batch, APPEND_BATCH_MAX) => {
                    if count == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|job| self.line_up(job, &mut line));
                }
                looked_up = self.aside.looked_up() => self.go_on(looked_up, &mut line),
                _ = looks.tick() => {
                    if !self.retention.is_idle() {
                        self.look().await;
                    }
                    if self.retention.len() == 0 && self.held.is_empty() && self.aside.is_empty() {
                        continue;
                    }
                }
            }
            self.settle(&mut jobs, line).await;
        }
    }

    fn line_up(&mut self, mut job: Job, line: &mut VecDeque<Job>) {
        self.last += 1;
        job.order = self.last;
        line.push_back(job);
    }

    /// Tries until every job is answered or waits aside, and everything retained was offered to the
    /// log's epoch.
    async fn settle(&mut self, more: &mut mpsc::Receiver<Job>, mut jobs: VecDeque<Job>) {
        loop {
            let deadline = Instant::now() + Duration::from_millis(APPEND_TIMEOUT_MS);
            let patience = self.patience();
            let deadline = jobs
                .iter()
                .find(|job| job.answer.is_some())
                .map_or(deadline, |job| job.began + patience);
            let tried = tokio::time::timeout_at(deadline, self.attempt(&mut jobs)).await;
            // However it ended: watermarks are remembered for as long as it is under way.
            self.retention.end_append().tell();
            match tried.unwrap_or(Err(TryError::Timeout)) {
                Ok(()) => self.pauses.reset(),
                Err(error) => {
                    trouble!(shard = %self.shard, error = error_chain(&error),
                        "append will be tried again");
                    tokio::time::sleep(self.pauses.next_delay()).await;
                }
            }
            let patience = self.patience();
            expire(&mut jobs, patience);
            self.held.expire(&self.parts.metrics);
            self.aside.expire(patience);
            if let Some(looked_up) = self.aside.looked_up().now_or_never() {
                self.go_on(looked_up, &mut jobs);
            }
            if jobs.is_empty() {
                return;
            }
            // What came in meanwhile waits here, where its time can run out.
            let fresh = jobs.iter().filter(|job| job.answer.is_some()).count();
            for _ in fresh..APPEND_QUEUE_MAX {
                let Ok(job) = more.try_recv() else { break };
                self.line_up(job, &mut jobs);
            }
        }
    }

    /// How long somebody waits for an answer.
    fn patience(&self) -> Duration {
        let away = self.parts.log.is_away();
        if away { PATIENCE_WHEN_AWAY } else { Duration::from_millis(APPEND_TIMEOUT_MS) }
    }

    /// One try; answers what it can and takes it out of `jobs`, or puts it aside.
    async fn attempt(&mut self, jobs: &mut VecDeque<Job>) -> Result<(), TryError> {
        let epoch = self.parts.epochs.get(self.shard).await?;
        self.offer_again(epoch.number, jobs);
        self.put_aside(epoch, jobs);
        let count = affordable(jobs.iter().take(APPEND_BATCH_MAX));
        let entries: Vec<Append> = jobs.iter().take(count).map(|job| job.append.clone()).collect();
        if entries.is_empty() {
            return Ok(());
        }
        let _copied = self.calls.turn(&entries).await;
        self.retention.begin_append();
        let answers =
            self.parts.log.append(self.shard, epoch.number, &entries, Past::Nothing).await?;
        for (mut job, done) in jobs.drain(..answers.done.len()).zip(answers.done) {
            self.retain(&mut job, &done, epoch.number);
            self.answer(job, outcome(done));
        }
        match answers.stop {
            None => {}
            Some(AppendStop::Stale) => self.parts.epochs.forget(self.shard, epoch.number),
            Some(AppendStop::Unhydrated) => {
                if let Some(job) = jobs.front() {
                    self.aside.find_cold(job.append.envelope.room.clone());
                }
            }
            Some(AppendStop::Full) => {
                // What was accepted before waits for room; it is not refused a second time.
                let (again, fresh): (Vec<Job>, Vec<Job>) =
                    std::mem::take(jobs).into_iter().partition(|job| job.answer.is_none());
                *jobs = again.into();
                for job in fresh {
                    self.answer(job, Err(full()));
                }
                if !jobs.is_empty() {
                    return Err(TryError::Full);
                }
            }
        }
        Ok(())
    }

    /// What the log accepted under an earlier epoch goes first, in its order: what waits aside came
    /// later, and is looked up anew behind it.
    fn offer_again(&mut self, epoch: u64, jobs: &mut VecDeque<Job>) {
        let lost = self.retention.take_below(epoch);
        if lost.is_empty() {
            return;
        }
        info!(shard = %self.shard, entries = lost.len(), epoch, "offering again");
        self.parts.metrics.offered_again_total.inc_by(lost.len() as u64);
        merge(jobs, self.aside.take_all());
        for Unpersisted { append, share, .. } in lost.into_iter().rev() {
            self.first -= 1;
            jobs.push_front(Job { order: self.first, ..Job::new(append, None, share) });
        }
    }

    /// Puts aside what of the next batch needs to be looked up, and what may not overtake it; and
    /// begins to look up.
    fn put_aside(&mut self, epoch: Epoch, jobs: &mut VecDeque<Job>) {
        let mut batch: Vec<Job> = Vec::new();
        let mut ahead = self.aside.ahead();
        while batch.len() < APPEND_BATCH_MAX
            && let Some(mut job) = jobs.pop_front()
        {
            if ahead.is_cold(&job) {
                (job.vouched, job.cleared) = (None, 0);
            }
            let message = self.is_doubtful(epoch, &job);
            let message = message.filter(|message| {
                let brought = batch.iter().any(|before| held_edits::brings(before, message));
                if brought {
                    job.cleared = epoch.number;
                }
                !brought
            });
            let late = self.is_late(epoch, &job);
            if message.is_none() && !late && !ahead.holds_up(&job) {
                batch.push(job);
                continue;
            }
            if job.answer.is_some() && self.aside.rests() {
                self.answer(job, Err(unavailable()));
                continue;
            }
            ahead.add(&job);
            self.aside.put(Needy { job, message, late });
        }
        batch.into_iter().rev().for_each(|job| jobs.push_front(job));
        let under = (self.shard, epoch.number, self.is_young(epoch));
        self.aside.look_up(under, &self.parts, &self.held);
    }

    /// Goes on with what was looked up, in front of what came later.
    fn go_on(&mut self, looked_up: LookedUp, jobs: &mut VecDeque<Job>) {
        let LookedUp { epoch, asked, answer } = looked_up;
        let mut ready = match answer {
            Answered::Found(found) => self.sort_out(epoch, asked, found),
            Answered::Failed => asked.into_iter().map(|needy| needy.job).collect(),
            Answered::Away => {
                // What was accepted before is not refused a second time.
                let jobs = asked.into_iter().map(|needy| needy.job);
                let (again, fresh): (Vec<Job>, Vec<Job>) =
                    jobs.partition(|job| job.answer.is_none());
                fresh.into_iter().for_each(|job| self.answer(job, Err(unavailable())));
                again
            }
        };
        // What waited behind them is looked at anew, and may go with them; each where it was: of
        // its sender's there may be earlier ones in the line.
        ready.extend(self.aside.take_waiting());
        merge(jobs, ready);
    }

    /// Which jobs may be appended now, with edits that were held back; others are answered or held.
    fn sort_out(&mut self, epoch: u64, asked: Vec<Needy>, found: LookupResult) -> Vec<Job> {
        let LookupResult { there, stored } = found;
        let mut ready = self.held.release(|message| there.contains(message));
        ready.iter_mut().for_each(|job| job.cleared = epoch);
        let mut waiting = Vec::new();
        for (Needy { mut job, message, late }, stands) in asked.into_iter().zip(stored) {
            job.vouched = late.then(|| (epoch, Instant::now())).or(job.vouched);
            // What was accepted before and contradicts the ledger is for the ledger to put aside.
            let stands =
                stands.filter(|stands| *stands != Appended::Conflict || job.answer.is_some());
            if let Some(stands) = stands {
                self.answer(job, outcome(stands));
            } else if message.as_ref().is_some_and(|message| !there.contains(message)) {
                waiting.push(job);
            } else {
                job.cleared = message.map_or(job.cleared, |_| epoch);
                ready.push(job);
            }
        }
        self.held.hold(waiting, &self.parts.metrics);
        ready
    }

    /// The message of an edit, where it may be gone. Where the log forgot nothing lately it is
    /// there: whoever accepted the edit has seen it.
    fn is_doubtful(&self, epoch: Epoch, job: &Job) -> Option<MessageKey> {
        let message = held_edits::message_of(job).filter(|_| job.cleared != epoch.number)?;
        let doubtful = job.answer.is_none() || self.is_young(epoch) || !self.held.is_empty();
        doubtful.then_some(message)
    }

    /// Whether the log may have lost, when the epoch was minted, what is offered now.
    fn is_young(&self, epoch: Epoch) -> bool {
        !epoch.quiet && self.parts.clock.now_ms() < epoch.minted_at.0 + ID_MEMORY_MS
    }

    /// Whether neither log nor epoch can vouch for its id, and the database was not asked lately.
    fn is_late(&self, epoch: Epoch, job: &Job) -> bool {
        if !dedup::is_looked_up(job.append.envelope.kind) {
            return false;
        }
        let made_at_ms = job.append.envelope.key().made_at_ms();
        let old = || made_at_ms.is_none_or(|at| at <= self.parts.clock.now_ms() - ID_LATE_MS);
        let is_vouched =
            job.vouched.is_some_and(|(under, at)| under == epoch.number && at.elapsed() < VOUCHED);
        !is_vouched && (self.is_young(epoch) || old())
    }

    fn retain(&self, job: &mut Job, done: &Appended, epoch: u64) {
        if let Appended::Placed(Placement { position, persisted: false, .. }) = done {
            let (append, share) = (job.append.clone(), job.share.take());
            let kept = Unpersisted { append, position: *position, epoch, share };
            self.retention.keep(kept, job.waiter.take());
        }
    }

    fn answer(&self, job: Job, outcome: Outcome) {
        let Some(answer) = job.answer else {
            // Nobody asked; but what was accepted once must not be refused in silence.
            let envelope = &job.append.envelope;
            match outcome {
                Ok(Placement { position, persisted: true, .. }) => {
                    self.retention.found(&unpersisted::key(envelope), position).tell();
                }
                Ok(_) => {}
                Err(refusal) => error!(room.id = %envelope.room, message.id = %envelope.id,
                    code = refusal.code.as_str(), "what was accepted is refused now"),
            }
            return;
        };
        let metrics = &self.parts.metrics;
        metrics.append_seconds.observe(job.began.elapsed().as_secs_f64());
        if outcome.as_ref().is_ok_and(|place| place.duplicate) {
            metrics.duplicates_total.inc();
        }
        // The sender may have left; what was done stands all the same.
        let _ = answer.send(outcome);
    }
}

fn outcome(answer: Appended) -> Outcome {
    match answer {
        Appended::Placed(place) => Ok(place),
        Appended::Conflict => {
            let text = "this id stands already, with other content";
            Err(Refusal::new(RefusalCode::Conflict, text).field("id"))
        }
        Appended::Rejected(refusal) => Err(refusal),
    }
}
