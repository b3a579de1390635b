//! Cursors, epochs and leases of shards.
//!
//! Times are the database's own, so that no worker's clock matters.

use std::collections::BTreeSet;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use uuid::Uuid;

use super::PostgresStore;
use super::failure::Trouble;
use super::pool::{End, pipeline, statement};
use super::stored::scalar;
use super::value::{Moment, count, log_id, number};
use crate::contract::id::Shard;
use crate::contract::limits::{FOREIGN_EPOCH_MEMORY_MS, FOREIGN_EPOCHS_MAX, ID_MEMORY_MS, SHARDS};
use crate::log::Epoch;
use crate::store::{Cursor, Lease, Shards, StoreError};

/// Longest lease; a longer one would overflow the database's calendar only by mistake.
const LEASE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Locks a shard and everything of its rooms, and reads its cursor.
pub(super) const LOCK: &str =
    "SELECT cursor_epoch, cursor_n FROM shards WHERE shard = $1 FOR UPDATE";

const CURSOR: &str = "
    SELECT cursor_epoch, cursor_n,
           (SELECT coalesce(max(epoch), 0) FROM epochs WHERE shard = $1)
    FROM shards WHERE shard = $1";

const EPOCH: &str = "SELECT epoch, minted_at, quiet FROM epochs WHERE shard = $1 AND epoch = $2";

const EPOCH_OF: &str = "SELECT epoch, minted_at, quiet FROM epochs WHERE shard = $1 AND token = $2";

const MINT: &str = "
    INSERT INTO epochs (shard, epoch, token, minted_at, quiet)
    SELECT $1, greatest(coalesce(max(epoch), 0) + 1, $3), $2, clock_timestamp(),
           (SELECT coalesce(newest_at <= clock_timestamp() - $4 * interval '1 millisecond', true)
            FROM shards WHERE shard = $1)
    FROM epochs WHERE shard = $1
    ON CONFLICT (shard, token) DO NOTHING";

/// As the tables' column has it.
pub(super) fn shard_number(shard: Shard) -> i16 {
    i16::try_from(shard.number()).expect("there are 64 shards")
}

/// As the database's interval takes it.
pub(super) fn lease_ms(lease: &Lease) -> i64 {
    i64::try_from(lease.ms.min(LEASE_MS_MAX)).expect("a day has fewer milliseconds")
}

fn minted(row: &Row) -> Result<Epoch, StoreError> {
    Ok(Epoch {
        number: count(row.try_get(0)?),
        minted_at: row.try_get::<_, Moment>(1)?.timestamp(),
        quiet: row.try_get(2)?,
    })
}

const SIGN_ON: &str = "
    INSERT INTO sync_workers (owner, until)
    VALUES ($1, clock_timestamp() + $2 * interval '1 millisecond')
    ON CONFLICT (owner) DO UPDATE SET until = excluded.until";

const FORGET_THE_DEAD: &str = "
    DELETE FROM sync_workers WHERE owner IN (
        SELECT owner FROM sync_workers WHERE until <= clock_timestamp()
        FOR UPDATE SKIP LOCKED)";

const LIVE: &str = "SELECT count(*) FROM sync_workers WHERE until > clock_timestamp()";

const HELD: &str = "
    SELECT shard, lease_until > clock_timestamp() FROM shards WHERE lease_owner = $1
    ORDER BY shard";

// A row that is locked has a batch of its owner in it, which renews the lease itself: nothing here
// waits for one.
const RENEW: &str = "
    UPDATE shards SET lease_until = clock_timestamp() + $3 * interval '1 millisecond'
    WHERE shard IN (
        SELECT shard FROM shards WHERE lease_owner = $1 AND shard = ANY($2)
        FOR UPDATE SKIP LOCKED)
    RETURNING shard";

const GIVE_UP: &str = "
    UPDATE shards SET lease_owner = NULL, lease_until = NULL
    WHERE shard IN (
        SELECT shard FROM shards WHERE lease_owner = $1 AND shard = ANY($2)
        FOR UPDATE SKIP LOCKED)";

const TAKE: &str = "
    UPDATE shards
    SET lease_owner = $1, lease_until = clock_timestamp() + $3 * interval '1 millisecond'
    WHERE shard IN (
        SELECT shard FROM shards
        WHERE lease_owner IS NULL OR (lease_owner <> $1 AND lease_until <= clock_timestamp())
        ORDER BY shard LIMIT $2
        FOR UPDATE SKIP LOCKED)
    RETURNING shard";

#[async_trait]
impl Shards for PostgresStore {
    async fn mint(&self, shard: Shard, token: Uuid, at_least: u64) -> Result<Epoch, StoreError> {
        let (shard, at_least) = (shard_number(shard), number(at_least)?);
        self.pool
            .write(async |transaction| {
                let statements = [
                    statement!(LOCK, shard),
                    statement!(MINT, shard, token, at_least, ID_MEMORY_MS),
                    statement!(EPOCH_OF, shard, token),
                ];
                let answers = pipeline(transaction.client(), &statements).await?;
                let row = answers[2].first().ok_or(Trouble::Unmigrated)?;
                Ok((minted(row)?, End::Commit))
            })
            .await
    }

