//! Reads a room back: its ring first, then the database below the ring.
//!
//! The ring has each entry as it was appended, the database each message once, at the place of its
//! last change. A message that changed while somebody walks through its room therefore moves ahead
//! of them, and is met where it stands then.

mod reload;
mod pages;
mod rows;
mod waiting;
mod single_flight;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::contract::envelope::EnvelopeError;
use shared::contract::id::{RoomId, UserId};
use shared::contract::limits::{
    HYDRATIONS_MAX, RECEIPTS_REMEMBERED_MAX, RECENT_BYTES_MAX, RECENT_ENTRIES_MAX,
    REFUSAL_MEMORY_MS, RESUME_ENTRIES_MAX,
};
use shared::contract::message::Message;
use shared::contract::position::Position;
use shared::contract::signal::ReadMark;
use shared::contract::timestamp::Timestamp;
use shared::epoch::EpochError;
use shared::log::{Hydration, Log, LogError, RingEntry, RoomPage};
use shared::process::byte_budget::ByteBudget;
use shared::store::{Span, Store, StoreError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use self::single_flight::SingleFlight;
use super::entry::{Cursor, RoomEntry, fold, leave_out_refused};
use crate::broker::append_queue::heads;
use crate::broker::epochs::Epochs;

pub(crate) use self::pages::Messages;
pub(crate) use self::reload::Snapshot;
pub(crate) use self::rows::Rows;
pub(crate) use self::waiting::Waiting;

/// Entries of a ring read in one call.
const RING_PAGE: usize = 500;

/// Pages that are read at a time.
const READINGS_MAX: usize = 16;

/// How long a page waits for its turn to be read.
const READING_WAIT: Duration = Duration::from_secs(2);

/// How long a reader whom the log does not answer tries on, and how often: after half of that it is
/// known whether the log is away. Thousands of rooms may look at once.
const AWAY_PATIENCE: Duration = Duration::from_secs(1);
const AWAY_LOOK: Duration = Duration::from_millis(200);

/// Tries to read a room whose epoch or head is being settled.
const TRIES_MAX: usize = 5;

/// Why a room could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the ring holds what is no entry")]
    Entry(#[from] EnvelopeError),
    #[error("the room's head is being settled")]
    Unsettled,
    /// What was read before does not stand beside what was read then: to be read anew.
    #[error("the room moved on while it was read")]
    Passed,
    #[error("too much is being read")]
    Busy,
}

impl HistoryError {
    /// The log did not answer.
    fn is_unanswered(&self) -> bool {
        use HistoryError::{Epoch, Log};
        matches!(
            self,
            Log(LogError::Unavailable(_)) | Epoch(EpochError::Log(LogError::Unavailable(_)))
        )
    }
}

/// Reads until what was read stands together: a room may move on meanwhile.
pub(super) async fn settled<T, Read>(read: impl Fn() -> Read) -> Result<T, HistoryError>
where
    Read: Future<Output = Result<T, HistoryError>>,
{
    for _ in 0..TRIES_MAX {
        match read().await {
            Err(HistoryError::Passed) => {}
            read => return read,
        }
    }
    Err(HistoryError::Unsettled)
}

/// Which part of a ring.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Above a place.
    After(Position),
    /// The last entries.
    Latest,
}

/// A room's ring above some place, to its head.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) head: Position,
    /// In which it was read. Where the head is of an earlier one, the room has no entry in it yet.
    pub(crate) epoch: u64,
    pub(crate) persisted: Position,
    pub(crate) dense_from: Option<Position>,
    pub(crate) entries: Vec<RingEntry>,
}

impl Tail {
    /// Whether it has every entry above `head`, in the same epoch.
    pub(crate) fn goes_on_from(&self, head: Position) -> bool {
        match self.entries.first() {
            Some(first) => first.position == head.next() && self.head.epoch == head.epoch,
            None => self.head == head,
        }
    }
}

/// A page of entries.
#[derive(Debug)]
pub(crate) struct Page {
    /// In order, each message once.
    pub(crate) entries: Vec<RoomEntry>,
    /// Nothing lies behind it yet, and who has read it and everything before it has every message
    /// up to its end. Otherwise some may have moved ahead.
    pub(crate) complete: bool,
    /// The room's head when the log was read, up to which it says what there was.
    pub(crate) head: Position,
    /// In which it was read: a room that was read in a later one may have lost what is in it.
    pub(crate) epoch: u64,
}

