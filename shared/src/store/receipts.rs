//! Receipts: how far users have read.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Row, StoreError};
use crate::contract::id::{RoomId, UserId};
use crate::contract::position::Position;
use crate::contract::signal::ReadMark;

/// Reads receipts; [`Batches::commit`](super::Batches::commit) is what writes them, where greater.
#[async_trait]
pub trait Receipts: Send + Sync + 'static {
    /// At most `limit` receipts of a room, the furthest first.
    async fn receipts(&self, room: &RoomId, limit: u32) -> Result<Vec<ReadMark>, StoreError>;

    /// One user's.
    async fn receipt(&self, room: &RoomId, user: &UserId) -> Result<Option<ReadMark>, StoreError>;

    /// How many messages of others stand above `after` and at or below `upto` and are not deleted;
    /// counts no further than `at_most`.
    async fn unread(
        &self,
        room: &RoomId,
        user: &UserId,
        (after, upto): (Position, Position),
        at_most: u64,
    ) -> Result<u64, StoreError>;
}

/// The receipts of a batch: the furthest mark of each (room, reader), in one order everywhere; of
/// equals the first.
pub(super) fn furthest<'a>(
    rows: impl IntoIterator<Item = &'a Row>,
) -> BTreeMap<(&'a str, &'a str), &'a ReadMark> {
    let mut marks: BTreeMap<(&str, &str), &ReadMark> = BTreeMap::new();
    for row in rows {
        let Row::Receipt { room, mark } = row else { continue };
        let standing = marks.entry((room.as_str(), mark.user.as_str())).or_insert(mark);
        if mark.position > standing.position {
            *standing = mark;
        }
    }
    marks
}
