//! The schema and its migrations.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::OpenError;
use crate::contract::id::Shard;
use crate::contract::limits::SHARDS;
use crate::store::{ForeignTables, StoreError};

/// Every step from an empty file to the present schema; `PRAGMA user_version` counts those done.
const MIGRATIONS: [&str; 3] = [
    include_str!("../migrations/sqlite/0001_tables.sql"),
    include_str!("../migrations/sqlite/0002_beside_messages.sql"),
    include_str!("../migrations/sqlite/0003_identity.sql"),
];

/// Does the steps that are missing, and refuses a file that this program would misread.
pub(super) fn migrate(connection: &mut Connection, file: &Path) -> Result<(), OpenError> {
    let database = |source| OpenError::Database { file: file.to_owned(), source };
    let found: u32 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(database)?;
    let known = u32::try_from(MIGRATIONS.len()).expect("there are few migrations");
    if found > known {
        return Err(ForeignTables::Newer { found, known }.into());
    }
    for (done, step) in (1..=known).zip(MIGRATIONS).skip_while(|(done, _)| *done <= found) {
        take_step(connection, step, done).map_err(database)?;
    }
    let shards: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE key = 'shards'", [], |row| row.get(0))
        .optional()
        .map_err(database)?;
    Ok(ForeignTables::check_shards(shards)?)
}

/// See [`SqliteStore::beat`](super::SqliteStore::beat).
pub(super) fn beat(connection: &Connection, now_ms: i64) -> Result<(), StoreError> {
    let write = "INSERT INTO meta (key, value) VALUES ('written_at', ?1)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    connection.prepare_cached(write)?.execute([now_ms.to_string()])?;
    Ok(())
}

fn take_step(connection: &mut Connection, step: &str, done: u32) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(step)?;
    if done == 1 {
        let shards = SHARDS.to_string();
        transaction.execute("INSERT INTO meta (key, value) VALUES ('shards', ?1)", [shards])?;
        for shard in Shard::all() {
            transaction.execute("INSERT INTO shards (shard) VALUES (?1)", [shard.number()])?;
        }
    }
    transaction.pragma_update(None, "user_version", done)?;
    transaction.commit()
}
