//! What a worker has yet to append: refusals, redriven letters, and rows of other programs in rooms
//! that are in use.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::PostgresStore;
use super::dead_letters::letter;
use super::pool::{Pool, Statement, statement};
use super::shards::shard_number;
use super::stored::{message, optional, readable};
use super::value::{Place, position};
use crate::contract::id::{MessageId, RoomId, Shard, UserId};
use crate::contract::limits::CONTENT_BYTES_MAX;
use crate::contract::message::Message;
use crate::contract::position::Position;
use crate::store::{Additions, DeadLetter, PlacedRefusal, StoreError, Unplaced, refusal_of};

const REFUSALS: &str = "
    SELECT user_id, message_id, change_id, epoch, seq, code, refusal_epoch, refusal_seq
    FROM dead_letters
    WHERE room_id = $1 AND refusal_epoch IS NOT NULL
        AND (refusal_epoch, refusal_seq) > ($2, $3) AND epoch IS NOT NULL
        AND user_id IS NOT NULL AND message_id IS NOT NULL
    ORDER BY refusal_epoch, refusal_seq LIMIT $4";

const UNTOLD: &str = "
    SELECT log_epoch, log_n, epoch, seq, room_id, user_id, message_id, raw, code, error
    FROM dead_letters
    WHERE shard = $1 AND refusal_epoch IS NULL AND epoch IS NOT NULL AND room_id IS NOT NULL
    ORDER BY id LIMIT $2";

const DRIVEN: &str = "
    SELECT log_epoch, log_n, epoch, seq, room_id, user_id, message_id, raw, code, error
    FROM dead_letters WHERE driven_at IS NOT NULL ORDER BY driven_at LIMIT $1";

/// Rooms of which the worker of another program has written something in the last ten minutes: what
/// is looked for again and again. More of them are found by their names, a part at each look.
const RECENT: &str = "
    SELECT recent.room, (SELECT room_id FROM room_heads WHERE room_id = recent.room) IS NOT NULL
    FROM (
        SELECT team_chat_id AS room FROM (
            SELECT team_chat_id FROM team_chat_messages
            WHERE epoch IS NULL AND created_at > clock_timestamp() - interval '10 minutes'
            ORDER BY created_at DESC LIMIT 10000) AS rows
        GROUP BY team_chat_id LIMIT $1) AS recent";

/// Rooms by their names, one probe of the index for each however many rows it has.
const BY_NAME: &str = "
    WITH RECURSIVE unplaced (room, n) AS (
        (SELECT team_chat_id, 1 FROM team_chat_messages
         WHERE epoch IS NULL AND team_chat_id > $1 ORDER BY team_chat_id LIMIT 1)
        UNION ALL
        SELECT (SELECT team_chat_id FROM team_chat_messages
                WHERE epoch IS NULL AND team_chat_id > unplaced.room
                ORDER BY team_chat_id LIMIT 1), n + 1
        FROM unplaced WHERE unplaced.room IS NOT NULL AND n < $2
    )
    SELECT room, (SELECT room_id FROM room_heads WHERE room_id = unplaced.room) IS NOT NULL
    FROM unplaced WHERE room IS NOT NULL ORDER BY n";

/// What a client could not send, for its size, and what the database has refused a place, stays.
const UNPLACED: &str = concat!(
    "SELECT id, user_id, coalesce(content, ''), coalesce(message_type::text, ''), \
         coalesce(metadata::text, ''), created_at, edited_at, deleted_at, \
         0::bigint, 0::bigint, 0::bigint, 0::bigint, NULL::text, credits \
     FROM team_chat_messages AS m WHERE team_chat_id = $1 AND ",
    readable!(),
    " AND deleted_at IS NULL AND coalesce(octet_length(content), 0) <= $2 \
      AND coalesce(octet_length(metadata::text), 0) <= $2 \
      AND NOT EXISTS (SELECT FROM dead_letters AS d WHERE d.room_id = m.team_chat_id \
          AND d.user_id = m.user_id AND d.message_id = m.id AND d.epoch IS NOT NULL) \
      ORDER BY created_at, id COLLATE \"C\" LIMIT $3"
);

