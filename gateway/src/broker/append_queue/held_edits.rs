//! Edits that wait until their message is in the log or the database.
//!
//! When the log has lost its memory, each node offers again what it had accepted. An edit that came
//! by another node than its message may be back first, and would be an edit of nothing: it is held
//! back until the message is in the log or in the database.

use std::time::Duration;

use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::MessageKey;
use shared::contract::limits::{APPEND_TIMEOUT_MS, HELD_EDIT_MS_MAX, HELD_EDITS_MAX};
use tokio::time::Instant;
use tracing::error;

use super::job::Job;
use super::{LOOK_INTERVAL, full, unavailable};
use crate::metrics::Metrics;

/// The edits of one shard that wait, in the order in which they were accepted.
#[derive(Debug, Default)]
pub(super) struct HeldEdits {
    jobs: Vec<Job>,
    looked_at: Option<Instant>,
}

/// The message that an edit is about, where it is known who sent it.
pub(super) fn message_of(job: &Job) -> Option<MessageKey> {
    let Envelope { kind, room, id, .. } = &job.append.envelope;
    let author = job.append.author.as_ref().filter(|_| *kind == EntryKind::Edit)?;
    Some(MessageKey { room: room.clone(), user: author.clone(), id: id.clone() })
}

/// Whether the job is this message.
pub(super) fn brings(job: &Job, message: &MessageKey) -> bool {
    let Envelope { kind, room, user, id, .. } = &job.append.envelope;
    *kind == EntryKind::Message && (room, user, id) == (&message.room, &message.user, &message.id)
}

impl HeldEdits {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The messages that are waited for, where it is time to look for them again: now and then, and
    /// whenever an edit of one of them comes, which must not overtake.
    pub(super) fn wanted(&self, coming: &[MessageKey]) -> Vec<MessageKey> {
        let wanted: Vec<MessageKey> = self.jobs.iter().filter_map(message_of).collect();
        let is_due = self.looked_at.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL);
        if is_due || wanted.iter().any(|message| coming.contains(message)) {
            wanted
        } else {
            Vec::new()
        }
    }

    /// Takes out those whose message is there now.
    pub(super) fn release(&mut self, there: impl Fn(&MessageKey) -> bool) -> Vec<Job> {
        self.looked_at = Some(Instant::now());
        let is_there = |job: &mut Job| message_of(job).is_none_or(|message| there(&message));
        self.jobs.extract_if(.., is_there).collect()
    }

    /// Holds edits back; beyond the bound they are given up.
    pub(super) fn hold(&mut self, edits: Vec<Job>, metrics: &Metrics) {
        for edit in edits {
            if self.jobs.len() < HELD_EDITS_MAX {
                self.jobs.push(edit);
            } else {
                give_up(edit, full, metrics);
            }
        }
    }

    /// Gives up those that have waited too long; gives the rows of those in the journal.
    pub(super) fn expire(&mut self, metrics: &Metrics) -> Vec<u64> {
        let mut rows = Vec::new();
        let expired = |job: &mut Job| {
            let patience = if job.answer.is_some() { APPEND_TIMEOUT_MS } else { HELD_EDIT_MS_MAX };
            job.began.elapsed() >= Duration::from_millis(patience)
        };
        for job in self.jobs.extract_if(.., expired) {
            rows.extend(job.row);
            give_up(job, unavailable, metrics);
        }
        rows
    }
}

fn give_up(job: Job, refusal: fn() -> shared::contract::refusal::Refusal, metrics: &Metrics) {
    if let Some(answer) = job.answer {
        // The sender may have left.
        let _ = answer.send(Err(refusal()));
        return;
    }
    let Envelope { room, id, .. } = &job.append.envelope;
    metrics.orphaned_edits_total.inc();
    error!(room.id = %room, message.id = %id,
        "an accepted edit is given up: its message did not come back");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use shared::contract::id::{MessageId, RoomId, UserId};
    use shared::contract::timestamp::Timestamp;
    use shared::log::Append;
    use shared::process::byte_budget::ByteBudget;
    use tokio::sync::oneshot;
    use uuid::Uuid;

    use super::*;
    use crate::broker::append_queue::Outcome;

    fn edit(id: &str, answer: Option<oneshot::Sender<Outcome>>) -> Job {
        let envelope = Envelope {
            kind: EntryKind::Edit,
            room: RoomId::parse("r").unwrap(),
            user: UserId::parse("moderator").unwrap(),
            id: MessageId::parse(id).unwrap(),
            change_id: MessageId::parse("change").ok(),
            accepted_at: Timestamp(0),
            body: Bytes::new(),
        };
        let author = UserId::parse("ann").ok();
        let append = Append { envelope, digest: Uuid::nil(), cost: None, author };
        let share = ByteBudget::new(0).share();
        Job::new(append, answer, share)
    }

    fn metrics() -> Metrics {
        Metrics::register(&prometheus::Registry::new())
    }

    #[tokio::test(start_paused = true)]
    async fn an_edit_waits_for_its_message_and_not_for_ever() {
        let (metrics, mut held) = (metrics(), HeldEdits::default());
        let (answer, outcome) = oneshot::channel();
        held.hold(vec![edit("a", None), edit("b", None), edit("c", Some(answer))], &metrics);
        let wanted = held.wanted(&[]);
        assert_eq!(wanted.len(), 3);
        assert_eq!(wanted[0].user.as_str(), "ann", "the message is its author's");
        let back = held.release(|message| message.id.as_str() == "b");
        assert_eq!(back.len(), 1);
        assert!(held.wanted(&[]).is_empty(), "not looked for again at once");
        assert_eq!(held.wanted(&wanted[..1]).len(), 2, "but when another edit of it comes");
        tokio::time::advance(Duration::from_millis(APPEND_TIMEOUT_MS)).await;
        held.expire(&metrics);
        assert!(outcome.await.unwrap().is_err(), "whoever waits is told that it is not known");
        assert_eq!(held.wanted(&[]).len(), 1);
        tokio::time::advance(Duration::from_millis(HELD_EDIT_MS_MAX)).await;
        held.expire(&metrics);
        assert!(held.is_empty());
        assert_eq!(metrics.orphaned_edits_total.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_held_and_no_more() {
        let (metrics, mut held) = (metrics(), HeldEdits::default());
        held.hold((0..HELD_EDITS_MAX + 3).map(|_| edit("a", None)).collect(), &metrics);
        assert_eq!(held.jobs.len(), HELD_EDITS_MAX);
        assert_eq!(metrics.orphaned_edits_total.get(), 3);
    }
}
