//! Names for refused entries in Redis.

use bytes::Bytes;

use super::RedisLog;
use super::answer::MalformedAnswer;
use crate::contract::id::RoomId;
use crate::contract::keys;
use crate::contract::limits::{REFUSAL_MEMORY_MS, REFUSALS_REMEMBERED_MAX};
use crate::contract::position::Position;
use crate::log::{LogError, RejectedEntry};

/// What is to be told cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("what is to be told cannot be written")]
pub(super) struct Unwritable(#[from] serde_json::Error);

impl From<Unwritable> for LogError {
    fn from(error: Unwritable) -> LogError {
        LogError::Unavailable(Box::new(error))
    }
}

impl RedisLog {
    /// Names what the database has refused; to be done before anything says that it is persisted.
    pub(super) async fn name_refused(&self, refused: &[RejectedEntry]) -> Result<(), LogError> {
        if refused.is_empty() {
            return Ok(());
        }
        let mut call = self.scripts.refused.prepare_invoke();
        call.arg(REFUSAL_MEMORY_MS).arg(REFUSALS_REMEMBERED_MAX);
        for entry in refused {
            call.key(keys::refused(&entry.room)).arg(entry.position.seq);
            call.arg(serde_json::to_vec(entry).map_err(Unwritable::from)?);
        }
        self.call(&call).await.map(drop)
    }

    /// See [`Log::refused`](crate::log::Log::refused).
    pub(super) async fn refused_lately(
        &self,
        room: &RoomId,
    ) -> Result<Vec<RejectedEntry>, LogError> {
        let mut pipe = redis::pipe();
        pipe.cmd("ZRANGE").arg(keys::refused(room)).arg(0).arg(-1);
        let (listed,): (Vec<Bytes>,) = self.connection.pipeline(&pipe).await?;
        let read = |json: &Bytes| serde_json::from_slice(json).map_err(|_| MalformedAnswer);
        Ok(listed.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// See [`Log::lift`](crate::log::Log::lift).
    pub(super) async fn lift_refusal(
        &self,
        room: &RoomId,
        refused: Position,
    ) -> Result<(), LogError> {
        let mut pipe = redis::pipe();
        // By the seq, which grows over epochs.
        let list = keys::refused(room);
        pipe.cmd("ZREMRANGEBYSCORE").arg(list).arg(refused.seq).arg(refused.seq);
        let (_,): (u64,) = self.connection.pipeline(&pipe).await?;
        Ok(())
    }

    /// See [`Log::knows`](crate::log::Log::knows).
    pub(super) async fn known_rooms(&self, rooms: &[RoomId]) -> Result<Vec<bool>, LogError> {
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for room in rooms {
            pipe.cmd("EXISTS").arg(keys::head(room));
        }
        Ok(self.connection.pipeline(&pipe).await?)
    }
}
