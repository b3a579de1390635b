//! Applies edits and deletes.

use rusqlite::{Connection, OptionalExtension, params};

use super::place::{ExistingRow, NewRow, Placed, own, place, standing};
use crate::contract::id::{MessageId, MessageKey, RoomId, UserId};
use crate::contract::message::{MessageType, Metadata};
use crate::contract::position::Position;
use crate::store::{Change, MessageChange, StoreError};

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// It was newer than what stood.
    Done,
    /// It was made before, or what stands is newer.
    Stands,
    /// The message that it edits does not stand.
    Orphaned,
}

/// Makes the change, if it is newer than what stands and was not made before, however long ago.
pub(super) fn store(
    connection: &Connection,
    change: &MessageChange,
) -> Result<Changed, StoreError> {
    if find(connection, &change.room, &change.user, &change.change_id)?.is_some() {
        return Ok(Changed::Stands);
    }
    let done = match (&change.change, changed_row(connection, change)?) {
        (Change::Edit { content, metadata }, Some(row)) => {
            edit(connection, change, &row, (content, metadata.as_ref()))?
        }
        // Not remembered: its message may come, and then the edit may come again.
        (Change::Edit { .. }, None) => return Ok(Changed::Orphaned),
        (Change::Delete, Some(row)) => delete(connection, change, &row)?,
        (Change::Delete, None) => leave_tombstone(connection, change)?,
    };
    remember(connection, change)?;
    Ok(if done { Changed::Done } else { Changed::Stands })
}

/// Where a change stands that was made.
pub(super) fn find(
    connection: &Connection,
    room: &RoomId,
    user: &UserId,
    change_id: &MessageId,
) -> Result<Option<Position>, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT epoch, seq FROM message_changes
             WHERE team_chat_id = ?1 AND user_id = ?2 AND change_id = ?3",
        )?
        .query_row(params![room.as_str(), user.as_str(), change_id.as_str()], |row| {
            Ok(Position::new(row.get(0)?, row.get(1)?))
        })
        .optional()?;
    Ok(found)
}

fn remember(connection: &Connection, change: &MessageChange) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO message_changes (team_chat_id, user_id, change_id, epoch, seq, made_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            change.room.as_str(),
            change.user.as_str(),
            change.change_id.as_str(),
            change.position.epoch,
            change.position.seq,
            change.at.0,
        ])?;
    Ok(())
}

/// The row that the change is about. Several in a room can have one id, when each of their senders
/// chose it: the author's is meant, or where none is named, the changer's own, else the first.
fn changed_row(
    connection: &Connection,
    change: &MessageChange,
) -> Result<Option<ExistingRow>, StoreError> {
    let rows = standing(connection, &change.room, &change.id)?;
    let meant = match &change.author {
        Some(author) => own(&rows, author),
        None => rows.iter().find(|row| row.user == change.user.as_str()).or(rows.first()),
    };
    Ok(meant.cloned())
}

fn edit(
    connection: &Connection,
    change: &MessageChange,
    row: &ExistingRow,
    (content, metadata): (&str, Option<&Metadata>),
) -> Result<bool, StoreError> {
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
            metadata.map(Metadata::as_str),
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
    row: &ExistingRow,
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
            Metadata::default().as_str(),
            change.at.0,
            change.position.epoch,
            change.position.seq,
            change.change_id.as_str(),
        ])?;
    Ok(deleted > 0)
}

/// Takes the id of a message that never came, or comes later.
fn leave_tombstone(connection: &Connection, change: &MessageChange) -> Result<bool, StoreError> {
    let MessageChange { room, user, author, id, .. } = change;
    let user = author.as_ref().unwrap_or(user).clone();
    let identity = MessageKey { room: room.clone(), user, id: id.clone() };
    let row = NewRow {
        identity: &identity,
        content: "",
        kind: MessageType::default(),
        metadata: &Metadata::default(),
        at: change.at,
        position: change.position,
        deleted_by: Some(&change.change_id),
        // Where it is not known who sent it, nobody's message of that id comes any more.
        sent_at: author.as_ref().map(|_| change.at),
        credits: None,
    };
    Ok(place(connection, &row)? != Placed::Stands)
}
