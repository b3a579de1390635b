//! The queue of one shard: puts into the log what waits, in its order.

mod line;
mod look;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use shared::contract::id::{MessageKey, Shard};
use shared::contract::limits::{
    APPEND_BATCH_BYTES_MAX, APPEND_BATCH_MAX, APPEND_QUEUE_MAX, APPEND_TIMEOUT_MS, ID_LATE_MS,
    ID_MEMORY_MS,
};
use shared::log::{Append, AppendBatchResult, AppendStop, Appended, Epoch, Past, Placement};
use shared::process::backoff::Backoff;
use shared::process::byte_budget::{ByteBudget, ByteShare};
use shared::process::error_chain::error_chain;
use shared::trouble;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::aside::{Answered, Aside, LookedUp, LookupResult, Needy};
use super::calls::Calls;
use super::held_edits::{self, HeldEdits};
use super::job::{Job, affordable, expire, merge};
use super::journaling::{Offer, meanwhile};
use super::{
    Accepted, Deps, JOURNAL_PATIENCE, LOOK_INTERVAL, Outcome, PATIENCE_WHEN_AWAY, PAUSE, PAUSE_MAX,
    TryError, VOUCHED, dedup, full, outcome, unavailable,
};
use crate::broker::unpersisted::{self, Retention, RowFate, Unpersisted};
use crate::broker::waiters::Waiter;

/// What it costs to have something in line, about.
const LINE_BYTES: usize = 128;

/// How often it is looked whether a log that has not answered says anything to anybody.
const SILENCE_LOOK: Duration = Duration::from_millis(100);

/// The task of a shard.
pub(super) struct ShardQueue {
    shard: Shard,
    parts: Deps,
    pauses: Backoff,
    retention: Arc<Retention>,
    calls: Calls,
    held: HeldEdits,
    aside: Aside,
    /// Of what waits and what is retained.
    accepted: Arc<ByteBudget>,
    /// What is to be offered before anything fresh, each with its place in line.
    line: VecDeque<(i64, Offer)>,
    /// What the line costs.
    lined: ByteShare,
    /// Who is told when the database has what lies in a row that the log has not.
    waiters: HashMap<u64, Vec<Waiter>>,
    /// The log takes nothing: what is fresh goes into the journal.
    tripped: bool,
    /// The place in line of the first job, and of the last: what is offered again goes before
    /// everything.
    first: i64,
    last: i64,
}

