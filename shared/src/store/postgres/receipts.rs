//! Receipts: how far users have read.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresStore;
use super::pool::statement;
use super::stored::{optional, parsed, scalar};
use super::value::{Moment, Place, count, position};
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::position::Position;
use crate::contract::signal::ReadMark;
use crate::store::{Receipts, StoreError};

const FURTHEST: &str = "
    SELECT user_id, epoch, seq, message_id, read_at FROM read_receipts
    WHERE room_id = $1 ORDER BY epoch DESC, seq DESC LIMIT $2";

const ONE: &str = "
    SELECT user_id, epoch, seq, message_id, read_at FROM read_receipts
    WHERE room_id = $1 AND user_id = $2";

const UNREAD: &str = "
    SELECT count(*) FROM (
        SELECT 1 FROM team_chat_messages
        WHERE team_chat_id = $1 AND epoch IS NOT NULL AND (epoch, seq) > ($3, $4)
            AND (epoch, seq) <= ($5, $6) AND user_id <> $2 AND deleted_at IS NULL
        LIMIT $7) AS counted";

#[async_trait]
impl Receipts for PostgresStore {
    async fn receipts(&self, room: &RoomId, limit: u32) -> Result<Vec<ReadMark>, StoreError> {
        let (room, limit) = (room.as_str(), i64::from(limit));
        let answers = self.pool.read(&[statement!(FURTHEST, room, limit)]).await?;
        answers[0].iter().map(mark).collect()
    }

    async fn receipt(&self, room: &RoomId, user: &UserId) -> Result<Option<ReadMark>, StoreError> {
        let (room, user) = (room.as_str(), user.as_str());
        let answers = self.pool.read(&[statement!(ONE, room, user)]).await?;
        answers[0].first().map(mark).transpose()
    }

    async fn unread(
        &self,
        room: &RoomId,
        user: &UserId,
        (after, upto): (Position, Position),
        at_most: u64,
    ) -> Result<u64, StoreError> {
        let (room, user) = (room.as_str(), user.as_str());
        let (after, upto) = (Place::near(after), Place::near(upto));
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let answers = self
            .pool
            .read(&[statement!(
                UNREAD,
                room,
                user,
                after.epoch,
                after.seq,
                upto.epoch,
                upto.seq,
                at_most
            )])
            .await?;
        Ok(count(scalar(&answers[0])?))
    }
}

fn mark(row: &Row) -> Result<ReadMark, StoreError> {
    Ok(ReadMark {
        user: parsed(row.try_get(0)?, UserId::parse)?,
        position: position(row.try_get(1)?, row.try_get(2)?),
        message_id: optional(row, 3, MessageId::parse)?,
        read_at: row.try_get::<_, Moment>(4)?.timestamp(),
    })
}
