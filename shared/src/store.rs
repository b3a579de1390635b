//! The store: the trait in front of the database.
//!
//! `SQLite` and Postgres pass one suite of contract tests.

pub mod postgres;
pub mod sqlite;
mod naming;
mod reconcile;
mod erasure;
mod ledger;
mod members;
mod receipts;
mod additions;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::contract::id::{MessageId, MessageKey, RoomId, Shard, UserId};
use crate::contract::limits::SHARDS;
use crate::contract::message::{Message, Metadata};
use crate::contract::position::Position;
use crate::contract::refusal::{Refusal, RefusalCode};
use crate::contract::signal::ReadMark;
use crate::contract::timestamp::Timestamp;
use crate::log::{Epoch, LogId, RejectedEntry};

pub use self::additions::{Additions, PlacedRefusal, Unplaced};
pub use self::erasure::{Erased, ErasedStep, Erasure};
pub use self::ledger::{CreditRow, Ledger, Reconciliation};
pub use self::members::{Member, MemberRole, Members, Revocation, RevokedSubject};
pub use self::receipts::Receipts;

/// How far a shard is in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The last log entry that was committed.
    pub upto: LogId,
    /// The newest epoch minted for the shard; 0 before the first.
    pub epoch: u64,
}

/// What an edit or a delete does.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Another content.
    Edit {
        /// The new text.
        content: String,
        /// The new metadata; `None` keeps the old.
        metadata: Option<Metadata>,
    },
    /// Nothing is left but the place.
    Delete,
}

/// An edit or a delete, with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageChange {
    /// The message's room.
    pub room: RoomId,
    /// Who changed it.
    pub user: UserId,
    /// Who sent the message; `None` where the entry does not say: then the changer's own message is
    /// meant, else the first of its id.
    pub author: Option<UserId>,
    /// The message.
    pub id: MessageId,
    /// The change's own id.
    pub change_id: MessageId,
    /// The change's place.
    pub position: Position,
    /// When.
    pub at: Timestamp,
    /// What.
    pub change: Change,
}

/// What an entry of the log becomes in the database.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// A new message, with its position.
    Message(Message),
    /// A change of one.
    Change(MessageChange),
    /// How far somebody has read.
    Receipt {
        /// In which room.
        room: RoomId,
        /// How far.
        mark: ReadMark,
    },
    /// A movement of credits.
    Credit(CreditRow),
}

impl Row {
    /// When its entry was accepted.
    pub(crate) fn accepted_at(&self) -> Timestamp {
        match self {
            Row::Message(message) => message.created_at,
            Row::Change(change) => change.at,
            Row::Receipt { mark, .. } => mark.read_at,
            Row::Credit(credit) => credit.at,
        }
    }
}

/// An entry that could not be stored, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it lay in the log.
    pub log_id: LogId,
    /// Its place in the room's order.
    pub position: Option<Position>,
    /// What is known of it, where it could be decoded.
    pub room: Option<RoomId>,
    /// Who sent it.
    pub user: Option<UserId>,
    /// The message it is about.
    pub id: Option<MessageId>,
    /// The encoded envelope, so that it can be driven again.
    pub raw: Bytes,
    /// The database's code, or `undecodable`.
    pub code: String,
    /// What the database said.
    pub error: String,
}

/// A worker's claim on shards: a name of its own, and how long it holds without a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Names the worker's process, this run of it.
    pub owner: String,
    /// From each renewal on, by the database's clock, in milliseconds.
    pub ms: u64,
}

/// Everything that one transaction does.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Whose log it was read from.
    pub shard: Shard,
    /// The epoch under which it was read.
    pub epoch: u64,
    /// The cursor it was read from; the transaction is refused if another stands.
    pub after: LogId,
    /// The cursor it leaves.
    pub upto: LogId,
    /// Renewed with it, if it still stands; safety rests on the cursor, not on this.
    pub lease: Option<Lease>,
    /// In the log's order.
    pub rows: Vec<Row>,
    /// What failed before.
    pub dead: Vec<DeadLetter>,
    /// The last position of each room in it, dead letters counted.
    pub heads: Vec<(RoomId, Position)>,
    /// Where rooms say that an earlier entry was refused: the room, the refused entry's place, and
    /// that of the saying.
    pub refusals: Vec<(RoomId, Position, Position)>,
}

/// What a batch really did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Messages that stand now and did not before, under their own id.
    pub inserted: u64,
    /// Messages that stood already, same room and sender, or had been deleted before they came.
    pub duplicates: u64,
    /// Messages that stand now and did not before, under a random id: another room or sender has
    /// theirs.
    pub renamed: u64,
    /// Edits and deletes that were newer than what stood; tombstones of unknown messages counted.
    pub changed: u64,
    /// Edits whose message does not stand: nothing came of them.
    pub orphaned: u64,
    /// Receipts that were greater than what stood.
    pub read: u64,
    /// Movements of credits that are in the ledger now and were not before.
    pub credited: u64,
    /// Movements whose id stands in the ledger with another user or amount: put aside, not counted.
    pub quarantined: u64,
    /// Whose balance moved, each user once, and what it is now.
    pub balances: Vec<(UserId, i64)>,
}

