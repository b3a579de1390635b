//! Writes what a batch leaves beside messages: applied changes, receipts, ledger, balances.

use std::borrow::Cow;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::plan::WritePlan;
use super::pool::{Parameter, Statement};
use super::value::{Moment, Place, count};
use crate::contract::id::{MessageId, UserId};
use crate::store::Committed;
use crate::store::StoreError;
use crate::store::reconcile;

// The shard is locked, and with it everybody who could make the same change.
const REMEMBER: &str = "
    INSERT INTO message_changes (team_chat_id, user_id, change_id, epoch, seq, made_at)
    SELECT room, changer, id, epoch, seq, made_at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::timestamptz[])
        AS change(room, changer, id, epoch, seq, made_at)
    ON CONFLICT DO NOTHING";

const RAISE_MARKS: &str = "
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
const CREDIT: &str = "
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
const QUARANTINE: &str = "
    WITH written AS (
        INSERT INTO credit_conflicts
            (id, user_id, amount, message_id, metadata, accepted_at, seen_at)
        SELECT DISTINCT ON (id, payer, new.amount) id, payer, new.amount, new.message_id,
            new.metadata::jsonb, accepted_at, clock_timestamp()
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[],
            $6::timestamptz[]) AS new(id, payer, amount, message_id, metadata, accepted_at)
        JOIN credits USING (id)
        WHERE (user_id, credits.amount) <> (payer, new.amount)
        ORDER BY id, payer, new.amount
        ON CONFLICT (id, user_id, amount) DO NOTHING
        RETURNING 1
    )
    SELECT count(*) FROM written";

/// The columns of [`REMEMBER`].
#[derive(Default)]
pub(super) struct Changes<'a> {
    rooms: Vec<&'a str>,
    users: Vec<&'a str>,
    ids: Vec<&'a str>,
    epochs: Vec<i64>,
    seqs: Vec<i64>,
    made_at: Vec<Moment>,
}

impl<'a> Changes<'a> {
    pub(super) fn of(plan: &WritePlan<'a>) -> Result<Changes<'a>, StoreError> {
        let mut columns = Changes::default();
        for (&(room, user, id), change) in &plan.changes {
            let place = Place::exactly(change.position)?;
            columns.rooms.push(room);
            columns.users.push(user);
            columns.ids.push(id);
            columns.epochs.push(place.epoch);
            columns.seqs.push(place.seq);
            columns.made_at.push(Moment::of(change.at)?);
        }
        Ok(columns)
    }

    pub(super) fn statement(&self) -> Statement<'_> {
        let parameters: Vec<Parameter<'_>> = vec![
            (&self.rooms, Type::TEXT_ARRAY),
            (&self.users, Type::TEXT_ARRAY),
            (&self.ids, Type::TEXT_ARRAY),
            (&self.epochs, Type::INT8_ARRAY),
            (&self.seqs, Type::INT8_ARRAY),
            (&self.made_at, Type::TIMESTAMPTZ_ARRAY),
        ];
        Statement { sql: REMEMBER, parameters }
    }
}

/// The columns of [`RAISE_MARKS`].
#[derive(Default)]
pub(super) struct Marks<'a> {
    rooms: Vec<&'a str>,
    users: Vec<&'a str>,
    epochs: Vec<i64>,
    seqs: Vec<i64>,
    message_ids: Vec<Option<&'a str>>,
    read_at: Vec<Moment>,
}

impl<'a> Marks<'a> {
    pub(super) fn of(plan: &WritePlan<'a>) -> Result<Marks<'a>, StoreError> {
        let mut columns = Marks::default();
        for (&(room, user), mark) in &plan.marks {
            let place = Place::exactly(mark.position)?;
            columns.rooms.push(room);
            columns.users.push(user);
            columns.epochs.push(place.epoch);
            columns.seqs.push(place.seq);
            columns.message_ids.push(mark.message_id.as_ref().map(MessageId::as_str));
            columns.read_at.push(Moment::of(mark.read_at)?);
        }
        Ok(columns)
    }

    pub(super) fn statement(&self) -> Statement<'_> {
        let parameters: Vec<Parameter<'_>> = vec![
            (&self.rooms, Type::TEXT_ARRAY),
            (&self.users, Type::TEXT_ARRAY),
            (&self.epochs, Type::INT8_ARRAY),
            (&self.seqs, Type::INT8_ARRAY),
            (&self.message_ids, Type::TEXT_ARRAY),
            (&self.read_at, Type::TIMESTAMPTZ_ARRAY),
        ];
        Statement { sql: RAISE_MARKS, parameters }
    }
}

/// The columns of [`CREDIT`] and [`QUARANTINE`].
#[derive(Default)]
pub(super) struct Movements<'a> {
    ids: Vec<Cow<'a, str>>,
    users: Vec<&'a str>,
    amounts: Vec<i64>,
    message_ids: Vec<Option<&'a str>>,
    metadata: Vec<String>,
    accepted_at: Vec<Moment>,
}

impl<'a> Movements<'a> {
    pub(super) fn of(plan: &WritePlan<'a>) -> Result<Movements<'a>, StoreError> {
        let mut columns = Movements::default();
        for &row in &plan.movements {
            columns.ids.push(reconcile::row_id(row));
            columns.users.push(row.user.as_str());
            columns.amounts.push(row.entry.amount);
            columns.message_ids.push(row.entry.message_id.as_ref().map(MessageId::as_str));
            columns.metadata.push(reconcile::metadata(row));
            columns.accepted_at.push(Moment::of(row.at)?);
        }
        Ok(columns)
    }

    /// Adds what is not there yet, and balances by it; its answer is for [`credited`].
    pub(super) fn ledger(&self) -> Statement<'_> {
        Statement { sql: CREDIT, parameters: self.parameters() }
    }

    /// Puts aside what stands otherwise.
    pub(super) fn quarantine(&self) -> Statement<'_> {
        Statement { sql: QUARANTINE, parameters: self.parameters() }
    }

    fn parameters(&self) -> Vec<Parameter<'_>> {
        vec![
            (&self.ids, Type::TEXT_ARRAY),
            (&self.users, Type::TEXT_ARRAY),
            (&self.amounts, Type::INT8_ARRAY),
            (&self.message_ids, Type::TEXT_ARRAY),
            (&self.metadata, Type::TEXT_ARRAY),
            (&self.accepted_at, Type::TIMESTAMPTZ_ARRAY),
        ]
    }
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
