//! Reading a room back: its ring first, then the database below the ring.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use shared::contract::envelope::EnvelopeError;
use shared::contract::id::RoomId;
use shared::contract::limits::{PAGE_ROWS_MAX, RECENT_ENTRIES_MAX, RESUME_ENTRIES_MAX};
use shared::contract::message::Message;
use shared::contract::position::Position;
use shared::epoch::EpochError;
use shared::log::{Hydration, Log, LogError, RingEntry, RoomPage};
use shared::store::{Store, StoreError};

use super::logged::{Cursor, Logged};
use super::recent::Recent;
use crate::broker::epochs::Epochs;
use crate::codec;

/// Entries of a ring read in one call.
const RING_PAGE: usize = 500;

/// Tries to read a room whose epoch or head is being settled.
const TRIES_MAX: usize = 5;

/// Why a room could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the ring holds what is no entry")]
    Entry(#[from] EnvelopeError),
    #[error("an entry says what nobody understands")]
    Body(#[from] serde_json::Error),
    #[error("the room's head is being settled")]
    Unsettled,
}

/// A room's ring above some place, to its head.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) head: Position,
    pub(crate) persisted: Position,
    pub(crate) dense_from: Option<Position>,
    pub(crate) entries: Vec<RingEntry>,
}

/// A room's memory, read anew.
#[derive(Debug)]
pub(crate) struct Refill {
    pub(crate) recent: Recent,
    pub(crate) last: Cursor,
    pub(crate) head: Position,
    pub(crate) persisted: Position,
}

/// A page of messages as JSON, oldest first.
#[derive(Debug)]
pub(crate) struct Messages {
    pub(crate) messages: Vec<Bytes>,
    /// There are more on the side that was asked for.
    pub(crate) more: bool,
}

/// Where rooms are read from.
pub(crate) struct Sources {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) epochs: Arc<Epochs>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources")
    }
}

impl Sources {
    /// A part of the ring; tells the log the database's head where it does not know the room.
    async fn ring(
        &self,
        room: &RoomId,
        after: Position,
        limit: usize,
    ) -> Result<RoomPage, SourceError> {
        let shard = room.shard();
        for _ in 0..TRIES_MAX {
            let epoch = self.epochs.get(shard).await?.number;
            match self.log.room(room, epoch, after, limit).await {
                Ok(Some(page)) => return Ok(page),
                Ok(None) => {
                    let asked_at_ms = self.log.now_ms().await?;
                    let heads = self.store.heads(std::slice::from_ref(room)).await?;
                    let heads = heads.into_iter().map(|head| (room.clone(), head)).collect();
                    let hydration = Hydration { shard, asked_at_ms, heads };
                    self.log.hydrate(epoch, &hydration).await?;
                }
                Err(LogError::Stale { believed }) => self.epochs.forget(shard, believed),
                Err(error @ LogError::Unavailable(_)) => return Err(error.into()),
            }
        }
        Err(SourceError::Unsettled)
    }

    /// Where the log has the room, and what of it is persisted.
    pub(crate) async fn head(&self, room: &RoomId) -> Result<(Position, Position), SourceError> {
        let page = self.ring(room, Position::MAX, 0).await?;
        Ok((page.head, page.persisted))
    }

    /// The whole ring above `after`.
    pub(crate) async fn tail(&self, room: &RoomId, after: Position) -> Result<Tail, SourceError> {
        let mut tail =
            Tail { head: after, persisted: after, dense_from: None, entries: Vec::new() };
        let mut from = after;
        loop {
            let page = self.ring(room, from, RING_PAGE).await?;
            if !tail.entries.is_empty() && is_cut(from, &page) {
                tail.entries.clear();
                from = after;
                continue;
            }
            tail.head = page.head;
            tail.persisted = page.persisted;
            tail.dense_from = page.dense_from;
            let full = page.entries.len() == RING_PAGE;
            tail.entries.extend(page.entries);
            match tail.entries.last() {
                Some(last) if full && last.position < page.head => from = last.position,
                Some(_) | None => return Ok(tail),
            }
        }
    }

    /// What a room's memory should hold.
    pub(crate) async fn refill(&self, room: &RoomId) -> Result<Refill, SourceError> {
        let tail = self.tail(room, Position::ZERO).await?;
        let ring = logged(&tail.entries)?;
        let wanted = RECENT_ENTRIES_MAX.saturating_sub(ring.len()).min(PAGE_ROWS_MAX as usize);
        let below = tail.dense_from.unwrap_or(tail.head.next());
        let limit = u32::try_from(wanted).unwrap_or(PAGE_ROWS_MAX);
        let rows = match limit {
            0 => Vec::new(),
            limit => self.store.latest_changes(room, below, limit).await?,
        };
        let full = rows.len() == wanted;
        let mut entries = merge(rows.iter().filter_map(Logged::from_message).collect(), ring);
        let floor = match entries.first() {
            // Something lies before it, in the database or trimmed from the ring.
            Some(first) if full => {
                let floor = first.cursor();
                entries.remove(0);
                floor
            }
            Some(_) | None => Cursor::ZERO,
        };
        let shown = entries.iter().rev().find(|entry| entry.is_shown());
        let last = shown.map_or_else(|| floor.clone(), Logged::cursor);
        let mut recent = Recent::new(floor);
        for entry in entries {
            recent.push(Arc::new(entry));
        }
        Ok(Refill { recent, last, head: tail.head, persisted: tail.persisted })
    }

