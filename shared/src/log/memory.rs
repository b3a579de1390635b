//! The log of the embedded mode, in memory.
//!
//! Its entries die with the process, so nothing is shown, in ring, head or publication, before it
//! is in the database: [`Log::trim`] is what makes an entry visible. An append is therefore
//! answered in two steps, a place at once and the outcome after the commit, and a kill takes
//! back only what nobody was told.

mod shard;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use self::shard::{KnownEntry, MemoryShard, Placed};
use super::deliveries::{self, Deliveries, DeliveryReceiver};
use super::{
    Append, AppendBatchResult, AppendStop, Appended, Claim, Delivery, Epoch, Hydration, Log,
    LogEntry, LogError, LogId, PageLimit, Past, Pending, Placement, RejectedEntry, RoomPage,
    Waiting, Watermark,
};
use crate::contract::id::{MessageKey, RoomId, Shard, UserId};
use crate::contract::limits::{HYDRATION_AGE_MS_MAX, MEMORY_LOG_BYTES_MAX};
use crate::contract::position::Position;
use crate::contract::signal::{NodeSignal, ReadMark, Signal};
use crate::process::clock::Clock;

/// The log of one process.
#[derive(Debug)]
pub struct MemoryLog {
    shards: Vec<ShardCell>,
    clock: Clock,
    entries_max: usize,
    bytes_max: usize,
    /// Of all shards' logs.
    bytes: AtomicUsize,
    appended: Notify,
    subscribed: Mutex<HashSet<RoomId>>,
    deliveries: Deliveries,
}

#[derive(Debug)]
struct ShardCell {
    state: Mutex<MemoryShard>,
    /// What of the log is trimmed; a new value wakes those whose appends wait for the commit.
    trimmed: watch::Sender<LogId>,
}

impl MemoryLog {
    /// An empty log whose shards hold at most `entries_max` entries each, and where its
    /// deliveries come out.
    #[must_use]
    pub fn new(clock: Clock, entries_max: usize) -> (MemoryLog, DeliveryReceiver) {
        MemoryLog::within(MEMORY_LOG_BYTES_MAX, clock, entries_max)
    }

    /// As [`MemoryLog::new`], for a log of at most so many bytes, over all shards, and as many that
    /// it delivers.
    #[must_use]
    pub fn within(
        bytes_max: usize,
        clock: Clock,
        entries_max: usize,
    ) -> (MemoryLog, DeliveryReceiver) {
        let (deliveries, receiver) = deliveries::channel(bytes_max);
        let cell = |_| ShardCell {
            state: Mutex::new(MemoryShard::default()),
            trimmed: watch::Sender::new(LogId::ZERO),
        };
        let log = MemoryLog {
            shards: Shard::all().map(cell).collect(),
            clock,
            entries_max,
            bytes_max,
            bytes: AtomicUsize::new(0),
            appended: Notify::new(),
            subscribed: Mutex::new(HashSet::new()),
            deliveries,
        };
        (log, receiver)
    }

    fn shard(&self, shard: Shard) -> &ShardCell {
        &self.shards[usize::from(shard.number())]
    }

    fn append_now(
        &self,
        shard: Shard,
        epoch: u64,
        entries: &[Append],
    ) -> (Vec<Option<Placed>>, Option<AppendStop>) {
        let now_ms = self.clock.now_ms();
        let mut state = self.shard(shard).state.lock();
        state.sweep(now_ms);
        if state.epoch() != Some(epoch) {
            return (Vec::new(), Some(AppendStop::Stale));
        }
        let mut done = Vec::with_capacity(entries.len());
        let mut stop = None;
        for entry in entries {
            let full = state.len() >= self.entries_max
                || self.bytes.load(Ordering::Relaxed) >= self.bytes_max;
            let before = state.bytes();
            match state.append(epoch, entry, full) {
                Ok(appended) => done.push(appended),
                Err(reason) => {
                    stop = Some(reason);
                    break;
                }
            }
            self.bytes.fetch_add(state.bytes() - before, Ordering::Relaxed);
        }
        drop(state);
        self.appended.notify_waiters();
        (done, stop)
    }

