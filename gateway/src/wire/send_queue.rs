//! Frames waiting for one socket, bounded in bytes, and the way they leave.
//!
//! Handing over a frame never waits. A logged event that does not fit is refused, and its room
//! remembers where the client stands; replies always fit, because the connection reads no further
//! command while the queue is over its bound.
//!
//! One at a time writes: whoever fills an idle queue gives it to the [`Flusher`], which writes when
//! the tick ends. What the socket does not take is left to a task that lives until it has.

mod flusher;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::{Mutex, MutexGuard};
use shared::contract::limits::{CLOSE_LINGER_MS, SEND_QUEUE_BYTES_LOW, SEND_QUEUE_BYTES_MAX};
use shared::contract::refusal::CloseReason;
use shared::process::changes;
use socket2::SockRef;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::flusher::Flusher;
use crate::wire::frame::Frame;

pub(crate) use self::flusher::Flushers;

/// Bytes of frames that are copied together for one write. The kernel copies each of many parts for
/// itself, and one part faster: frames of a chat are small, and a larger one goes alone.
const GATHERED_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    /// Where they are copied to.
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Frames for which an empty queue keeps its memory.
const FRAMES_KEPT: usize = 4;

/// The queue of one connection.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    state: Mutex<QueueState>,
    /// Where its frames go; nowhere for who takes them out itself.
    outlet: Option<Outlet>,
    /// Wakes whoever waits for room, or for the end.
    emptied: Notify,
    /// Wakes the reader, which ends the connection.
    closed: Notify,
}

#[derive(Debug)]
struct Outlet {
    socket: OwnedWriteHalf,
    flusher: Arc<Flusher>,
}

#[derive(Debug, Default)]
struct QueueState {
    frames: VecDeque<Bytes>,
    /// Of the frames, and of those being written.
    bytes: usize,
    closing: Option<CloseReason>,
    /// The client is to be sent elsewhere.
    leaving: bool,
    /// Somebody writes, or is about to.
    writing: bool,
    /// Somebody waits for room.
    awaited: bool,
    /// Nothing is written any more.
    ended: bool,
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

    /// Drops what waits, and lets nothing follow.
    fn end(&mut self) {
        self.frames = VecDeque::new();
        (self.bytes, self.writing, self.ended) = (0, false, true);
    }
}

impl SendQueue {
    /// Queues a reply or a control frame; dropped when the connection is ending.
    pub(crate) fn push(self: &Arc<Self>, frame: Frame) {
        let state = self.state.lock();
        if state.closing.is_none() {
            self.put(state, frame.into());
        }
    }

    /// Queues an event if it fits; says whether it did.
    pub(crate) fn offer(self: &Arc<Self>, frame: &Frame) -> bool {
        let state = self.state.lock();
        if !state.takes(frame.len()) {
            return false;
        }
        if state.closing.is_none() {
            self.put(state, frame.clone().into());
        }
        true
    }

    /// Queues an event that may be lost, if the queue is nearly empty; says whether it did.
    pub(crate) fn offer_ephemeral(self: &Arc<Self>, frame: &Frame) -> bool {
        let state = self.state.lock();
        if state.closing.is_some() || state.bytes + frame.len() > SEND_QUEUE_BYTES_LOW {
            return false;
        }
        self.put(state, frame.clone().into());
        true
    }

    fn put(self: &Arc<Self>, mut state: MutexGuard<'_, QueueState>, frame: Bytes) {
        state.bytes += frame.len();
        state.frames.push_back(frame);
        self.begin_writing(state);
    }

    /// Has the queue written, unless that is under way.
    fn begin_writing(self: &Arc<Self>, mut state: MutexGuard<'_, QueueState>) {
        if let Some(outlet) = &self.outlet
            && !state.writing
        {
            state.writing = true;
            drop(state);
            outlet.flusher.list(Arc::clone(self));
        }
    }

