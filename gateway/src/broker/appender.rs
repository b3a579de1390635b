//! From single sends to batches: one call in flight per shard, so that a sender's order holds and
//! the cost is shared.
//!
//! Whatever has to come before an append happens here, for the batch as a whole: the shard's epoch,
//! the lookup of ids that may be late duplicates, the heads of rooms that the log does not know.
//! Every send is answered exactly once, at the latest at its deadline, and then with "unknown": it
//! may stand, and is to be offered again under the same id.
//!
//! What was accepted and is not persisted is retained. When the log's epoch rises, it has lost its
//! memory or its master: everything retained is offered again, same ids, in order, before anything
//! newer; what still stands answers that it does. Only an edit whose message is not there waits.

mod held;
mod lookup;
mod outage;

use std::sync::Arc;
use std::time::Duration;

use shared::contract::envelope::Envelope;
use shared::contract::id::{RoomId, Shard};
use shared::contract::limits::{
    APPEND_BATCH_BYTES_MAX, APPEND_BATCH_MAX, APPEND_QUEUE_MAX, APPEND_TIMEOUT_MS, ID_LATE_MS,
    ID_MEMORY_MS, REFUSAL_MEMORY_MS,
};
use shared::contract::position::Position;
use shared::contract::protocol::Durability;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::timestamp::Timestamp;
use shared::epoch::EpochError;
use shared::log::{Append, AppendStop, Hydration, Log, LogError, Watermark};
use shared::process::backoff::Backoff;
use shared::process::byte_budget::{ByteBudget, ByteShare};
use shared::process::clock::Clock;
use shared::process::tasks::Tasks;
use shared::store::{Epoch, Identity, Store, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info, warn};

pub(crate) use self::lookup::heads;

use self::held::Held;
use self::outage::Outage;
use super::epochs::Epochs;
use super::retained::{self, ACCEPTED_BYTES_MAX, Retained, Retention};
use super::{Answer, Broker, BrokerError, Place};
use crate::metrics::Metrics;

/// Pauses between tries while something does not answer.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How long somebody waits for an answer while it is known that the log gives none.
const PATIENCE_WHEN_AWAY: Duration = Duration::from_millis(300);

/// How often a shard that retains something looks whether the log still holds its epoch, and
/// whether a watermark was missed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// When a refused sender should try again, in milliseconds.
const RETRY_AFTER_MS: u64 = 1000;

/// What the appender works with.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: Tasks,
}

/// The way into the log.
#[derive(Debug)]
pub(crate) struct Appender {
    shards: Vec<ShardWay>,
    /// Of what waits and what is retained.
    accepted: Arc<ByteBudget>,
}

#[derive(Debug)]
struct ShardWay {
    jobs: mpsc::Sender<Job>,
    retention: Arc<Retention>,
}

/// What became of a send.
pub(crate) type Outcome = Result<Place, Refusal>;

#[derive(Debug)]
struct Job {
    append: Append,
    began: Instant,
    /// Who waits; nobody for what is offered again, which therefore never expires.
    answer: Option<oneshot::Sender<Outcome>>,
    /// The epoch under which the message of an edit was found.
    cleared: u64,
    /// What it costs to keep.
    share: ByteShare,
}

impl Appender {
    /// Starts a task per shard; they end when the appender is dropped.
    pub(crate) fn start(parts: &Parts) -> Appender {
        let start = |shard| {
            let (sender, jobs) = mpsc::channel(APPEND_QUEUE_MAX);
            let retention = Arc::new(Retention::default());
            let task = ShardAppender {
                shard,
                parts: parts.clone(),
                pauses: Backoff::new(PAUSE, PAUSE_MAX),
                retention: Arc::clone(&retention),
                held: Held::default(),
                outage: Outage::default(),
            };
            parts.tasks.spawn("appender", task.run(jobs));
            ShardWay { jobs: sender, retention }
        };
        let accepted = ByteBudget::new(ACCEPTED_BYTES_MAX);
        Appender { shards: Shard::all().map(start).collect(), accepted }
    }

