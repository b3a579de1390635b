//! The log: orders each room, and is what the database is filled from.
//!
//! One log per shard, one ring per room. The gateway's broker appends; the sync-worker reads, and
//! trims what it has committed; a room that synchronises reads the ring.

pub mod memory;
pub mod redis;
pub mod deliveries;
mod append;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::contract::envelope::Envelope;
use crate::contract::id::{MessageId, MessageKey, RoomId, Shard, UserId};
use crate::contract::limits::{ID_BYTES_MAX, LOG_READ_BYTES_MAX};
use crate::contract::position::Position;
use crate::contract::refusal::Refusal;
use crate::contract::signal::{ReadMark, RoomSignal, Signal};
use crate::contract::timestamp::Timestamp;

pub use self::append::{Append, AppendBatchResult, AppendStop, Appended, Past, Placement};

/// The place of an entry in its shard's log: `<epoch>-<n>`, no clock involved.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogId {
    /// The epoch under which it was appended.
    pub epoch: u64,
    /// Counts the shard's entries.
    pub n: u64,
}

impl LogId {
    /// Before everything.
    pub const ZERO: LogId = LogId { epoch: 0, n: 0 };
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.epoch, self.n)
    }
}

/// What waits in a shard's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which shard.
    pub shard: Shard,
    /// Entries, about.
    pub entries: u64,
    /// Bytes of the envelope of one of them, about.
    pub entry_bytes: u64,
}

/// How much of a log is read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// Most entries.
    pub entries: usize,
    /// Bytes of their envelopes at which it ends; the first entry is read whatever it has.
    pub bytes: usize,
}

impl PageLimit {
    /// So many entries, within the bytes of one reading
    /// ([`LOG_READ_BYTES_MAX`]).
    #[must_use]
    pub fn entries(entries: usize) -> PageLimit {
        PageLimit { entries, bytes: LOG_READ_BYTES_MAX }
    }
}

/// How much was ever appended to a shard's log: two of them say what lies between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogLoad {
    /// Entries.
    pub entries: u64,
    /// Bytes of their envelopes.
    pub bytes: u64,
}

/// What lies in a shard's log.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Its place in the log.
    pub id: LogId,
    /// Its place in the room's order; `None` for what has none (receipts, credits).
    pub position: Option<Position>,
    /// The encoded envelope.
    pub raw: Bytes,
    /// What was appended up to it, itself included; nothing where nobody has to know.
    pub load: LogLoad,
}

impl From<LogId> for Position {
    /// Stands in for the place in a room's order of what has none.
    fn from(id: LogId) -> Position {
        Position::new(id.epoch, id.n)
    }
}

impl From<Position> for LogId {
    fn from(place: Position) -> LogId {
        LogId { epoch: place.epoch, n: place.seq }
    }
}

/// What lies in a room's ring, and what is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingEntry {
    /// Its place in the room's order.
    pub position: Position,
    /// The encoded envelope.
    pub raw: Bytes,
}

/// A part of a room's ring.
#[derive(Clone, Debug)]
pub struct RoomPage {
    /// The last position given to anyone in this room.
    pub head: Position,
    /// Up to where the room is in the database.
    pub persisted: Position,
    /// The ring's first entry of its newest epoch; from there on the ring is dense. What lies
    /// before it may be in the ring, in the database or in both.
    pub dense_from: Option<Position>,
    /// Entries above the position that was asked for, oldest first.
    pub entries: Vec<RingEntry>,
    /// It ends before the ring does, because of the entries or bytes of one reading.
    pub more: bool,
}

/// An entry that the database refused for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedEntry {
    /// The room in whose order it has a place.
    pub room: RoomId,
    /// Who sent it and is to be told.
    pub user: UserId,
    /// Under which the log remembers it: a change's own id, else the message's.
    pub key: MessageId,
    /// The message it is about.
    pub id: MessageId,
    /// It was an edit or a delete, and the message stands.
    #[serde(default)]
    pub is_change: bool,
    /// Its place.
    pub position: Position,
    /// What the sender is told.
    pub error: Refusal,
}