impl ShardQueue {
    pub(super) fn new(
        shard: Shard,
        parts: &Deps,
        (retention, accepted): (&Arc<Retention>, &Arc<ByteBudget>),
        calls: &Calls,
    ) -> ShardQueue {
        ShardQueue {
            shard,
            parts: parts.clone(),
            pauses: Backoff::new(PAUSE, PAUSE_MAX),
            retention: Arc::clone(retention),
            calls: calls.clone(),
            held: HeldEdits::default(),
            aside: Aside::default(),
            accepted: Arc::clone(accepted),
            line: VecDeque::new(),
            lined: accepted.share(),
            waiters: HashMap::new(),
            tripped: false,
            first: 0,
            last: 0,
        }
    }

    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        self.take_up().await;
        if !self.line.is_empty() {
            self.settle(&mut jobs, VecDeque::new()).await;
        }
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
                    if !self.retention.is_idle() && !self.is_silent() {
                        // Whoever comes meanwhile does not wait for a log that says nothing.
                        let look = async {
                            self.look().await;
                            Ok::<(), TryError>(())
                        };
                        let _ = self.in_time(look).await;
                        self.spill().await;
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
            let has_fresh = jobs.iter().any(Job::is_fresh) || self.aside.has_fresh();
            if has_fresh && (self.parts.log.is_away() || self.holds_up(&jobs)) {
                self.trip();
            }
            self.divert(&mut jobs).await;
            let before = (jobs.len(), self.line.len());
            let tried = self.try_once(more, &mut jobs).await;
            self.lined.set(self.line.len() * LINE_BYTES);
            // However it ended: watermarks are remembered for as long as it is under way.
            self.retention.end_append().tell();
            match tried {
                Ok(()) => {
                    self.pauses.reset();
                    self.spill().await;
                    if (jobs.len(), self.line.len()) == before && !self.aside.is_empty() {
                        // Everything waits for what is looked up.
                        let looked_up = tokio::time::timeout(PAUSE, self.aside.looked_up()).await;
                        if let Ok(looked_up) = looked_up {
                            self.go_on(looked_up, &mut jobs);
                        }
                    }
                }
                Err(error) => self.pause_after(&error, more, &mut jobs).await,
            }
            let patience = self.patience();
            expire(&mut jobs, patience);
            for row in self.held.expire(&self.parts.metrics) {
                self.tell_fate(RowFate::Refused(row, "its message did not come back".to_owned()));
            }
            self.aside.expire(patience);
            if let Some(looked_up) = self.aside.looked_up().now_or_never() {
                self.go_on(looked_up, &mut jobs);
            }
            if jobs.is_empty() && (self.line.is_empty() || !self.aside.is_empty()) {
                if self.aside.is_empty() {
                    self.untrip();
                }
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

    /// One try, which is not made where it is known that it is in vain.
    async fn try_once(
        &mut self,
        more: &mut mpsc::Receiver<Job>,
        jobs: &mut VecDeque<Job>,
    ) -> Result<(), TryError> {
        if self.tripped && self.is_silent() {
            return Err(TryError::Away);
        }
        let deadline = Instant::now() + Duration::from_millis(APPEND_TIMEOUT_MS);
        let patience = self.patience();
        let deadline = jobs
            .iter()
            .find(|job| job.answer.is_some())
            .map_or(deadline, |job| job.began + patience);
        let journal = self.parts.journal.clone().filter(|_| self.tripped);
        let attempt = tokio::time::timeout_at(deadline, self.attempt(jobs));
        let (tried, noted) = meanwhile(attempt, more, journal.as_ref()).await;
        self.line_up_noted(noted);
        let Some((epoch, answers)) = tried.unwrap_or(Err(TryError::Timeout))? else {
            return Ok(());
        };
        // Not to be given up half-way: the log has them.
        let accept = self.accept(jobs, epoch, answers);
        let (accepted, noted) = meanwhile(accept, more, journal.as_ref()).await;
        self.line_up_noted(noted);
        accepted
    }

    /// Waits a moment before the next try.
    async fn pause_after(
        &mut self,
        error: &TryError,
        more: &mut mpsc::Receiver<Job>,
        jobs: &mut VecDeque<Job>,
    ) {
        // That the log is away is said once, by who looks after it.
        if !matches!(error, TryError::Away | TryError::Silent) {
            trouble!(shard = %self.shard, error = error_chain(error), "append will be tried again");
        }
        let oldest = jobs.iter().find(|job| job.is_fresh()).map(|job| job.began.elapsed());
        let is_over = match error {
            TryError::Timeout | TryError::Silent => true,
            TryError::Log(_) | TryError::Epoch(_) | TryError::Away => {
                oldest.is_some_and(|waited| waited >= JOURNAL_PATIENCE)
            }
            TryError::Store(_) | TryError::Journal(_) | TryError::Full => false,
        };
        if oldest.is_some() && (is_over || self.parts.log.is_away()) {
            self.trip();
            self.divert(jobs).await;
        }
        let pause = tokio::time::sleep(self.pauses.next_delay());
        let journal = self.parts.journal.clone().filter(|_| self.tripped);
        let ((), noted) = meanwhile(pause, more, journal.as_ref()).await;
        self.line_up_noted(noted);
    }

    /// Whether the log gives no answers now, as far as is known.
    fn is_silent(&self) -> bool {
        self.parts.log.is_away() || self.parts.log.is_silent()
    }

    /// Whether what is fresh has waited for too long behind what is offered again.
    fn holds_up(&self, jobs: &VecDeque<Job>) -> bool {
        let oldest = jobs.iter().find(|job| job.is_fresh());
        !self.line.is_empty() && oldest.is_some_and(|job| job.began.elapsed() >= JOURNAL_PATIENCE)
    }

    /// How long somebody waits for an answer.
    fn patience(&self) -> Duration {
        let away = self.parts.log.is_away();
        if away { PATIENCE_WHEN_AWAY } else { Duration::from_millis(APPEND_TIMEOUT_MS) }
    }

    /// What a call of the log gives, unless the log says nothing to anybody: what is fresh goes
    /// into the journal then. One that is only slow is waited for.
    async fn in_time<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, TryError>
    where
        TryError: From<E>,
    {
        let mut call = std::pin::pin!(call);
        let mut silent = 0;
        loop {
            match tokio::time::timeout(SILENCE_LOOK, &mut call).await {
                Ok(done) => return Ok(done?),
                Err(_) if self.parts.journal.is_none() || self.tripped => {}
                Err(_) if !self.is_silent() => silent = 0,
                // Twice, since it may have been this process that stood still.
                Err(_) if silent == 0 => silent = 1,
                Err(_) => return Err(TryError::Silent),
            }
        }
    }

    /// How many of the jobs come before everything that is to be offered first.
    fn ready(&self, jobs: &VecDeque<Job>) -> usize {
        let is_ready = |job: &&Job| self.line.front().is_none_or(|(order, _)| job.order < *order);
        jobs.iter().take_while(is_ready).count()
    }

    /// One try to append the next of the jobs, after what has to come before: what the log says of
    /// them, and under which epoch. What needs the database is put aside.
    async fn attempt(
        &mut self,
        jobs: &mut VecDeque<Job>,
    ) -> Result<Option<(u64, AppendBatchResult)>, TryError> {
        let epoch = self.in_time(self.parts.epochs.get(self.shard)).await?;
        self.offer_again(epoch.number, jobs);
        self.take_from_line(jobs).await?;
        self.put_aside(epoch, jobs);
        let ready = jobs.iter().take(self.ready(jobs).min(APPEND_BATCH_MAX));
        let count = affordable(ready, APPEND_BATCH_BYTES_MAX);
        let entries: Vec<Append> = jobs.iter().take(count).map(|job| job.append.clone()).collect();
        if entries.is_empty() {
            return Ok(None);
        }
        let turn = async { Ok::<_, TryError>(self.calls.turn(&entries).await) };
        let _copied = self.in_time(turn).await?;
        self.retention.begin_append();
        let append = self.parts.log.append(self.shard, epoch.number, &entries, Past::Nothing);
        Ok(Some((epoch.number, self.in_time(append).await?)))
    }

    /// Answers what the log has done, and keeps what it took until the database has it.
    async fn accept(
        &mut self,
        jobs: &mut VecDeque<Job>,
        epoch: u64,
        AppendBatchResult { done, stop }: AppendBatchResult,
    ) -> Result<(), TryError> {
        let mut done: Vec<(Job, Appended)> = jobs.drain(..done.len()).zip(done).collect();
        self.note_accepted(&mut done).await;
        for (mut job, done) in done {
            self.retain(&mut job, &done, epoch);
            self.answer(job, outcome(done));
        }
        match stop {
            None => {}
            Some(AppendStop::Stale) => self.parts.epochs.forget(self.shard, epoch),
            Some(AppendStop::Unhydrated) => {
                if let Some(job) = jobs.front() {
                    self.aside.find_cold(job.append.envelope.room.clone());
                }
            }
            Some(AppendStop::Full) => {
                // What was accepted before waits for room; it is not refused a second time.
                let (fresh, again): (Vec<Job>, Vec<Job>) =
                    std::mem::take(jobs).into_iter().partition(Job::is_fresh);
                *jobs = again.into();
                for job in fresh {
                    self.answer(job, Err(full()));
                }
                if !jobs.is_empty() || !self.line.is_empty() {
                    return Err(TryError::Full);
                }
            }
        }
        Ok(())
    }

    /// Puts aside what of the next batch needs to be looked up, and what may not overtake it; and
    /// begins to look up.
    fn put_aside(&mut self, epoch: Epoch, jobs: &mut VecDeque<Job>) {
        let mut batch: Vec<Job> = Vec::new();
        let mut ahead = self.aside.ahead();
        let mut ready = self.ready(jobs);
        while batch.len() < APPEND_BATCH_MAX
            && ready > 0
            && let Some(mut job) = jobs.pop_front()
        {
            ready -= 1;
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

    fn retain(&mut self, job: &mut Job, done: &Appended, epoch: u64) {
        if let Appended::Placed(Placement { position, persisted: false, .. }) = done {
            let under = (*position, epoch);
            let kept = Unpersisted::new(&job.append, job.row, under, job.share.take());
            let waiting = self.waiting_for(job);
            self.retention.keep(kept, job.waiter.take().into_iter().chain(waiting));
        }
    }

    fn answer(&mut self, job: Job, outcome: Outcome) {
        if let (Some(row), Ok(Accepted::Placed(Placement { position, persisted: true, .. }))) =
            (job.row, &outcome)
        {
            self.tell_fate(RowFate::Gone(row));
            let key = unpersisted::key(&job.append.envelope);
            let place = Placement::stored(*position);
            for waiter in self.waiting_for(&job) {
                self.retention.wait(key.clone(), &place, waiter);
            }
        }
        let Some(answer) = job.answer else {
            // Nobody asked; but what was accepted once must not be refused in silence.
            let envelope = &job.append.envelope;
            match outcome {
                Ok(Accepted::Placed(Placement { position, persisted: true, .. })) => {
                    self.retention.found(&unpersisted::key(envelope), position).tell();
                }
                Ok(_) => {}
                Err(error) => self.refuse_accepted(&job, error),
            }
            return;
        };
        let metrics = &self.parts.metrics;
        metrics.append_seconds.observe(job.began.elapsed().as_secs_f64());
        if outcome.as_ref().is_ok_and(Accepted::is_duplicate) {
            metrics.duplicates_total.inc();
        }
        // The sender may have left; what was done stands all the same.
        let _ = answer.send(outcome);
    }
}
