//! All connections of this node, and the one timer that pings them.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use shared::contract::id::UserId;
use shared::contract::refusal::CloseReason;
use shared::process::clock::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior};

use crate::auth::{Identity, TokenSubject};
use crate::wire::frame::Frame;
use crate::wire::send_queue::SendQueue;

/// The connections by number, and those that have said whose they are by user.
#[derive(Debug)]
pub(crate) struct Connections {
    next: AtomicU64,
    /// How many more there may be.
    places: Arc<Semaphore>,
    max: usize,
    open: DashMap<u64, Arc<Handle>>,
    /// Of each nearly always one.
    users: DashMap<UserId, Vec<Arc<Handle>>>,
    began: Instant,
    /// Over how many milliseconds the clients of a leaving node come back.
    window_ms: AtomicU64,
}

/// The shortest time over which the clients of a leaving node come back elsewhere, the longest, and
/// how much each of them adds: so that no more than a thousand come within a second, of any number.
const RECONNECT_WINDOW_MS: u64 = 500;
const RECONNECT_WINDOW_MS_MAX: u64 = 30_000;
const RECONNECT_MS_EACH: u64 = 1;

/// How often it is looked whether frames take too much memory.
const RELIEVE_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes that may wait for a client however little memory there is.
const WAITING_BYTES_LEAST: usize = 4 * 1024;

/// What others may do with a connection.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Names it within this node.
    pub(crate) number: u64,
    /// Where its frames go.
    pub(crate) queue: Arc<SendQueue>,
    /// On whose proof it stands; `None` until it has brought one.
    subject: Mutex<Option<TokenSubject>>,
    /// When its client last showed life, in milliseconds since the node began.
    heard_ms: AtomicU64,
    pinged_ms: AtomicU64,
    /// When its proof ends, in Unix milliseconds.
    expires_ms: AtomicI64,
}

