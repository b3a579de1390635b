//! One shard of the log in memory. Pure: no locks, no clock.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use uuid::Uuid;

use crate::contract::credit::CreditEntry;
use crate::contract::envelope::{EntryKind, Envelope};
use crate::contract::id::{MessageId, MessageKey, RoomId, UserId};
use crate::contract::limits::{ID_MEMORY_MS, RING_BYTES_MAX, RING_ENTRIES, ROOM_MEMORY_MS};
use crate::contract::position::Position;
use crate::contract::refusal::Refusal;
use crate::contract::signal::{ReadMark, RoomSignal, Signal};
use crate::log::{
    Append, AppendStop, Appended, Claim, Delivery, Epoch, LogEntry, LogError, LogId, LogLoad,
    PageLimit, Placement, RingEntry, RoomPage, Watermark,
};

/// The place of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// In the room's order; of what has no place there, in the log.
    pub position: Position,
    /// In the shard's log.
    pub log_id: LogId,
    /// Its id stood already.
    pub duplicate: bool,
}

/// What became of an entry after its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// On its way.
    Pending,
    /// In the database.
    Persisted,
    /// Among the dead letters.
    Rejected(Refusal),
}

/// Identity is (room, sender, id); movements of credits have a name space of their own.
type Key = (bool, RoomId, UserId, MessageId);

/// An id that is remembered.
#[derive(Clone, Debug)]
pub(super) struct KnownEntry {
    /// Its entry's place in the room's order.
    pub position: Position,
    /// What became of it.
    pub outcome: Outcome,
    log_id: LogId,
    digest: Uuid,
}

impl KnownEntry {
    /// As an append of the same is answered.
    pub(super) fn appended(self) -> Appended {
        let position = self.position;
        match self.outcome {
            Outcome::Rejected(refusal) => Appended::Rejected(refusal),
            Outcome::Persisted => Appended::Placed(Placement::stored(position)),
            Outcome::Pending => {
                Appended::Placed(Placement { position, duplicate: true, persisted: false })
            }
        }
    }
}

#[derive(Debug)]
struct MemoryRoom {
    /// The last position given.
    head: Position,
    /// The last position shown; everything above it waits for the database.
    shown: Position,
    ring: VecDeque<RingEntry>,
    ring_bytes: usize,
    /// When it was last shown something, for forgetting it.
    touched_ms: i64,
}

impl MemoryRoom {
    fn page(&self, (entries, more): (Vec<RingEntry>, bool)) -> RoomPage {
        let mut positions = self.ring.iter().map(|entry| entry.position);
        RoomPage {
            head: self.shown,
            persisted: self.shown,
            dense_from: positions.find(|position| position.epoch == self.shown.epoch),
            entries,
            more,
        }
    }
}

/// One shard.
#[derive(Debug, Default)]
pub(super) struct MemoryShard {
    epoch: Option<Epoch>,
    token: Option<Uuid>,
    last_n: u64,
    log: VecDeque<LogEntry>,
    log_bytes: usize,
    rooms: HashMap<RoomId, MemoryRoom>,
    /// Each room once, by when to look whether it can be forgotten.
    rooms_expiring: VecDeque<(i64, RoomId)>,
    ids: HashMap<Key, KnownEntry>,
    /// How far users have read, as long as the database does not have it.
    receipts: HashMap<(RoomId, UserId), ReadMark>,
    /// What users' credits have moved that the database does not have.
    unsynced: HashMap<UserId, i64>,
    trimmed: LogId,
    ids_expiring: VecDeque<(i64, Key)>,
}

impl MemoryShard {
    pub(super) fn expect_epoch(&self, believed: u64) -> Result<(), LogError> {
        if self.epoch() == Some(believed) { Ok(()) } else { Err(LogError::Stale { believed }) }
    }

    pub(super) fn epoch(&self) -> Option<u64> {
        self.epoch.map(|epoch| epoch.number)
    }

