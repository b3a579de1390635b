//! Entries of a room that the database is not known to have: the first part in memory, the rest
//! read in parts.
//!
//! The first part is read before the database is asked, so that nothing can fall between the two.
//! The rest is read behind it, which is right for as long as the ring reaches back to where the
//! first part ends.

use shared::contract::id::RoomId;
use shared::contract::position::Position;
use shared::log::{RingEntry, RoomPage};

use super::{History, HistoryError, Part, RING_PAGE, logged};
use crate::hub::entry::{RoomEntry, leave_out_refused};

/// Bytes at which the first part ends.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Everything above where the database stood.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// In which it was read.
    pub(crate) epoch: u64,
    /// Where the room stood then.
    pub(crate) head: Position,
    /// Where the database stood.
    persisted: Position,
    /// The first of it.
    pub(crate) kept: Vec<RoomEntry>,
    rest: Rest,
}

/// What is behind the first part, and how far that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    epoch: u64,
    at: Position,
    ended: bool,
}

impl Waiting {
    /// To be read from its beginning.
    pub(crate) fn rest(&self) -> Rest {
        self.rest
    }

    /// All of it, from where the database stood, and nothing of it in memory.
    pub(crate) fn whole(&self) -> Waiting {
        let Waiting { epoch, head, persisted, .. } = *self;
        let rest = Rest { epoch, at: persisted, ended: false };
        Waiting { epoch, head, persisted, kept: Vec::new(), rest }
    }
}

impl History {
    /// Where the database stands, and the first of what it does not have and lies above `after`.
    pub(crate) async fn waiting(
        &self,
        room: &RoomId,
        after: Position,
    ) -> Result<Waiting, HistoryError> {
        let (epoch, page) = self.ring_if_any(room, Part::After(Position::MAX), 0).await?;
        let RoomPage { head, persisted, .. } = page;
        let at = persisted.max(after);
        let rest = Rest { epoch, at, ended: at >= head };
        let mut waiting = Waiting { epoch, head, persisted, kept: Vec::new(), rest };
        let mut bytes = 0;
        while !waiting.rest.ended && bytes < KEPT_BYTES_MAX {
            // Before the first part the ring may have moved on: the database has what is gone.
            let begins = waiting.kept.is_empty();
            let entries = self.part(room, &mut waiting.rest, begins).await?;
            bytes += entries.iter().map(|entry| entry.raw.len()).sum::<usize>();
            waiting.kept.extend(logged(&entries)?);
        }
        leave_out_refused(&mut waiting.kept);
        Ok(waiting)
    }

    /// The next of the rest; `None` at the end.
    pub(crate) async fn more(
        &self,
        room: &RoomId,
        rest: &mut Rest,
    ) -> Result<Option<Vec<RoomEntry>>, HistoryError> {
        if rest.ended {
            return Ok(None);
        }
        let entries = self.part(room, rest, false).await?;
        logged(&entries).map(Some)
    }

    async fn part(
        &self,
        room: &RoomId,
        rest: &mut Rest,
        begins: bool,
    ) -> Result<Vec<RingEntry>, HistoryError> {
        let (epoch, page) = self.ring_if_any(room, Part::After(rest.at), RING_PAGE).await?;
        if epoch != rest.epoch || !(begins || reaches_back(rest.at, &page)) {
            return Err(HistoryError::Passed);
        }
        match page.entries.last() {
            Some(last) => rest.at = last.position,
            None => rest.ended = true,
        }
        rest.ended |= !page.more;
        Ok(page.entries)
    }
}

/// Whether nothing lies between `at` and what was read: only what is persisted leaves a ring.
fn reaches_back(at: Position, page: &RoomPage) -> bool {
    let follows = |first: &RingEntry| first.position.seq == at.seq + 1;
    page.persisted <= at || page.entries.first().is_some_and(follows)
}
