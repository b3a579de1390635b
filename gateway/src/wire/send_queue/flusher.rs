//! Writes to sockets what gathered for them within a tick.
//!
//! A write costs more than all else that a delivery does, and it costs nearly the same for one
//! frame as for ten. So whoever fills a queue writes nothing: the queue is listed, once, and
//! written when what is ready to run has run. A message's reply and its own event, and what happens
//! at the same time in several rooms of a connection, leave in one write. (uWebSockets calls it
//! corking.) A thousand members of a room cost one wake-up instead of a thousand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntCounter;
use shared::process::tasks::Tasks;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::{Outlet, SendQueue};
use crate::metrics::Metrics;

/// Queues written at a stretch: what else there is to do waits for as many writes at most.
const QUEUES_PER_TURN: usize = 128;

/// The flushers of a node: one for each thread of the runtime, the connections divided among them.
#[derive(Debug)]
pub(crate) struct Flushers {
    each: Vec<Arc<Flusher>>,
    next: AtomicUsize,
}

impl Flushers {
    /// Starts their tasks. A client that takes no byte is waited for as long as `patience`.
    pub(crate) fn start(tasks: &Tasks, patience: Duration, metrics: &Metrics) -> Flushers {
        let start = |_| {
            let (listed, filled) = (Mutex::default(), Notify::new());
            let frames_out = metrics.frames_out_total.clone();
            let flusher = Arc::new(Flusher { listed, filled, patience, frames_out });
            tasks.spawn("flusher", run(Arc::clone(&flusher)));
            flusher
        };
        let threads = Handle::current().metrics().num_workers();
        Flushers { each: (0..threads).map(start).collect(), next: AtomicUsize::new(0) }
    }

    /// The queue of a new connection.
    pub(crate) fn queue(&self, socket: OwnedWriteHalf) -> SendQueue {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.each.len();
        let flusher = Arc::clone(&self.each[place]);
        SendQueue { outlet: Some(Outlet { socket, flusher }), ..SendQueue::default() }
    }
}

/// Queues that have something for their sockets.
#[derive(Debug)]
pub(super) struct Flusher {
    listed: Mutex<Vec<Arc<SendQueue>>>,
    filled: Notify,
    /// How long a client that takes no byte is waited for.
    patience: Duration,
    frames_out: IntCounter,
}

impl Flusher {
    /// Has a queue written, which is not listed.
    pub(super) fn list(&self, queue: Arc<SendQueue>) {
        let mut listed = self.listed.lock();
        listed.push(queue);
        let is_first = listed.len() == 1;
        drop(listed);
        if is_first {
            self.filled.notify_one();
        }
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn wrote(&self, frames: usize) {
        self.frames_out.inc_by(frames as u64);
    }
}

async fn run(flusher: Arc<Flusher>) {
    let mut queues = Vec::new();
    loop {
        flusher.filled.notified().await;
        // What is ready now may fill the same queues.
        tokio::task::yield_now().await;
        std::mem::swap(&mut *flusher.listed.lock(), &mut queues);
        for (place, queue) in queues.drain(..).enumerate() {
            if place % QUEUES_PER_TURN == QUEUES_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            queue.flush();
        }
    }
}