/// From 0 to below 1.
fn chance() -> f64 {
    let random = RandomState::new().hash_one(());
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

impl Handle {
    fn subject(&self) -> Option<TokenSubject> {
        self.subject.lock().clone()
    }
}

impl Connections {
    /// None yet, and at most `max` at a time.
    pub(crate) fn new(max: usize) -> Connections {
        let (next, places, began) =
            (AtomicU64::new(1), Arc::new(Semaphore::new(max)), Instant::now());
        let (open, users) = (DashMap::new(), DashMap::new());
        let window_ms = AtomicU64::new(RECONNECT_WINDOW_MS);
        Connections { next, places, max, open, users, began, window_ms }
    }

    /// How many places are taken, by those that are about to be opened too.
    pub(crate) fn taken(&self) -> usize {
        self.max - self.places.available_permits()
    }

    /// From now on clients are sent away, over `spread`; where that is not long enough for their
    /// number, they are told to come back over a time that grows with it.
    pub(crate) fn begin_leaving(&self, spread: Duration) {
        let clients = u64::try_from(self.len()).unwrap_or(u64::MAX);
        let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        let window_ms = clients.saturating_mul(RECONNECT_MS_EACH).saturating_sub(spread_ms);
        let window_ms = window_ms.clamp(RECONNECT_WINDOW_MS, RECONNECT_WINDOW_MS_MAX);
        self.window_ms.store(window_ms, Ordering::Relaxed);
    }

    /// After how long one client of a leaving node may come back; drawn for each.
    pub(crate) fn reconnect_after_ms(&self) -> u64 {
        (chance() * (self.window_ms.load(Ordering::Relaxed) + 1) as f64) as u64
    }

    /// Sends at most `most` clients elsewhere, one after another over `spread`, each at a moment of
    /// its share of it that chance draws.
    pub(crate) async fn send_elsewhere(&self, most: usize, spread: Duration) {
        // In the order of a hash map: not that in which they came.
        let handles: Vec<_> = self.open.iter().take(most).map(|each| Arc::clone(&each)).collect();
        let (began, each) = (Instant::now(), spread.as_secs_f64() / handles.len().max(1) as f64);
        for (place, handle) in handles.iter().enumerate() {
            let at = began + Duration::from_secs_f64((place as f64 + chance()) * each);
            if at > Instant::now() {
                tokio::time::sleep_until(at).await;
            }
            handle.queue.send_elsewhere();
        }
    }

    /// A place for one more, from before it is upgraded until it has ended; `None` when all are
    /// taken.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A new connection with its queue; whoever opens it also closes it.
    pub(crate) fn open(&self, queue: SendQueue) -> Arc<Handle> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let now_ms = self.now_ms();
        let handle = Arc::new(Handle {
            number,
            queue: Arc::new(queue),
            subject: Mutex::new(None),
            heard_ms: AtomicU64::new(now_ms),
            pinged_ms: AtomicU64::new(now_ms),
            expires_ms: AtomicI64::new(i64::MAX),
        });
        self.open.insert(number, Arc::clone(&handle));
        handle
    }

    pub(crate) fn close(&self, handle: &Handle) {
        self.open.remove(&handle.number);
        let subject = handle.subject();
        if let Some(subject) = subject.as_ref() {
            self.users.remove_if_mut(&subject.user, |_, handles| {
                handles.retain(|other| other.number != handle.number);
                handles.is_empty()
            });
        }
    }

    /// The connection has proven whose it is, or brought another proof of the same user.
    pub(crate) fn identify(&self, handle: &Arc<Handle>, identity: &Identity) {
        let expires_ms = identity.expires_at.map_or(i64::MAX, |at| at.0);
        handle.expires_ms.store(expires_ms, Ordering::Relaxed);
        let subject = identity.subject();
        // The guard of the entry ends before the next lock is taken.
        let mut handles =
            self.users.entry(subject.user.clone()).or_insert_with(|| Vec::with_capacity(1));
        if !handles.iter().any(|other| other.number == handle.number) {
            handles.push(Arc::clone(handle));
        }
        drop(handles);
        *handle.subject.lock() = Some(subject);
    }

    /// Whether a user has a connection.
    pub(crate) fn has(&self, user: &UserId) -> bool {
        self.users.contains_key(user)
    }

    /// Every connection of a user on this node.
    pub(crate) fn of(&self, user: &UserId) -> Vec<Arc<Handle>> {
        // The guard ends with the statement.
        self.users.get(user).map(|handles| handles.clone()).unwrap_or_default()
    }

    /// Ends the connections whose proofs are such.
    pub(crate) fn close_where(&self, reason: CloseReason, is_such: impl Fn(&TokenSubject) -> bool) {
        // The iterator's guards are held over short sections, none of which looks at the map again.
        for handle in &self.open {
            if handle.subject().as_ref().is_some_and(&is_such) {
                handle.queue.close(reason);
            }
        }
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
    pub(crate) fn touch(&self, handle: &Handle) {
        handle.heard_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Bytes that wait for clients.
    pub(crate) fn waiting(&self) -> usize {
        self.open.iter().map(|handle| handle.queue.bytes()).sum()
    }

    /// Cuts those for whom most waits, as long as what waits for all of them is too much by some
    /// bytes: they do not read, or not fast enough, and the others need the memory.
    pub(crate) async fn relieve(&self, excess: impl Fn() -> usize) {
        let mut ticks = tokio::time::interval(RELIEVE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut excess = excess();
            if excess == 0 {
                continue;
            }
            let waiting = self.open.iter().map(|handle| (handle.queue.bytes(), handle.number));
            let mut waiting: Vec<(usize, u64)> =
                waiting.filter(|(bytes, _)| *bytes > WAITING_BYTES_LEAST).collect();
            waiting.sort_unstable();
            while let Some((bytes, number)) = waiting.pop().filter(|_| excess > 0) {
                if let Some(handle) = self.open.get(&number) {
                    handle.queue.abandon(CloseReason::TooSlow);
                }
                excess = excess.saturating_sub(bytes);
            }
        }
    }

    /// Pings every client in its turn, and ends those that have not been heard for too long or
    /// whose proof has ended. One loop over all of them, which is a second late at most: a timer of
    /// each would be set anew with every message. A time in which this process itself stood still
    /// is nobody's silence.
    pub(crate) async fn heartbeat(&self, (every, timeout): (Duration, Duration), clock: &Clock) {
        let ping = Frame::ping(b"");
        let tick = (every / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            let late = last.elapsed().saturating_sub(2 * tick);
            let late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
            last = Instant::now();
            let (now_ms, unix_ms) = (self.now_ms(), clock.now_ms());
            // The iterator's guards are held over short sections only, none of which looks at
            // the map again.
            for handle in &self.open {
                if late_ms > 0 {
                    handle.heard_ms.fetch_add(late_ms, Ordering::Relaxed);
                }
                let silent_ms = now_ms.saturating_sub(handle.heard_ms.load(Ordering::Relaxed));
                let pinged_ms = handle.pinged_ms.load(Ordering::Relaxed);
                if u128::from(silent_ms) >= timeout.as_millis() {
                    handle.queue.close(CloseReason::HeartbeatMissed);
                } else if handle.expires_ms.load(Ordering::Relaxed) <= unix_ms {
                    handle.queue.close(CloseReason::Unauthenticated);
                } else if u128::from(now_ms.saturating_sub(pinged_ms)) >= every.as_millis() {
                    handle.pinged_ms.store(now_ms, Ordering::Relaxed);
                    handle.queue.push(ping.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clients_are_sent_away_evenly_and_no_more_of_them_than_asked() {
        let connections = Arc::new(Connections::new(300));
        let open: Vec<_> = (0..300).map(|_| connections.open(SendQueue::default())).collect();
        let gone = || open.iter().filter(|handle| handle.queue.is_sent_elsewhere()).count();
        let sending = Arc::clone(&connections);
        let task =
            tokio::spawn(async move { sending.send_elsewhere(200, Duration::from_secs(10)).await });
        for second in 0..10 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let (expected, found) = ((second + 1) * 20, gone());
            assert!(found.abs_diff(expected) <= 1, "{found} of {expected} by then");
        }
        task.await.unwrap();
        assert_eq!(gone(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_while_the_process_stands_still_is_not_at_fault() {
        let connections = Arc::new(Connections::new(1));
        let handle = connections.open(SendQueue::default());
        let watched = Arc::clone(&connections);
        let (every, timeout) = (Duration::from_secs(30), Duration::from_secs(60));
        tokio::spawn(async move { watched.heartbeat((every, timeout), &Clock::system()).await });
        tokio::time::sleep(Duration::from_secs(10)).await;
        tokio::time::advance(10 * timeout).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(handle.queue.closing(), None);
        tokio::time::sleep(timeout).await;
        assert_eq!(handle.queue.closing(), Some(CloseReason::HeartbeatMissed));
    }

    #[test]
    fn the_clients_of_a_leaving_node_come_back_over_a_time_that_grows_with_their_number() {
        for (clients, window_ms) in [(0, 500), (3, 500), (2000, 2000), (40_000, 30_000)] {
            let connections = Connections::new(clients);
            let _open: Vec<_> =
                (0..clients).map(|_| connections.open(SendQueue::default())).collect();
            connections.begin_leaving(Duration::ZERO);
            let drawn: Vec<u64> = (0..1000).map(|_| connections.reconnect_after_ms()).collect();
            assert!(drawn.iter().all(|after_ms| *after_ms <= window_ms), "{clients}");
            let quarter = |number: u64| {
                let range = window_ms / 4 * number..window_ms / 4 * (number + 1);
                drawn.iter().filter(|after_ms| range.contains(after_ms)).count()
            };
            // A quarter of a thousand each, with chance's share.
            assert!((0..4).all(|number| quarter(number) > 100), "{clients}");
        }
    }
}
