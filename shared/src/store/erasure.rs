//! Removes messages from the database, by age, user or room.

use async_trait::async_trait;

use super::StoreError;
use crate::contract::id::{RoomId, UserId};
use crate::contract::position::Position;
use crate::contract::timestamp::Timestamp;

/// Whose messages are erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erased {
    /// What somebody sent, in whatever room.
    User(UserId),
    /// What stands in a room.
    Room(RoomId),
}

/// What one step of an erasure did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErasedStep {
    /// Messages that have no content any more.
    pub messages: u64,
    /// With the last step: every room in which something of theirs stands or was erased, now or
    /// before, each once.
    pub rooms: Vec<RoomId>,
    /// Where to go on, if there may be more.
    pub more: Option<Position>,
}

/// Erases and expires.
#[async_trait]
pub trait Erasure: Send + Sync + 'static {
    /// Takes content and metadata out of at most `limit` messages and marks them deleted, and drops
    /// dead letters of the same; every place in the order stays taken, every id known. `after`
    /// is where the step before said to go on, [`Position::ZERO`] for the first.
    async fn erase(
        &self,
        whose: &Erased,
        after: Position,
        limit: u32,
    ) -> Result<ErasedStep, StoreError>;

    /// Removes at most `limit` rows of messages accepted before `before`, oldest first; says how
    /// many. The newest message of a room is kept, so that its order goes on from there.
    async fn expire(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError>;
}
