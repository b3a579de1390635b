//! What goes into the journal while the log takes nothing, and what comes back from it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use shared::contract::envelope::EntryKind;
use shared::contract::id::{MessageId, MessageKey, RoomId, UserId};
use shared::contract::limits::APPEND_BATCH_MAX;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::log::Append;
use shared::process::error_chain::error_chain;
use shared::store::sqlite::journal::{Journal, JournalError, JournalFigures, Noted};
use shared::trouble;
use tokio::sync::{mpsc, watch};
use tracing::info;

use super::calls::Calls;
use super::job::{Job, affordable};
use super::{Accepted, RETRY_AFTER_MS, conflict, full, unavailable};
use crate::broker::unpersisted::{self, RowFate, RowFates, Unpersisted};
use crate::broker::waiters::Waiter;
use crate::metrics::Metrics;

/// Pause after a row could not be taken out.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes of what is noted at a time by a shard.
const NOTE_BYTES: usize = 1024 * 1024;

/// The node's journal.
#[derive(Clone, Debug)]
pub(crate) struct NodeJournal {
    pub(crate) journal: Arc<Journal>,
    /// Whether it has everything that is accepted, until the database has it.
    pub(crate) always: bool,
    /// How many shards have something in it that waits for the log.
    pub(super) waiting: Arc<watch::Sender<usize>>,
    /// Told of rows that are done with.
    pub(super) fates: Arc<RowFates>,
    metrics: Arc<Metrics>,
    /// What is noted at a time, over all shards: it is copied on its way.
    turns: Calls,
}

/// An entry of the journal that the log takes never; its sender was told that it is accepted.
#[derive(Debug)]
pub(crate) struct RefusedEntry {
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    pub(crate) id: MessageId,
    pub(crate) change_id: Option<MessageId>,
    pub(crate) error: Refusal,
}

/// What was noted, for whom.
#[derive(Debug)]
pub(super) struct NotedRow {
    pub(super) row: u64,
    /// It did not stand there.
    pub(super) is_new: bool,
    pub(super) key: MessageKey,
    pub(super) waiter: Option<Waiter>,
}

/// What is to be offered to the log before anything that is fresh.
#[derive(Debug)]
pub(super) enum Offer {
    /// What lies in this row of the journal.
    Row(u64),
    /// What the log had accepted under an earlier epoch.
    Memory(Box<Unpersisted>),
}

impl NodeJournal {
    pub(super) fn new(
        journal: Arc<Journal>,
        always: bool,
        (fates, metrics): (Arc<RowFates>, Arc<Metrics>),
        turns: Calls,
    ) -> NodeJournal {
        NodeJournal { journal, always, waiting: Arc::default(), fates, metrics, turns }
    }

    /// What it holds.
    pub(crate) fn held(&self) -> JournalFigures {
        self.journal.figures()
    }

    /// Whether it holds anything.
    pub(crate) fn holds_any(&self) -> bool {
        self.journal.figures().entries > 0
    }

    /// Notes what is fresh, and answers it; gives what is to be offered to the log.
    pub(super) async fn divert(&self, fresh: Vec<Job>) -> Vec<NotedRow> {
        let (mut fresh, others): (VecDeque<Job>, VecDeque<Job>) =
            fresh.into_iter().partition(|job| is_journaled(job.append.envelope.kind));
        others.into_iter().for_each(Job::give_up);
        let mut rows = Vec::new();
        while !fresh.is_empty() {
            let count = affordable(fresh.iter(), NOTE_BYTES);
            rows.extend(self.note_fresh(fresh.drain(..count).collect()).await);
        }
        rows
    }

    async fn note_fresh(&self, fresh: Vec<Job>) -> Vec<NotedRow> {
        let entries: Vec<Append> = fresh.iter().map(|job| job.append.clone()).collect();
        let _copied = self.turns.turn(&entries).await;
        let noted = match self.journal.note(entries, false).await {
            Ok(noted) => noted,
            Err(error) => {
                let refusal = refusal(&error);
                for job in fresh {
                    self.metrics.journal_refused_total.inc();
                    answer(job, Err(refusal.clone()));
                }
                return Vec::new();
            }
        };
        let mut rows = Vec::new();
        for (mut job, noted) in fresh.into_iter().zip(noted) {
            let (row, is_new) = match noted {
                Noted::New(row) => (row, true),
                Noted::Known(row) => (row, false),
                Noted::Conflict => {
                    answer(job, Err(conflict()));
                    continue;
                }
            };
            self.metrics.journaled_total.inc_by(is_new.into());
            let (key, waiter) = (unpersisted::key(&job.append.envelope), job.waiter.take());
            rows.push(NotedRow { row, is_new, key, waiter });
            let body = job.append.envelope.body.clone();
            answer(job, Ok(Accepted::Journaled { duplicate: !is_new, body }));
        }
        rows
    }