    async fn epoch(&self, shard: Shard, number: u64) -> Result<Option<Epoch>, StoreError> {
        let shard = shard_number(shard);
        // What the database cannot hold was never minted.
        let Ok(epoch) = i64::try_from(number) else { return Ok(None) };
        let answers = self.pool.read(&[statement!(EPOCH, shard, epoch)]).await?;
        answers[0].first().map(minted).transpose()
    }

    async fn foreign_epoch(&self, shard: Shard, number: u64) -> Result<bool, StoreError> {
        const SEE: &str = "
            INSERT INTO foreign_epochs (shard, epoch, seen_at) VALUES ($1, $2, clock_timestamp())
            ON CONFLICT (shard, epoch) DO NOTHING";
        const COUNT: &str = "
            SELECT count(*) FROM foreign_epochs
            WHERE shard = $1 AND seen_at > clock_timestamp() - $2 * interval '1 millisecond'";
        const REFUSE: &str = "
            UPDATE deployment SET refused = coalesce(refused,
                'the log in Redis has gone on under epochs that this database never minted')";
        let (shard, epoch) = (shard_number(shard), super::value::number(number)?);
        self.pool
            .write(async |transaction| {
                let statements = [
                    statement!(SEE, shard, epoch),
                    statement!(COUNT, shard, FOREIGN_EPOCH_MEMORY_MS),
                ];
                let answers = pipeline(transaction.client(), &statements).await?;
                let seen: i64 = scalar(&answers[1])?;
                let is_refused = seen > FOREIGN_EPOCHS_MAX;
                if is_refused {
                    let refuse = statement!(REFUSE);
                    pipeline(transaction.client(), &[refuse]).await?;
                }
                Ok((is_refused, End::Commit))
            })
            .await
    }

    async fn cursor(&self, shard: Shard) -> Result<Cursor, StoreError> {
        let shard = shard_number(shard);
        let statement = statement!(CURSOR, shard);
        let answers = self.pool.read(&[statement]).await?;
        let row = answers[0].first().ok_or(Trouble::Unmigrated)?;
        Ok(Cursor { upto: log_id(row.try_get(0)?, row.try_get(1)?), epoch: count(row.try_get(2)?) })
    }

    async fn lease(&self, lease: &Lease) -> Result<Vec<Shard>, StoreError> {
        let own = self.pool.write(async |transaction| {
            let own = take_share(transaction, lease).await?;
            Ok((own, End::Commit))
        });
        let own = own.await?;
        Ok(Shard::all().filter(|shard| own.contains(&shard_number(*shard))).collect())
    }

    async fn release(&self, owner: &str) -> Result<(), StoreError> {
        const SIGN_OFF: &str = "DELETE FROM sync_workers WHERE owner = $1";
        const RELEASE: &str =
            "UPDATE shards SET lease_owner = NULL, lease_until = NULL WHERE lease_owner = $1";
        self.pool
            .write(async |transaction| {
                let statements = [SIGN_OFF, RELEASE].map(|sql| statement!(sql, owner));
                pipeline(transaction.client(), &statements).await?;
                Ok(((), End::Commit))
            })
            .await
    }
}

/// Signs the worker on, and gives the shards that are its own then.
async fn take_share(
    transaction: &Transaction<'_>,
    lease: &Lease,
) -> Result<BTreeSet<i16>, StoreError> {
    let (owner, ms) = (&lease.owner, lease_ms(lease));
    let statements = [
        statement!(SIGN_ON, owner, ms),
        statement!(FORGET_THE_DEAD),
        statement!(LIVE),
        statement!(HELD, owner),
    ];
    let answers = pipeline(transaction.client(), &statements).await?;
    let live = u16::try_from(scalar::<i64>(&answers[2])?.max(1)).unwrap_or(SHARDS);
    let share = usize::from(SHARDS.div_ceil(live));
    let held: Vec<(i16, bool)> = answers[3]
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, StoreError>>()?;

    // The lowest stay, so that a surplus that a batch still has locked is the same next time.
    let (kept, surplus) = held.split_at(share.min(held.len()));
    let (kept_shards, surplus) = (shards(kept), shards(surplus));
    let missing = i64::try_from(share - kept.len()).expect("at most 64");
    let statements = [
        statement!(RENEW, owner, kept_shards, ms),
        statement!(GIVE_UP, owner, surplus),
        statement!(TAKE, owner, missing, ms),
    ];
    let answers = pipeline(transaction.client(), &statements).await?;
    let still = kept.iter().filter(|(_, lasts)| *lasts).map(|(shard, _)| Ok(*shard));
    let now = answers[0].iter().chain(&answers[2]).map(|row| Ok(row.try_get(0)?));
    still.chain(now).collect()
}

fn shards(held: &[(i16, bool)]) -> Vec<i16> {
    held.iter().map(|(shard, _)| *shard).collect()
}