/// Where rooms are read from.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) epochs: Arc<Epochs>,
    flights: HistoryFlights,
    /// What rooms may remember together.
    pub(crate) memory: Arc<ByteBudget>,
}

/// What is read once for all who ask for it together.
#[derive(Debug)]
struct HistoryFlights {
    resumable: SingleFlight<(RoomId, Cursor), Option<u64>>,
    after: SingleFlight<(RoomId, Position, Position, u32), Arc<Page>>,
    /// Under a new epoch every room asks for its head at once.
    hydrations: Semaphore,
    /// Pages that are read at a time from ring and database, each of them some MiB at most.
    readings: Semaphore,
}

impl Default for HistoryFlights {
    fn default() -> HistoryFlights {
        HistoryFlights {
            resumable: SingleFlight::default(),
            after: SingleFlight::default(),
            hydrations: Semaphore::new(HYDRATIONS_MAX),
            readings: Semaphore::new(READINGS_MAX),
        }
    }
}

/// What is kept of a room beside its order: who has read how far, and who was removed, as log and
/// database have it.
#[derive(Debug)]
pub(crate) struct SideState {
    /// The furthest receipts; one user may have two.
    pub(crate) receipts: Vec<ReadMark>,
    /// Nobody else has read anything.
    pub(crate) whole: bool,
    pub(crate) removed: Vec<UserId>,
}

impl History {
    /// Rooms remember at most `rooms_bytes` together.
    pub(crate) fn new(
        log: Arc<dyn Log>,
        store: Arc<dyn Store>,
        epochs: Arc<Epochs>,
        rooms_bytes: usize,
    ) -> History {
        let (flights, memory) = (HistoryFlights::default(), ByteBudget::new(rooms_bytes));
        History { log, store, epochs, flights, memory }
    }

    /// A part of the ring, and the epoch in which it was read; tells the log the database's head
    /// where it does not know the room.
    async fn ring(
        &self,
        room: &RoomId,
        part: Part,
        limit: usize,
    ) -> Result<(u64, RoomPage), HistoryError> {
        let shard = room.shard();
        for _ in 0..TRIES_MAX {
            let epoch = self.epochs.get(shard).await?.number;
            let page = match part {
                Part::After(after) => self.log.room(room, epoch, after, limit).await,
                Part::Latest => self.log.latest(room, epoch, limit).await,
            };
            match page {
                Ok(Some(page)) => return Ok((epoch, page)),
                Ok(None) => {
                    // The semaphore is never closed.
                    let _turn = self.flights.hydrations.acquire().await.ok();
                    let asked_at_ms = self.log.now_ms().await?;
                    let rooms = std::slice::from_ref(room);
                    let since = Timestamp(asked_at_ms - REFUSAL_MEMORY_MS);
                    let (heads, refused) = heads(&*self.store, rooms, since).await?;
                    let heads = heads.into_iter().map(|head| (room.clone(), head)).collect();
                    let hydration = Hydration { shard, asked_at_ms, heads, refused };
                    self.log.hydrate(epoch, &hydration).await?;
                }
                Err(LogError::Stale { believed }) => self.epochs.forget(shard, believed),
                Err(error @ LogError::Unavailable(_)) => return Err(error.into()),
            }
        }
        Err(HistoryError::Unsettled)
    }

    /// Whether the log gives no answers now: what the database has is read then, and nothing of a
    /// ring.
    pub(crate) fn is_away(&self) -> bool {
        self.log.is_away()
    }

    /// Waits until the log gives no answers.
    pub(super) async fn goes_away(&self) {
        while !self.is_away() {
            tokio::time::sleep(AWAY_LOOK).await;
        }
    }

    /// A ring for who only reads and goes on nowhere: where the log gives no answers, a ring
    /// without entries that ends where the room does in the database.
    async fn ring_if_any(
        &self,
        room: &RoomId,
        part: Part,
        limit: usize,
    ) -> Result<(u64, RoomPage), HistoryError> {
        let mut failing: Option<Instant> = None;
        while !self.is_away() {
            match self.ring(room, part, limit).await {
                // Either it is known soon to be away, or it was for a moment.
                Err(error)
                    if error.is_unanswered()
                        && failing.get_or_insert_with(Instant::now).elapsed() < AWAY_PATIENCE =>
                {
                    tokio::time::sleep(AWAY_LOOK).await;
                }
                read => return read,
            }
        }
        let head = self.stored_head(room).await?;
        let (entries, dense_from, more) = (Vec::new(), None, false);
        Ok((head.epoch, RoomPage { head, persisted: head, dense_from, entries, more }))
    }