    /// Notes what the log has accepted, and gives the row of each; where that fails they stay in
    /// memory.
    pub(super) async fn note_placed(&self, entries: Vec<Append>) -> Vec<Option<u64>> {
        let _copied = self.turns.turn(&entries).await;
        let (count, noted) = (entries.len(), self.journal.note(entries, true).await);
        let row = |noted| match noted {
            Noted::New(row) | Noted::Known(row) => Some(row),
            Noted::Conflict => None,
        };
        match noted {
            Ok(noted) => noted.into_iter().map(row).collect(),
            Err(error) => {
                trouble!(error = error_chain(&error), "the journal does not take what is accepted");
                vec![None; count]
            }
        }
    }

    /// A shard has something that waits, or has no more of it.
    pub(super) fn is_waiting(&self, is_waiting: bool) {
        self.waiting.send_modify(|shards| {
            match (is_waiting, *shards) {
                (true, 0) => info!("what is accepted goes into the journal"),
                (false, 1) => info!("redis has everything that was in the journal"),
                (true | false, _) => {}
            }
            if is_waiting { *shards += 1 } else { *shards = shards.saturating_sub(1) }
        });
    }
}

/// Whether it may wait in a journal; a removal has to reach every node, or be asked for again.
fn is_journaled(kind: EntryKind) -> bool {
    match kind {
        EntryKind::Message
        | EntryKind::Edit
        | EntryKind::Delete
        | EntryKind::Receipt
        | EntryKind::Usage => true,
        EntryKind::Void | EntryKind::Removal | EntryKind::Refusal => false,
    }
}

fn answer(job: Job, outcome: super::Outcome) {
    if let Some(answer) = job.answer {
        // The sender may have left; what is noted is noted all the same.
        let _ = answer.send(outcome);
    }
}

fn refusal(error: &JournalError) -> Refusal {
    match error {
        JournalError::Full { .. } => Refusal { message: error.to_string(), ..full() },
        JournalError::Old { .. } => Refusal { message: error.to_string(), ..unavailable() },
        JournalError::Store(_) => {
            let text = format!("redis is away, and {}", error_chain(error));
            Refusal::new(RefusalCode::Unavailable, text).retry_after_ms(RETRY_AFTER_MS)
        }
    }
}

/// Does with rows what becomes of them, for ever.
pub(super) async fn settle_rows(journal: Arc<Journal>, fates: Arc<RowFates>) {
    loop {
        let (mut gone, mut refused) = (Vec::new(), Vec::new());
        for fate in fates.take().await {
            match fate {
                RowFate::Gone(row) => gone.push(row),
                RowFate::Refused(row, why) => refused.push((row, why)),
            }
        }
        loop {
            let removed = journal.remove(gone.clone());
            let marked = future::try_join_all(
                refused.iter().map(|(row, why)| journal.refused(*row, why.clone())),
            );
            match future::try_join(removed, marked).await {
                Ok(_) => break,
                Err(error) => {
                    trouble!(error = error_chain(&error), "the journal cannot be written");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Does some work; what comes in meanwhile goes into the journal, where there is one and the log
/// takes nothing. Gives what is to be offered to the log.
pub(super) async fn meanwhile<T>(
    work: impl Future<Output = T>,
    more: &mut mpsc::Receiver<Job>,
    journal: Option<&NodeJournal>,
) -> (T, Vec<NotedRow>) {
    let mut work = std::pin::pin!(work);
    let (mut rows, mut fresh, mut is_open) = (Vec::new(), Vec::new(), journal.is_some());
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (done, rows),
            count = more.recv_many(&mut fresh, APPEND_BATCH_MAX), if is_open => {
                is_open = count > 0;
                if let Some(journal) = journal {
                    rows.extend(journal.divert(std::mem::take(&mut fresh)).await);
                }
            }
        }
    }
}