    /// Whether the cursor's entry is in the ring or in the database, and not too long ago.
    pub(crate) async fn can_resume(
        &self,
        room: &RoomId,
        cursor: &Cursor,
    ) -> Result<bool, SourceError> {
        let Cursor { position, key } = cursor;
        let before = Position::new(position.epoch, position.seq.saturating_sub(1));
        let page = self.ring(room, before, 1).await?;
        if *position > page.head {
            // Not even the beginning of an epoch that is still to come.
            return Ok(false);
        }
        if !cursor.at_beginning() {
            let in_ring = match page.entries.first() {
                Some(entry) if entry.position == *position => {
                    let (_, entry) = Logged::from_entry(entry)?;
                    entry.is_shown() && entry.left(cursor)
                }
                Some(_) | None => false,
            };
            if !in_ring && !self.store.stood(room, *position, key.as_ref()).await? {
                return Ok(false);
            }
        }
        let behind = self.store.count_changes(room, *position, RESUME_ENTRIES_MAX + 1).await?;
        Ok(behind <= RESUME_ENTRIES_MAX)
    }

    /// At most `limit` entries after a position, in order.
    pub(crate) async fn after(
        &self,
        room: &RoomId,
        after: Position,
        limit: u32,
    ) -> Result<Vec<Logged>, SourceError> {
        let page = self.ring(room, after, limit as usize).await?;
        let ring = logged(&page.entries)?;
        // Dense from here on: the database has nothing that the ring has not.
        if page.dense_from.is_some_and(|from| from <= after.next() && from.epoch == after.epoch) {
            return Ok(ring);
        }
        let below = page.dense_from.unwrap_or(Position::MAX);
        let rows = self.store.changes(room, after, below, limit).await?;
        let rows: Vec<Logged> = rows.iter().filter_map(Logged::from_message).collect();
        // Where one of the two was cut off, the other may not go beyond it.
        let full = |entries: &[Logged]| entries.len() >= limit as usize;
        let cut = |entries: &[Logged]| entries.last().filter(|_| full(entries)).map(|e| e.at);
        let end = [cut(&rows), cut(&ring)].into_iter().flatten().min().unwrap_or(Position::MAX);
        let mut entries = merge(rows, ring);
        entries.retain(|entry| entry.at <= end);
        entries.truncate(limit as usize);
        Ok(entries)
    }

    /// The last `limit` messages below a position.
    pub(crate) async fn messages_before(
        &self,
        room: &RoomId,
        before: Position,
        limit: u32,
    ) -> Result<Messages, SourceError> {
        // What the database does not have yet was read before it is asked, so that nothing can
        // fall between.
        let waiting = self.unpersisted(room).await?;
        let rows = self.store.before(room, before, limit + 1).await?;
        let mut messages = standing(&rows, &waiting, |position| position < before);
        let surplus = messages.len().saturating_sub(limit as usize);
        messages.drain(..surplus);
        Ok(Messages { messages, more: surplus > 0 })
    }

    /// The first `limit` messages above a position.
    pub(crate) async fn messages_after(
        &self,
        room: &RoomId,
        after: Position,
        limit: u32,
    ) -> Result<Messages, SourceError> {
        let waiting = self.unpersisted(room).await?;
        let rows = self.store.after(room, after, limit + 1).await?;
        let mut messages = standing(&rows, &waiting, |position| position > after);
        let more = messages.len() > limit as usize;
        messages.truncate(limit as usize);
        Ok(Messages { messages, more })
    }

    async fn unpersisted(&self, room: &RoomId) -> Result<Vec<Logged>, SourceError> {
        let page = self.ring(room, Position::MAX, 0).await?;
        if page.persisted >= page.head {
            return Ok(Vec::new());
        }
        logged(&self.tail(room, page.persisted).await?.entries)
    }
}

/// Whether the ring no longer reaches back to `from`: its head moved on by more than it holds
/// between two pages, and what lies between is in neither.
fn is_cut(from: Position, page: &RoomPage) -> bool {
    page.entries
        .first()
        .is_some_and(|first| first.position.epoch == from.epoch && first.position != from.next())
}

fn logged(entries: &[RingEntry]) -> Result<Vec<Logged>, SourceError> {
    entries.iter().map(|entry| Ok(Logged::from_entry(entry)?.1)).collect()
}

/// Both in one order. Where a place is in both, the database's is the present state.
fn merge(rows: Vec<Logged>, ring: Vec<Logged>) -> Vec<Logged> {
    let mut order: BTreeMap<Position, Logged> =
        ring.into_iter().map(|entry| (entry.at, entry)).collect();
    order.extend(rows.into_iter().map(|entry| (entry.at, entry)));
    order.into_values().collect()
}

/// The messages of both by their own position, as JSON; one that the database has is its.
fn standing(rows: &[Message], waiting: &[Logged], wanted: impl Fn(Position) -> bool) -> Vec<Bytes> {
    let mut order: BTreeMap<Position, Bytes> = BTreeMap::new();
    for entry in waiting.iter().filter(|entry| wanted(entry.origin())) {
        if let Some(message) = entry.message() {
            order.insert(entry.origin(), message);
        }
    }
    for row in rows {
        if let Some(position) = row.position {
            order.insert(position, Bytes::from(codec::json(row)));
        }
    }
    order.into_values().collect()
}
