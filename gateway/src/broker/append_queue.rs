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

mod shard;
mod aside;
mod held_edits;
pub(crate) mod journaling;
mod calls;
mod job;
mod dedup;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::contract::id::{MessageId, MessageKey, Shard};
use shared::contract::limits::{APPEND_QUEUE_MAX, APPEND_TIMEOUT_MS};
use shared::contract::position::Position;
use shared::contract::protocol::{ChangeReply, Durability, SendReply};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::epoch::EpochError;
use shared::log::{Append, Appended, Log, LogError, Placement, Watermark};
use shared::process::byte_budget::ByteBudget;
use shared::process::clock::Clock;
use shared::process::tasks::Tasks;
use shared::store::sqlite::journal::{Journal, JournalError};
use shared::store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::dedup::heads;

use self::calls::Calls;
use self::job::Job;
use self::journaling::{NodeJournal, RefusedEntry, settle_rows};
use self::shard::ShardQueue;
use super::epochs::Epochs;
use super::unpersisted::{self, Retention, RowFates};
use super::waiters::Waiter;
use crate::config::shares::MemoryShares;
use crate::metrics::Metrics;

/// Pauses between tries while something does not answer.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How long somebody waits for an answer while it is known that the log gives none.
const PATIENCE_WHEN_AWAY: Duration = Duration::from_millis(300);

/// How long what is fresh waits behind errors of the log, or behind what is offered again, before
/// it goes into the journal; whoever sent it is answered within a second.
const JOURNAL_PATIENCE: Duration = Duration::from_millis(700);

/// How often a shard that retains something looks whether the log still holds its epoch, and
/// whether a watermark was missed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// For how long an id that the database did not know is not looked up again: the log remembers for
/// longer what is appended meanwhile.
const VOUCHED: Duration = Duration::from_secs(60);

/// What may wait to be told to rooms of what the log refused of the journal's; more is only logged.
const REFUSED_MAX: usize = 1024;

/// When a refused sender should try again, in milliseconds.
const RETRY_AFTER_MS: u64 = 1000;

/// What the queue works with.
pub(crate) struct Starting {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: Tasks,
    pub(crate) shares: MemoryShares,
}

/// What the queue of each shard works with.
#[derive(Clone)]
struct Deps {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    epochs: Arc<Epochs>,
    clock: Clock,
    metrics: Arc<Metrics>,
    shares: MemoryShares,
    /// Where there is one.
    journal: Option<NodeJournal>,
    /// Told of what was accepted into the journal and is refused after all.
    refused: mpsc::Sender<RefusedEntry>,
}

/// The way into the log.
#[derive(Debug)]
pub(crate) struct AppendQueue {
    shards: Vec<ShardHandle>,
    /// Of what waits and what is retained.
    accepted: Arc<ByteBudget>,
    journal: Option<NodeJournal>,
    log: Arc<dyn Log>,
}

#[derive(Debug)]
struct ShardHandle {
    jobs: mpsc::Sender<Job>,
    retention: Arc<Retention>,
}

/// What became of a send.
pub(crate) type Outcome = Result<Accepted, Refusal>;

/// Where what was accepted stands.
#[derive(Clone, Debug)]
pub(crate) enum Accepted {
    /// In the log, or in the database.
    Placed(Placement),
    /// In this node's journal, without a place.
    Journaled {
        /// It stood there already.
        duplicate: bool,
        /// What its room's members here may be shown.
        body: Bytes,
    },
}

impl Accepted {
    /// What the sender of a message is told.
    pub(crate) fn of_message(&self, id: MessageId) -> SendReply {
        let (position, duplicate) = (self.position(), self.is_duplicate());
        let (persisted, durability) = (self.is_persisted(), self.durability());
        SendReply { id, position, duplicate, persisted, durability }
    }

    /// What the sender of an edit or a delete is told.
    pub(crate) fn of_change(&self, change_id: MessageId) -> ChangeReply {
        let (position, duplicate) = (self.position(), self.is_duplicate());
        let (persisted, durability) = (self.is_persisted(), self.only_journaled());
        ChangeReply { change_id, position, duplicate, persisted, durability }
    }