impl Committed {
    /// What was done by both, `later` after this.
    fn add(&mut self, later: Committed) {
        let Committed { inserted, duplicates, renamed, changed, orphaned, .. } = later;
        self.inserted += inserted;
        self.duplicates += duplicates;
        self.renamed += renamed;
        self.changed += changed;
        self.orphaned += orphaned;
        self.read += later.read;
        self.credited += later.credited;
        self.quarantined += later.quarantined;
        self.balances.retain(|(user, _)| later.balances.iter().all(|(moved, _)| moved != user));
        self.balances.extend(later.balances);
    }
}

/// What a round really did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundCommitted {
    /// All its batches together.
    pub done: Committed,
    /// Those that were left out: read from a place or under an epoch that has passed.
    pub fenced: Vec<Shard>,
}

/// What the sender is told of what the database refused with a code.
#[must_use]
pub fn refused_with(code: &str) -> Refusal {
    Refusal::new(RefusalCode::Rejected, format!("the database refused it: {code}"))
}

/// What is told of a message, or of a change of this id, that the database refused with a code.
pub(crate) fn refusal_of(
    (room, user, id, change_id): (RoomId, UserId, MessageId, Option<MessageId>),
    position: Position,
    code: &str,
) -> RejectedEntry {
    let (is_change, key) = (change_id.is_some(), change_id.unwrap_or_else(|| id.clone()));
    RejectedEntry { room, user, key, id, is_change, position, error: refused_with(code) }
}

/// Why the database did not do it. Nothing of the call was done; only a call that writes and ends
/// [`StoreError::Unavailable`] may have been done, when the answer to its commit was lost.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data are at fault (SQLSTATE classes 22 and 23, and their like): trying again is in vain.
    #[error("the database refuses the data: {detail}")]
    Data {
        /// The database's code.
        code: String,
        /// What it said.
        detail: String,
    },
    /// Another has moved the shard's cursor, or a newer epoch was minted: read again.
    #[error("the batch of shard {shard} was read from a place or under an epoch that has passed")]
    Fenced {
        /// Which shard.
        shard: Shard,
    },
    /// Anything else: trying again may help.
    #[error("the database does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Whether the fault may be that of a part: of some row, or of one that others hold for long.
    #[must_use]
    pub fn may_pass_in_parts(&self) -> bool {
        match self {
            StoreError::Data { .. } => true,
            StoreError::Fenced { .. } => false,
            StoreError::Unavailable(source) => postgres::is_held(&**source),
        }
    }
}

/// Which messages of a room are read, from a position that is none of them itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The last that stand below it.
    Before(Position),
    /// The first that stand above it.
    After(Position),
    /// The first whose last change lies above it, in the order of those changes.
    Changes(Position),
    /// The last whose last change lies below it, in the order of those changes.
    LatestChanges(Position),
}

impl Span {
    /// Whether it ends at its position, and is read from there.
    #[must_use]
    pub fn is_backwards(self) -> bool {
        matches!(self, Span::Before(_) | Span::LatestChanges(_))
    }
}

/// Tables that this program must not use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ForeignTables {
    /// A later version of this software wrote them.
    #[error("the database has schema {found}, this program knows schemas up to {known}")]
    Newer {
        /// The schema's number there.
        found: u32,
        /// The newest one this program knows.
        known: u32,
    },
    /// Rooms lie in other shards than this program would look in.
    #[error("the database has {found} shards, this program has {known}")]
    Shards {
        /// What they say.
        found: String,
        /// What this program has.
        known: u16,
    },
}

impl ForeignTables {
    fn check_shards(found: Option<String>) -> Result<(), ForeignTables> {
        match found {
            Some(found) if found == SHARDS.to_string() => Ok(()),
            found => Err(ForeignTables::Shards { found: found.unwrap_or_default(), known: SHARDS }),
        }
    }
}

/// Epochs, cursors and leases of shards.
#[async_trait]
pub trait Shards: Send + Sync + 'static {
    /// Mints an epoch for `token`: the highest of the shard plus one, and at least `at_least`; or
    /// the one that was minted for this token before.
    async fn mint(&self, shard: Shard, token: Uuid, at_least: u64) -> Result<Epoch, StoreError>;

    /// An epoch that was minted before.
    async fn epoch(&self, shard: Shard, number: u64) -> Result<Option<Epoch>, StoreError>;

    /// The log holds an epoch that was never minted here. Says whether that has happened too often
    /// to be a database that was set back: then nobody may go on under this deployment's name.
    async fn foreign_epoch(&self, shard: Shard, number: u64) -> Result<bool, StoreError>;

    /// How far the shard is.
    async fn cursor(&self, shard: Shard) -> Result<Cursor, StoreError>;

    /// Renews the worker's lease and gives the shards that are its own now: at most its even share
    /// of all shards among the live workers. What it holds beyond that is given up, what has
    /// lapsed or belongs to nobody is taken. A worker counts as live from its first call until its
    /// lease lapses.
    async fn lease(&self, lease: &Lease) -> Result<Vec<Shard>, StoreError>;

    /// Gives up everything that `owner` holds, and its place among the live workers.
    async fn release(&self, owner: &str) -> Result<(), StoreError>;
}

