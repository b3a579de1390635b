//! Reloads a room's cache from ring and database.

use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::{PAGE_ROWS_MAX, RECENT_ENTRIES_MAX};
use shared::contract::message::Message;
use shared::contract::position::Position;
use shared::store::{PlacedRefusal, Span};

use super::{History, HistoryError, Rows, TRIES_MAX, Tail, logged, may_follow, merge};
use crate::hub::cache::RoomCache;
use crate::hub::entry::{Cursor, RoomEntry, fold};

/// Changes in the ring whose message is looked up in the database alone; with more of them the
/// memory begins with the ring.
const LOOKUPS_MAX: usize = 32;

/// A room's memory, read anew.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) cache: RoomCache,
    pub(crate) last: Cursor,
    pub(crate) head: Position,
    /// As [`Tail::epoch`].
    pub(crate) epoch: u64,
    pub(crate) persisted: Position,
}

impl History {
    /// What a room's memory should hold.
    pub(crate) async fn snapshot(&self, room: &RoomId) -> Result<Snapshot, HistoryError> {
        for _ in 0..TRIES_MAX {
            let (mut tail, more) = self.latest(room).await?;
            let dense = tail.dense_from.unwrap_or(tail.head.next());
            if let Some(first) = tail.entries.first().filter(|first| first.position >= dense)
                && more
            {
                // As much as a room remembers: what is before it is read when somebody asks.
                let begin = first.position;
                return self.assemble(tail, (begin, begin), (Vec::new(), Vec::new()));
            }
            let wanted = wanted(&tail, dense);
            if wanted == 0 {
                return self.assemble(tail, (dense, dense), (Vec::new(), Vec::new()));
            }
            let latest = self.rows(room, Span::LatestChanges(dense), wanted).await?;
            let Rows { messages: mut rows, cut } = latest;
            // Below the first row there may be others.
            let first = rows.first().filter(|_| cut);
            let begin =
                first.and_then(RoomEntry::from_message).map_or(Position::ZERO, |row| row.at);
            rows.extend(self.moved(room, &tail, &rows).await?);
            // What changed while the database was read is in the ring now, or the reading is void:
            // a message that moved ahead would be in neither.
            let more = self.tail(room, tail.head).await?;
            let is_one_epoch = more.epoch == tail.epoch && may_follow(tail.epoch, &rows);
            if is_one_epoch && more.goes_on_from(tail.head) {
                tail.head = more.head;
                tail.persisted = more.persisted;
                tail.entries.extend(more.entries);
                let after = Position { seq: begin.seq.saturating_sub(1), ..begin };
                let most = u32::try_from(RECENT_ENTRIES_MAX).unwrap_or(u32::MAX);
                let refusals = self.store.refusals(room, after, most).await?;
                if refusals.len() < most as usize {
                    return self.assemble(tail, (begin, dense), (rows, refusals));
                }
                // So many were refused that the memory is better begun with the ring.
                return self.assemble(tail, (dense, dense), (Vec::new(), Vec::new()));
            }
        }
        Err(HistoryError::Unsettled)
    }

    /// The same of what the database has alone, for a room that was never read, while the log gives
    /// no answers.
    pub(crate) async fn stored_snapshot(&self, room: &RoomId) -> Result<Snapshot, HistoryError> {
        let head = self.stored_head(room).await?;
        let (epoch, entries) = (head.epoch, Vec::new());
        let tail = Tail { head, epoch, persisted: head, dense_from: None, entries };
        let dense = head.next();
        let latest = self.rows(room, Span::LatestChanges(dense), wanted(&tail, dense)).await?;
        let Rows { messages: rows, cut } = latest;
        let first = rows.first().filter(|_| cut);
        let begin = first.and_then(RoomEntry::from_message).map_or(Position::ZERO, |row| row.at);
        let after = Position { seq: begin.seq.saturating_sub(1), ..begin };
        let most = u32::try_from(RECENT_ENTRIES_MAX).unwrap_or(u32::MAX);
        let refusals = self.store.refusals(room, after, most).await?;
        self.assemble(tail, (begin, dense), (rows, refusals))
    }

    /// The messages that the ring has changes of and neither ring nor rows have themselves.
    async fn moved(
        &self,
        room: &RoomId,
        tail: &Tail,
        rows: &[Message],
    ) -> Result<Vec<Message>, HistoryError> {
        let rows = rows.iter().filter_map(RoomEntry::from_message).collect();
        let folded = fold(merge(rows, logged(&tail.entries)?));
        let mut moved: Vec<Message> = Vec::new();
        let alone: Vec<&RoomEntry> =
            folded.iter().filter(|entry| entry.is_change_alone()).collect();
        if alone.len() > LOOKUPS_MAX {
            return Ok(moved);
        }
        for entry in alone {
            let (id, user) = entry.subject();
            if moved.iter().all(|message| message.id != *id || message.user_id != *user)
                && let Some(message) = self.store.message(room, user, id).await?
            {
                moved.push(message);
            }
        }
        Ok(moved)
    }
}

/// How many rows of the database are wanted beside the dense part of the ring.
fn wanted(tail: &Tail, dense: Position) -> u32 {
    let held = tail.entries.iter().filter(|entry| entry.position >= dense).count();
    let wanted = RECENT_ENTRIES_MAX.saturating_sub(held).min(PAGE_ROWS_MAX as usize);
    u32::try_from(wanted).unwrap_or(PAGE_ROWS_MAX)
}

impl History {
    /// Both as one memory, where from `begin` on nothing is missing.
    fn assemble(
        &self,
        tail: Tail,
        (begin, dense): (Position, Position),
        (rows, refusals): (Vec<Message>, Vec<PlacedRefusal>),
    ) -> Result<Snapshot, HistoryError> {
        let rows: Vec<RoomEntry> = rows.iter().filter_map(RoomEntry::from_message).collect();
        let subject = |row: &RoomEntry| (row.subject().0.clone(), row.subject().1.clone());
        let older: Vec<(MessageId, UserId)> =
            rows.iter().filter(|row| row.at < begin).map(subject).collect();
        let refusals = refusals.iter().map(RoomEntry::from_refusal).collect();
        let mut entries = merge([rows, refusals].concat(), logged(&tail.entries)?);
        entries.retain(|entry| entry.at >= begin);
        let mut entries = fold(entries);
        let mut floor = Cursor::ZERO;
        let astray = |entry: &RoomEntry| {
            entry.is_change_alone() && entry.at >= dense && !older.contains(&subject(entry))
        };
        if begin < dense && entries.iter().any(astray) {
            // Its message is in the database, who knows where: the memory begins with the ring.
            entries.retain(|entry| entry.at >= dense);
            floor = Cursor { position: Position::new(dense.epoch, 0), key: None };
        } else if begin > Position::ZERO && !entries.is_empty() {
            floor = entries.remove(0).cursor();
        }
        let shown = entries.iter().rev().find(|entry| entry.is_shown());
        let last = shown.map_or_else(|| floor.clone(), RoomEntry::cursor);
        let mut cache = RoomCache::new(floor, &self.memory);
        for entry in entries {
            cache.push(entry.into());
        }
        let Tail { head, epoch, persisted, .. } = tail;
        Ok(Snapshot { cache, last, head, epoch, persisted })
    }
}
