//! Reads a row as the message that its sender knows.

use rusqlite::types::Type;
use rusqlite::{Error, Row};

use crate::contract::id::{IdError, MessageId, RoomId, UserId};
use crate::contract::message::{Message, MessageType, Metadata};
use crate::contract::position::Position;
use crate::contract::timestamp::Timestamp;

/// A question for messages of the room `?1`, with what [`message`] reads, in its order.
macro_rules! select_messages {
    ($where:literal) => {
        concat!(
            "SELECT client_id, user_id, content, message_type, metadata, created_at, edited_at, \
                 deleted_at, epoch, seq, changed_epoch, changed_seq, change_id, credits \
             FROM team_chat_messages WHERE team_chat_id = ?1 AND ",
            $where
        )
    };
}
pub(super) use select_messages;

/// The message in a row of [`select_messages`].
pub(super) fn message(room: &RoomId, row: &Row<'_>) -> Result<Message, Error> {
    let change_id = match row.get_ref(12)?.as_str_or_null()? {
        Some(change_id) => Some(checked(change_id, 12, MessageId::parse)?),
        None => None,
    };
    let changed_position = Position::new(row.get(10)?, row.get(11)?);
    Ok(Message {
        room_id: room.clone(),
        id: checked(text(row, 0)?, 0, MessageId::parse)?,
        user_id: checked(text(row, 1)?, 1, UserId::parse)?,
        kind: MessageType::from_stored(text(row, 3)?),
        content: row.get(2)?,
        metadata: Metadata::from_stored(text(row, 4)?),
        created_at: Timestamp(row.get(5)?),
        edited_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
        deleted_at: row.get::<_, Option<i64>>(7)?.map(Timestamp),
        credits: row.get(13)?,
        changed_position: change_id.is_some().then_some(changed_position),
        change_id,
        position: Some(Position::new(row.get(8)?, row.get(9)?)),
    })
}

/// A text, without a copy of it.
pub(super) fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, Error> {
    Ok(row.get_ref(column)?.as_str()?)
}

/// An id that may be missing.
pub(super) fn id<T>(
    row: &Row<'_>,
    column: usize,
    parse: fn(&str) -> Result<T, IdError>,
) -> Result<Option<T>, Error> {
    let text = row.get_ref(column)?.as_str_or_null()?;
    text.map(|text| checked(text, column, parse)).transpose()
}

/// An id, which another program may have written.
pub(super) fn checked<T>(
    text: &str,
    column: usize,
    parse: fn(&str) -> Result<T, IdError>,
) -> Result<T, Error> {
    parse(text)
        .map_err(|error| Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}
