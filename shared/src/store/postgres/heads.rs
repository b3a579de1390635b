//! Heads of rooms, and positions for rows of other programs.
//!
//! A row without a place gets one when its room is first asked for: in epoch 0, before all of ours,
//! by its time and its id. Once the room has a head, what comes without a place is appended by a
//! worker, so that those who are there see it. Rows whose names are no ids are left as they are,
//! for nobody could read them.

use deadpool_postgres::Transaction;

use super::failure::Trouble;
use super::pool::{End, Pool, pipeline, statement};
use super::shards::{LOCK, shard_number};
use super::stored::{readable, scalar};
use super::value::position;
use crate::contract::id::RoomId;
use crate::contract::position::Position;
use crate::store::StoreError;

/// Rows that get their place in one transaction, which holds the shard: few enough that a batch
/// waits but a moment, and that what is done stays done if the asker gives up.
const CHUNK_ROWS: i64 = 2000;

const HEADS: &str = concat!(
    "SELECT coalesce(head.epoch, 0), coalesce(head.seq, 0), head.room_id IS NULL AND EXISTS (
         SELECT FROM team_chat_messages WHERE team_chat_id = asked.room AND (epoch = 0 OR ",
    readable!(),
    "))
     FROM unnest($1::text[]) WITH ORDINALITY AS asked(room, n)
     LEFT JOIN room_heads AS head ON head.room_id = asked.room
     ORDER BY asked.n"
);

const PLACE: &str = concat!(
    "WITH last AS (
         SELECT coalesce(max(seq), 0) AS seq FROM team_chat_messages
         WHERE team_chat_id = $1 AND epoch = 0
     ), first AS (
         SELECT id, row_number() OVER (ORDER BY created_at, id COLLATE \"C\") AS n
         FROM team_chat_messages WHERE team_chat_id = $1
             AND NOT EXISTS (SELECT FROM room_heads WHERE room_id = $1) AND ",
    readable!(),
    "    ORDER BY created_at, id COLLATE \"C\" LIMIT $2
     ), placed AS (
         UPDATE team_chat_messages AS m
         SET epoch = 0, seq = last.seq + first.n, changed_epoch = 0,
             changed_seq = last.seq + first.n, send_time = coalesce(send_time, created_at)
         FROM first, last WHERE m.id = first.id AND m.epoch IS NULL
         RETURNING m.seq
     ), head AS (
         INSERT INTO room_heads AS h (room_id, epoch, seq)
         -- With the last part alone, which may be empty: until then the room has none.
         SELECT $1, 0, last.seq + (SELECT count(*) FROM placed) FROM last
         WHERE (SELECT count(*) FROM placed) < $2
             AND last.seq + (SELECT count(*) FROM placed) > 0
         ON CONFLICT (room_id) DO NOTHING
     )
     SELECT count(*) FROM placed"
);

/// See [`Messages::heads`](crate::store::Messages::heads).
pub(super) async fn heads(pool: &Pool, rooms: &[RoomId]) -> Result<Vec<Position>, StoreError> {
    let mut known = ask(pool, rooms).await?;
    let unplaced: Vec<RoomId> = rooms
        .iter()
        .zip(&known)
        .filter(|(_, (_, unplaced))| *unplaced)
        .map(|(room, _)| room.clone())
        .collect();
    if !unplaced.is_empty() {
        for room in &unplaced {
            place(pool, room).await?;
        }
        known = ask(pool, rooms).await?;
    }
    Ok(known.into_iter().map(|(head, _)| head).collect())
}

/// Each room's head, and whether some rows of it have no place.
async fn ask(pool: &Pool, rooms: &[RoomId]) -> Result<Vec<(Position, bool)>, StoreError> {
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = rooms.iter().map(RoomId::as_str).collect();
    let statement = statement!(HEADS, names);
    let answers = pool.read(&[statement]).await?;
    let heads = answers[0]
        .iter()
        .map(|row| Ok((position(row.try_get(0)?, row.try_get(1)?), row.try_get(2)?)));
    heads.collect()
}

/// Gives every row of the room a place, a part at a time.
async fn place(pool: &Pool, room: &RoomId) -> Result<(), StoreError> {
    loop {
        let placed = pool.write(async |transaction| {
            let placed = place_some(transaction, room).await?;
            Ok((placed, End::Commit))
        });
        if placed.await? < CHUNK_ROWS {
            return Ok(());
        }
    }
}

async fn place_some(transaction: &Transaction<'_>, room: &RoomId) -> Result<i64, StoreError> {
    let (shard, name) = (shard_number(room.shard()), room.as_str());
    let statements = [statement!(LOCK, shard), statement!(PLACE, name, CHUNK_ROWS)];
    let answers = pipeline(transaction.client(), &statements).await?;
    answers[0].first().ok_or(Trouble::Unmigrated)?;
    scalar(&answers[1])
}