impl RejectedEntry {
    /// An entry that stands at `position`, and the reason.
    #[must_use]
    pub fn new(envelope: &Envelope, position: Position, error: Refusal) -> RejectedEntry {
        RejectedEntry {
            room: envelope.room.clone(),
            user: envelope.user.clone(),
            key: envelope.key().clone(),
            id: envelope.id.clone(),
            is_change: envelope.change_id.is_some(),
            position,
            error,
        }
    }
}

/// An id that the log remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedId {
    /// In which room.
    pub room: RoomId,
    /// From whom.
    pub user: UserId,
    /// The change's id, or else the message's.
    pub key: MessageId,
    /// It is a movement of credits, whose ids are none of messages.
    pub is_movement: bool,
    /// It is the refusal of what stood there, and is remembered by that place.
    pub refusal_of: Option<Position>,
}

/// How far a shard is in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Which shard.
    pub shard: Shard,
    /// The epoch under which it was read and stored; a promise about entries of that epoch's log.
    pub epoch: u64,
    /// Everything in the log up to here is in the database or among its dead letters.
    pub upto: LogId,
    /// The rooms that moved, and how far each is now; a room that moved in several epochs stands
    /// once for each, in their order.
    pub rooms: Vec<(RoomId, Position)>,
    /// What became a dead letter on the way.
    pub rejected: Vec<RejectedEntry>,
    /// Up to where the log may forget, at most `upto`; a log that outlives its processes keeps
    /// a while of what is persisted, for a database that fails over and forgets.
    #[serde(skip)]
    pub forget: LogId,
    /// Whose balance moved, and to what.
    #[serde(default)]
    pub balances: Vec<(UserId, i64)>,
    /// The ids of what was stored, which need not be remembered for ever now.
    #[serde(skip)]
    pub ids: Vec<RememberedId>,
    /// What was ever appended up to `upto`.
    #[serde(skip)]
    pub load: LogLoad,
    /// The movements of credits among what is covered, which count as unsynced no longer.
    #[serde(skip)]
    pub movements: Vec<Movement>,
}

/// A movement of credits in a shard's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement {
    /// Its place.
    pub id: LogId,
    /// Whose credits.
    pub user: UserId,
    /// Added to the balance.
    pub amount: i64,
    /// Where the database refused it for good: under which id it is remembered, and what whoever
    /// offers it again is told.
    pub refused: Option<(MessageId, Refusal)>,
}

/// What a user's credits have moved that is not in the database yet, or not known to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Credits used.
    pub used: i64,
    /// Credits bought or given back.
    pub gained: i64,
}

impl Pending {
    /// Adds what was moved in one shard.
    pub(crate) fn add(self, moved: i64) -> Pending {
        Pending {
            used: self.used.saturating_add(moved.min(0).saturating_neg()),
            gained: self.gained.saturating_add(moved.max(0)),
        }
    }
}

/// An epoch of a shard, as the database minted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number.
    pub number: u64,
    /// When, by the database's clock.
    pub minted_at: Timestamp,
    /// The shard held nothing younger than 15 minutes then, and the log nothing that was still to
    /// be stored, so that no id offered now can be one that an earlier epoch accepted a moment ago.
    pub quiet: bool,
}

/// What a claim found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The shard has a valid epoch.
    Armed(Epoch),
    /// It has none: have an epoch minted for this token, the claimant's or an earlier one's.
    Token(Uuid),
}

/// What a node hears of the log.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// An entry of a room that is subscribed.
    Entry(RingEntry),
    /// A shard moved on in the database.
    Watermark(Watermark),
    /// Something that has no place in any order.
    Signal(Signal),
    /// Deliveries were lost; every room reads what it missed.
    Gap,
}

impl Delivery {
    /// About how many bytes it takes: ids are taken to be of their greatest length.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let beside = match self {
            Delivery::Entry(entry) => entry.raw.len(),
            Delivery::Watermark(Watermark { rooms, rejected, balances, .. }) => {
                (rooms.len() + rejected.len() + balances.len()) * 4 * ID_BYTES_MAX
            }
            Delivery::Signal(Signal::Room { what: RoomSignal::Stream(part), .. }) => {
                part.delta.len()
            }
            Delivery::Signal(_) | Delivery::Gap => 0,
        };
        size_of::<Delivery>() + 4 * ID_BYTES_MAX + beside
    }
}

