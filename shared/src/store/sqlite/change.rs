//! Edits and deletes.

use rusqlite::{Connection, params};

use super::place::{NewRow, Placed, Standing, place, standing};
use crate::contract::message::{MessageType, Metadata};
use crate::contract::timestamp::Timestamp;
use crate::store::renamed::named;
use crate::store::{Change, Identity, MessageChange, StoreError};

/// Makes the change, if it is newer than what stands; says whether it did.
pub(super) fn store(connection: &Connection, change: &MessageChange) -> Result<bool, StoreError> {
    let found = changed_row(connection, change)?;
    match (&change.change, found) {
        (Change::Edit { content, metadata }, Some(row)) => {
            edit(connection, change, &row, (content, metadata.as_ref()))
        }
        (Change::Edit { .. }, None) => Ok(false),
        (Change::Delete, Some(row)) => delete(connection, change, &row),
        (Change::Delete, None) => leave_tombstone(connection, change),
    }
}

/// The row that the change is about. Several in a room can have one id, when each of their senders
/// chose it; the changer's own is meant then.
fn changed_row(
    connection: &Connection,
    change: &MessageChange,
) -> Result<Option<Standing>, StoreError> {
    let mut rows = standing(connection, &change.room, &change.id)?;
    let own = rows.iter().position(|row| row.user == change.user.as_str());
    Ok(if rows.is_empty() { None } else { Some(rows.swap_remove(own.unwrap_or(0))) })
}

fn edit(
    connection: &Connection,
    change: &MessageChange,
    row: &Standing,
    (content, metadata): (&str, Option<&Metadata>),
) -> Result<bool, StoreError> {
    let metadata = metadata.map(|metadata| kept(metadata, change, row));
    let edited = connection
        .prepare_cached(
            "UPDATE team_chat_messages
             SET content = ?2, metadata = coalesce(?3, metadata), edited_at = ?4, updated_at = ?4,
                 changed_epoch = ?5, changed_seq = ?6, change_id = ?7
             WHERE id = ?1 AND deleted_at IS NULL AND (changed_epoch, changed_seq) < (?5, ?6)",
        )?
        .execute(params![
            row.row_id,
            content,
            metadata.as_ref().map(Metadata::as_str),
            change.at.0,
            change.position.epoch,
            change.position.seq,
            change.change_id.as_str(),
        ])?;
    Ok(edited > 0)
}

fn delete(
    connection: &Connection,
    change: &MessageChange,
    row: &Standing,
) -> Result<bool, StoreError> {
    let deleted = connection
        .prepare_cached(
            "UPDATE team_chat_messages
             SET content = '', metadata = ?2, deleted_at = coalesce(deleted_at, ?3),
                 updated_at = ?3, changed_epoch = ?4, changed_seq = ?5, change_id = ?6
             WHERE id = ?1 AND (changed_epoch, changed_seq) < (?4, ?5)",
        )?
        .execute(params![
            row.row_id,
            kept(&Metadata::default(), change, row).as_str(),
            change.at.0,
            change.position.epoch,
            change.position.seq,
            change.change_id.as_str(),
        ])?;
    Ok(deleted > 0)
}

/// The metadata, with the client's id in them where the row has another.
fn kept(metadata: &Metadata, change: &MessageChange, row: &Standing) -> Metadata {
    if row.row_id == change.id.as_str() { metadata.clone() } else { named(metadata, &change.id) }
}

/// Takes the id of a message that never came, or comes later.
fn leave_tombstone(connection: &Connection, change: &MessageChange) -> Result<bool, StoreError> {
    let identity =
        Identity { room: change.room.clone(), user: change.user.clone(), id: change.id.clone() };
    let row = NewRow {
        identity: &identity,
        content: "",
        kind: MessageType::default(),
        metadata: &Metadata::default(),
        at: Timestamp(change.at.0),
        position: change.position,
        deleted_by: Some(&change.change_id),
    };
    Ok(place(connection, &row)? != Placed::Stands)
}
