//! Jobs that need the database before they can be appended, and jobs that may not overtake them.
//!
//! One look-up of a shard is under way at a time, beside the shard's appends. While the database
//! does not answer, what needs it is refused; what was accepted before waits.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use shared::contract::envelope::Envelope;
use shared::contract::id::{MessageKey, RoomId, Shard, UserId};
use shared::contract::limits::{APPEND_BATCH_MAX, REFUSAL_MEMORY_MS};
use shared::contract::timestamp::Timestamp;
use shared::log::{Appended, Hydration};
use shared::process::error_chain::error_chain;
use shared::trouble;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::dedup::{self, heads};
use super::held_edits::HeldEdits;
use super::job::Job;
use super::{Deps, PAUSE, TryError};

/// How long the database may take to answer at first.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long it may take once it has not answered.
const PATIENCE_WHEN_AWAY: Duration = Duration::from_millis(500);

/// How long it is not asked after it has not answered.
const REST: Duration = Duration::from_secs(1);

/// A job that waits, and what it has to know.
#[derive(Debug)]
pub(super) struct Needy {
    pub(super) job: Job,
    /// Whether this message is there.
    pub(super) message: Option<MessageKey>,
    /// Whether its id stands in the database.
    pub(super) late: bool,
}

/// What the database and the log say.
#[derive(Debug, Default)]
pub(super) struct LookupResult {
    /// Of the messages that were asked for, those that stand.
    pub(super) there: HashSet<MessageKey>,
    /// Where each job stands that was late; as many as were asked about.
    pub(super) stored: Vec<Option<Appended>>,
}

/// A look-up that has ended.
#[derive(Debug)]
pub(super) struct LookedUp {
    pub(super) epoch: u64,
    pub(super) asked: Vec<Needy>,
    pub(super) answer: Answered,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Answered {
    /// With this.
    Found(LookupResult),
    /// The database does not answer.
    Away,
    /// It is to be tried again.
    Failed,
}

/// What of a shard waits aside.
#[derive(Debug, Default)]
pub(super) struct Aside {
    waiting: VecDeque<Needy>,
    /// Rooms that the log does not know.
    cold: HashSet<RoomId>,
    /// Rooms whose heads were compared from here, under this epoch.
    compared: (u64, HashSet<RoomId>),
    under_way: Option<UnderWay>,
    failed_at: Option<Instant>,
    away: bool,
}

#[derive(Debug)]
struct UnderWay {
    epoch: u64,
    asked: Vec<Needy>,
    rooms: Vec<RoomId>,
    outcome: JoinHandle<Result<Option<LookupResult>, TryError>>,
}

/// Whom nobody may overtake: the same sender in the same room, and in its room what was accepted
/// before.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    cold: HashSet<RoomId>,
    rooms: HashSet<RoomId>,
    senders: HashSet<(RoomId, UserId)>,
}

impl Ahead {
    /// Whether the log does not know the room: what was looked up for it is looked up again, behind
    /// the comparison with the database, under which the log forgets ids.
    pub(super) fn is_cold(&self, job: &Job) -> bool {
        self.cold.contains(&job.append.envelope.room)
    }

    pub(super) fn add(&mut self, job: &Job) {
        let Envelope { room, user, .. } = &job.append.envelope;
        if job.answer.is_none() {
            self.rooms.insert(room.clone());
        }
        self.senders.insert((room.clone(), user.clone()));
    }

    pub(super) fn holds_up(&self, job: &Job) -> bool {
        if self.senders.is_empty() && self.cold.is_empty() {
            return false;
        }
        let Envelope { room, user, kind, .. } = &job.append.envelope;
        self.rooms.contains(room)
            || kind.is_placed() && self.cold.contains(room)
            || self.senders.contains(&(room.clone(), user.clone()))
    }
}

impl Aside {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    /// Whether anybody waits for an answer to what is aside.
    pub(super) fn has_fresh(&self) -> bool {
        let asked = self.under_way.iter().flat_map(|under_way| &under_way.asked);
        asked.chain(&self.waiting).any(|needy| needy.job.answer.is_some())
    }

    /// The log does not know this room: its head has to be looked up.
    pub(super) fn find_cold(&mut self, room: RoomId) {
        self.cold.insert(room);
    }

    pub(super) fn ahead(&self) -> Ahead {
        let mut ahead = Ahead { cold: self.cold.clone(), ..Ahead::default() };
        let asked = self.under_way.iter().flat_map(|under_way| &under_way.asked);
        asked.chain(&self.waiting).for_each(|needy| ahead.add(&needy.job));
        ahead
    }

    pub(super) fn put(&mut self, needy: Needy) {
        self.waiting.push_back(needy);
    }

    /// Whether the database did not answer a moment ago and is not asked.
    pub(super) fn rests(&self) -> bool {
        self.away && self.is_tired()
    }

    fn is_tired(&self) -> bool {
        self.failed_at.is_some_and(|at| at.elapsed() < REST)
    }

    /// Takes out everything that is not being looked up.
    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = Job> + use<> {
        std::mem::take(&mut self.waiting).into_iter().map(|needy| needy.job)
    }

    /// Takes out everything, and gives up what is being looked up.
    pub(super) fn take_all(&mut self) -> Vec<Job> {
        let under_way = self.under_way.take();
        let asked = under_way.into_iter().flat_map(|under_way| {
            under_way.outcome.abort();
            under_way.asked
        });
        let mut jobs: Vec<Job> = asked.map(|needy| needy.job).collect();
        jobs.extend(self.take_waiting());
        jobs
    }

