//! Every connection of this node, and the one timer that looks after all of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use shared::contract::id::UserId;
use shared::contract::refusal::CloseReason;
use tokio::time::{Instant, MissedTickBehavior};

use crate::frame::Frame;
use crate::metrics::Metrics;
use crate::send_queue::SendQueue;

/// The connections by number.
#[derive(Debug)]
pub(crate) struct Connections {
    next: AtomicU64,
    open: DashMap<u64, Arc<Handle>>,
    /// Of those who have said who they are.
    by_user: DashMap<UserId, Vec<Arc<Handle>>>,
    began: Instant,
}

/// What others may do with a connection.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Names it within this node.
    pub(crate) number: u64,
    /// Where its frames go.
    pub(crate) queue: Arc<SendQueue>,
    /// When its client last showed life, in milliseconds since the node began.
    heard_ms: AtomicU64,
    pinged_ms: AtomicU64,
    /// Whose it is, once that is proven.
    user: OnceLock<UserId>,
}

impl Connections {
    pub(crate) fn new() -> Connections {
        let began = Instant::now();
        let (open, by_user) = (DashMap::new(), DashMap::new());
        Connections { next: AtomicU64::new(1), open, by_user, began }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A new connection; whoever opens it also closes it.
    pub(crate) fn open(&self) -> Arc<Handle> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let now_ms = self.now_ms();
        let handle = Arc::new(Handle {
            number,
            queue: Arc::new(SendQueue::default()),
            heard_ms: AtomicU64::new(now_ms),
            pinged_ms: AtomicU64::new(now_ms),
            user: OnceLock::new(),
        });
        self.open.insert(number, Arc::clone(&handle));
        handle
    }

    /// Whose connection it is; said once, at the latest before [`Connections::close`].
    pub(crate) fn identify(&self, handle: &Arc<Handle>, user: &UserId) {
        if handle.user.set(user.clone()).is_ok() {
            self.by_user.entry(user.clone()).or_default().push(Arc::clone(handle));
        }
    }

    pub(crate) fn close(&self, handle: &Handle) {
        self.open.remove(&handle.number);
        if let Some(user) = handle.user.get() {
            self.by_user.remove_if_mut(user, |_, handles| {
                handles.retain(|other| other.number != handle.number);
                handles.is_empty()
            });
        }
    }

    /// Whether a user has a connection.
    pub(crate) fn has(&self, user: &UserId) -> bool {
        self.by_user.contains_key(user)
    }

    /// The connections of a user.
    pub(crate) fn of(&self, user: &UserId) -> Vec<Arc<Handle>> {
        // The guard ends with the statement.
        self.by_user.get(user).map(|handles| handles.clone()).unwrap_or_default()
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many have been opened since the start.
    pub(crate) fn total(&self) -> u64 {
        self.next.load(Ordering::Relaxed) - 1
    }

    /// The client of this connection has shown life.
    pub(crate) fn heard(&self, handle: &Handle) {
        handle.heard_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Pings every client in its turn, and ends those that have not been heard for too long.
    pub(crate) async fn heartbeat(&self, every: Duration, timeout: Duration, metrics: &Metrics) {
        let ping = Frame::ping(b"");
        let tick = (every / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now_ms = self.now_ms();
            let mut waiting = 0;
            // The iterator's guards are held over short sections only, none of which looks at
            // the map again.
            for handle in &self.open {
                waiting += handle.queue.bytes();
                let silent_ms = now_ms.saturating_sub(handle.heard_ms.load(Ordering::Relaxed));
                let pinged_ms = handle.pinged_ms.load(Ordering::Relaxed);
                if u128::from(silent_ms) >= timeout.as_millis() {
                    handle.queue.close(CloseReason::HeartbeatMissed);
                } else if u128::from(now_ms.saturating_sub(pinged_ms)) >= every.as_millis() {
                    handle.pinged_ms.store(now_ms, Ordering::Relaxed);
                    handle.queue.push(ping.clone());
                }
            }
            metrics.send_queue_bytes.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
    }
}
