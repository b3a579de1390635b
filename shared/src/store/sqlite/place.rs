//! Under which id a message stands, and finding it there.

use rusqlite::{Connection, params};

use crate::contract::id::{MessageId, RoomId};
use crate::contract::message::{MessageType, Metadata};
use crate::contract::position::Position;
use crate::contract::timestamp::Timestamp;
use crate::store::renamed::{client_id, named};
use crate::store::{Identity, StoreError, derived_id};

/// A row that may have to be made.
pub(super) struct NewRow<'a> {
    pub(super) identity: &'a Identity,
    pub(super) content: &'a str,
    pub(super) kind: MessageType,
    pub(super) metadata: &'a Metadata,
    pub(super) at: Timestamp,
    pub(super) position: Position,
    /// In a tombstone of a message that never came, the delete's id.
    pub(super) deleted_by: Option<&'a MessageId>,
    pub(super) credits: Option<u64>,
}

/// Where a row came to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// Under its own id.
    Own,
    /// Under the derived one.
    Renamed,
    /// Nowhere: it stood already.
    Stands,
}

/// Inserts the row unless its message stands already.
pub(super) fn place(connection: &Connection, row: &NewRow<'_>) -> Result<Placed, StoreError> {
    let identity = row.identity;
    if insert(connection, row, &identity.id, row.metadata)? {
        return Ok(Placed::Own);
    }
    if find(connection, identity)?.is_some() {
        return Ok(Placed::Stands);
    }
    let (derived, metadata) = (derived_id(identity), named(row.metadata, &identity.id));
    if insert(connection, row, &derived, &metadata)? {
        return Ok(Placed::Renamed);
    }
    // Somebody chose it, knowing what it would be.
    Err(StoreError::Data {
        code: "SQLITE_CONSTRAINT_PRIMARYKEY".to_owned(),
        detail: "the id and the one derived from it stand with others".to_owned(),
    })
}

fn insert(
    connection: &Connection,
    row: &NewRow<'_>,
    id: &MessageId,
    metadata: &Metadata,
) -> Result<bool, StoreError> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO team_chat_messages (id, team_chat_id, user_id, content, message_type,
                 metadata, created_at, updated_at, accessed_at, epoch, seq, changed_epoch,
                 changed_seq, change_id, send_time, deleted_at, credits)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?7, ?8, ?9, ?8, ?9, ?10,
                     iif(?10 IS NULL, ?7, NULL), iif(?10 IS NULL, NULL, ?7), ?11)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            id.as_str(),
            row.identity.room.as_str(),
            row.identity.user.as_str(),
            row.content,
            row.kind.as_str(),
            metadata.as_str(),
            row.at.0,
            row.position.epoch,
            row.position.seq,
            row.deleted_by.map(MessageId::as_str),
            row.credits,
        ])?;
    Ok(inserted > 0)
}

/// A row that stands in a room under some id of a client's.
#[derive(Debug)]
pub(super) struct Standing {
    /// Under which the table has it.
    pub(super) row_id: String,
    pub(super) user: String,
    /// `false` in the tombstone of a message that never came: `user` is who deleted it.
    pub(super) sender_known: bool,
    pub(super) position: Position,
}

/// What may be known as `?2` in the room `?1`; the row that has the id itself is first.
pub(super) const STANDING: &str =
    "SELECT id, user_id, renamed_from, send_time IS NOT NULL, epoch, seq
     FROM team_chat_messages WHERE id = ?2 AND team_chat_id = ?1
     UNION ALL
     SELECT id, user_id, renamed_from, send_time IS NOT NULL, epoch, seq
     FROM team_chat_messages WHERE team_chat_id = ?1 AND renamed_from = ?2";

/// The rows of the room that clients know under `id`.
pub(super) fn standing(
    connection: &Connection,
    room: &RoomId,
    id: &MessageId,
) -> Result<Vec<Standing>, StoreError> {
    let mut statement = connection.prepare_cached(STANDING)?;
    let mut rows = statement.query([room.as_str(), id.as_str()])?;
    let mut standing = Vec::new();
    while let Some(row) = rows.next()? {
        let found = Standing {
            row_id: row.get(0)?,
            user: row.get(1)?,
            sender_known: row.get(3)?,
            position: Position::new(row.get(4)?, row.get(5)?),
        };
        let renamed_from: Option<String> = row.get(2)?;
        let renamed_from =
            renamed_from.and_then(|from| client_id(room, &found.user, &found.row_id, &from));
        // Neither a row whose sender chose an id that another's was derived to, nor one whose
        // sender wrote our key into its metadata, is what it looks like.
        let known_as = renamed_from.as_ref().map_or(found.row_id.as_str(), MessageId::as_str);
        if known_as == id.as_str() {
            standing.push(found);
        }
    }
    Ok(standing)
}

/// Where a message stands. A message whose tombstone came first is found there by whoever sent it.
pub(super) fn find(
    connection: &Connection,
    identity: &Identity,
) -> Result<Option<Position>, StoreError> {
    let standing = standing(connection, &identity.room, &identity.id)?;
    let found = standing
        .iter()
        .find(|row| row.user == identity.user.as_str())
        .or_else(|| standing.iter().find(|row| !row.sender_known));
    Ok(found.map(|row| row.position))
}