    /// Puts an entry in line; its answer comes later, in the order of the entries of a shard.
    pub(crate) fn append(&self, append: Append) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        let (answer, outcome) = oneshot::channel();
        let shard = append.envelope.room.shard();
        let way = &self.shards[usize::from(shard.number())];
        if way.retention.is_full() {
            return Err(full());
        }
        let share = self.accepted.take(retained::bytes(&append)).ok_or_else(full)?;
        let job = Job { append, began: Instant::now(), answer: Some(answer), cleared: 0, share };
        match way.jobs.try_send(job) {
            Ok(()) => Ok(outcome),
            Err(mpsc::error::TrySendError::Full(_)) => Err(full()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(unavailable()),
        }
    }
}

impl Appender {
    /// Lets go of what the database has.
    pub(crate) fn release(&self, watermark: &Watermark) {
        self.shards[usize::from(watermark.shard.number())].retention.release(watermark);
    }

    /// How many accepted entries are not known to be in the database.
    pub(crate) fn retained(&self) -> usize {
        self.shards.iter().map(|way| way.retention.len()).sum()
    }
}

/// How many of these fit into one call; the first one always does.
fn affordable<'a>(jobs: impl Iterator<Item = &'a Job>) -> usize {
    let mut bytes = 0;
    let fits = |job: &&Job| {
        bytes += job.append.envelope.body.len();
        bytes <= APPEND_BATCH_BYTES_MAX
    };
    jobs.take_while(fits).count().max(1)
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
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the log has no room for what it had accepted")]
    Full,
    #[error("no answer within {APPEND_TIMEOUT_MS} ms")]
    Timeout,
    #[error("what was accepted waits for the database")]
    Away,
}

struct ShardAppender {
    shard: Shard,
    parts: Parts,
    pauses: Backoff,
    retention: Arc<Retention>,
    held: Held,
    outage: Outage,
}