    pub(super) fn claim(&mut self, at_least: u64, token: Uuid) -> Claim {
        match self.epoch {
            Some(epoch) if epoch.number >= at_least => Claim::Armed(epoch),
            Some(_) | None => {
                self.epoch = None;
                Claim::Token(*self.token.get_or_insert(token))
            }
        }
    }

    pub(super) fn arm(&mut self, token: Uuid, epoch: Epoch) -> Option<Epoch> {
        self.token.take_if(|held| *held == token)?;
        let quiet = epoch.quiet && self.log.is_empty();
        self.epoch = Some(Epoch { quiet, ..epoch });
        self.epoch
    }

    /// How many entries lie above a place.
    pub(super) fn above(&self, after: LogId) -> usize {
        self.log.len() - self.log.partition_point(|entry| entry.id <= after)
    }

    pub(super) fn len(&self) -> usize {
        self.log.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.log_bytes
    }

    /// Appends, unless the log is `full` and it is new; none where its id stands with other
    /// content.
    pub(super) fn append(
        &mut self,
        epoch: u64,
        append: &Append,
        full: bool,
    ) -> Result<Option<Placed>, AppendStop> {
        let envelope = &append.envelope;
        let key = key_of(envelope);
        if let Some(known) = self.ids.get(&key) {
            if known.digest != append.digest {
                return Ok(None);
            }
            let KnownEntry { position, log_id, .. } = *known;
            return Ok(Some(Placed { position, log_id, duplicate: true }));
        }
        if full {
            return Err(AppendStop::Full);
        }
        if !envelope.kind.is_placed() {
            return Ok(Some(self.append_unplaced(epoch, append)));
        }
        let room = self.rooms.get_mut(&envelope.room).ok_or(AppendStop::Unhydrated)?;
        room.head = Position::new(epoch, room.head.seq + 1);
        let position = room.head;
        if let Some(cost) = &append.cost {
            self.log(epoch, None, cost);
        }
        let log_id = self.log(epoch, Some(position), envelope);
        let known =
            KnownEntry { position, log_id, digest: append.digest, outcome: Outcome::Pending };
        self.ids.insert(key, known);
        Ok(Some(Placed { position, log_id, duplicate: false }))
    }

    /// A receipt, or a movement of credits on its own.
    fn append_unplaced(&mut self, epoch: u64, append: &Append) -> Placed {
        let envelope = &append.envelope;
        if let Some(mark) = read_mark(envelope) {
            let key = (envelope.room.clone(), mark.user.clone());
            if self.receipts.get(&key).is_some_and(|held| held.position >= mark.position) {
                return Placed { position: Position::ZERO, log_id: LogId::ZERO, duplicate: true };
            }
            self.receipts.insert(key, mark);
            let log_id = self.log(epoch, None, envelope);
            return Placed { position: log_id.into(), log_id, duplicate: false };
        }
        let log_id = self.log(epoch, None, envelope);
        let (position, digest) = (log_id.into(), append.digest);
        let known = KnownEntry { position, log_id, digest, outcome: Outcome::Pending };
        self.ids.insert(key_of(envelope), known);
        Placed { position, log_id, duplicate: false }
    }

    fn log(&mut self, epoch: u64, position: Option<Position>, envelope: &Envelope) -> LogId {
        self.last_n += 1;
        let id = LogId { epoch, n: self.last_n };
        let raw = encode(envelope);
        self.log_bytes += raw.len();
        self.log.push_back(LogEntry { id, position, raw, load: LogLoad::default() });
        if let Some(amount) = amount(envelope) {
            *self.unsynced.entry(envelope.user.clone()).or_default() += amount;
        }
        id
    }

    pub(super) fn unsynced(&self, user: &UserId) -> i64 {
        self.unsynced.get(user).copied().unwrap_or(0)
    }

    pub(super) fn synced(&self) -> LogId {
        self.trimmed
    }

    pub(super) fn receipts(&self, room: &RoomId) -> Vec<ReadMark> {
        let held = self.receipts.iter().filter(|((of, _), _)| of == room);
        held.map(|(_, mark)| mark.clone()).collect()
    }