/// Whether what stood at a place was refused, or a refusal stands there.
pub(super) const STOOD: &str = "
    SELECT 1 FROM dead_letters WHERE room_id = $1
        AND ((epoch, seq) = ($2, $3)
             AND ($4::text IS NULL OR message_id = $4 OR change_id = $4)
             OR (refusal_epoch, refusal_seq) = ($2, $3)) LIMIT 1";

async fn letters(pool: &Pool, ask: Statement<'_>) -> Result<Vec<DeadLetter>, StoreError> {
    pool.read(&[ask]).await?[0].iter().map(letter).collect()
}

fn refusal(room: &RoomId, row: &Row) -> Result<Option<PlacedRefusal>, StoreError> {
    let (user, id) = (optional(row, 0, UserId::parse)?, optional(row, 1, MessageId::parse)?);
    let change_id = optional(row, 2, MessageId::parse)?;
    let stood = position(row.try_get(3)?, row.try_get(4)?);
    let (Some(user), Some(id)) = (user, id) else { return Ok(None) };
    let refused = refusal_of((room.clone(), user, id, change_id), stood, row.try_get(5)?);
    Ok(Some(PlacedRefusal { refused, at: position(row.try_get(6)?, row.try_get(7)?) }))
}

/// Names that are no ids are no rooms of ours.
fn unplaced(rows: &[Row]) -> Result<Vec<Unplaced>, StoreError> {
    let mut rooms = Vec::with_capacity(rows.len());
    for row in rows {
        if let Ok(room) = RoomId::parse(row.try_get(0)?) {
            rooms.push(Unplaced { room, has_head: row.try_get(1)? });
        }
    }
    Ok(rooms)
}

#[async_trait]
impl Additions for PostgresStore {
    async fn refusals(
        &self,
        room: &RoomId,
        after: Position,
        limit: u32,
    ) -> Result<Vec<PlacedRefusal>, StoreError> {
        let (name, after, limit) = (room.as_str(), Place::near(after), i64::from(limit));
        let answers =
            self.pool.read(&[statement!(REFUSALS, name, after.epoch, after.seq, limit)]).await?;
        answers[0].iter().filter_map(|row| refusal(room, row).transpose()).collect()
    }

    async fn untold(&self, shard: Shard, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let (shard, limit) = (shard_number(shard), i64::from(limit));
        letters(&self.pool, statement!(UNTOLD, shard, limit)).await
    }

    async fn driven(&self, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let limit = i64::from(limit);
        letters(&self.pool, statement!(DRIVEN, limit)).await
    }

    async fn unplaced_rooms(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<Unplaced>, Option<String>), StoreError> {
        let (most, after) = (i64::from(limit), after.unwrap_or_default());
        let few = i32::try_from(limit).unwrap_or(i32::MAX);
        let questions = [statement!(RECENT, most), statement!(BY_NAME, after, few)];
        let answers = self.pool.read(&questions).await?;
        let mut rooms = unplaced(&answers[0])?;
        for room in unplaced(&answers[1])? {
            if !rooms.contains(&room) {
                rooms.push(room);
            }
        }
        let last = answers[1].last().filter(|_| answers[1].len() >= limit as usize);
        Ok((rooms, last.map(|row| row.try_get(0)).transpose()?))
    }

    async fn unplaced(&self, room: &RoomId, limit: u32) -> Result<Vec<Message>, StoreError> {
        let (name, limit) = (room.as_str(), i64::from(limit));
        let bytes = i32::try_from(CONTENT_BYTES_MAX).unwrap_or(i32::MAX);
        let answers = self.pool.read(&[statement!(UNPLACED, name, bytes, limit)]).await?;
        let messages = answers[0].iter().map(|row| message(room, row));
        let unplaced = messages.map(|message| Ok(Message { position: None, ..message? }));
        unplaced.collect()
    }
}
