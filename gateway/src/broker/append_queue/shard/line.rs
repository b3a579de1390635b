//! What a shard offers to the log before anything that is fresh: what the log had accepted under an
//! earlier epoch, and what lies in the journal; and what goes there.

use std::collections::VecDeque;

use shared::contract::envelope::Envelope;
use shared::contract::limits::{APPEND_BATCH_BYTES_MAX, APPEND_BATCH_MAX};
use shared::contract::refusal::Refusal;
use shared::log::{Append, Appended, Placement};
use shared::process::error_chain::error_chain;
use shared::trouble;
use tracing::{error, info};

use super::ShardQueue;
use crate::broker::append_queue::job::{Job, merge};
use crate::broker::append_queue::journaling::{NotedRow, Offer, RefusedEntry};
use crate::broker::append_queue::{PAUSE_MAX, TryError};
use crate::broker::unpersisted::{self, Kept, RowFate, Unpersisted};
use crate::broker::waiters::Waiter;

/// What goes into the journal at a time, in bytes, of what is kept in memory.
const SPILL_BYTES: usize = 1024 * 1024;

/// Bytes of rows that a shard reads at a time.
const READ_BYTES: usize = 1024 * 1024;

impl ShardQueue {
    /// Takes up what the journal has from an earlier life.
    pub(super) async fn take_up(&mut self) {
        let Some(journal) = self.parts.journal.clone() else { return };
        loop {
            match journal.journal.waiting(self.shard).await {
                Ok(rows) => {
                    if !rows.is_empty() {
                        self.trip();
                    }
                    return rows.into_iter().for_each(|row| self.line_up_row(row));
                }
                Err(error) => {
                    trouble!(error = error_chain(&error), "the journal cannot be read");
                    tokio::time::sleep(PAUSE_MAX).await;
                }
            }
        }
    }

    fn line_up_row(&mut self, row: u64) {
        self.last += 1;
        self.line.push_back((self.last, Offer::Row(row)));
    }

    /// Puts in line what was noted, and remembers who waits for it; where it was noted before, and
    /// the log has it since, they wait like everybody.
    pub(super) fn line_up_noted(&mut self, noted: Vec<NotedRow>) {
        for NotedRow { row, is_new, key, waiter } in noted {
            if is_new {
                self.line_up_row(row);
            }
            if let Some(waiter) = waiter
                && !self.retention.wait_if_kept(&key, &waiter)
            {
                self.waiters.entry(row).or_default().push(waiter);
            }
        }
    }

    /// Who waits for what lies in a job's row, once.
    pub(super) fn waiting_for(&mut self, job: &Job) -> Vec<Waiter> {
        job.row.and_then(|row| self.waiters.remove(&row)).unwrap_or_default()
    }

    /// The journal is told what of it the log has now; and, where it has everything, what else.
    pub(super) async fn note_accepted(&self, done: &mut [(Job, Appended)]) {
        let Some(journal) = &self.parts.journal else { return };
        let unpersisted = |appended: &Appended| {
            matches!(appended, Appended::Placed(Placement { persisted: false, .. }))
        };
        let placed = done.iter().filter(|(_, appended)| unpersisted(appended));
        let rows: Vec<u64> = placed.filter_map(|(job, _)| job.row).collect();
        if !rows.is_empty() {
            self.parts.metrics.journal_replayed_total.inc_by(rows.len() as u64);
            if let Err(error) = journal.journal.placed(rows).await {
                trouble!(error = error_chain(&error), "the journal cannot be written");
            }
        }
        if journal.always {
            let is_missing =
                |(job, done): &&mut (Job, Appended)| job.row.is_none() && unpersisted(done);
            let missing: Vec<&mut (Job, Appended)> = done.iter_mut().filter(is_missing).collect();
            let entries = missing.iter().map(|(job, _)| job.append.clone()).collect();
            let rows = journal.note_placed(entries).await;
            missing.into_iter().zip(rows).for_each(|((job, _), row)| job.row = row);
        }
    }

    pub(super) fn trip(&mut self) {
        if let Some(journal) = self.parts.journal.as_ref().filter(|_| !self.tripped) {
            self.tripped = true;
            journal.is_waiting(true);
        }
    }

    pub(super) fn untrip(&mut self) {
        if let Some(journal) = self.parts.journal.as_ref().filter(|_| self.tripped) {
            self.tripped = false;
            journal.is_waiting(false);
        }
    }

    /// While the log takes nothing, what is fresh goes into the journal: all of it, in its order.
    pub(super) async fn divert(&mut self, jobs: &mut VecDeque<Job>) {
        let Some(journal) = self.parts.journal.clone().filter(|_| self.tripped) else { return };
        // A look-up of what is offered again is let go on: else whoever sends would hold it up.
        if self.aside.has_fresh() {
            merge(jobs, self.aside.take_all());
        }
        let (fresh, again): (Vec<Job>, Vec<Job>) =
            std::mem::take(jobs).into_iter().partition(Job::is_fresh);
        *jobs = again.into();
        let noted = journal.divert(fresh).await;
        self.line_up_noted(noted);
    }

