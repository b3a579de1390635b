//! Reads a room's ring.

use super::answer::MalformedAnswer;
use super::{RedisLog, fresh};
use crate::contract::id::RoomId;
use crate::contract::keys;
use crate::contract::limits::LOG_READ_BYTES_MAX;
use crate::log::{LogError, RingEntry, RoomPage};

impl RedisLog {
    /// A part of a room's ring, as the script tells it.
    pub(super) async fn ring(
        &self,
        room: &RoomId,
        epoch: u64,
        from: &str,
        limit: usize,
    ) -> Result<Option<RoomPage>, LogError> {
        let mut call = self.scripts.room.prepare_invoke();
        call.key(keys::epoch(room.shard())).key(keys::head(room)).key(keys::ring(room));
        call.arg(epoch).arg(from).arg(limit).arg(LOG_READ_BYTES_MAX);
        let answer = fresh(self.call(&call).await?, epoch)?;
        if answer.status()? == "unhydrated" {
            return Ok(None);
        }
        let dense_from = match answer.text(3)? {
            "" => None,
            _ => Some(answer.position(3)?),
        };
        let entries: Result<Vec<RingEntry>, MalformedAnswer> = answer
            .rest()
            .skip(4)
            .map(|fields| {
                let fields = fields?;
                Ok(RingEntry { position: fields.position(0)?, raw: fields.bytes(1)? })
            })
            .collect();
        Ok(Some(RoomPage {
            head: answer.position(1)?,
            persisted: answer.position(2)?,
            dense_from,
            entries: entries?,
            more: answer.text(4)? == "1",
        }))
    }
}
