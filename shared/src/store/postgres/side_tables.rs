//! Writes what a batch leaves beside messages: applied changes, receipts, ledger, balances.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::columns::Columns;
use super::plan::WritePlan;
use super::value::{Moment, Place, count};
use crate::contract::id::{MessageId, UserId};
use crate::store::Committed;
use crate::store::StoreError;
use crate::store::reconcile;

const TEXT: Type = Type::TEXT_ARRAY;
const NUMBER: Type = Type::INT8_ARRAY;
const MOMENT: Type = Type::TIMESTAMPTZ_ARRAY;

// The shard is locked, and with it everybody who could make the same change.
pub(super) const REMEMBER: &str = "
    INSERT INTO message_changes (team_chat_id, user_id, change_id, epoch, seq, made_at)
    SELECT room, changer, id, epoch, seq, made_at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::timestamptz[])
        AS change(room, changer, id, epoch, seq, made_at)
    ON CONFLICT DO NOTHING";

pub(super) const RAISE_MARKS: &str = "
    WITH written AS (
        INSERT INTO read_receipts AS r (room_id, user_id, epoch, seq, message_id, read_at)
        SELECT room, reader, epoch, seq, message_id, read_at
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[],
            $6::timestamptz[]) AS mark(room, reader, epoch, seq, message_id, read_at)
        ON CONFLICT (room_id, user_id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq,
            message_id = excluded.message_id, read_at = excluded.read_at
        WHERE (excluded.epoch, excluded.seq) > (r.epoch, r.seq)
        RETURNING 1
    )
    SELECT count(*) FROM written";

// Both tables in the order of their keys: two batches that want the same wait for one another.
pub(super) const CREDIT: &str = "
    WITH first AS (
        SELECT DISTINCT ON (id) id, payer, amount, message_id, metadata, accepted_at
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[],
            $6::timestamptz[]) WITH ORDINALITY
            AS new(id, payer, amount, message_id, metadata, accepted_at, n)
        ORDER BY id, n
    ), added AS (
        INSERT INTO credits (id, user_id, amount, message_id, metadata, timestamp)
        SELECT id, payer, amount, message_id, metadata::jsonb, accepted_at FROM first ORDER BY id
        ON CONFLICT (id) DO NOTHING
        RETURNING user_id, amount
    ), moved AS (
        SELECT user_id AS payer, sum(amount)::bigint AS amount, count(*) AS added
        FROM added GROUP BY user_id
    ), balanced AS (
        INSERT INTO user_credits AS u (user_id, balance, last_updated)
        SELECT payer, amount, clock_timestamp() FROM moved ORDER BY payer
        ON CONFLICT (user_id) DO UPDATE SET last_updated = excluded.last_updated,
            balance = coalesce(u.balance, 0) + excluded.balance
        RETURNING user_id, balance::bigint AS balance
    )
    SELECT payer, balance, added FROM balanced JOIN moved ON payer = user_id
    ORDER BY payer COLLATE \"C\"";

// A statement of its own, which sees what another batch added while the one before waited for it.
pub(super) const QUARANTINE: &str = "
    WITH written AS (
        INSERT INTO credit_conflicts
            (id, user_id, amount, message_id, metadata, accepted_at, seen_at)
        SELECT DISTINCT ON (id, payer, new.amount) id, payer, new.amount, new.message_id,
            new.metadata::jsonb, accepted_at, clock_timestamp()
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[],
            $6::timestamptz[]) AS new(id, payer, amount, message_id, metadata, accepted_at)
        CROSS JOIN LATERAL (
            SELECT user_id, amount FROM credits WHERE credits.id = new.id OFFSET 0) AS stands
        WHERE (stands.user_id, stands.amount) <> (payer, new.amount)
        ORDER BY id, payer, new.amount
        ON CONFLICT (id, user_id, amount) DO NOTHING
        RETURNING 1
    )
    SELECT count(*) FROM written";

/// The columns of [`REMEMBER`].
pub(super) fn changes<'a>(plan: &WritePlan<'a>) -> Result<Columns<'a>, StoreError> {
    let mut columns = Columns::new([TEXT, TEXT, TEXT, NUMBER, NUMBER, MOMENT]);
    for (&(room, user, id), change) in &plan.changes {
        let (place, at) = (Place::exactly(change.position)?, Moment::of(change.at)?);
        let (epoch, seq) = (place.epoch.into(), place.seq.into());
        columns.push([room.into(), user.into(), id.into(), epoch, seq, at.into()]);
    }
    Ok(columns)
}

/// The columns of [`RAISE_MARKS`].
pub(super) fn marks<'a>(plan: &WritePlan<'a>) -> Result<Columns<'a>, StoreError> {
    let mut columns = Columns::new([TEXT, TEXT, NUMBER, NUMBER, TEXT, MOMENT]);
    for (&(room, user), mark) in &plan.marks {
        let place = Place::exactly(mark.position)?;
        let id = mark.message_id.as_ref().map(MessageId::as_str).into();
        let (epoch, seq) = (place.epoch.into(), place.seq.into());
        columns.push([room.into(), user.into(), epoch, seq, id, Moment::of(mark.read_at)?.into()]);
    }
    Ok(columns)
}

/// The columns of [`CREDIT`], whose answer is for [`credited`], and of [`QUARANTINE`].
pub(super) fn movements<'a>(plan: &WritePlan<'a>) -> Result<Columns<'a>, StoreError> {
    let mut columns = Columns::new([TEXT, TEXT, NUMBER, TEXT, TEXT, MOMENT]);
    for &row in &plan.movements {
        columns.push([
            reconcile::row_id(row).into(),
            row.user.as_str().into(),
            row.entry.amount.into(),
            row.entry.message_id.as_ref().map(MessageId::as_str).into(),
            reconcile::metadata(row).into(),
            Moment::of(row.at)?.into(),
        ]);
    }
    Ok(columns)
}

/// Takes down how many rows were added, and whose balance is what now.
pub(super) fn credited(rows: &[Row], done: &mut Committed) -> Result<(), StoreError> {
    for row in rows {
        // What was added was an id's; one that a database folds is told to nobody.
        if let Ok(user) = UserId::parse(row.try_get(0)?) {
            done.balances.push((user, row.try_get(1)?));
        }
        done.credited += count(row.try_get(2)?);
    }
    Ok(())
}