    /// Answers those that have waited too long. What is being looked up is answered soon.
    pub(super) fn expire(&mut self, patience: Duration) {
        let is_expired = |needy: &Needy| needy.job.is_expired(patience);
        if self.waiting.iter().any(is_expired) {
            let (expired, left): (Vec<Needy>, Vec<Needy>) =
                std::mem::take(&mut self.waiting).into_iter().partition(is_expired);
            self.waiting = left.into();
            expired.into_iter().for_each(|needy| needy.job.give_up());
        }
    }

    /// Begins to look up what the first of those that wait, and of the edits that are held back,
    /// have to know; one look-up at a time.
    ///
    /// Under a young epoch a room is compared with the database before its ids are looked up: the
    /// log forgets ids then, and what gets into the database between look-up and comparison would
    /// be in neither.
    pub(super) fn look_up(
        &mut self,
        (shard, epoch, is_young): (Shard, u64, bool),
        parts: &Deps,
        held: &HeldEdits,
    ) {
        if self.under_way.is_some() || self.is_tired() {
            return;
        }
        let count = self.waiting.len().min(APPEND_BATCH_MAX);
        let asked: Vec<Needy> = self.waiting.drain(..count).collect();
        let messages: Vec<MessageKey> =
            asked.iter().filter_map(|needy| needy.message.clone()).collect();
        let is_wanted = |room: &RoomId| asked.iter().any(|n| n.job.append.envelope.room == *room);
        self.cold.retain(is_wanted);
        let mut rooms = self.cold.clone();
        if !is_young || self.compared.0 != epoch {
            self.compared = (epoch, HashSet::new());
        }
        if is_young {
            let late =
                asked.iter().filter(|needy| needy.late).map(|needy| &needy.job.append.envelope);
            let placed = late.filter(|envelope| envelope.kind.is_placed());
            let unknown = placed.filter(|envelope| !self.compared.1.contains(&envelope.room));
            rooms.extend(unknown.map(|envelope| envelope.room.clone()));
        }
        let rooms: Vec<RoomId> = rooms.into_iter().collect();
        let question = Question {
            shard,
            epoch,
            rooms: rooms.clone(),
            late: asked
                .iter()
                .map(|needy| needy.late.then(|| needy.job.append.envelope.clone()))
                .collect(),
            wanted: held.wanted(&messages).into_iter().chain(messages).collect(),
        };
        if asked.is_empty() && question.wanted.is_empty() {
            return;
        }
        let patience = if self.away { PATIENCE_WHEN_AWAY } else { PATIENCE };
        let outcome = tokio::spawn(ask(question, parts.clone(), patience));
        self.under_way = Some(UnderWay { epoch, asked, rooms, outcome });
    }

    /// The next look-up that ends; never, while none is under way.
    pub(super) async fn looked_up(&mut self) -> LookedUp {
        let outcome = match &mut self.under_way {
            Some(under_way) => (&mut under_way.outcome).await,
            None => std::future::pending().await,
        };
        let under_way = self.under_way.take();
        let (epoch, asked, rooms) =
            under_way.map(|it| (it.epoch, it.asked, it.rooms)).unwrap_or_default();
        let answer = match outcome {
            Ok(Ok(Some(found))) => Answered::Found(found),
            Ok(Ok(None)) => Answered::Away,
            Ok(Err(error)) => {
                trouble!(error = error_chain(&error), "look-up will be tried again");
                Answered::Failed
            }
            // Its panic has been reported.
            Err(_) => Answered::Failed,
        };
        self.away = matches!(answer, Answered::Away);
        self.failed_at = None;
        if matches!(answer, Answered::Found(_)) {
            self.cold.retain(|room| !rooms.contains(room));
            if self.compared.0 == epoch {
                self.compared.1.extend(rooms);
            }
        } else {
            self.failed_at = Some(Instant::now());
        }
        LookedUp { epoch, asked, answer }
    }
}

/// What is to be looked up.
#[derive(Debug)]
struct Question {
    shard: Shard,
    epoch: u64,
    /// Whose heads the log does not know.
    rooms: Vec<RoomId>,
    /// Of each job, where its id has to be looked up.
    late: Vec<Option<Envelope>>,
    /// Messages that have to be there.
    wanted: Vec<MessageKey>,
}

/// What the database answers, tried again for a while; `None` where it does not.
async fn ask(
    question: Question,
    parts: Deps,
    patience: Duration,
) -> Result<Option<LookupResult>, TryError> {
    let mut last = TryError::Timeout;
    let asked = tokio::time::timeout(patience, async {
        loop {
            match find(&question, &parts).await {
                Err(error @ TryError::Store(_)) => last = error,
                settled => return settled,
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    match asked.await {
        Ok(answer) => answer.map(Some),
        Err(_) => {
            trouble!(error = error_chain(&last), "what needs the database is refused");
            Ok(None)
        }
    }
}

async fn find(question: &Question, parts: &Deps) -> Result<LookupResult, TryError> {
    let Question { shard, epoch, rooms, late, wanted } = question;
    let store = &*parts.store;
    if !rooms.is_empty() {
        let asked_at_ms = parts.log.now_ms().await?;
        let since = Timestamp(asked_at_ms - REFUSAL_MEMORY_MS);
        let (heads, refused) = heads(store, rooms, since).await?;
        let heads = rooms.iter().cloned().zip(heads).collect();
        let hydration = Hydration { shard: *shard, asked_at_ms, heads, refused };
        parts.log.hydrate(*epoch, &hydration).await?;
    }
    let asked: Vec<&Envelope> = late.iter().flatten().collect();
    let mut answers = dedup::stored(store, &asked).await?.into_iter();
    let stored = late.iter().map(|late| late.as_ref().and_then(|_| answers.next().flatten()));
    let stored = stored.collect();
    let there = dedup::there(&*parts.log, store, wanted.clone()).await?;
    Ok(LookupResult { there, stored })
}
