//! Additions, of which the embedded mode has none: see [`Additions`].

use async_trait::async_trait;

use super::SqliteStore;
use crate::contract::id::{RoomId, Shard};
use crate::contract::message::Message;
use crate::contract::position::Position;
use crate::store::{Additions, DeadLetter, PlacedRefusal, StoreError, Unplaced};

#[async_trait]
impl Additions for SqliteStore {
    async fn refusals(
        &self,
        _room: &RoomId,
        _after: Position,
        _limit: u32,
    ) -> Result<Vec<PlacedRefusal>, StoreError> {
        Ok(Vec::new())
    }

    async fn untold(&self, _shard: Shard, _limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(Vec::new())
    }

    async fn driven(&self, _limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(Vec::new())
    }

    async fn unplaced_rooms(
        &self,
        _after: Option<&str>,
        _limit: u32,
    ) -> Result<(Vec<Unplaced>, Option<String>), StoreError> {
        Ok((Vec::new(), None))
    }

    async fn unplaced(&self, _room: &RoomId, _limit: u32) -> Result<Vec<Message>, StoreError> {
        Ok(Vec::new())
    }
}
