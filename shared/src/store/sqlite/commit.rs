//! Commits a batch, row by row.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::change::{self, Changed};
use super::ledger::Added;
use super::place::{NewRow, Placed, place};
use super::{ledger, receipts, shards};
use crate::contract::id::{MessageKey, RoomId};
use crate::contract::message::Message;
use crate::contract::position::Position;
use crate::store::{Batch, Committed, Cursor, DeadLetter, RoundCommitted, Row, StoreError};

/// See [`Batches::commit`](crate::store::Batches::commit).
pub(super) fn commit(
    connection: &Connection,
    batch: &Batch,
    now_ms: i64,
) -> Result<Committed, StoreError> {
    let read_from = Cursor { upto: batch.after, epoch: batch.epoch };
    if shards::cursor(connection, batch.shard)? != read_from {
        return Err(StoreError::Fenced { shard: batch.shard });
    }
    let done = store_all(connection, &batch.rows, now_ms)?;
    for dead in &batch.dead {
        insert_dead_letter(connection, batch, dead, now_ms)?;
    }
    for (room, head) in &batch.heads {
        raise_head(connection, room, *head)?;
    }
    let newest_at = batch.rows.iter().map(Row::accepted_at).max();
    shards::move_cursor(connection, batch.shard, batch.upto, newest_at)?;
    Ok(done)
}

/// See [`Batches::commit_round`](crate::store::Batches::commit_round).
pub(super) fn commit_round(
    connection: &Connection,
    round: &[Arc<Batch>],
    now_ms: i64,
) -> Result<RoundCommitted, StoreError> {
    let mut committed = RoundCommitted::default();
    for batch in round {
        match commit(connection, batch, now_ms) {
            Ok(done) => committed.done.add(done),
            Err(StoreError::Fenced { shard }) => committed.fenced.push(shard),
            Err(other) => return Err(other),
        }
    }
    Ok(committed)
}

/// See [`Batches::probe`](crate::store::Batches::probe).
pub(super) fn probe(connection: &Connection, rows: &[Row], now_ms: i64) -> Result<(), StoreError> {
    connection.execute_batch("SAVEPOINT probe")?;
    let tried = store_all(connection, rows, now_ms).map(drop);
    // An error may have taken the transaction with it, and the savepoint too.
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK TO probe; RELEASE probe")?;
    }
    tried
}

fn store_all(connection: &Connection, rows: &[Row], now_ms: i64) -> Result<Committed, StoreError> {
    let mut done = Committed::default();
    let mut moved = BTreeMap::new();
    for row in rows {
        match row {
            Row::Message(message) => match store_message(connection, message)? {
                Placed::Own => done.inserted += 1,
                Placed::IdCollision => done.renamed += 1,
                Placed::Stands => done.duplicates += 1,
            },
            Row::Change(change) => match change::store(connection, change)? {
                Changed::Done => done.changed += 1,
                Changed::Stands => {}
                Changed::Orphaned => done.orphaned += 1,
            },
            Row::Receipt { .. } => {}
            Row::Credit(credit) => match ledger::add(connection, credit, now_ms)? {
                Added::Credited => {
                    done.credited += 1;
                    let sum = moved.entry(&credit.user).or_insert(0_i64);
                    *sum = sum.checked_add(credit.entry.amount).ok_or_else(ledger::overflow)?;
                }
                Added::Stands => {}
                Added::Quarantined => done.quarantined += 1,
            },
        }
    }
    for ((room, _), mark) in crate::store::receipts::furthest(rows) {
        done.read += u64::from(receipts::raise(connection, room, mark)?);
    }
    for (user, sum) in moved {
        done.balances.push((user.clone(), ledger::balance_by(connection, user, sum, now_ms)?));
    }
    Ok(done)
}

fn store_message(connection: &Connection, message: &Message) -> Result<Placed, StoreError> {
    let Some(position) = message.position else {
        return Err(StoreError::Data {
            code: "no_position".to_owned(),
            detail: "a message without a position cannot be stored".to_owned(),
        });
    };
    let identity = MessageKey {
        room: message.room_id.clone(),
        user: message.user_id.clone(),
        id: message.id.clone(),
    };
    let row = NewRow {
        identity: &identity,
        content: &message.content,
        kind: message.kind,
        metadata: &message.metadata,
        at: message.created_at,
        position,
        deleted_by: None,
        sent_at: Some(message.created_at),
        credits: message.credits,
    };
    place(connection, &row)
}

fn insert_dead_letter(
    connection: &Connection,
    batch: &Batch,
    dead: &DeadLetter,
    now_ms: i64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO dead_letters (shard, log_epoch, log_n, epoch, seq, room_id, user_id,
                                       message_id, raw, code, error, first_seen_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            batch.shard.number(),
            dead.log_id.epoch,
            dead.log_id.n,
            dead.position.map(|position| position.epoch),
            dead.position.map(|position| position.seq),
            dead.room.as_ref().map(|room| room.as_str()),
            dead.user.as_ref().map(|user| user.as_str()),
            dead.id.as_ref().map(|id| id.as_str()),
            &dead.raw[..],
            dead.code,
            dead.error,
            now_ms,
        ])?;
    Ok(())
}

fn raise_head(connection: &Connection, room: &RoomId, head: Position) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO room_heads (room_id, epoch, seq) VALUES (?1, ?2, ?3)
             ON CONFLICT (room_id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
             WHERE (excluded.epoch, excluded.seq) > (room_heads.epoch, room_heads.seq)",
        )?
        .execute(params![room.as_str(), head.epoch, head.seq])?;
    Ok(())
}