impl ShardAppender {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(APPEND_BATCH_MAX);
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                count = jobs.recv_many(&mut batch, APPEND_BATCH_MAX) => {
                    if count == 0 {
                        return;
                    }
                    self.settle(&mut jobs, std::mem::take(&mut batch)).await;
                }
                _ = looks.tick() => {
                    if self.retention.len() > 0 {
                        self.look().await;
                    }
                    if self.retention.len() > 0 || !self.held.is_empty() {
                        self.settle(&mut jobs, Vec::new()).await;
                    }
                }
            }
        }
    }

    /// Asks the log for its epoch, and for what of the oldest retained it knows to be persisted.
    async fn look(&self) {
        let looked = async {
            let epoch = self.parts.epochs.verify(self.shard).await?.number;
            self.retention.release_log(epoch, self.parts.log.synced(self.shard).await?);
            for room in self.retention.rooms(epoch) {
                let page = self.parts.log.room(&room, epoch, Position::MAX, 0).await?;
                if let Some(page) = page {
                    self.retention.release_room(&room, epoch, page.persisted);
                }
            }
            Ok::<(), TryError>(())
        };
        if let Err(error) = looked.await {
            warn!(shard = %self.shard, error = ?error, "log does not say where it stands");
        }
    }

    /// Tries until every job is answered, and everything retained was offered to the log's epoch.
    async fn settle(&mut self, more: &mut mpsc::Receiver<Job>, mut jobs: Vec<Job>) {
        loop {
            let deadline = Instant::now() + Duration::from_millis(APPEND_TIMEOUT_MS);
            let patience = self.patience();
            let deadline = jobs
                .iter()
                .find(|job| job.answer.is_some())
                .map_or(deadline, |job| job.began + patience);
            let tried = tokio::time::timeout_at(deadline, self.attempt(&mut jobs)).await;
            match tried.unwrap_or(Err(TryError::Timeout)) {
                Ok(()) => self.pauses.reset(),
                Err(error) => {
                    warn!(shard = %self.shard, error = ?error, "append will be tried again");
                    tokio::time::sleep(self.pauses.next_delay()).await;
                }
            }
            expire(&mut jobs, self.patience());
            self.held.expire(&self.parts.metrics);
            if jobs.is_empty() {
                return;
            }
            // What came in meanwhile waits here, where its time can run out.
            while jobs.len() < APPEND_BATCH_MAX
                && let Ok(job) = more.try_recv()
            {
                jobs.push(job);
            }
        }
    }

    /// How long somebody waits for an answer.
    fn patience(&self) -> Duration {
        let away = self.parts.log.is_away();
        if away { PATIENCE_WHEN_AWAY } else { Duration::from_millis(APPEND_TIMEOUT_MS) }
    }

    /// One try; answers what it can and takes it out of `jobs`.
    async fn attempt(&mut self, jobs: &mut Vec<Job>) -> Result<(), TryError> {
        let epoch = self.parts.epochs.get(self.shard).await?;
        self.offer_again(epoch.number, jobs);
        self.hold_back(epoch, jobs).await?;
        self.answer_late_duplicates(epoch, jobs).await?;
        if jobs.is_empty() {
            return Ok(());
        }
        // Up to the first edit that was not looked at: what was before it has gone out of line.
        let looked_at = |job: &&Job| self.is_doubtful(epoch, job).is_none();
        let count = affordable(jobs.iter().take(APPEND_BATCH_MAX));
        let batch = jobs.iter().take(count).take_while(looked_at);
        let entries: Vec<Append> = batch.map(|job| job.append.clone()).collect();
        if entries.is_empty() {
            return Ok(());
        }
        let answers = self.parts.broker.append(self.shard, epoch.number, &entries).await?;
        for (mut job, done) in jobs.drain(..answers.done.len()).zip(answers.done) {
            self.retain(&mut job, &done, epoch.number);
            self.answer(job, outcome(done));
        }
        match answers.stop {
            None => {}
            Some(AppendStop::Stale) => self.parts.epochs.forget(self.shard, epoch.number),
            Some(AppendStop::Unhydrated) => self.hydrate(epoch, jobs).await?,
            Some(AppendStop::Full) => {
                // What was accepted before waits for room; it is not refused a second time.
                let (again, fresh) =
                    std::mem::take(jobs).into_iter().partition(|job| job.answer.is_none());
                *jobs = again;
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

    /// What the log accepted under an earlier epoch goes first, in its order.
    fn offer_again(&self, epoch: u64, jobs: &mut Vec<Job>) {
        let lost = self.retention.take_below(epoch);
        if lost.is_empty() {
            return;
        }
        info!(shard = %self.shard, entries = lost.len(), epoch, "offering again");
        self.parts.metrics.offered_again_total.inc_by(lost.len() as u64);
        let began = Instant::now();
        let again = lost.into_iter().map(|Retained { append, share, .. }| Job {
            append,
            began,
            answer: None,
            cleared: 0,
            share,
        });
        jobs.splice(0..0, again);
    }

    /// Lets an edit of the next batch pass only when its message is there, or goes before it.
    async fn hold_back(&mut self, epoch: Epoch, jobs: &mut Vec<Job>) -> Result<(), TryError> {
        let mut asked: Vec<(usize, Identity)> = Vec::new();
        for place in 0..jobs.len().min(APPEND_BATCH_MAX) {
            let Some(message) = self.is_doubtful(epoch, &jobs[place]) else { continue };
            if jobs[..place].iter().any(|job| held::brings(job, &message)) {
                jobs[place].cleared = epoch.number;
            } else {
                asked.push((place, message));
            }
        }
        let mut wanted: Vec<Identity> = asked.iter().map(|(_, message)| message.clone()).collect();
        wanted.extend(self.held.wanted(&wanted));
        if wanted.is_empty() {
            return Ok(());
        }
        let Parts { broker, store, .. } = &self.parts;
        let there = || lookup::there(&**broker, &**store, wanted.clone());
        let Some(there) = self.outage.ask(there).await? else {
            let places: Vec<usize> = asked.iter().map(|(place, _)| *place).collect();
            return outage::refuse(jobs, &places);
        };
        // From here on without an await: nothing is lost when this try is given up.
        let mut waiting = Vec::new();
        for (place, message) in asked.into_iter().rev() {
            if there.contains(&message) {
                jobs[place].cleared = epoch.number;
            } else {
                waiting.push(jobs.remove(place));
            }
        }
        waiting.reverse();
        let mut back = self.held.release(|message| there.contains(message));
        back.iter_mut().for_each(|job| job.cleared = epoch.number);
        jobs.splice(0..0, back);
        self.held.hold(waiting, &self.parts.metrics);
        Ok(())
    }

    /// The message of an edit, where it may be gone. Where the log forgot nothing lately it is
    /// there: whoever accepted the edit has seen it.
    fn is_doubtful(&self, epoch: Epoch, job: &Job) -> Option<Identity> {
        let message = held::message_of(job).filter(|_| job.cleared != epoch.number)?;
        let doubtful = job.answer.is_none() || self.is_young(epoch) || !self.held.is_empty();
        doubtful.then_some(message)
    }

    /// Whether the log may have lost, when the epoch was minted, what is offered now.
    fn is_young(&self, epoch: Epoch) -> bool {
        !epoch.quiet && self.parts.clock.now_ms() < epoch.minted_at.0 + ID_MEMORY_MS
    }

    fn retain(&self, job: &mut Job, done: &Answer, epoch: u64) {
        if let Answer::Placed(Place { position, persisted: false, .. }) = done {
            let (append, share) = (job.append.clone(), job.share.take());
            self.retention.keep(Retained { append, position: *position, epoch, share });
        }
    }

    /// Looks up, in one query, the ids that neither log nor epoch can vouch for.
    async fn answer_late_duplicates(
        &mut self,
        epoch: Epoch,
        jobs: &mut Vec<Job>,
    ) -> Result<(), TryError> {
        let now_ms = self.parts.clock.now_ms();
        let young = self.is_young(epoch);
        let late = |job: &Job| {
            let made_at_ms = job.append.envelope.key().made_at_ms();
            young || made_at_ms.is_none_or(|made_at| made_at <= now_ms - ID_LATE_MS)
        };
        let places: Vec<usize> = (0..jobs.len()).filter(|place| late(&jobs[*place])).collect();
        if places.is_empty() {
            return Ok(());
        }
        let asked: Vec<&Envelope> =
            places.iter().map(|place| &jobs[*place].append.envelope).collect();
        let store = &*self.parts.store;
        let Some(found) = self.outage.ask(|| lookup::stored(store, &asked)).await? else {
            return outage::refuse(jobs, &places);
        };
        // From the back, so that the places before stay what they are.
        for (place, position) in places.into_iter().zip(found).rev() {
            if let Some(position) = position {
                let durability = Durability::Store;
                let place_found = Place { position, duplicate: true, persisted: true, durability };
                self.answer(jobs.remove(place), Ok(place_found));
            }
        }
        Ok(())
    }

    async fn hydrate(&mut self, epoch: Epoch, jobs: &mut Vec<Job>) -> Result<(), TryError> {
        let placed = |job: &&Job| job.append.envelope.kind.is_placed();
        let rooms = jobs.iter().filter(placed).map(|job| job.append.envelope.room.clone());
        let mut rooms: Vec<RoomId> = rooms.collect();
        rooms.sort_unstable();
        rooms.dedup();
        let asked_at_ms = self.parts.log.now_ms().await?;
        let store = &*self.parts.store;
        let since = Timestamp(asked_at_ms - REFUSAL_MEMORY_MS);
        let heads = self.outage.ask(|| heads(store, &rooms, since)).await?;
        let Some((heads, refused)) = heads else {
            // The first is of the room that the log does not know; others may be of ones it knows.
            let room = jobs.first().map(|job| job.append.envelope.room.clone());
            let of_room = |place: &usize| Some(&jobs[*place].append.envelope.room) == room.as_ref();
            let places: Vec<usize> = (0..jobs.len()).filter(of_room).collect();
            return outage::refuse(jobs, &places);
        };
        let heads = rooms.into_iter().zip(heads).collect();
        let hydration = Hydration { shard: self.shard, asked_at_ms, heads, refused };
        Ok(self.parts.log.hydrate(epoch.number, &hydration).await?)
    }

    fn answer(&self, job: Job, outcome: Outcome) {
        let Some(answer) = job.answer else {
            // Nobody waits; but what was accepted once must not be refused in silence.
            if let Err(refusal) = outcome {
                let Envelope { room, id, .. } = &job.append.envelope;
                error!(room.id = %room, message.id = %id, code = ?refusal.code,
                    "what was accepted is refused now");
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

/// Answers those that have waited too long; what nobody waits for stays.
fn expire(jobs: &mut Vec<Job>, oldest: Duration) {
    let expired = |job: &mut Job| job.answer.is_some() && job.began.elapsed() >= oldest;
    for job in jobs.extract_if(.., expired) {
        if let Some(answer) = job.answer {
            // The sender may have left.
            let _ = answer.send(Err(unavailable()));
        }
    }
}

fn outcome(answer: Answer) -> Outcome {
    match answer {
        Answer::Placed(place) => Ok(place),
        Answer::Conflict => {
            let text = "this id stands already, with other content";
            Err(Refusal::new(RefusalCode::Conflict, text).field("id"))
        }
        Answer::Rejected(refusal) => Err(refusal),
    }
}
