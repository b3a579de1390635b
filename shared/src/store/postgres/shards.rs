//! Cursors, epochs and leases of shards.
//!
//! Times are the database's own, so that no worker's clock matters.

use std::collections::BTreeSet;

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::failure::Trouble;
use super::pool::{End, Pool, Statement, pipeline};
use super::stored::scalar;
use super::value::{Moment, count, log_id, number};
use crate::contract::id::Shard;
use crate::contract::limits::{ID_MEMORY_MS, SHARDS};
use crate::store::{Cursor, Epoch, Lease, StoreError};

/// Longest lease; a longer one would overflow the database's calendar only by mistake.
const LEASE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Locks a shard and everything of its rooms, and reads its cursor.
pub(super) const LOCK: &str =
    "SELECT cursor_epoch, cursor_n FROM shards WHERE shard = $1 FOR UPDATE";

pub(super) const NEWEST_EPOCH: &str = "SELECT coalesce(max(epoch), 0) FROM epochs WHERE shard = $1";

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

/// See [`Store::mint`](crate::store::Store::mint).
pub(super) async fn mint(
    pool: &Pool,
    shard: Shard,
    token: Uuid,
    at_least: u64,
) -> Result<Epoch, StoreError> {
    let (shard, at_least) = (shard_number(shard), number(at_least)?);
    pool.write(async |transaction| {
        let statements = [
            Statement { sql: LOCK, parameters: vec![(&shard, Type::INT2)] },
            Statement {
                sql: MINT,
                parameters: vec![
                    (&shard, Type::INT2),
                    (&token, Type::UUID),
                    (&at_least, Type::INT8),
                    (&ID_MEMORY_MS, Type::INT8),
                ],
            },
            Statement {
                sql: EPOCH_OF,
                parameters: vec![(&shard, Type::INT2), (&token, Type::UUID)],
            },
        ];
        let answers = pipeline(transaction.client(), &statements).await?;
        let row = answers[2].first().ok_or(Trouble::Unmigrated)?;
        Ok((minted(row)?, End::Commit))
    })
    .await
}

/// See [`Store::epoch`](crate::store::Store::epoch).
pub(super) async fn epoch(
    pool: &Pool,
    shard: Shard,
    epoch: u64,
) -> Result<Option<Epoch>, StoreError> {
    let shard = shard_number(shard);
    // What the database cannot hold was never minted.
    let Ok(epoch) = i64::try_from(epoch) else { return Ok(None) };
    let parameters: Vec<_> = vec![(&shard as _, Type::INT2), (&epoch as _, Type::INT8)];
    let answers = pool.read(&[Statement { sql: EPOCH, parameters }]).await?;
    answers[0].first().map(minted).transpose()
}

fn minted(row: &Row) -> Result<Epoch, StoreError> {
    Ok(Epoch {
        number: count(row.try_get(0)?),
        minted_at: row.try_get::<_, Moment>(1)?.timestamp(),
        quiet: row.try_get(2)?,
    })
}

/// See [`Store::cursor`](crate::store::Store::cursor).
pub(super) async fn cursor(pool: &Pool, shard: Shard) -> Result<Cursor, StoreError> {
    let shard = shard_number(shard);
    let statement = Statement { sql: CURSOR, parameters: vec![(&shard, Type::INT2)] };
    let answers = pool.read(&[statement]).await?;
    let row = answers[0].first().ok_or(Trouble::Unmigrated)?;
    Ok(Cursor { upto: log_id(row.try_get(0)?, row.try_get(1)?), epoch: count(row.try_get(2)?) })
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

/// See [`Store::lease`](crate::store::Store::lease).
pub(super) async fn lease(pool: &Pool, lease: &Lease) -> Result<Vec<Shard>, StoreError> {
    let own = pool.write(async |transaction| {
        let own = take_share(transaction, lease).await?;
        Ok((own, End::Commit))
    });
    let own = own.await?;
    Ok(Shard::all().filter(|shard| own.contains(&shard_number(*shard))).collect())
}

/// Signs the worker on, and gives the shards that are its own then.
async fn take_share(
    transaction: &Transaction<'_>,
    lease: &Lease,
) -> Result<BTreeSet<i16>, StoreError> {
    let (owner, ms) = (&lease.owner, lease_ms(lease));
    let statements = [
        Statement { sql: SIGN_ON, parameters: vec![(owner, Type::TEXT), (&ms, Type::INT8)] },
        Statement { sql: FORGET_THE_DEAD, parameters: Vec::new() },
        Statement { sql: LIVE, parameters: Vec::new() },
        Statement { sql: HELD, parameters: vec![(owner, Type::TEXT)] },
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
        Statement {
            sql: RENEW,
            parameters: vec![
                (owner, Type::TEXT),
                (&kept_shards, Type::INT2_ARRAY),
                (&ms, Type::INT8),
            ],
        },
        Statement {
            sql: GIVE_UP,
            parameters: vec![(owner, Type::TEXT), (&surplus, Type::INT2_ARRAY)],
        },
        Statement {
            sql: TAKE,
            parameters: vec![(owner, Type::TEXT), (&missing, Type::INT8), (&ms, Type::INT8)],
        },
    ];
    let answers = pipeline(transaction.client(), &statements).await?;
    let still = kept.iter().filter(|(_, lasts)| *lasts).map(|(shard, _)| Ok(*shard));
    let now = answers[0].iter().chain(&answers[2]).map(|row| Ok(row.try_get(0)?));
    still.chain(now).collect()
}

fn shards(held: &[(i16, bool)]) -> Vec<i16> {
    held.iter().map(|(shard, _)| *shard).collect()
}

/// See [`Store::release`](crate::store::Store::release).
pub(super) async fn release(pool: &Pool, owner: &str) -> Result<(), StoreError> {
    const SIGN_OFF: &str = "DELETE FROM sync_workers WHERE owner = $1";
    const RELEASE: &str =
        "UPDATE shards SET lease_owner = NULL, lease_until = NULL WHERE lease_owner = $1";
    pool.write(async |transaction| {
        let statements = [SIGN_OFF, RELEASE]
            .map(|sql| Statement { sql, parameters: vec![(&owner, Type::TEXT)] });
        pipeline(transaction.client(), &statements).await?;
        Ok(((), End::Commit))
    })
    .await
}

/// See [`Store::ping`](crate::store::Store::ping).
pub(super) async fn ping(pool: &Pool) -> Result<(), StoreError> {
    // A database that can be read but not written is no help.
    const PING: &str = "
        SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool
        FROM shards WHERE shard = 0";
    let answers = pool.read(&[Statement { sql: PING, parameters: Vec::new() }]).await?;
    if scalar(&answers[0])? { Err(Trouble::ReadOnly.into()) } else { Ok(()) }
}