    /// Where the room ends in the database.
    async fn stored_head(&self, room: &RoomId) -> Result<Position, HistoryError> {
        let heads = self.store.heads(std::slice::from_ref(room)).await?;
        Ok(heads.into_iter().next().unwrap_or(Position::ZERO))
    }

    /// Waits for its turn to read a page, while which it holds what this gives.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, HistoryError> {
        let turn = tokio::time::timeout(READING_WAIT, self.flights.readings.acquire()).await;
        // The semaphore is never closed.
        turn.ok().and_then(Result::ok).ok_or(HistoryError::Busy)
    }

    /// Where the log has the room in which epoch, and what of it is persisted.
    pub(crate) async fn head(
        &self,
        room: &RoomId,
    ) -> Result<(u64, Position, Position), HistoryError> {
        let (epoch, page) = self.ring(room, Part::After(Position::MAX), 0).await?;
        Ok((epoch, page.head, page.persisted))
    }

    /// The whole ring above `after`; nothing of it, which goes on from nowhere, where it is more
    /// than a room remembers.
    pub(crate) async fn tail(&self, room: &RoomId, after: Position) -> Result<Tail, HistoryError> {
        let (head, persisted, dense_from) = (after, after, None);
        let mut tail = Tail { head, epoch: 0, persisted, dense_from, entries: Vec::new() };
        let mut from = after;
        loop {
            let (epoch, page) = self.ring(room, Part::After(from), RING_PAGE).await?;
            let is_other_epoch = epoch != tail.epoch;
            if !tail.entries.is_empty() && (is_other_epoch || is_cut(from, &page)) {
                tail.entries.clear();
                from = after;
                continue;
            }
            tail.head = page.head;
            tail.epoch = epoch;
            tail.persisted = page.persisted;
            tail.dense_from = page.dense_from;
            let more = page.more;
            tail.entries.extend(page.entries);
            let bytes: usize = tail.entries.iter().map(|entry| entry.raw.len()).sum();
            if more && bytes > RECENT_BYTES_MAX {
                tail.entries.clear();
                return Ok(tail);
            }
            match tail.entries.last() {
                Some(last) if more && last.position < page.head => from = last.position,
                Some(_) | None => return Ok(tail),
            }
        }
    }

    /// The end of the ring, as much of it as a room remembers, and whether there is more before it.
    async fn latest(&self, room: &RoomId) -> Result<(Tail, bool), HistoryError> {
        let (epoch, page) = self.ring(room, Part::Latest, RECENT_ENTRIES_MAX).await?;
        let RoomPage { head, persisted, dense_from, entries, more } = page;
        Ok((Tail { head, epoch, persisted, dense_from, entries }, more))
    }

    /// Whether the cursor's entry is in the ring or in the database, and not too long ago: as of
    /// which epoch. One reading for all who ask together, as are the pages below.
    pub(crate) async fn can_resume(
        &self,
        room: &RoomId,
        cursor: &Cursor,
    ) -> Result<Option<u64>, HistoryError> {
        let key = (room.clone(), cursor.clone());
        self.flights.resumable.share(key, self.look_for(room, cursor)).await
    }

    async fn look_for(&self, room: &RoomId, cursor: &Cursor) -> Result<Option<u64>, HistoryError> {
        let Cursor { position, key } = cursor;
        let before = Position::new(position.epoch, position.seq.saturating_sub(1));
        let (epoch, page) = self.ring_if_any(room, Part::After(before), 1).await?;
        if *position > page.head {
            // Not even the beginning of an epoch that is still to come.
            return Ok(None);
        }
        if !cursor.at_beginning() {
            let in_ring = match page.entries.first() {
                Some(entry) if entry.position == *position => {
                    let (_, entry) = RoomEntry::from_entry(entry)?;
                    entry.is_shown() && entry.left(cursor)
                }
                Some(_) | None => false,
            };
            if !in_ring && !self.store.stood(room, *position, key.as_ref()).await? {
                return Ok(None);
            }
        }
        let behind = self.store.count_changes(room, *position, RESUME_ENTRIES_MAX + 1).await?;
        Ok((behind <= RESUME_ENTRIES_MAX).then_some(epoch))
    }

    /// At most `limit` entries after a position, in order, for a reader who has every message up to
    /// `complete_up_to`. It may go beyond what the room here has heard of.
    pub(crate) async fn after(
        &self,
        room: &RoomId,
        after: Position,
        complete_up_to: Position,
        limit: u32,
    ) -> Result<Arc<Page>, HistoryError> {
        let read = async {
            settled(|| self.try_after(room, (after, complete_up_to), limit)).await.map(Arc::new)
        };
        self.flights.after.share((room.clone(), after, complete_up_to, limit), read).await
    }

    async fn try_after(
        &self,
        room: &RoomId,
        (after, complete_up_to): (Position, Position),
        limit: u32,
    ) -> Result<Page, HistoryError> {
        let (epoch, page) = self.ring_if_any(room, Part::After(after), limit as usize).await?;
        let (ring, head) = (logged(&page.entries)?, page.head);
        let is_dense =
            page.dense_from.is_some_and(|from| from <= after.next() && from.epoch == after.epoch);
        // Dense from here on, the database has nothing that the ring has not; unless the reader
        // walked past a message that had moved ahead, and meets its change here.
        let complete = !page.more;
        let folded = fold(ring.clone());
        if is_dense && (complete_up_to >= after || !folded.iter().any(RoomEntry::is_change_alone)) {
            return Ok(Page { entries: folded, complete, head, epoch });
        }
        // Not only below the ring: a message that moved into it is met there.
        let Rows { messages, cut: full } = self.rows(room, Span::Changes(after), limit).await?;
        if !may_follow(epoch, &messages) {
            return Err(HistoryError::Passed);
        }
        let rows: Vec<RoomEntry> = messages.iter().filter_map(RoomEntry::from_message).collect();
        let refusals = self.store.refusals(room, after, limit).await?;
        let refusals: Vec<RoomEntry> = refusals.iter().map(RoomEntry::from_refusal).collect();
        // Where one of them was cut off, the others may not go beyond it.
        let cut = |entries: &[RoomEntry], cut: bool| entries.last().filter(|_| cut).map(|e| e.at);
        let told = cut(&refusals, refusals.len() >= limit as usize);
        let end = [cut(&rows, full), cut(&ring, page.more), told].into_iter().flatten().min();
        let mut entries = merge([rows, refusals].concat(), ring);
        entries.retain(|entry| end.is_none_or(|end| entry.at <= end));
        let complete = end.is_none() && entries.len() <= limit as usize;
        entries.truncate(limit as usize);
        Ok(Page { entries: fold(entries), complete, head, epoch })
    }

    /// Reads who has read how far, and who was removed.
    pub(crate) async fn side_state(&self, room: &RoomId) -> Result<SideState, HistoryError> {
        // What the database does not have yet was read before it is asked.
        let logged = self.log.receipts(room).await?;
        let limit = u32::try_from(RECEIPTS_REMEMBERED_MAX).unwrap_or(u32::MAX);
        let mut receipts = self.store.receipts(room, limit).await?;
        let whole = receipts.len() < RECEIPTS_REMEMBERED_MAX;
        receipts.extend(logged);
        Ok(SideState { receipts, whole, removed: self.store.removed(room).await? })
    }
}

