//! Entries that no client sends, as the database keeps them: refusals, redriven letters, rows of
//! other programs.

use async_trait::async_trait;

use super::{DeadLetter, StoreError};
use crate::contract::id::{RoomId, Shard};
use crate::contract::message::Message;
use crate::contract::position::Position;
use crate::log::RejectedEntry;

/// What was refused, and where its room says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedRefusal {
    /// What, whose, and where that stood.
    pub refused: RejectedEntry,
    /// Where the room says so.
    pub at: Position,
}

/// A room with rows that have no place in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// Which.
    pub room: RoomId,
    /// Whether the database knows a head of it; where nobody does, it is nobody's concern before
    /// somebody asks for it.
    pub has_head: bool,
}

/// Reads what a worker is to append. Where one process has the database to itself nobody else
/// writes there, and nobody has seen what it refuses: there it is all empty.
#[async_trait]
pub trait Additions: Send + Sync + 'static {
    /// The first `limit` refusals of a room that it says above `after`, in the order of that.
    async fn refusals(
        &self,
        room: &RoomId,
        after: Position,
        limit: u32,
    ) -> Result<Vec<PlacedRefusal>, StoreError>;

    /// Dead letters of the shard whose room does not say yet that they were refused, the oldest
    /// first, at most `limit`.
    async fn untold(&self, shard: Shard, limit: u32) -> Result<Vec<DeadLetter>, StoreError>;

    /// Dead letters that somebody wants driven again, at most `limit`.
    async fn driven(&self, limit: u32) -> Result<Vec<DeadLetter>, StoreError>;

    /// Rooms with rows that have no place: those in which something was written lately, and at most
    /// `limit` whose names come after `after`, in the order of their names, which is where the next
    /// look goes on. `None` behind them: there were no more.
    async fn unplaced_rooms(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<Unplaced>, Option<String>), StoreError>;

    /// The first `limit` rows of a room that have no place, by their time, without position; none
    /// of which the database has refused to place.
    async fn unplaced(&self, room: &RoomId, limit: u32) -> Result<Vec<Message>, StoreError>;
}
