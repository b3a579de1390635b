//! Removes messages by user, room or age.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::SqliteStore;
use super::stored::{checked, text};
use crate::contract::envelope::{EntryKind, Envelope};
use crate::contract::id::RoomId;
use crate::contract::position::Position;
use crate::contract::timestamp::Timestamp;
use crate::store::{Erased, ErasedStep, Erasure, StoreError};

// What is deleted has nothing left: a delete takes it out.
pub(super) const OF_USER: &str = "SELECT id
    FROM team_chat_messages WHERE deleted_at IS NULL AND user_id = ?1 LIMIT ?2";

pub(super) const OF_ROOM: &str = "SELECT id
    FROM team_chat_messages WHERE deleted_at IS NULL AND team_chat_id = ?1 LIMIT ?2";

#[async_trait]
impl Erasure for SqliteStore {
    async fn erase(
        &self,
        whose: &Erased,
        // An index leads to what is left.
        _after: Position,
        limit: u32,
    ) -> Result<ErasedStep, StoreError> {
        let (whose, now_ms) = (whose.clone(), self.clock.now_ms());
        self.write(move |connection| {
            drop_letters(connection, &whose)?;
            erase_some(connection, &whose, limit, now_ms)
        })
        .await
    }

    async fn expire(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.write(move |connection| expire_some(connection, before.0, limit)).await
    }
}

fn erase_some(
    connection: &Connection,
    whose: &Erased,
    limit: u32,
    now_ms: i64,
) -> Result<ErasedStep, StoreError> {
    let (question, name) = match whose {
        Erased::User(user) => (OF_USER, user.as_str()),
        Erased::Room(room) => (OF_ROOM, room.as_str()),
    };
    let mut statement = connection.prepare_cached(question)?;
    let left = statement.query_map(params![name, limit], |row| row.get(0))?;
    let left = left.collect::<Result<Vec<String>, _>>()?;
    let mut erase = connection.prepare_cached(
        "UPDATE team_chat_messages
         SET content = '', metadata = '{}', deleted_at = ?2, updated_at = ?2 WHERE id = ?1",
    )?;
    for row_id in &left {
        erase.execute(params![row_id, now_ms])?;
    }
    let more = (left.len() >= limit as usize).then_some(Position::ZERO);
    let rooms = match whose {
        _ if more.is_some() => Vec::new(),
        Erased::Room(room) => vec![room.clone()],
        Erased::User(user) => {
            let mut rooms = connection.prepare_cached(
                "SELECT DISTINCT team_chat_id FROM team_chat_messages WHERE user_id = ?1",
            )?;
            let rooms =
                rooms.query_map([user.as_str()], |row| checked(text(row, 0)?, 0, RoomId::parse))?;
            rooms.collect::<Result<_, _>>()?
        }
    };
    Ok(ErasedStep { messages: left.len() as u64, rooms, more })
}

fn drop_letters(connection: &Connection, whose: &Erased) -> Result<(), StoreError> {
    let (question, name) = match whose {
        Erased::User(user) => {
            ("SELECT id, substr(raw, 1, 2) FROM dead_letters WHERE user_id = ?1", user.as_str())
        }
        Erased::Room(room) => {
            ("SELECT id, substr(raw, 1, 2) FROM dead_letters WHERE room_id = ?1", room.as_str())
        }
    };
    let mut statement = connection.prepare_cached(question)?;
    let letters = statement.query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let letters = letters.collect::<Result<Vec<(i64, Vec<u8>)>, _>>()?;
    let mut remove = connection.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?;
    for (id, prefix) in letters {
        // A movement of credits is no message.
        if Envelope::kind_of(&prefix) != Some(EntryKind::Usage) {
            remove.execute([id])?;
        }
    }
    Ok(())
}

fn expire_some(connection: &Connection, before_ms: i64, limit: u32) -> Result<u64, StoreError> {
    let expired = connection
        .prepare_cached(
            "DELETE FROM team_chat_messages WHERE id IN (
                 SELECT id FROM team_chat_messages AS m
                 WHERE created_at < ?1 AND EXISTS (
                     SELECT 1 FROM team_chat_messages AS newer
                     WHERE newer.team_chat_id = m.team_chat_id
                         AND (newer.epoch, newer.seq) > (m.epoch, m.seq))
                 ORDER BY created_at LIMIT ?2)",
        )?
        .execute(params![before_ms, limit])?;
    connection
        .prepare_cached(
            "DELETE FROM message_changes WHERE (team_chat_id, user_id, change_id) IN (
                 SELECT team_chat_id, user_id, change_id FROM message_changes WHERE made_at < ?1
                 ORDER BY made_at LIMIT ?2)",
        )?
        .execute(params![before_ms, limit])?;
    // Whoever compares the ledger with the messages must know which of them may be gone.
    connection
        .prepare_cached(
            "INSERT INTO meta (key, value) VALUES ('expired_before_ms', CAST(?1 AS TEXT))
             ON CONFLICT (key) DO UPDATE SET value = excluded.value
             WHERE CAST(meta.value AS INTEGER) < CAST(excluded.value AS INTEGER)",
        )?
        .execute([before_ms])?;
    Ok(expired as u64)
}
