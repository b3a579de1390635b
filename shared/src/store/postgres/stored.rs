//! Reads a row as the message that its sender knows.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::failure::Trouble;
use super::value::{Moment, count, position};
use crate::contract::id::{IdError, MessageId, RoomId, UserId};
use crate::contract::message::{Message, MessageType, Metadata};
use crate::store::StoreError;

/// A question for messages of the room `$1`, with what [`message`] reads, in its order. Another
/// program's rows may lack what ours have; they have a place once their room was hydrated.
macro_rules! select_messages {
    ($where:literal) => {
        concat!(
            "SELECT coalesce(client_id, id), user_id, coalesce(content, ''), \
                 coalesce(message_type::text, ''), \
                 CASE WHEN metadata_hash = jsonb_hash_extended(metadata, 0) THEN metadata_text \
                      ELSE coalesce(metadata::text, '') END, \
                 created_at, edited_at, deleted_at, epoch, seq, \
                 changed_epoch, changed_seq, change_id, credits \
             FROM team_chat_messages WHERE team_chat_id = $1 AND ",
            $where
        )
    };
}
pub(super) use select_messages;

/// What has no place and can be given one: both names pass as ids, by the rules of
/// [`IdError`](crate::contract::id::IdError).
macro_rules! readable {
    () => {
        concat!(
            "epoch IS NULL AND octet_length(id) BETWEEN 1 AND 128
             AND octet_length(user_id) BETWEEN 1 AND 128
             AND (id || user_id) !~ '[",
            r"\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000{}",
            "]'"
        )
    };
}
pub(super) use readable;

/// The message in a row of [`select_messages`].
pub(super) fn message(room: &RoomId, row: &Row) -> Result<Message, StoreError> {
    let change_id = optional(row, 12, MessageId::parse)?;
    let changed_position = position(row.try_get(10)?, row.try_get(11)?);
    let moment = |column| -> Result<_, StoreError> {
        Ok(row.try_get::<_, Option<Moment>>(column)?.map(Moment::timestamp))
    };
    Ok(Message {
        room_id: room.clone(),
        id: parsed(row.try_get(0)?, MessageId::parse)?,
        user_id: parsed(row.try_get(1)?, UserId::parse)?,
        kind: MessageType::from_stored(row.try_get(3)?),
        content: row.try_get(2)?,
        metadata: Metadata::from_stored(row.try_get(4)?),
        // Another program may have left it open.
        created_at: moment(5)?.unwrap_or_default(),
        edited_at: moment(6)?,
        deleted_at: moment(7)?,
        credits: row.try_get::<_, Option<i64>>(13)?.map(count),
        changed_position: change_id.is_some().then_some(changed_position),
        change_id,
        position: Some(position(row.try_get(8)?, row.try_get(9)?)),
    })
}

/// An id that may be missing.
pub(super) fn optional<T>(
    row: &Row,
    column: usize,
    parse: fn(&str) -> Result<T, IdError>,
) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| parsed(text, parse)).transpose()
}

/// An id; only what passes as one is ever given a place.
pub(super) fn parsed<T>(
    text: &str,
    parse: fn(&str) -> Result<T, IdError>,
) -> Result<T, StoreError> {
    parse(text).map_err(|error| StoreError::Unavailable(Box::new(error)))
}

/// The one value of a question that always has one.
pub(super) fn scalar<'a, T: FromSql<'a>>(rows: &'a [Row]) -> Result<T, StoreError> {
    Ok(rows.first().ok_or(Trouble::Unmigrated)?.try_get(0)?)
}
