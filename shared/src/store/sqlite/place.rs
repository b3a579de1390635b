//! Finds the row of a message, and an id for a new one.

use rusqlite::{Connection, params};

use crate::contract::id::{MessageId, MessageKey, RoomId, UserId};
use crate::contract::message::{MessageType, Metadata};
use crate::contract::position::Position;
use crate::contract::timestamp::Timestamp;
use crate::store::StoreError;
use crate::store::naming::{fresh_id, place_is_taken};

/// A row that may have to be made.
pub(super) struct NewRow<'a> {
    pub(super) identity: &'a MessageKey,
    pub(super) content: &'a str,
    pub(super) kind: MessageType,
    pub(super) metadata: &'a Metadata,
    pub(super) at: Timestamp,
    pub(super) position: Position,
    /// In a tombstone of a message that never came, the delete's id.
    pub(super) deleted_by: Option<&'a MessageId>,
    /// When it was sent; `None` where it is not known by whom.
    pub(super) sent_at: Option<Timestamp>,
    pub(super) credits: Option<u64>,
}

/// Where a row came to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// Under its own id.
    Own,
    /// Under a random one.
    IdCollision,
    /// Nowhere: it stood already.
    Stands,
}

/// Inserts the row unless its message stands already.
pub(super) fn place(connection: &Connection, row: &NewRow<'_>) -> Result<Placed, StoreError> {
    if find(connection, row.identity)?.is_some() {
        return Ok(Placed::Stands);
    }
    if insert(connection, row, &row.identity.id)? {
        return Ok(Placed::Own);
    }
    if is_taken(connection, &row.identity.id)? && insert(connection, row, &fresh_id())? {
        return Ok(Placed::IdCollision);
    }
    Err(place_is_taken("SQLITE_CONSTRAINT_UNIQUE"))
}

/// Whether some row, of whatever room, has this id.
fn is_taken(connection: &Connection, row_id: &MessageId) -> Result<bool, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM team_chat_messages WHERE id = ?1")?;
    Ok(statement.exists([row_id.as_str()])?)
}

fn insert(
    connection: &Connection,
    row: &NewRow<'_>,
    row_id: &MessageId,
) -> Result<bool, StoreError> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO team_chat_messages (id, team_chat_id, user_id, content, message_type,
                 metadata, created_at, updated_at, accessed_at, epoch, seq, changed_epoch,
                 changed_seq, change_id, deleted_at, credits, send_time, client_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?7, ?8, ?9, ?8, ?9, ?10,
                     iif(?10 IS NULL, NULL, ?7), ?11, ?12, ?13)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            row_id.as_str(),
            row.identity.room.as_str(),
            row.identity.user.as_str(),
            row.content,
            row.kind.as_str(),
            row.metadata.as_str(),
            row.at.0,
            row.position.epoch,
            row.position.seq,
            row.deleted_by.map(MessageId::as_str),
            row.credits,
            row.sent_at.map(|at| at.0),
            row.identity.id.as_str(),
        ])?;
    Ok(inserted > 0)
}

/// A row that stands in a room under some id of a client's.
#[derive(Clone, Debug)]
pub(super) struct ExistingRow {
    /// Under which the table has it.
    pub(super) row_id: String,
    pub(super) user: String,
    /// `false` in the tombstone of a message that never came and whose sender its delete did not
    /// name: `user` is who deleted it.
    pub(super) sender_known: bool,
    pub(super) position: Position,
}

/// What is known as `?2` in the room `?1`, the first to stand first.
pub(super) const STANDING: &str =
    "SELECT id, user_id, send_time IS NOT NULL, epoch, seq FROM team_chat_messages
     WHERE team_chat_id = ?1 AND client_id = ?2 ORDER BY +epoch, +seq";

/// The rows of the room that clients know under `id`.
pub(super) fn standing(
    connection: &Connection,
    room: &RoomId,
    id: &MessageId,
) -> Result<Vec<ExistingRow>, StoreError> {
    let mut statement = connection.prepare_cached(STANDING)?;
    let standing = statement.query_map([room.as_str(), id.as_str()], |row| {
        Ok(ExistingRow {
            row_id: row.get(0)?,
            user: row.get(1)?,
            sender_known: row.get(2)?,
            position: Position::new(row.get(3)?, row.get(4)?),
        })
    })?;
    Ok(standing.collect::<Result<_, _>>()?)
}

/// Of rows of one id, the one of this sender. A message whose tombstone came first is found there
/// by whoever sent it.
pub(super) fn own<'a>(standing: &'a [ExistingRow], user: &UserId) -> Option<&'a ExistingRow> {
    let own = standing.iter().find(|row| row.sender_known && row.user == user.as_str());
    own.or_else(|| standing.iter().find(|row| !row.sender_known))
}

/// Where a message stands.
pub(super) fn find(
    connection: &Connection,
    identity: &MessageKey,
) -> Result<Option<Position>, StoreError> {
    let standing = standing(connection, &identity.room, &identity.id)?;
    Ok(own(&standing, &identity.user).map(|row| row.position))
}
