//! One entry on its way into the log, and where its result goes.

use std::collections::VecDeque;
use std::time::Duration;

use shared::log::Append;
use shared::process::byte_budget::ByteShare;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Outcome, unavailable};
use crate::broker::waiters::Waiter;

#[derive(Debug)]
pub(super) struct Job {
    pub(super) append: Append,
    /// Its place in the line of its shard; no two have the same.
    pub(super) order: i64,
    pub(super) began: Instant,
    /// Who waits; nobody for what is offered again, which therefore never expires.
    pub(super) answer: Option<oneshot::Sender<Outcome>>,
    /// The epoch under which the message of an edit was found.
    pub(super) cleared: u64,
    /// Under which epoch and when the database did not know its id.
    pub(super) vouched: Option<(u64, Instant)>,
    /// What it costs to keep.
    pub(super) share: ByteShare,
    /// Who is to be told when the database has it, beside those who wait already.
    pub(super) waiter: Option<Waiter>,
    /// Where it lies in the journal.
    pub(super) row: Option<u64>,
}

impl Job {
    /// Where somebody waits for its answer, or where it was accepted before.
    pub(super) fn new(
        append: Append,
        answer: Option<oneshot::Sender<Outcome>>,
        share: ByteShare,
    ) -> Job {
        let (began, cleared, vouched) = (Instant::now(), 0, None);
        let (order, waiter, row) = (0, None, None);
        Job { append, order, began, answer, cleared, vouched, share, waiter, row }
    }

    /// Whether somebody waits for its answer; what was accepted before is not fresh.
    pub(super) fn is_fresh(&self) -> bool {
        self.answer.is_some()
    }

    /// Whether it has waited so long; what nobody waits for never has.
    pub(super) fn is_expired(&self, patience: Duration) -> bool {
        self.answer.is_some() && self.began.elapsed() >= patience
    }

    /// Tells whoever waits that the outcome is not known.
    pub(super) fn give_up(self) {
        if let Some(answer) = self.answer {
            // The sender may have left.
            let _ = answer.send(Err(unavailable()));
        }
    }
}

/// Puts jobs that waited aside back into the line, each where it was. They may have gone aside in
/// another order: what was looked up and found a room that the log does not know went twice.
pub(super) fn merge(line: &mut VecDeque<Job>, mut back: Vec<Job>) {
    back.sort_unstable_by_key(|job| job.order);
    let ahead = std::mem::take(line);
    let mut ahead = ahead.into_iter().peekable();
    for job in back {
        while let Some(before) = ahead.next_if(|before| before.order < job.order) {
            line.push_back(before);
        }
        line.push_back(job);
    }
    line.extend(ahead);
}

/// Answers those that have waited too long.
pub(super) fn expire(jobs: &mut VecDeque<Job>, patience: Duration) {
    if jobs.iter().any(|job| job.is_expired(patience)) {
        let (expired, left): (Vec<Job>, Vec<Job>) =
            std::mem::take(jobs).into_iter().partition(|job| job.is_expired(patience));
        *jobs = left.into();
        expired.into_iter().for_each(Job::give_up);
    }
}

/// How many of these fit into so many bytes; the first one always does.
pub(super) fn affordable<'a>(jobs: impl Iterator<Item = &'a Job>, most: usize) -> usize {
    let mut bytes = 0;
    let fits = |job: &&Job| {
        bytes += job.append.envelope.body.len();
        bytes <= most
    };
    jobs.take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use shared::contract::envelope::{EntryKind, Envelope};
    use shared::contract::id::{MessageId, RoomId, UserId};
    use shared::contract::timestamp::Timestamp;
    use shared::process::byte_budget::ByteBudget;
    use uuid::Uuid;

    use super::*;

    fn job(order: i64) -> Job {
        let envelope = Envelope {
            kind: EntryKind::Message,
            room: RoomId::parse("r").unwrap(),
            user: UserId::parse("u").unwrap(),
            id: MessageId::parse("m").unwrap(),
            change_id: None,
            accepted_at: Timestamp(0),
            body: Bytes::new(),
        };
        let append = Append { envelope, digest: Uuid::nil(), cost: None, author: None };
        Job { order, ..Job::new(append, None, ByteBudget::new(0).share()) }
    }

    #[test]
    fn what_waited_aside_goes_back_to_where_it_was() {
        let merged = |line: &[i64], back: &[i64]| -> Vec<i64> {
            let mut line = line.iter().map(|order| job(*order)).collect();
            merge(&mut line, back.iter().map(|order| job(*order)).collect());
            line.iter().map(|job| job.order).collect()
        };
        assert_eq!(merged(&[1, 4, 6], &[7, 2, 3]), [1, 2, 3, 4, 6, 7]);
        assert_eq!(merged(&[-8, -7, 5], &[-6, 4]), [-8, -7, -6, 4, 5]);
        assert_eq!(merged(&[], &[3]), [3]);
    }
}