    /// Whether it stood there already.
    pub(crate) fn is_duplicate(&self) -> bool {
        match self {
            Accepted::Placed(place) => place.duplicate,
            Accepted::Journaled { duplicate, .. } => *duplicate,
        }
    }

    /// What replies say that name no durability but this one.
    pub(crate) fn only_journaled(&self) -> Option<Durability> {
        matches!(self, Accepted::Journaled { .. }).then_some(Durability::Journal)
    }

    fn position(&self) -> Option<Position> {
        match self {
            Accepted::Placed(place) => Some(place.position),
            Accepted::Journaled { .. } => None,
        }
    }

    fn is_persisted(&self) -> bool {
        matches!(self, Accepted::Placed(Placement { persisted: true, .. }))
    }

    fn durability(&self) -> Durability {
        match self {
            Accepted::Placed(place) => place.durability(),
            Accepted::Journaled { .. } => Durability::Journal,
        }
    }
}

impl AppendQueue {
    /// Starts a task per shard; they end when the queue is dropped. With a journal, what it has is
    /// offered to the log first.
    pub(crate) fn start(
        parts: Starting,
        journal: Option<(Arc<Journal>, bool)>,
    ) -> (AppendQueue, mpsc::Receiver<RefusedEntry>) {
        let fates = Arc::new(RowFates::default());
        let (refused, refusals) = mpsc::channel(REFUSED_MAX);
        let Starting { log, store, epochs, clock, metrics, tasks, shares } = parts;
        let journal = journal.map(|(journal, always)| {
            tasks.spawn("journal", settle_rows(Arc::clone(&journal), Arc::clone(&fates)));
            let turns = Calls::new(shares.appending);
            NodeJournal::new(journal, always, (Arc::clone(&fates), Arc::clone(&metrics)), turns)
        });
        let parts =
            Deps { log, store, epochs, clock, metrics, shares, journal: journal.clone(), refused };
        let calls = Calls::new(parts.shares.appending);
        let accepted = ByteBudget::new(parts.shares.accepted);
        let start = |shard| {
            let (sender, jobs) = mpsc::channel(APPEND_QUEUE_MAX);
            let retention =
                Arc::new(Retention::new(parts.shares.accepted_of_shard, Arc::clone(&fates)));
            let task = ShardQueue::new(shard, &parts, (&retention, &accepted), &calls);
            tasks.spawn("append_queue", task.run(jobs));
            ShardHandle { jobs: sender, retention }
        };
        let shards = Shard::all().map(start).collect();
        let log = Arc::clone(&parts.log);
        (AppendQueue { shards, accepted, journal, log }, refusals)
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

    /// Whether the log gives no answers now, and the journal takes what it would have taken.
    pub(crate) fn is_silent(&self) -> bool {
        self.journal.is_some() && (self.log.is_away() || self.log.is_silent())
    }

    /// Waits until the log has everything that the journal had; not where it gives no answers.
    pub(crate) async fn until_replayed(&self) {
        let Some(journal) = &self.journal else { return };
        let mut waiting = journal.waiting.subscribe();
        while !self.is_silent() && *waiting.borrow_and_update() > 0 {
            let _ = tokio::time::timeout(LOOK_INTERVAL, waiting.changed()).await;
        }
    }

    /// The node's journal.
    pub(crate) fn journal(&self) -> Option<&NodeJournal> {
        self.journal.as_ref()
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
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the log is known to give no answers")]
    Away,
    #[error("the log has no room for what it had accepted")]
    Full,
    #[error("the log says nothing to anybody")]
    Silent,
    #[error("no answer within {APPEND_TIMEOUT_MS} ms")]
    Timeout,
}

fn outcome(answer: Appended) -> Outcome {
    match answer {
        Appended::Placed(place) => Ok(Accepted::Placed(place)),
        Appended::Conflict => Err(conflict()),
        Appended::Rejected(refusal) => Err(refusal),
    }
}

fn conflict() -> Refusal {
    let text = "this id stands already, with other content";
    Refusal::new(RefusalCode::Conflict, text).field("id")
}
