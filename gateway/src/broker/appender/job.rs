//! A send on its way into the log.

use std::collections::VecDeque;
use std::time::Duration;

use shared::contract::limits::{APPEND_BATCH_BYTES_MAX, APPEND_TIMEOUT_MS};
use shared::log::Append;
use shared::process::byte_budget::ByteShare;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Outcome, unavailable};

#[derive(Debug)]
pub(super) struct Job {
    pub(super) append: Append,
    pub(super) began: Instant,
    /// Who waits; nobody for what is offered again, which therefore never expires.
    pub(super) answer: Option<oneshot::Sender<Outcome>>,
    /// The epoch under which the message of an edit was found.
    pub(super) cleared: u64,
    /// Under which epoch and when the database did not know its id.
    pub(super) vouched: Option<(u64, Instant)>,
    /// What it costs to keep.
    pub(super) share: ByteShare,
}

impl Job {
    /// Whether it has waited too long; what nobody waits for never has.
    pub(super) fn is_expired(&self) -> bool {
        self.answer.is_some() && self.began.elapsed() >= Duration::from_millis(APPEND_TIMEOUT_MS)
    }

    /// Tells whoever waits that the outcome is not known.
    pub(super) fn give_up(self) {
        if let Some(answer) = self.answer {
            // The sender may have left.
            let _ = answer.send(Err(unavailable()));
        }
    }
}

/// Answers those that have waited too long.
pub(super) fn expire(jobs: &mut VecDeque<Job>) {
    if jobs.iter().any(Job::is_expired) {
        let (expired, left): (Vec<Job>, Vec<Job>) =
            std::mem::take(jobs).into_iter().partition(Job::is_expired);
        *jobs = left.into();
        expired.into_iter().for_each(Job::give_up);
    }
}

/// How many of these fit into one call; the first one always does.
pub(super) fn affordable<'a>(jobs: impl Iterator<Item = &'a Job>) -> usize {
    let mut bytes = 0;
    let fits = |job: &&Job| {
        bytes += job.append.envelope.body.len();
        bytes <= APPEND_BATCH_BYTES_MAX
    };
    jobs.take_while(fits).count().max(1)
}