/// Whether rows may stand beside what was read of the ring in `epoch` before them. A row of a later
/// epoch says that the log began anew in between: what the ring had then may be lost, and must not
/// be shown before what came after it.
pub(super) fn may_follow(epoch: u64, rows: &[Message]) -> bool {
    let place = |row: &Message| row.changed_position.max(row.position);
    rows.iter().filter_map(place).all(|place| place.epoch <= epoch)
}

/// Whether the ring no longer reaches back to `from`: its head moved on by more than it holds
/// between two pages, and what lies between is in neither.
fn is_cut(from: Position, page: &RoomPage) -> bool {
    page.entries
        .first()
        .is_some_and(|first| first.position.epoch == from.epoch && first.position != from.next())
}

/// Ring entries, without what those further on say was refused.
pub(super) fn logged(entries: &[RingEntry]) -> Result<Vec<RoomEntry>, HistoryError> {
    let entries = entries.iter().map(|entry| Ok(RoomEntry::from_entry(entry)?.1));
    let mut entries: Vec<RoomEntry> = entries.collect::<Result<_, HistoryError>>()?;
    leave_out_refused(&mut entries);
    Ok(entries)
}

/// Both in one order. Where a place is in both, the database's is the present state.
fn merge(rows: Vec<RoomEntry>, ring: Vec<RoomEntry>) -> Vec<RoomEntry> {
    let mut order: BTreeMap<Position, RoomEntry> =
        ring.into_iter().map(|entry| (entry.at, entry)).collect();
    order.extend(rows.into_iter().map(|entry| (entry.at, entry)));
    order.into_values().collect()
}
