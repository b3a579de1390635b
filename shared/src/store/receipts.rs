//! How far users have read, in the database.

use async_trait::async_trait;

use super::StoreError;
use crate::contract::id::{RoomId, UserId};
use crate::contract::position::Position;
use crate::contract::signal::ReadMark;

/// Reads receipts; [`Store::commit`](super::Store::commit) is what writes them, where greater.
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