    /// Moves what is kept in memory into the journal where it becomes too much.
    pub(super) async fn spill(&mut self) {
        let Some(journal) = self.parts.journal.clone() else { return };
        loop {
            let is_short = 2 * self.accepted.used() >= self.parts.shares.accepted;
            let entries = self.retention.to_spill(is_short, SPILL_BYTES);
            if entries.is_empty() {
                return;
            }
            let rows = journal.note_placed(entries.clone()).await;
            let spilled: Vec<(Append, u64)> = entries
                .into_iter()
                .zip(rows)
                .filter_map(|(entry, row)| Some((entry, row?)))
                .collect();
            if spilled.is_empty() {
                return;
            }
            self.retention.spilled(spilled.into_iter());
        }
    }

    pub(super) fn tell_fate(&self, fate: RowFate) {
        if let Some(journal) = &self.parts.journal {
            journal.fates.tell(fate);
        }
    }

    /// What the log accepted under an earlier epoch goes first, in its order: what waits aside came
    /// later, and is looked up anew behind it.
    pub(super) fn offer_again(&mut self, epoch: u64, jobs: &mut VecDeque<Job>) {
        let lost = self.retention.take_below(epoch);
        if lost.is_empty() {
            return;
        }
        info!(shard = %self.shard, entries = lost.len(), epoch, "offering again");
        self.parts.metrics.offered_again_total.inc_by(lost.len() as u64);
        merge(jobs, self.aside.take_all());
        for entry in lost.into_iter().rev() {
            self.first -= 1;
            let offer = match entry.kept {
                Kept::Journal(row) => Offer::Row(row),
                Kept::Memory(_) => Offer::Memory(Box::new(entry)),
            };
            self.line.push_front((self.first, offer));
        }
    }

    /// Takes the next of what is to be offered first, where all before it is done.
    pub(super) async fn take_from_line(
        &mut self,
        jobs: &mut VecDeque<Job>,
    ) -> Result<(), TryError> {
        if self.line.is_empty() || self.ready(jobs) > 0 || !self.aside.is_empty() {
            return Ok(());
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < APPEND_BATCH_MAX
            && bytes < APPEND_BATCH_BYTES_MAX
            && let Some((order, Offer::Memory(_))) = self.line.front()
        {
            let order = *order;
            let Some((_, Offer::Memory(entry))) = self.line.pop_front() else { break };
            let Unpersisted { kept: Kept::Memory(append), share, .. } = *entry else { continue };
            bytes += append.envelope.body.len();
            taken.push(Job { order, ..Job::new(*append, None, share) });
        }
        if taken.is_empty() {
            taken = self.read_rows().await?;
        }
        merge(jobs, taken);
        Ok(())
    }

    /// Reads the rows at the head of the line, as many as one call takes.
    pub(super) async fn read_rows(&mut self) -> Result<Vec<Job>, TryError> {
        let Some(journal) = self.parts.journal.clone() else { return Ok(Vec::new()) };
        let rows =
            self.line.iter().take(APPEND_BATCH_MAX).map_while(|(order, offer)| match offer {
                Offer::Row(row) => Some((*row, *order)),
                Offer::Memory(_) => None,
            });
        let orders: Vec<(u64, i64)> = rows.collect();
        let rows = orders.iter().map(|(row, _)| *row).collect();
        let (read, count) = journal.journal.read(rows, READ_BYTES).await?;
        self.line.drain(..count);
        let mut orders = orders.into_iter();
        let jobs = read.into_iter().map(|(row, append)| {
            let mut share = self.accepted.share();
            share.set(unpersisted::bytes(&append));
            let found = orders.find(|(of, _)| *of == row);
            let order = found.map_or(0, |(_, order)| order);
            Job { order, row: Some(row), ..Job::new(append, None, share) }
        });
        Ok(jobs.collect())
    }

    /// What was accepted once is refused now: its room is told, and it stays where it can be found.
    pub(super) fn refuse_accepted(&self, job: &Job, refusal: Refusal) {
        let Envelope { room, user, id, change_id, .. } = job.append.envelope.clone();
        error!(room.id = %room, message.id = %id, code = refusal.code.as_str(),
            "what was accepted is refused now");
        if let Some(row) = job.row {
            self.tell_fate(RowFate::Refused(row, refusal.message.clone()));
            let told = RefusedEntry { room, user, id, change_id, error: refusal };
            // Beyond the bound it is only logged.
            let _ = self.parts.refused.try_send(told);
        }
    }
}
