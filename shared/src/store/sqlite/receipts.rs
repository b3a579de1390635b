//! Receipts: how far users have read.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use super::query::Place;
use super::stored::{checked, id, text};
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::position::Position;
use crate::contract::signal::ReadMark;
use crate::contract::timestamp::Timestamp;
use crate::store::{Receipts, StoreError};

pub(super) const FURTHEST: &str = "SELECT user_id, epoch, seq, message_id, read_at
    FROM read_receipts WHERE room_id = ?1 ORDER BY epoch DESC, seq DESC LIMIT ?2";

pub(super) const UNREAD: &str = "SELECT count(*) FROM (
    SELECT 1 FROM team_chat_messages
    WHERE team_chat_id = ?1 AND (epoch, seq) > (?3, ?4) AND (epoch, seq) <= (?5, ?6)
        AND user_id <> ?2 AND deleted_at IS NULL
    LIMIT ?7)";

#[async_trait]
impl Receipts for SqliteStore {
    async fn receipts(&self, room: &RoomId, limit: u32) -> Result<Vec<ReadMark>, StoreError> {
        let room = room.clone();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(FURTHEST)?;
            let marks = statement.query_map(params![room.as_str(), limit], mark)?;
            Ok(marks.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn receipt(&self, room: &RoomId, user: &UserId) -> Result<Option<ReadMark>, StoreError> {
        let (room, user) = (room.clone(), user.clone());
        self.read(move |connection| {
            let mark = connection
                .prepare_cached(
                    "SELECT user_id, epoch, seq, message_id, read_at FROM read_receipts
                     WHERE room_id = ?1 AND user_id = ?2",
                )?
                .query_row([room.as_str(), user.as_str()], mark)
                .optional()?;
            Ok(mark)
        })
        .await
    }

    async fn unread(
        &self,
        room: &RoomId,
        user: &UserId,
        (after, upto): (Position, Position),
        at_most: u64,
    ) -> Result<u64, StoreError> {
        let (room, user) = (room.clone(), user.clone());
        let (after, upto) = (Place::of(after), Place::of(upto));
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        self.read(move |connection| {
            let bounds = params![
                room.as_str(),
                user.as_str(),
                after.epoch,
                after.seq,
                upto.epoch,
                upto.seq,
                at_most,
            ];
            Ok(connection.prepare_cached(UNREAD)?.query_row(bounds, |row| row.get(0))?)
        })
        .await
    }
}

fn mark(row: &Row<'_>) -> Result<ReadMark, rusqlite::Error> {
    Ok(ReadMark {
        user: checked(text(row, 0)?, 0, UserId::parse)?,
        position: Position::new(row.get(1)?, row.get(2)?),
        message_id: id(row, 3, MessageId::parse)?,
        read_at: Timestamp(row.get(4)?),
    })
}

/// Moves a receipt on, if it is greater than what stands; says whether it was.
pub(super) fn raise(
    connection: &Connection,
    room: &str,
    mark: &ReadMark,
) -> Result<bool, StoreError> {
    let raised = connection
        .prepare_cached(
            "INSERT INTO read_receipts (room_id, user_id, epoch, seq, message_id, read_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (room_id, user_id) DO UPDATE SET epoch = excluded.epoch,
                 seq = excluded.seq, message_id = excluded.message_id, read_at = excluded.read_at
             WHERE (excluded.epoch, excluded.seq) > (read_receipts.epoch, read_receipts.seq)",
        )?
        .execute(params![
            room,
            mark.user.as_str(),
            mark.position.epoch,
            mark.position.seq,
            mark.message_id.as_ref().map(MessageId::as_str),
            mark.read_at.0,
        ])?;
    Ok(raised > 0)
}
