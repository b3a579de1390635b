//! Frames waiting for one socket, bounded in bytes.
//!
//! Handing over a frame never waits. A logged event that does not fit is refused, and its room
//! remembers where the client stands; replies always fit, because the connection reads no further
//! command while the queue is over its bound.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use shared::contract::limits::{SEND_QUEUE_BYTES_LOW, SEND_QUEUE_BYTES_MAX};
use shared::contract::refusal::CloseReason;
use shared::process::changes;
use tokio::sync::Notify;

use crate::wire::frame::Frame;

/// Frames taken for one write.
const FRAMES_PER_WRITE: usize = 64;

/// The queue of one connection.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    state: Mutex<QueueState>,
    /// Wakes the writer.
    filled: Notify,
    /// Wakes whoever waits for room.
    emptied: Notify,
    /// Wakes the reader, which ends the connection.
    closed: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    frames: VecDeque<Bytes>,
    /// Of the frames, and of those being written.
    bytes: usize,
    closing: Option<CloseReason>,
    /// The client is to be sent elsewhere.
    leaving: bool,
}

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// For this reason, at once.
    Closed(CloseReason),
    /// Its client is sent elsewhere, once what it asked is answered.
    SentElsewhere,
}

impl Ending {
    /// As whoever leaves is told.
    pub(crate) fn reason(self) -> CloseReason {
        match self {
            Ending::Closed(reason) => reason,
            Ending::SentElsewhere => CloseReason::Restart,
        }
    }
}

impl QueueState {
    /// Whether an event of so many bytes fits. An empty queue takes any: the database may hold
    /// messages that are larger than the bound, and they would never pass.
    fn takes(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes + bytes <= SEND_QUEUE_BYTES_MAX
    }
}

impl SendQueue {
    /// Queues a reply or a control frame; dropped when the connection is ending.
    pub(crate) fn push(&self, frame: Frame) {
        let mut state = self.state.lock();
        if state.closing.is_none() {
            state.bytes += frame.len();
            state.frames.push_back(frame.into());
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Queues an event if it fits; says whether it did.
    pub(crate) fn offer(&self, frame: &Frame) -> bool {
        let mut state = self.state.lock();
        if !state.takes(frame.len()) {
            return false;
        }
        if state.closing.is_none() {
            state.bytes += frame.len();
            state.frames.push_back(frame.clone().into());
            drop(state);
            self.filled.notify_one();
        }
        true
    }

    /// Queues an event that may be lost, if the queue is nearly empty; says whether it did.
    pub(crate) fn offer_ephemeral(&self, frame: &Frame) -> bool {
        let mut state = self.state.lock();
        if state.closing.is_some() || state.bytes + frame.len() > SEND_QUEUE_BYTES_LOW {
            return false;
        }
        state.bytes += frame.len();
        state.frames.push_back(frame.clone().into());
        drop(state);
        self.filled.notify_one();
        true
    }

    /// Ends the connection after what is queued; only the first reason counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        if state.closing.is_none() {
            state.closing = Some(reason);
            drop(state);
            self.filled.notify_one();
            self.emptied.notify_waiters();
            self.closed.notify_one();
        }
    }

    /// Has the client sent elsewhere.
    pub(crate) fn send_elsewhere(&self) {
        self.state.lock().leaving = true;
        self.closed.notify_one();
    }

    /// Why the connection is ending, once it is.
    pub(crate) fn closing(&self) -> Option<CloseReason> {
        self.state.lock().closing
    }

    #[cfg(test)]
    pub(crate) fn is_sent_elsewhere(&self) -> bool {
        self.state.lock().leaving
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Waits for frames and takes some of them; `None` when none is left and the connection ends.
    /// What was taken counts as waiting until [`SendQueue::written`].
    pub(crate) async fn take(&self) -> Option<Vec<Bytes>> {
        loop {
            {
                let mut state = self.state.lock();
                if !state.frames.is_empty() {
                    let taken = state.frames.len().min(FRAMES_PER_WRITE);
                    return Some(state.frames.drain(..taken).collect());
                }
                if state.closing.is_some() {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Gives back the room of what was written.
    pub(crate) fn written(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.bytes -= bytes;
        let low = state.bytes <= SEND_QUEUE_BYTES_LOW;
        drop(state);
        if low {
            self.emptied.notify_waiters();
        }
    }

    /// Waits until the queue is low again, or the connection ends; says whether it goes on.
    pub(crate) async fn low(&self) -> bool {
        self.room_for(0).await
    }

    /// Waits until the queue is low and takes a frame of so many bytes, or the connection ends;
    /// says whether it goes on. Whoever was refused by [`SendQueue::offer`] waits here, and not
    /// for less: a large frame may be refused by a queue that is low.
    pub(crate) async fn room_for(&self, bytes: usize) -> bool {
        changes::until(&self.emptied, || {
            let state = self.state.lock();
            let low = state.bytes <= SEND_QUEUE_BYTES_LOW && state.takes(bytes);
            (state.closing.is_some() || low).then_some(state.closing.is_none())
        })
        .await
    }

    /// Waits until another reply may be queued, or the connection ends.
    pub(crate) async fn accepting(&self) {
        if self.bytes() > SEND_QUEUE_BYTES_MAX {
            self.low().await;
        }
    }

    /// Waits until the connection is to end; for one waiter.
    pub(crate) async fn ending(&self) -> Ending {
        loop {
            {
                let state = self.state.lock();
                if let Some(reason) = state.closing {
                    return Ending::Closed(reason);
                }
                if state.leaving {
                    return Ending::SentElsewhere;
                }
            }
            self.closed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_over_the_bound_are_refused_and_replies_are_not() {
        let queue = SendQueue::default();
        let event = Frame::text(&vec![b'x'; SEND_QUEUE_BYTES_MAX / 2 + 1]);
        assert!(queue.offer(&event));
        assert!(!queue.offer(&event));
        queue.push(Frame::text(b"reply"));
        let taken = queue.take().await.unwrap();
        assert_eq!(taken.len(), 2);
        assert!(!queue.offer(&event), "what is being written still waits");
        queue.written(taken.iter().map(Bytes::len).sum());
        assert!(queue.low().await);
        assert!(queue.offer(&event));
    }

    #[tokio::test]
    async fn the_first_reason_counts_and_what_was_queued_still_goes_out() {
        let queue = SendQueue::default();
        queue.push(Frame::text(b"last"));
        queue.close(CloseReason::Restart);
        queue.close(CloseReason::TooSlow);
        queue.push(Frame::text(b"late"));
        assert_eq!(queue.take().await.unwrap().len(), 1);
        assert!(queue.take().await.is_none());
        queue.send_elsewhere();
        assert_eq!(queue.ending().await, Ending::Closed(CloseReason::Restart));
        assert!(!queue.low().await);
    }
}