    /// Waits until the log is trimmed up to `upto`, which is when its entries have their outcome.
    async fn trimmed(&self, shard: Shard, upto: LogId) {
        let mut trimmed = self.shard(shard).trimmed.subscribe();
        // The sender lives as long as the log, so the wait ends only with the condition.
        let _ = trimmed.wait_for(|at| *at >= upto).await;
    }

    /// What became of an entry; what was forgotten since is in the database.
    fn outcome(&self, entry: &Append, placed: Placed) -> Appended {
        let envelope = &entry.envelope;
        let known = self.shard(envelope.room.shard()).state.lock().remembered(envelope);
        let stored = Appended::Placed(Placement::stored(placed.position));
        match known.map_or(stored, KnownEntry::appended) {
            Appended::Placed(place) => {
                Appended::Placed(Placement { duplicate: placed.duplicate, ..place })
            }
            rejected => rejected,
        }
    }

    /// Whether a room's entries and signals are delivered from now on.
    pub fn set_subscribed(&self, room: &RoomId, subscribed: bool) {
        let mut rooms = self.subscribed.lock();
        if subscribed {
            rooms.insert(room.clone())
        } else {
            rooms.remove(room)
        };
    }

    /// Forgets ids and rooms whose time has come; called now and then.
    pub fn sweep(&self) {
        let now_ms = self.clock.now_ms();
        for cell in &self.shards {
            cell.state.lock().sweep(now_ms);
        }
    }