    pub(super) fn forget_ring(&mut self, room: &RoomId) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.ring.clear();
            room.ring_bytes = 0;
        }
    }

    pub(super) fn known(&self, MessageKey { room, user, id }: &MessageKey) -> Option<KnownEntry> {
        self.ids.get(&(false, room.clone(), user.clone(), id.clone())).cloned()
    }

    /// What is remembered of an entry.
    pub(super) fn remembered(&self, envelope: &Envelope) -> Option<KnownEntry> {
        self.ids.get(&key_of(envelope)).cloned()
    }

    pub(super) fn read(&self, after: LogId, most: PageLimit) -> Vec<LogEntry> {
        let start = self.log.partition_point(|entry| entry.id <= after);
        let entries = self.log.iter().skip(start);
        readable(entries, most, |entry| entry.raw.len()).0
    }

    /// Drops the log up to the watermark; gives back what became visible by that, in order.
    pub(super) fn trim(&mut self, watermark: &Watermark, now_ms: i64) -> Vec<(RoomId, Delivery)> {
        let trimmed = self.log.partition_point(|entry| entry.id <= watermark.upto);
        let entries: Vec<LogEntry> = self.log.drain(..trimmed).collect();
        self.log_bytes -= entries.iter().map(|entry| entry.raw.len()).sum::<usize>();
        self.trimmed = self.trimmed.max(watermark.upto);
        let mut visible = Vec::with_capacity(entries.len());
        for entry in entries {
            let envelope = Envelope::decode(&entry.raw).expect("this log encoded it");
            let rejected = watermark
                .rejected
                .iter()
                .find(|r| Some(r.position) == entry.position && r.room == envelope.room);
            let mut movements = watermark.movements.iter();
            let movement = movements.find(|m| m.id == entry.id).and_then(|m| m.refused.as_ref());
            let refusal = rejected.map(|r| &r.error).or(movement.map(|(_, refusal)| refusal));
            self.remember(&envelope, refusal, now_ms);
            if let Some(position) = entry.position {
                let raw = if rejected.is_some() { void(envelope.clone()) } else { entry.raw };
                let shown = RingEntry { position, raw };
                self.show(&envelope.room, shown.clone(), now_ms);
                visible.push((envelope.room, Delivery::Entry(shown)));
            } else if let Some(mark) = read_mark(&envelope) {
                let key = (envelope.room.clone(), mark.user.clone());
                // One that was overtaken meanwhile waits for its own entry.
                if self.receipts.get(&key) == Some(&mark) {
                    self.receipts.remove(&key);
                }
                let room = envelope.room;
                let signal = Signal::Room { room: room.clone(), what: RoomSignal::Receipt(mark) };
                visible.push((room, Delivery::Signal(signal)));
            } else if let Some(amount) = amount(&envelope) {
                let held = self.unsynced.entry(envelope.user.clone()).or_default();
                *held -= amount;
                if *held == 0 {
                    self.unsynced.remove(&envelope.user);
                }
            }
        }
        visible
    }

    fn remember(&mut self, envelope: &Envelope, refusal: Option<&Refusal>, now_ms: i64) {
        let key = key_of(envelope);
        if let Some(known) = self.ids.get_mut(&key) {
            known.outcome = match refusal {
                Some(refusal) => Outcome::Rejected(refusal.clone()),
                None => Outcome::Persisted,
            };
            self.ids_expiring.push_back((now_ms + ID_MEMORY_MS, key));
        }
    }

    fn show(&mut self, room: &RoomId, entry: RingEntry, now_ms: i64) {
        let Some(room) = self.rooms.get_mut(room) else { return };
        room.shown = entry.position;
        room.touched_ms = now_ms;
        room.ring_bytes += entry.raw.len();
        room.ring.push_back(entry);
        while room.ring.len() > RING_ENTRIES || room.ring_bytes > RING_BYTES_MAX {
            let Some(oldest) = room.ring.pop_front() else { break };
            room.ring_bytes -= oldest.raw.len();
        }
    }

    pub(super) fn room(&self, room: &RoomId, after: Position, limit: usize) -> Option<RoomPage> {
        let room = self.rooms.get(room)?;
        let start = room.ring.partition_point(|entry| entry.position <= after);
        let entries = room.ring.iter().skip(start);
        Some(room.page(readable(entries, PageLimit::entries(limit), |entry| entry.raw.len())))
    }

    pub(super) fn latest(&self, room: &RoomId, limit: usize) -> Option<RoomPage> {
        let room = self.rooms.get(room)?;
        let (entries, most) = (room.ring.iter().rev(), PageLimit::entries(limit));
        let (mut entries, more) = readable(entries, most, |entry| entry.raw.len());
        entries.reverse();
        Some(room.page((entries, more)))
    }

    pub(super) fn hydrate(&mut self, room: &RoomId, head: Position, now_ms: i64) {
        if !self.rooms.contains_key(room) {
            let ring = VecDeque::new();
            let (ring_bytes, touched_ms) = (0, now_ms);
            let cold = MemoryRoom { head, shown: head, ring, ring_bytes, touched_ms };
            self.rooms.insert(room.clone(), cold);
            self.rooms_expiring.push_back((now_ms + ROOM_MEMORY_MS, room.clone()));
        }
    }

    /// Forgets ids that were trimmed long ago, and rooms of which the database has everything and
    /// that nobody wrote to for long.
    pub(super) fn sweep(&mut self, now_ms: i64) {
        while self.ids_expiring.front().is_some_and(|(at, _)| *at <= now_ms) {
            if let Some((_, key)) = self.ids_expiring.pop_front() {
                self.ids.remove(&key);
            }
        }
        while self.rooms_expiring.front().is_some_and(|(at, _)| *at <= now_ms) {
            let Some((_, id)) = self.rooms_expiring.pop_front() else { break };
            let Some(room) = self.rooms.get(&id) else { continue };
            let due_ms = room.touched_ms + ROOM_MEMORY_MS;
            if room.head == room.shown && due_ms <= now_ms {
                self.rooms.remove(&id);
            } else {
                self.rooms_expiring.push_back((due_ms.max(now_ms + 1), id));
            }
        }
    }
}

