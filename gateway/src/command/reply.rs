//! The reply to one command: exactly one if it has a `ref`, errors only if not.

use std::sync::Arc;

use serde::Serialize;
use shared::contract::id::RoomId;
use shared::contract::protocol::EventName;
use shared::contract::refusal::Refusal;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::wire::codec;
use crate::wire::send_queue::SendQueue;

/// Where a command's answer goes.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    queue: Arc<SendQueue>,
    reference: Option<u64>,
    metrics: Arc<Metrics>,
    /// When the command was read.
    began: Instant,
}

impl Reply {
    pub(crate) fn new(
        queue: Arc<SendQueue>,
        reference: Option<u64>,
        metrics: Arc<Metrics>,
    ) -> Reply {
        Reply { queue, reference, metrics, began: Instant::now() }
    }

    /// It was done.
    pub(crate) fn done(&self, data: &impl Serialize) {
        if self.reference.is_some() {
            self.done_raw(&codec::json(data));
        }
    }

    /// What was said stands.
    pub(crate) fn acked(&self, data: &impl Serialize) {
        self.metrics.ack_seconds.observe(self.began.elapsed().as_secs_f64());
        self.done(data);
    }

    /// A room was joined; the data are JSON already.
    pub(crate) fn joined(&self, data: &[u8]) {
        self.metrics.join_seconds.observe(self.began.elapsed().as_secs_f64());
        self.done_raw(data);
    }

    /// It was done; the data are JSON already.
    pub(crate) fn done_raw(&self, data: &[u8]) {
        if let Some(reference) = self.reference {
            self.queue.push(codec::reply(reference, data));
        }
    }

    /// It was done; without a `ref` it is told as an event.
    pub(crate) fn done_or_event(&self, event: EventName, data: &impl Serialize) {
        match self.reference {
            Some(_) => self.done(data),
            None => self.queue.push(codec::event(event, data)),
        }
    }

    /// It was not done; who did not ask for an answer is not told.
    pub(crate) fn refuse_if_asked(&self, refusal: &Refusal) {
        if self.reference.is_some() {
            self.refuse(None, refusal);
        }
    }

    /// It was not done.
    pub(crate) fn refuse(&self, room: Option<&RoomId>, refusal: &Refusal) {
        self.metrics.refusals_total.inc(refusal.code);
        self.queue.push(codec::refusal(self.reference, room, refusal));
    }
}
