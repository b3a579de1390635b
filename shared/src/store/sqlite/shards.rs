//! Cursors and epochs of shards.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::contract::id::Shard;
use crate::contract::limits::ID_MEMORY_MS;
use crate::contract::timestamp::Timestamp;
use crate::log::{Epoch, LogId};
use crate::store::{Cursor, StoreError};

/// See [`Shards::mint`](crate::store::Shards::mint).
pub(super) fn mint(
    connection: &Connection,
    (shard, token, at_least): (Shard, Uuid, u64),
    now_ms: i64,
) -> Result<Epoch, StoreError> {
    let token = token.hyphenated().to_string();
    let known: Option<u64> = connection
        .prepare_cached("SELECT epoch FROM epochs WHERE shard = ?1 AND token = ?2")?
        .query_row(params![shard.number(), token], |row| row.get(0))
        .optional()?;
    if let Some(known) = known.map(|number| epoch(connection, shard, number)).transpose()? {
        return Ok(known.expect("it was found a line above, in the same transaction"));
    }
    let newest_at: Option<i64> = connection
        .prepare_cached("SELECT newest_at FROM shards WHERE shard = ?1")?
        .query_row([shard.number()], |row| row.get(0))?;
    let minted = Epoch {
        number: (cursor(connection, shard)?.epoch + 1).max(at_least),
        minted_at: Timestamp(now_ms),
        quiet: newest_at.is_none_or(|newest| newest <= now_ms - ID_MEMORY_MS),
    };
    connection
        .prepare_cached(
            "INSERT INTO epochs (shard, epoch, token, minted_at, quiet)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![shard.number(), minted.number, token, now_ms, minted.quiet])?;
    Ok(minted)
}

/// See [`Shards::epoch`](crate::store::Shards::epoch).
pub(super) fn epoch(
    connection: &Connection,
    shard: Shard,
    number: u64,
) -> Result<Option<Epoch>, StoreError> {
    let epoch = connection
        .prepare_cached("SELECT minted_at, quiet FROM epochs WHERE shard = ?1 AND epoch = ?2")?
        .query_row(params![shard.number(), number], |row| {
            Ok(Epoch { number, minted_at: Timestamp(row.get(0)?), quiet: row.get(1)? })
        })
        .optional()?;
    Ok(epoch)
}

/// See [`Shards::cursor`](crate::store::Shards::cursor).
pub(super) fn cursor(connection: &Connection, shard: Shard) -> Result<Cursor, StoreError> {
    let cursor = connection
        .prepare_cached(
            "SELECT cursor_epoch, cursor_n,
                    (SELECT coalesce(max(epoch), 0) FROM epochs WHERE shard = ?1)
             FROM shards WHERE shard = ?1",
        )?
        .query_row([shard.number()], |row| {
            let upto = LogId { epoch: row.get(0)?, n: row.get(1)? };
            Ok(Cursor { upto, epoch: row.get(2)? })
        })?;
    Ok(cursor)
}

/// Moves the cursor, and remembers when the shard's youngest entry was accepted.
pub(super) fn move_cursor(
    connection: &Connection,
    shard: Shard,
    upto: LogId,
    newest_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE shards SET cursor_epoch = ?2, cursor_n = ?3,
                    newest_at = coalesce(max(newest_at, ?4), ?4, newest_at)
             WHERE shard = ?1",
        )?
        .execute(params![shard.number(), upto.epoch, upto.n, newest_at.map(|at| at.0)])?;
    Ok(())
}

/// Reads a page of the file.
pub(super) fn ping(connection: &Connection) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key = 'shards'")?;
    let _shards: String = statement.query_row([], |row| row.get(0))?;
    Ok(())
}