/// What one reading gives of these: so many, and none any more once they have their bytes; and
/// whether there are more.
fn readable<'a, E: Clone + 'a>(
    mut entries: impl Iterator<Item = &'a E>,
    most: PageLimit,
    size: fn(&E) -> usize,
) -> (Vec<E>, bool) {
    let (mut read, mut bytes) = (Vec::new(), 0);
    while read.len() < most.entries && (bytes < most.bytes || read.is_empty()) {
        let Some(entry) = entries.next() else { return (read, false) };
        bytes += size(entry);
        read.push(entry.clone());
    }
    (read, entries.next().is_some())
}

fn key_of(envelope: &Envelope) -> Key {
    let Envelope { kind, room, user, .. } = envelope;
    (*kind == EntryKind::Usage, room.clone(), user.clone(), envelope.key().clone())
}

/// The mark of a receipt.
fn read_mark(envelope: &Envelope) -> Option<ReadMark> {
    let is_receipt = envelope.kind == EntryKind::Receipt;
    is_receipt.then(|| serde_json::from_slice(&envelope.body).ok()).flatten()
}

/// What a movement of credits adds.
fn amount(envelope: &Envelope) -> Option<i64> {
    let is_usage = envelope.kind == EntryKind::Usage;
    let entry = is_usage.then(|| serde_json::from_slice::<CreditEntry>(&envelope.body).ok());
    entry.flatten().map(|entry| entry.amount)
}

fn encode(envelope: &Envelope) -> Bytes {
    // The limits on content, metadata and ids leave room in an envelope, see `limits`.
    envelope.encode().map(Bytes::from).expect("a checked message fits in an envelope")
}

fn void(envelope: Envelope) -> Bytes {
    encode(&Envelope { kind: EntryKind::Void, body: Bytes::new(), ..envelope })
}
