//! The row that each process writes now and then: that it lives, and when Redis last worked for it.
//!
//! It is how a process finds out whether the database does its work, too: a write that comes
//! through.

use std::time::Duration;

use super::deployment::{RECORD, record};
use super::pool::{End, Patience, Pool, pipeline, statement};
use super::stored::scalar;
use super::{Beat, Heard};
use crate::contract::limits::{BEAT_MEMORY_MS, BEAT_PATIENCE_MS};
use crate::store::StoreError;

const PATIENCE: Patience =
    Patience::of(Duration::from_millis(BEAT_PATIENCE_MS), Duration::from_millis(BEAT_PATIENCE_MS));

const WRITE: &str = "
    INSERT INTO process_beats (process, redis_ok_at, seen_at)
    VALUES ($1, clock_timestamp() - $2 * interval '1 millisecond', clock_timestamp())
    ON CONFLICT (process) DO UPDATE SET redis_ok_at = excluded.redis_ok_at,
        seen_at = excluded.seen_at";

const FORGET: &str = "
    DELETE FROM process_beats WHERE process IN (
        SELECT process FROM process_beats
        WHERE seen_at < clock_timestamp() - $1 * interval '1 millisecond'
        FOR UPDATE SKIP LOCKED)";

const OTHERS: &str = "
    SELECT (extract(epoch FROM clock_timestamp() - max(redis_ok_at)) * 1000)::bigint
    FROM process_beats WHERE process <> $1";

/// What cannot be written, although the database can. In one line, so that a log of statements
/// shows that nothing is read from these tables.
const FORBIDDEN: &str = "SELECT string_agg(name, ', ') \
    FROM unnest(ARRAY['team_chat_messages', 'message_changes', 'credits', 'user_credits', \
    'room_members', 'read_receipts', 'room_heads', 'shards', 'epochs', 'dead_letters', \
    'revocations']) AS name \
    WHERE NOT (has_table_privilege(name, 'SELECT') AND has_table_privilege(name, 'INSERT'))";

const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// See [`PostgresStore::beat`](super::PostgresStore::beat).
pub(super) async fn beat(pool: &Pool, beat: &Beat<'_>) -> Result<Heard, StoreError> {
    let ago = beat.redis_ok.map(|ago| i64::try_from(ago.as_millis()).unwrap_or(i64::MAX / 2));
    pool.write_patiently(PATIENCE, async |transaction| {
        let process = &beat.process;
        let statements = [
            statement!(WRITE, process, ago),
            statement!(FORGET, BEAT_MEMORY_MS),
            statement!(OTHERS, process),
            statement!(RECORD),
            statement!(FORBIDDEN),
            statement!(NOW),
        ];
        let answers = pipeline(transaction.client(), &statements).await?;
        let others: Option<i64> = scalar(&answers[2])?;
        let heard = Heard {
            others_redis_ok: others.map(|ms| Duration::from_millis(ms.max(0).unsigned_abs())),
            deployment: record(&answers[3])?,
            forbidden: scalar(&answers[4])?,
            now_ms: scalar(&answers[5])?,
        };
        Ok((heard, End::Commit))
    })
    .await
}