/// Writes what a worker has read.
#[async_trait]
pub trait Batches: Send + Sync + 'static {
    /// Stores batches of several shards, each of one, in one transaction, as [`Batches::commit`]
    /// stores a single one. A batch that is fenced is left out, and the others are stored.
    ///
    /// Holds what it locks for a part of the lease only, and gives up what takes longer.
    ///
    /// # Errors
    /// Nothing was stored. Where [`StoreError::may_pass_in_parts`], fewer of them may be.
    async fn commit_round(&self, round: &[Arc<Batch>]) -> Result<RoundCommitted, StoreError>;

    /// Stores a batch: cursor and epoch compared; messages that do not stand yet; changes where
    /// newer (a delete of an unknown message leaves a tombstone that takes the id) and not made
    /// before under the same id; receipts where greater; movements of credits that are not in the
    /// ledger, and balances by the sum of the rows really inserted, in the order of the users; dead
    /// letters; heads where greater; cursor.
    ///
    /// # Errors
    /// [`StoreError::Data`] names the fault of some row: find it with [`Batches::probe`].
    async fn commit(&self, batch: &Batch) -> Result<Committed, StoreError>;

    /// Tries rows as [`Batches::commit`] would, and undoes them.
    async fn probe(&self, rows: &[Row]) -> Result<(), StoreError>;
}

/// Messages, and where they stand.
#[async_trait]
pub trait Messages: Send + Sync + 'static {
    /// The last position of each room, [`Position::ZERO`] where nothing is known of it; in the
    /// order asked.
    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Position>, StoreError>;

    /// The positions of messages that stand already, same room and same sender, in the order
    /// asked; content is not compared. The tombstone of a message that never came is found by any
    /// sender: whose message it was is not known.
    async fn find(&self, identities: &[MessageKey]) -> Result<Vec<Option<Position>>, StoreError>;

    /// The positions of changes that were made already: same room, same changer, same `changeId`;
    /// in the order asked.
    async fn find_changes(
        &self,
        identities: &[MessageKey],
    ) -> Result<Vec<Option<Position>>, StoreError>;

    /// A message in its present state, as a room's clients know it: where several senders chose one
    /// id, the one that a change by `user` would mean.
    async fn message(
        &self,
        room: &RoomId,
        user: &UserId,
        id: &MessageId,
    ) -> Result<Option<Message>, StoreError>;

    /// Whether some entry stood at `position`: a message there, a message's last change, what was
    /// refused, or where the room says so; where `key` is given, with that message id or change id.
    async fn stood(
        &self,
        room: &RoomId,
        position: Position,
        key: Option<&MessageId>,
    ) -> Result<bool, StoreError>;

    /// At most `limit` messages of a span in their present state, oldest first.
    async fn messages(
        &self,
        room: &RoomId,
        span: Span,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError>;

    /// How many messages changed above `after`; counts no further than `at_most`.
    async fn count_changes(
        &self,
        room: &RoomId,
        after: Position,
        at_most: u64,
    ) -> Result<u64, StoreError>;
}

/// What the database refused for good.
#[async_trait]
pub trait DeadLetters: Send + Sync + 'static {
    /// The dead letters, oldest first.
    async fn dead_letters(&self) -> Result<Vec<DeadLetter>, StoreError>;

    /// The places above `after` and up to `upto` in the shard's log whose entries are dead letters,
    /// and the database's code for each; those driven again since are not among them.
    async fn dead_places(
        &self,
        shard: Shard,
        after: LogId,
        upto: LogId,
    ) -> Result<Vec<(LogId, String)>, StoreError>;

    /// What of these rooms became a dead letter at `since` or later and has a place, at most
    /// [`REFUSALS_REMEMBERED_MAX`](crate::contract::limits::REFUSALS_REMEMBERED_MAX), the newest.
    async fn refused(
        &self,
        rooms: &[RoomId],
        since: Timestamp,
    ) -> Result<Vec<RejectedEntry>, StoreError>;
}

/// The database. Every method is one transaction.
///
/// A message is (room, sender, the id that its sender chose); unique keys keep it once. The id
/// of its row is unique in the whole table: the one that was chosen where that is free, else a
/// random one, which nobody could have chosen before. Reading gives a message back under its
/// sender's id. Rows of another program are known by their row's id.
#[async_trait]
pub trait Store:
    Shards
    + Batches
    + Messages
    + DeadLetters
    + Additions
    + Erasure
    + Ledger
    + Members
    + Receipts
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Finishes what was asked and lets go of the database; later calls are `Unavailable`.
    async fn close(&self);
}