/// Why the log did not do it.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The caller's epoch is not the log's; nothing was done. Ask for the epoch anew.
    #[error("the shard's epoch is not {believed}")]
    Stale {
        /// What the caller believed.
        believed: u64,
    },
    /// Away, or unable; what was asked may or may not have been done.
    #[error("the log does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Reads and trims the log. Memory and Redis pass one suite of contract tests.
///
/// A shard is usable once an epoch is armed ([`crate::epoch::establish`]). Every call that names an
/// epoch is refused with [`LogError::Stale`], having done nothing, when the log does not hold it.
#[async_trait]
pub trait Log: std::fmt::Debug + Send + Sync + 'static {
    /// Puts `token` where the shard has no valid epoch, or one below `at_least`; says what stands.
    async fn claim(&self, shard: Shard, at_least: u64, token: Uuid) -> Result<Claim, LogError>;

    /// Makes `epoch` the shard's, if `token` still stands, and gives it as it is then: no longer
    /// quiet where the log has anything left that is to be stored. A log that outlives its
    /// processes may be one that lost entries, or that comes back after it was replaced: it forgets
    /// what lies at or below `cursor`, the database's when the epoch was minted. No batch of an
    /// older epoch is committed after that.
    async fn arm(
        &self,
        shard: Shard,
        token: Uuid,
        epoch: Epoch,
        cursor: LogId,
    ) -> Result<Option<Epoch>, LogError>;

    /// Which of the shards have entries above the given place; waits for the first of them, but no
    /// longer than `patience`.
    async fn wait(
        &self,
        after: &[(Shard, LogId)],
        patience: Duration,
    ) -> Result<Vec<Waiting>, LogError>;

    /// At most `most.entries` above `after`, oldest first, and none any more once they have
    /// `most.bytes`.
    async fn read(
        &self,
        shard: Shard,
        epoch: u64,
        after: LogId,
        most: PageLimit,
    ) -> Result<Vec<LogEntry>, LogError>;

    /// How many entries a shard holds, those included that are persisted and kept a while.
    async fn len(&self, shard: Shard) -> Result<u64, LogError>;

    /// Forgets the log up to the watermark, remembers each room's `persisted`, and publishes the
    /// watermark after every entry that it covers. Idempotent; never moves anything back.
    ///
    /// An entry becomes visible, that is in its room's head, ring and publications, when it is
    /// appended; in a log that dies with its process, only when it is trimmed, so that nobody sees
    /// what a kill can still take back. A rejected entry that nobody has seen is then a
    /// [`Void`](crate::contract::envelope::EntryKind::Void).
    async fn trim(&self, watermark: &Watermark) -> Result<(), LogError>;

    /// Appends to a shard in order until the first stop; what is before it is done. One call per
    /// shard and process at a time. Unavailable: the entries may or may not stand.
    ///
    /// An entry whose id is remembered is answered with the place it has. Every entry that is
    /// placed is delivered to each node that subscribed to its room, in order, at least once, or
    /// that node is told of a gap. A log whose entries nobody sees before they are stored answers
    /// then; it has nothing to take back, and takes nothing of a worker's (`past` something).
    async fn append(
        &self,
        shard: Shard,
        epoch: u64,
        entries: &[Append],
        past: Past,
    ) -> Result<AppendBatchResult, LogError>;

    /// Where an id stands, as long as it is remembered, and whether it is in the database. Of what
    /// stood before the present epoch only that is known which the database did not have then.
    async fn known(&self, identity: &MessageKey) -> Result<Option<Appended>, LogError>;

    /// Forgets a shard's log up to here, all of which is persisted.
    async fn forget(&self, shard: Shard, epoch: u64, upto: LogId) -> Result<(), LogError>;

    /// Whether it is known that the log does not answer, so that nobody need wait for it.
    fn is_away(&self) -> bool {
        false
    }

    /// Whether the log was asked and has said nothing for longer than an answer takes: one that
    /// stands still is known sooner than its connections fail.
    fn is_silent(&self) -> bool {
        false
    }

    /// Whether the log has so little memory left that nothing should be kept that need not be.
    async fn is_short(&self) -> Result<bool, LogError>;

    /// A room's head, and at most `limit` entries of its ring above `after`, within the bytes of
    /// one reading; `None` when the log
    /// does not know the room, or its head was not compared with the database's under this epoch
    /// ([`Log::hydrate`] it).
    async fn room(
        &self,
        room: &RoomId,
        epoch: u64,
        after: Position,
        limit: usize,
    ) -> Result<Option<RoomPage>, LogError>;

    /// As [`Log::room`], with the last entries of the ring.
    async fn latest(
        &self,
        room: &RoomId,
        epoch: u64,
        limit: usize,
    ) -> Result<Option<RoomPage>, LogError>;

    /// What the log's own clock says, in Unix milliseconds; asked before the database is, for
    /// [`Hydration::asked_at_ms`].
    async fn now_ms(&self) -> Result<i64, LogError>;

    /// What the database has refused of a room lately, by place: whatever [`RoomPage::persisted`]
    /// covers and is named here is not in the database. Asked for after it, so that it is named. In
    /// a log that dies with its process nobody is told `persisted` by the place, and it is empty.
    async fn refused(&self, room: &RoomId) -> Result<Vec<RejectedEntry>, LogError>;

    /// Which of these rooms the log knows a head of, in whatever epoch.
    async fn knows(&self, rooms: &[RoomId]) -> Result<Vec<bool>, LogError>;

    /// Forgets that the database has refused what stood here in a room: it is driven again.
    async fn lift(&self, room: &RoomId, refused: Position) -> Result<(), LogError>;

    /// How far users have read a room, as far as the log remembers it.
    async fn receipts(&self, room: &RoomId) -> Result<Vec<ReadMark>, LogError>;

    /// What a user's credits have moved, shard by shard, that is not in the database yet, or was
    /// not a moment ago: a log learns of a commit after it.
    async fn pending(&self, user: &UserId) -> Result<Pending, LogError>;

    /// What a user's credits have moved, over all shards, that is not in the database yet; below 0
    /// for what was used.
    async fn unsynced(&self, user: &UserId) -> Result<i64, LogError> {
        let Pending { used, gained } = self.pending(user).await?;
        Ok(gained.saturating_sub(used))
    }

    /// Up to where the shard's log is in the database, as far as the log remembers it.
    async fn synced(&self, shard: Shard) -> Result<LogId, LogError>;

    /// Forgets the room's ring up to what is persisted, which is read from the database from then
    /// on, and has every node forget what it remembers of it ([`NodeSignal::Erased`]): messages
    /// were erased there.
    ///
    /// [`NodeSignal::Erased`]: crate::contract::signal::NodeSignal::Erased
    async fn forget_ring(&self, room: &RoomId, epoch: u64) -> Result<(), LogError>;

    /// Tells the log the database's head of rooms, once under each epoch: the greater of the two
    /// heads counts from then on, and the ring forgets what the database has. A room whose head was
    /// compared under this epoch stays as it is. An answer of the database older than
    /// [`HYDRATION_AGE_MS_MAX`](crate::contract::limits::HYDRATION_AGE_MS_MAX) is ignored.
    async fn hydrate(&self, epoch: u64, heads: &Hydration) -> Result<(), LogError>;
}

/// Heads of rooms as the database had them.
#[derive(Clone, Debug)]
pub struct Hydration {
    /// The shard of all of them.
    pub shard: Shard,
    /// When the database was asked, by [`Log::now_ms`].
    pub asked_at_ms: i64,
    /// Each room's last position in the database.
    pub heads: Vec<(RoomId, Position)>,
    /// What the database has refused of them lately, and those heads cover.
    pub refused: Vec<RejectedEntry>,
}
