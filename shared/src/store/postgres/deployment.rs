//! The name of the deployment, and the names that are refused.

use tokio_postgres::Row;

use super::failure::Trouble;
use super::pool::{End, Pool, pipeline, statement};
use super::stored::scalar;
use super::{Deployment, Renamed};
use crate::store::StoreError;

pub(super) const RECORD: &str = "SELECT name, speaks, refused FROM deployment";

/// See [`PostgresStore::deployment`](super::PostgresStore::deployment).
pub(super) async fn read(pool: &Pool) -> Result<Deployment, StoreError> {
    let answers = pool.read(&[statement!(RECORD)]).await?;
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
        let statement = |sql| statement!(sql);
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
