//! The schema and its migrations, for empty databases and older ones.

use std::time::Duration;

use deadpool_postgres::Transaction;

use super::MigrateError;
use super::pool::{End, Patience, Pool, pipeline, statement};
use super::stored::scalar;
use crate::contract::limits::SHARDS;
use crate::store::{ForeignTables, StoreError};

/// Every step from a database without our tables to the present schema; `roomcast_meta` counts
/// those done.
const MIGRATIONS: [&str; 7] = [
    include_str!("../migrations/postgres/0001_tables.sql"),
    include_str!("../migrations/postgres/0002_beside_messages.sql"),
    include_str!("../migrations/postgres/0003_deployment.sql"),
    include_str!("../migrations/postgres/0004_identity.sql"),
    include_str!("../migrations/postgres/0005_metadata.sql"),
    include_str!("../migrations/postgres/0006_refusals.sql"),
    include_str!("../migrations/postgres/0007_fewer_indexes.sql"),
];

/// Taken by whoever migrates, until its transaction ends; a number of our own, chosen once.
const LOCK: i64 = 0x526f_6f6d_6361_7374;

/// An index on a large old table takes its time.
pub(super) const PATIENCE: Patience =
    Patience::of(Duration::from_secs(15 * 60), Duration::from_secs(10 * 60));

/// Waiting to change a table keeps everybody else from it, so it waits but a moment.
const CALM: &str = "SET LOCAL lock_timeout = '3s'; SET LOCAL client_min_messages = warning";

const META: &str = "
    CREATE TABLE IF NOT EXISTS roomcast_meta (key text PRIMARY KEY, value text NOT NULL)";

const SET_META: &str = "
    INSERT INTO roomcast_meta (key, value) VALUES ($1, $2)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// What a database says of itself.
#[derive(Debug, Default)]
struct Found {
    /// The steps done; 0 before the first.
    schema: u32,
    /// `None` before the first step.
    shards: Option<String>,
}

/// See [`PostgresStore::migrate`](super::PostgresStore::migrate).
pub(super) async fn migrate(pool: &Pool) -> Result<(), MigrateError> {
    let known = u32::try_from(MIGRATIONS.len()).expect("there are few migrations");
    let unchecked = |found: &Found| found.schema < known;
    // Without any lock, and without the right to change tables, when nothing is to be done.
    let mut found = look(pool).await?;
    while unchecked(&found) {
        let step = MIGRATIONS[found.schema as usize];
        pool.write_patiently(PATIENCE, async |transaction| {
            take_step(transaction, found.schema, step).await?;
            Ok(((), End::Commit))
        })
        .await?;
        let before = found.schema;
        found = look(pool).await?;
        debug_assert!(found.schema > before, "a step that was taken is counted");
    }
    if found.schema > known {
        return Err(ForeignTables::Newer { found: found.schema, known }.into());
    }
    Ok(ForeignTables::check_shards(found.shards)?)
}

async fn look(pool: &Pool) -> Result<Found, MigrateError> {
    const THERE: &str = "
        SELECT current_setting('server_encoding'), to_regclass('roomcast_meta') IS NOT NULL";
    const SAYS: &str = "SELECT key, value FROM roomcast_meta";
    let answers = pool.read(&[statement!(THERE)]).await?;
    let encoding: String = scalar(&answers[0])?;
    if encoding != "UTF8" {
        return Err(MigrateError::Encoding { found: encoding });
    }
    let mut found = Found::default();
    let there: bool = answers[0][0].try_get(1).map_err(StoreError::from)?;
    if !there {
        return Ok(found);
    }
    let answers = pool.read(&[statement!(SAYS)]).await?;
    for row in &answers[0] {
        let key: &str = row.try_get(0).map_err(StoreError::from)?;
        let value: &str = row.try_get(1).map_err(StoreError::from)?;
        match key {
            "schema" => found.schema = value.parse().unwrap_or(u32::MAX),
            "shards" => found.shards = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok(found)
}

/// Takes the step that follows `done` steps, unless another process has meanwhile.
async fn take_step(transaction: &Transaction<'_>, done: u32, step: &str) -> Result<(), StoreError> {
    const LOCK_OUT: &str = "SELECT pg_advisory_xact_lock($1)";
    const DONE: &str = "SELECT value FROM roomcast_meta WHERE key = 'schema'";
    transaction.batch_execute(CALM).await?;
    let lock = statement!(LOCK_OUT, LOCK);
    pipeline(transaction.client(), &[lock]).await?;
    transaction.batch_execute(META).await?;
    let answers = pipeline(transaction.client(), &[statement!(DONE)]).await?;
    let found: Option<&str> = answers[0].first().map(|row| row.try_get(0)).transpose()?;
    if found.unwrap_or("0") != done.to_string() {
        return Ok(());
    }
    transaction.batch_execute(step).await?;
    if done == 0 {
        set(transaction, "shards", &SHARDS.to_string()).await?;
        let last = i32::from(SHARDS) - 1;
        let all = "INSERT INTO shards (shard) SELECT generate_series(0, $1)";
        pipeline(transaction.client(), &[statement!(all, last)]).await?;
    }
    set(transaction, "schema", &(done + 1).to_string()).await
}

async fn set(transaction: &Transaction<'_>, key: &str, value: &str) -> Result<(), StoreError> {
    let statement = statement!(SET_META, key, value);
    pipeline(transaction.client(), &[statement]).await?;
    Ok(())
}
