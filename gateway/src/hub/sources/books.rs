//! What is kept of a room beside its order: who has read how far, and who was removed.

use shared::contract::id::{RoomId, UserId};
use shared::contract::limits::RECEIPTS_REMEMBERED_MAX;
use shared::contract::signal::ReadMark;

use super::{SourceError, Sources};

/// As log and database have it.
#[derive(Debug)]
pub(crate) struct Books {
    /// The furthest receipts; one user may have two.
    pub(crate) receipts: Vec<ReadMark>,
    /// Nobody else has read anything.
    pub(crate) whole: bool,
    pub(crate) removed: Vec<UserId>,
}

impl Sources {
    /// Reads both.
    pub(crate) async fn books(&self, room: &RoomId) -> Result<Books, SourceError> {
        // What the database does not have yet was read before it is asked.
        let logged = self.log.receipts(room).await?;
        let limit = u32::try_from(RECEIPTS_REMEMBERED_MAX).unwrap_or(u32::MAX);
        let mut receipts = self.store.receipts(room, limit).await?;
        let whole = receipts.len() < RECEIPTS_REMEMBERED_MAX;
        receipts.extend(logged);
        Ok(Books { receipts, whole, removed: self.store.removed(room).await? })
    }
}
