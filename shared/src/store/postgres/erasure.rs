//! Removes messages by user, room or age.

use async_trait::async_trait;
use deadpool_postgres::Transaction;

use super::PostgresStore;
use super::pool::{End, pipeline, statement};
use super::stored::scalar;
use super::value::{Moment, Place, count, position};
use crate::contract::envelope::{EntryKind, Envelope};
use crate::contract::id::RoomId;
use crate::contract::position::Position;
use crate::contract::timestamp::Timestamp;
use crate::store::{Erased, ErasedStep, Erasure, StoreError};

// Questions for rows that are still to be erased. What is deleted has nothing left: a delete takes
// it out.
const OF_USER: &str = "
    SELECT id, NULL::bigint, NULL::bigint FROM team_chat_messages
    WHERE deleted_at IS NULL AND user_id = $1 LIMIT $2 FOR UPDATE";

/// In their order, which says how far it is: what was erased before is not looked at again.
const OF_ROOM: &str = "
    SELECT id, epoch, seq FROM team_chat_messages
    WHERE team_chat_id = $1 AND epoch IS NOT NULL AND (epoch, seq) > ($3, $4)
        AND deleted_at IS NULL
    ORDER BY epoch, seq LIMIT $2 FOR UPDATE";

const OF_ROOM_UNPLACED: &str = "
    SELECT id, NULL::bigint, NULL::bigint FROM team_chat_messages
    WHERE team_chat_id = $1 AND epoch IS NULL AND deleted_at IS NULL LIMIT $2 FOR UPDATE";

const ROOMS_OF_USER: &str =
    "SELECT DISTINCT team_chat_id FROM team_chat_messages WHERE user_id = $1";

const ERASE: &str = "
    UPDATE team_chat_messages
    SET content = '', metadata = '{}', metadata_text = NULL, metadata_hash = NULL,
        deleted_at = clock_timestamp(), updated_at = clock_timestamp()
    WHERE id = ANY($1)";

const LETTERS_OF_USER: &str =
    "SELECT id, substring(raw FOR 2) FROM dead_letters WHERE user_id = $1";

const LETTERS_OF_ROOM: &str =
    "SELECT id, substring(raw FOR 2) FROM dead_letters WHERE room_id = $1";

const DROP_LETTERS: &str = "DELETE FROM dead_letters WHERE id = ANY($1)";

// What lies above a room's newest message there is nothing of, so that one stays.
const EXPIRE: &str = "
    WITH old AS (
        SELECT id FROM team_chat_messages AS m
        WHERE epoch IS NOT NULL AND created_at < $1 AND EXISTS (
            SELECT FROM team_chat_messages AS newer
            WHERE newer.team_chat_id = m.team_chat_id AND newer.epoch IS NOT NULL
                AND (newer.epoch, newer.seq) > (m.epoch, m.seq))
        ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM team_chat_messages USING old WHERE team_chat_messages.id = old.id RETURNING 1
    )
    SELECT count(*) FROM gone";

const FORGET_CHANGES: &str = "
    DELETE FROM message_changes WHERE (team_chat_id, user_id, change_id) IN (
        SELECT team_chat_id, user_id, change_id FROM message_changes WHERE made_at < $1
        ORDER BY made_at LIMIT $2 FOR UPDATE SKIP LOCKED)";

// Whoever compares the ledger with the messages must know which of them may be gone.
const REMEMBER: &str = "
    INSERT INTO roomcast_meta AS meta (key, value) VALUES ('expired_before_ms', $1::bigint::text)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value
    WHERE meta.value::bigint < excluded.value::bigint";

#[async_trait]
impl Erasure for PostgresStore {
    async fn erase(
        &self,
        whose: &Erased,
        after: Position,
        limit: u32,
    ) -> Result<ErasedStep, StoreError> {
        self.pool
            .write(async |transaction| {
                Ok((erase_some(transaction, whose, after, limit).await?, End::Commit))
            })
            .await
    }

    async fn expire(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let (moment, limit, before_ms) = (Moment::of(before)?, i64::from(limit), before.0);
        let statements = [
            statement!(EXPIRE, moment, limit),
            statement!(FORGET_CHANGES, moment, limit),
            statement!(REMEMBER, before_ms),
        ];
        self.pool
            .write(async |transaction| {
                let gone = count(scalar(&pipeline(transaction.client(), &statements).await?[0])?);
                Ok((gone, End::Commit))
            })
            .await
    }
}

async fn erase_some(
    transaction: &Transaction<'_>,
    whose: &Erased,
    after: Position,
    limit: u32,
) -> Result<ErasedStep, StoreError> {
    let client = transaction.client();
    let (most, from) = (i64::from(limit), Place::near(after));
    let (letters_of, name) = match whose {
        Erased::User(user) => (LETTERS_OF_USER, user.as_str()),
        Erased::Room(room) => (LETTERS_OF_ROOM, room.as_str()),
    };
    let mut read = vec![statement!(letters_of, name)];
    match whose {
        Erased::User(_) => read.push(statement!(OF_USER, name, most)),
        Erased::Room(_) => {
            read.push(statement!(OF_ROOM_UNPLACED, name, most));
            read.push(statement!(OF_ROOM, name, most, from.epoch, from.seq));
        }
    }
    let answers = pipeline(client, &read).await?;
    let (mut ids, mut upto) = (Vec::new(), after);
    for row in answers[1..].iter().flatten().take(limit as usize) {
        ids.push(row.try_get::<_, &str>(0)?);
        if let (Some(epoch), Some(seq)) = (row.try_get(1)?, row.try_get(2)?) {
            upto = position(epoch, seq);
        }
    }
    let mut letters: Vec<i64> = Vec::new();
    for row in &answers[0] {
        // A movement of credits is no message.
        if Envelope::kind_of(row.try_get(1)?) != Some(EntryKind::Usage) {
            letters.push(row.try_get(0)?);
        }
    }
    let write = [statement!(ERASE, ids), statement!(DROP_LETTERS, letters)];
    pipeline(client, &write).await?;
    let more = (ids.len() >= limit as usize).then_some(upto);
    let rooms = match whose {
        _ if more.is_some() => Vec::new(),
        Erased::Room(room) => vec![room.clone()],
        Erased::User(_) => {
            let answers = pipeline(client, &[statement!(ROOMS_OF_USER, name)]).await?;
            let rooms = answers[0].iter().map(|row| Ok(RoomId::parse(row.try_get(0)?).ok()));
            rooms.collect::<Result<Vec<_>, StoreError>>()?.into_iter().flatten().collect()
        }
    };
    Ok(ErasedStep { messages: ids.len() as u64, rooms, more })
}
