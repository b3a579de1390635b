//! The name of the deployment, and the names that are refused.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::failure::Trouble;
use super::pool::{End, Pool, Statement, pipeline};
use super::shards::shard_number;
use super::stored::scalar;
use super::value::number;
use super::{Deployment, Renamed};
use crate::contract::id::Shard;
use crate::contract::limits::{FOREIGN_EPOCH_MEMORY_MS, FOREIGN_EPOCHS_MAX};
use crate::store::StoreError;

pub(super) const RECORD: &str = "SELECT name, speaks, refused FROM deployment";

/// See [`PostgresStore::deployment`](super::PostgresStore::deployment).
pub(super) async fn read(pool: &Pool) -> Result<Deployment, StoreError> {
    let answers = pool.read(&[Statement { sql: RECORD, parameters: Vec::new() }]).await?;
    record(&answers[0])
}

/// What [`RECORD`] answers.
pub(super) fn record(rows: &[Row]) -> Result<Deployment, StoreError> {
    let row = rows.first().ok_or(Trouble::Unmigrated)?;
    let speaks: i32 = row.try_get(1)?;
    Ok(Deployment {
        name: row.try_get(0)?,
        speaks: u32::try_from(speaks).unwrap_or(0),
        refused: row.try_get(2)?,
    })
}

/// See [`PostgresStore::rename_deployment`](super::PostgresStore::rename_deployment).
pub(super) async fn rename(pool: &Pool) -> Result<Option<Renamed>, StoreError> {
    // A copy that was refused has nobody at work, however lately they ended.
    const LOCK: &str = "
        SELECT name, refused IS NULL AND EXISTS (
            SELECT FROM process_beats
            WHERE seen_at > clock_timestamp() - interval '10 seconds') AS is_at_work
        FROM deployment FOR UPDATE";
    const FORGET: &str = "DELETE FROM foreign_epochs";
    const RENAME: &str = "
        UPDATE deployment SET refused = NULL, named_at = clock_timestamp(),
            name = left(replace(gen_random_uuid()::text, '-', ''), 12)
        RETURNING name";
    pool.write(async |transaction| {
        let statement = |sql| Statement { sql, parameters: Vec::new() };
        let answers = pipeline(transaction.client(), &[statement(LOCK)]).await?;
        let before: String = scalar(&answers[0])?;
        if answers[0].first().is_some_and(|row| row.get("is_at_work")) {
            return Ok((None, End::RollBack));
        }
        let answers = pipeline(transaction.client(), &[FORGET, RENAME].map(statement)).await?;
        Ok((Some(Renamed { before, now: scalar(&answers[1])? }), End::Commit))
    })
    .await
}

/// See [`Store::foreign_epoch`](crate::store::Store::foreign_epoch).
pub(super) async fn foreign_epoch(
    pool: &Pool,
    shard: Shard,
    epoch: u64,
) -> Result<bool, StoreError> {
    const SEE: &str = "
        INSERT INTO foreign_epochs (shard, epoch, seen_at) VALUES ($1, $2, clock_timestamp())
        ON CONFLICT (shard, epoch) DO NOTHING";
    const COUNT: &str = "
        SELECT count(*) FROM foreign_epochs
        WHERE shard = $1 AND seen_at > clock_timestamp() - $2 * interval '1 millisecond'";
    const REFUSE: &str = "
        UPDATE deployment SET refused = coalesce(refused,
            'the log in Redis has gone on under epochs that this database never minted')";
    let (shard, epoch) = (shard_number(shard), number(epoch)?);
    pool.write(async |transaction| {
        let statements = [
            Statement { sql: SEE, parameters: vec![(&shard, Type::INT2), (&epoch, Type::INT8)] },
            Statement {
                sql: COUNT,
                parameters: vec![(&shard, Type::INT2), (&FOREIGN_EPOCH_MEMORY_MS, Type::INT8)],
            },
        ];
        let answers = pipeline(transaction.client(), &statements).await?;
        let seen: i64 = scalar(&answers[1])?;
        let is_refused = seen > FOREIGN_EPOCHS_MAX;
        if is_refused {
            let refuse = Statement { sql: REFUSE, parameters: Vec::new() };
            pipeline(transaction.client(), &[refuse]).await?;
        }
        Ok((is_refused, End::Commit))
    })
    .await
}