    /// Ends the connection after what is queued; only the first reason counts.
    pub(crate) fn close(self: &Arc<Self>, reason: CloseReason) {
        let mut state = self.state.lock();
        if state.closing.is_none() {
            state.closing = Some(reason);
            if reason != CloseReason::ClientGone {
                let close = Frame::close(reason.code(), reason.label());
                state.bytes += close.len();
                state.frames.push_back(close.into());
            }
            self.begin_writing(state);
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

    /// Takes the frames out; they count as waiting until they are written.
    fn take(&self) -> VecDeque<Bytes> {
        std::mem::take(&mut self.state.lock().frames)
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
            let mut state = self.state.lock();
            let low = state.bytes <= SEND_QUEUE_BYTES_LOW && state.takes(bytes);
            let found = (state.closing.is_some() || low).then_some(state.closing.is_none());
            state.awaited |= found.is_none();
            found
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

    /// Waits until everything is written behind which the connection was closed, or given up.
    pub(crate) async fn ended(&self) {
        changes::until(&self.emptied, || self.state.lock().ended.then_some(())).await;
    }

    /// Nothing is written any more; what waits is dropped.
    pub(crate) fn abandon(&self, reason: CloseReason) {
        let mut state = self.state.lock();
        state.closing.get_or_insert(reason);
        state.end();
        drop(state);
        self.emptied.notify_waiters();
        self.closed.notify_one();
    }
}

// --- Writing ---

impl SendQueue {
    /// Writes what waits; what the socket does not take, a task of its own does.
    fn flush(self: &Arc<Self>) {
        let Some(outlet) = &self.outlet else { return };
        if !self.write(outlet) {
            let queue = Arc::clone(self);
            tokio::spawn(async move { queue.drain().await });
        }
    }

    /// Writes as fast as the client reads. One that takes no byte for as long as the flusher's
    /// patience is cut.
    async fn drain(self: &Arc<Self>) {
        let Some(outlet) = &self.outlet else { return };
        loop {
            if let Err(error) = self.writable(outlet).await {
                return self.abandon(reason(&error));
            }
            if self.write(outlet) {
                return;
            }
        }
    }

    /// Writes what waits; `false` where the socket takes no more. What has come meanwhile takes its
    /// turn behind the other queues.
    fn write(self: &Arc<Self>, outlet: &Outlet) -> bool {
        let mut frames = self.take();
        let before = frames.len();
        let (bytes, written) = write_frames(&outlet.socket, &mut frames);
        outlet.flusher.wrote(before - frames.len());
        let is_blocked = match written {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            // Part of a frame may be on its way: nothing can follow it, not even a close.
            Err(error) => {
                self.abandon(reason(&error));
                return true;
            }
        };
        let mut state = self.state.lock();
        if state.ended {
            return true;
        }
        state.bytes -= bytes;
        let is_more = !is_blocked && !state.frames.is_empty();
        if is_blocked {
            frames.append(&mut state.frames);
            state.frames = frames;
        } else if !is_more {
            if frames.capacity() <= FRAMES_KEPT {
                state.frames = frames;
            }
            state.writing = false;
            if state.closing.is_some() {
                state.end();
                let _ = SockRef::from(outlet.socket.as_ref()).shutdown(Shutdown::Write);
            }
        }
        let is_told = state.ended || (state.bytes <= SEND_QUEUE_BYTES_LOW && state.awaited);
        state.awaited &= !is_told;
        drop(state);
        if is_told {
            self.emptied.notify_waiters();
        }
        if is_more {
            outlet.flusher.list(Arc::clone(self));
        }
        !is_blocked
    }

    /// Waits until the client takes something again: as long as the flusher's patience, and of a
    /// connection that is ending only a moment longer.
    async fn writable(&self, outlet: &Outlet) -> io::Result<()> {
        let moment = Duration::from_millis(CLOSE_LINGER_MS);
        let (began, patience) = (Instant::now(), outlet.flusher.patience());
        loop {
            let was_closing = self.closing().is_some();
            match tokio::time::timeout(moment.min(patience), outlet.socket.writable()).await {
                Ok(writable) => return writable,
                Err(_) if was_closing || began.elapsed() >= patience => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(_) => {}
            }
        }
    }
}

/// Writes the frames, as many as the socket takes, and takes them out; gives the bytes of what was
/// written, and why it ended.
fn write_frames(socket: &OwnedWriteHalf, frames: &mut VecDeque<Bytes>) -> (usize, io::Result<()>) {
    let mut total = 0;
    while let Some(front) = frames.front() {
        let written = match frames.len() {
            1 => socket.try_write(front),
            _ if front.len() > GATHERED_BYTES_MAX => socket.try_write(front),
            _ => GATHERED.with_borrow_mut(|gathered| socket.try_write(gather(frames, gathered))),
        };
        let mut written = match written {
            Ok(0) => return (total, Err(io::ErrorKind::WriteZero.into())),
            Ok(written) => written,
            Err(error) => return (total, Err(error)),
        };
        total += written;
        while let Some(front) = frames.front_mut() {
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            frames.pop_front();
        }
    }
    (total, Ok(()))
}

/// As many of the first frames as are written together.
fn gather<'a>(frames: &VecDeque<Bytes>, gathered: &'a mut Vec<u8>) -> &'a [u8] {
    gathered.clear();
    for frame in frames {
        if gathered.len() + frame.len() > GATHERED_BYTES_MAX {
            break;
        }
        gathered.extend_from_slice(frame);
    }
    gathered
}

fn reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::TimedOut => CloseReason::TooSlow,
        _ => CloseReason::ClientGone,
    }
}

impl SendQueue {
    /// Takes what waits in a queue without an outlet, as a client that reads does.
    pub(crate) fn read(&self) -> VecDeque<Bytes> {
        let frames = self.take();
        let mut state = self.state.lock();
        state.bytes -= frames.iter().map(Bytes::len).sum::<usize>();
        drop(state);
        self.emptied.notify_waiters();
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_over_the_bound_are_refused_and_replies_are_not() {
        let queue = Arc::new(SendQueue::default());
        let event = Frame::text(&vec![b'x'; SEND_QUEUE_BYTES_MAX / 2 + 1]);
        assert!(queue.offer(&event));
        assert!(!queue.offer(&event));
        queue.push(Frame::text(b"reply"));
        assert!(!queue.offer(&event));
        assert_eq!(queue.read().len(), 2);
        assert!(queue.low().await);
        assert!(queue.offer(&event));
    }

    #[tokio::test]
    async fn the_first_reason_counts_and_what_was_queued_still_goes_out() {
        let queue = Arc::new(SendQueue::default());
        queue.push(Frame::text(b"last"));
        queue.close(CloseReason::Restart);
        queue.close(CloseReason::TooSlow);
        queue.push(Frame::text(b"late"));
        assert_eq!(queue.read().len(), 2, "what was queued, and why it ends");
        queue.send_elsewhere();
        assert_eq!(queue.ending().await, Ending::Closed(CloseReason::Restart));
        assert!(!queue.low().await);
    }
}