    /// Delivers a signal to this node, where its room is subscribed.
    pub fn deliver(&self, signal: &Signal) {
        let heard = match signal {
            Signal::Room { room, .. } => self.subscribed.lock().contains(room),
            Signal::Nodes(_) => true,
        };
        if heard {
            self.deliveries.put(Delivery::Signal(signal.clone()));
        }
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn claim(&self, shard: Shard, at_least: u64, token: Uuid) -> Result<Claim, LogError> {
        Ok(self.shard(shard).state.lock().claim(at_least, token))
    }

    async fn arm(
        &self,
        shard: Shard,
        token: Uuid,
        epoch: Epoch,
        // Nothing that lies here was ever lost: what the database has will be trimmed.
        _cursor: LogId,
    ) -> Result<Option<Epoch>, LogError> {
        Ok(self.shard(shard).state.lock().arm(token, epoch))
    }

    async fn wait(
        &self,
        after: &[(Shard, LogId)],
        patience: Duration,
    ) -> Result<Vec<Waiting>, LogError> {
        let ready = || -> Vec<Waiting> {
            let above = after.iter().map(|&(shard, at)| {
                let state = self.shard(shard).state.lock();
                let (entries, bytes) = (state.above(at) as u64, state.bytes() as u64);
                Waiting { shard, entries, entry_bytes: bytes / (state.len() as u64).max(1) }
            });
            above.filter(|waiting| waiting.entries > 0).collect()
        };
        // Listen first, look then: an append between the two is not missed.
        let appended = self.appended.notified();
        tokio::pin!(appended);
        appended.as_mut().enable();
        let now = ready();
        if !now.is_empty() {
            return Ok(now);
        }
        let _ = tokio::time::timeout(patience, appended).await;
        Ok(ready())
    }

    async fn read(
        &self,
        shard: Shard,
        epoch: u64,
        after: LogId,
        most: PageLimit,
    ) -> Result<Vec<LogEntry>, LogError> {
        let state = self.shard(shard).state.lock();
        state.expect_epoch(epoch)?;
        Ok(state.read(after, most))
    }

    async fn len(&self, shard: Shard) -> Result<u64, LogError> {
        Ok(self.shard(shard).state.lock().len() as u64)
    }

    async fn trim(&self, watermark: &Watermark) -> Result<(), LogError> {
        let cell = self.shard(watermark.shard);
        {
            let mut state = cell.state.lock();
            state.expect_epoch(watermark.epoch)?;
            let before = state.bytes();
            let visible = state.trim(watermark, self.clock.now_ms());
            self.bytes.fetch_sub(before - state.bytes(), Ordering::Relaxed);
            // Under the lock, so that two trims of a shard cannot publish in another order.
            let subscribed = self.subscribed.lock();
            for (room, delivery) in visible {
                if subscribed.contains(&room) {
                    self.deliveries.put(delivery);
                }
            }
            self.deliveries.put(Delivery::Watermark(watermark.clone()));
        }
        cell.trimmed.send_if_modified(|at| {
            let newer = watermark.upto > *at;
            *at = watermark.upto.max(*at);
            newer
        });
        Ok(())
    }

    async fn append(
        &self,
        shard: Shard,
        epoch: u64,
        entries: &[Append],
        past: Past,
    ) -> Result<AppendBatchResult, LogError> {
        if past != Past::Nothing {
            return Ok(AppendBatchResult { done: Vec::new(), stop: None });
        }
        let (done, stop) = self.append_now(shard, epoch, entries);
        if let Some(last) = done.iter().flatten().map(|placed| placed.log_id).max() {
            self.trimmed(shard, last).await;
        }
        let outcome = |(entry, placed): (&Append, Option<Placed>)| {
            placed.map_or(Appended::Conflict, |placed| self.outcome(entry, placed))
        };
        Ok(AppendBatchResult { done: entries.iter().zip(done).map(outcome).collect(), stop })
    }

    async fn known(&self, identity: &MessageKey) -> Result<Option<Appended>, LogError> {
        let known = self.shard(identity.room.shard()).state.lock().known(identity);
        Ok(known.map(KnownEntry::appended))
    }

    async fn knows(&self, rooms: &[RoomId]) -> Result<Vec<bool>, LogError> {
        Ok(vec![false; rooms.len()])
    }

    async fn lift(&self, _room: &RoomId, _refused: Position) -> Result<(), LogError> {
        Ok(())
    }

    async fn forget(&self, shard: Shard, epoch: u64, _upto: LogId) -> Result<(), LogError> {
        // What is persisted is gone since it was trimmed.
        self.shard(shard).state.lock().expect_epoch(epoch)
    }

    async fn is_short(&self) -> Result<bool, LogError> {
        Ok(false)
    }

    async fn room(
        &self,
        room: &RoomId,
        epoch: u64,
        after: Position,
        limit: usize,
    ) -> Result<Option<RoomPage>, LogError> {
        let state = self.shard(room.shard()).state.lock();
        state.expect_epoch(epoch)?;
        Ok(state.room(room, after, limit))
    }

    async fn refused(&self, _room: &RoomId) -> Result<Vec<RejectedEntry>, LogError> {
        Ok(Vec::new())
    }

    async fn latest(
        &self,
        room: &RoomId,
        epoch: u64,
        limit: usize,
    ) -> Result<Option<RoomPage>, LogError> {
        let state = self.shard(room.shard()).state.lock();
        state.expect_epoch(epoch)?;
        Ok(state.latest(room, limit))
    }

    async fn receipts(&self, room: &RoomId) -> Result<Vec<ReadMark>, LogError> {
        Ok(self.shard(room.shard()).state.lock().receipts(room))
    }

    async fn pending(&self, user: &UserId) -> Result<Pending, LogError> {
        let moved = self.shards.iter().map(|cell| cell.state.lock().unsynced(user));
        Ok(moved.fold(Pending::default(), Pending::add))
    }

    async fn synced(&self, shard: Shard) -> Result<LogId, LogError> {
        Ok(self.shard(shard).state.lock().synced())
    }

    async fn forget_ring(&self, room: &RoomId, epoch: u64) -> Result<(), LogError> {
        {
            let mut state = self.shard(room.shard()).state.lock();
            state.expect_epoch(epoch)?;
            state.forget_ring(room);
        }
        self.deliver(&Signal::Nodes(NodeSignal::Erased { room: room.clone() }));
        Ok(())
    }

    async fn now_ms(&self) -> Result<i64, LogError> {
        Ok(self.clock.now_ms())
    }

    async fn hydrate(&self, epoch: u64, hydration: &Hydration) -> Result<(), LogError> {
        let now_ms = self.clock.now_ms();
        let mut state = self.shard(hydration.shard).state.lock();
        state.expect_epoch(epoch)?;
        if now_ms - hydration.asked_at_ms <= HYDRATION_AGE_MS_MAX {
            for (room, head) in &hydration.heads {
                state.hydrate(room, *head, now_ms);
            }
        }
        Ok(())
    }
}
