//! Commits a round in one transaction: the batches of many shards, or of one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio_postgres::Row as Answer;
use tokio_postgres::types::Type;

use super::PostgresStore;
use super::applied_changes::{AppliedChanges, AppliedChangesQuery};
use super::closing::{CLOSE, Firsts, FirstsQuery, PLACE, closed, told};
use super::columns::Columns;
use super::dead_letters::Letters;
use super::existing::{ExistingQuery, ExistingRows};
use super::failure::Trouble;
use super::plan::WritePlan;
use super::pool::{End, Patience, Statement, parameter, pipeline, statement};
use super::shards::{lease_ms, shard_number};
use super::stored::scalar;
use super::value::{Moment, Place, count, log_id, number};
use super::write::write;
use crate::contract::position::Position;
use crate::store::{Batch, Batches, Committed, Cursor, RoundCommitted, Row, StoreError};

/// Tries of a transaction that another program came in between of; after that the caller waits.
const TRIES_MAX: usize = 4;

const RAISE_HEADS: &str = "
    INSERT INTO room_heads (room_id, epoch, seq)
    SELECT room, epoch, seq
    FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS head(room, epoch, seq)
    ON CONFLICT (room_id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
    WHERE (excluded.epoch, excluded.seq) > (room_heads.epoch, room_heads.seq)";

/// Locks shards and everything of their rooms, in one order everywhere, and reads their cursors.
const LOCK: &str = "
    SELECT shard, cursor_epoch, cursor_n FROM shards WHERE shard = ANY($1)
    ORDER BY shard FOR UPDATE";

// Not in one statement with the lock: it would see what was minted before it waited, and minting
// changes no row that waiting for would make it look at again.
const NEWEST_EPOCHS: &str =
    "SELECT shard, max(epoch) FROM epochs WHERE shard = ANY($1) GROUP BY shard";

/// Whether anything of the shards is a dead letter that what comes could close: nearly never.
const LETTERS: &str = "SELECT EXISTS (SELECT FROM dead_letters WHERE shard = ANY($1))";

/// Moves the cursors, remembers when each shard's youngest entry was accepted, and renews the lease
/// of `$5` for `$6` ms where it is the owner still.
const MOVE_CURSORS: &str = "
    UPDATE shards AS s
    SET cursor_epoch = moved.epoch, cursor_n = moved.n,
        newest_at = greatest(s.newest_at, moved.newest_at),
        lease_until = CASE WHEN s.lease_owner = $5
            THEN clock_timestamp() + $6 * interval '1 millisecond' ELSE s.lease_until END
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[])
        AS moved(shard, epoch, n, newest_at)
    WHERE s.shard = moved.shard::smallint";

#[async_trait]
impl Batches for PostgresStore {
    async fn commit_round(&self, round: &[Arc<Batch>]) -> Result<RoundCommitted, StoreError> {
        let round: Vec<&Batch> = round.iter().map(|batch| &**batch).collect();
        let lease = round.iter().find_map(|batch| batch.lease.as_ref());
        let patience = lease.map(|lease| Patience::within(Duration::from_millis(lease.ms)));
        self.commit_all(&round, patience).await
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let RoundCommitted { done, fenced } = self.commit_all(&[batch], None).await?;
        match fenced.first() {
            Some(&shard) => Err(StoreError::Fenced { shard }),
            None => Ok(done),
        }
    }

    async fn probe(&self, rows: &[Row]) -> Result<(), StoreError> {
        for _ in 0..TRIES_MAX {
            let sound = self.pool.write(async |transaction| try_rows(transaction, rows).await);
            if sound.await? {
                return Ok(());
            }
        }
        Err(Trouble::Contended.into())
    }
}

impl PostgresStore {
    async fn commit_all(
        &self,
        round: &[&Batch],
        patience: Option<Patience>,
    ) -> Result<RoundCommitted, StoreError> {
        let patience = patience.unwrap_or_else(|| self.pool.patience());
        for _ in 0..TRIES_MAX {
            let work = async |transaction: &Transaction<'_>| try_commit(transaction, round).await;
            if let Some(done) = self.pool.write_patiently(patience, work).await? {
                return Ok(done);
            }
        }
        Err(Trouble::Contended.into())
    }
}

/// `None` when another writer came in between.
async fn try_commit(
    transaction: &Transaction<'_>,
    round: &[&Batch],
) -> Result<(Option<RoundCommitted>, End), StoreError> {
    let shards: Vec<i16> = round.iter().map(|batch| shard_number(batch.shard)).collect();
    let wanted = BatchQueries::of(round.iter().flat_map(|batch| &batch.rows));
    let mut read: Vec<_> = [LOCK, NEWEST_EPOCHS, LETTERS].map(|sql| statement!(sql, shards)).into();
    read.extend(wanted.statements());
    let answers = pipeline(transaction.client(), &read).await?;
    let stand = cursors(&answers[0], &answers[1])?;
    if stand.len() < round.len() {
        return Err(Trouble::Unmigrated.into());
    }
    let (round, fenced): (Vec<&Batch>, Vec<&Batch>) = round.iter().partition(|batch| {
        let read_from = Cursor { upto: batch.after, epoch: batch.epoch };
        stand.get(&shard_number(batch.shard)) == Some(&read_from)
    });
    let fenced = fenced.iter().map(|batch| batch.shard).collect();
    if round.is_empty() {
        return Ok((Some(RoundCommitted { fenced, ..RoundCommitted::default() }), End::RollBack));
    }

    let rows = round.iter().flat_map(|batch| &batch.rows);
    let plan = WritePlan::new(BatchQueries::read(&answers[3..])?, rows)?;
    let letters = round.iter().filter(|batch| !batch.dead.is_empty());
    let letters = letters.map(|batch| Letters::of(batch)).collect::<Result<Vec<_>, _>>()?;
    let (heads, moved) = (heads(&round), moved(&round)?);
    let lease = round.iter().find_map(|batch| batch.lease.as_ref());
    let (owner, lease_ms) = (lease.map(|lease| lease.owner.as_str()), lease.map_or(0, lease_ms));
    let closed = scalar::<bool>(&answers[2])?.then(|| closed(&round));
    let closed = closed.filter(|closed| !closed.is_empty());
    let told = told(&round);
    let mut others = Vec::with_capacity(4 + letters.len());
    // Before new letters: what is refused again closes the old one.
    others.extend(closed.as_ref().map(|closed| closed.statement(CLOSE)));
    others.extend(letters.iter().map(Letters::statement));
    others.extend((!told.is_empty()).then(|| told.statement(PLACE)));
    others.extend((!heads.is_empty()).then(|| heads.statement(RAISE_HEADS)));
    let mut move_cursors = moved.statement(MOVE_CURSORS);
    move_cursors.parameters.extend([parameter(&owner), parameter(&lease_ms)]);
    others.push(move_cursors);
    let done = write(transaction.client(), plan, others).await?;
    let end = if done.is_some() { End::Commit } else { End::RollBack };
    Ok((done.map(|done| RoundCommitted { done, fenced }), end))
}

/// Where each shard stands.
fn cursors(locked: &[Answer], newest: &[Answer]) -> Result<HashMap<i16, Cursor>, StoreError> {
    let mut cursors = HashMap::with_capacity(locked.len());
    for row in locked {
        let upto = log_id(row.try_get(1)?, row.try_get(2)?);
        cursors.insert(row.try_get(0)?, Cursor { upto, epoch: 0 });
    }
    for row in newest {
        if let Some(cursor) = cursors.get_mut(&row.try_get(0)?) {
            cursor.epoch = count(row.try_get(1)?);
        }
    }
    Ok(cursors)
}

/// The columns of [`MOVE_CURSORS`].
fn moved<'a>(round: &[&Batch]) -> Result<Columns<'a>, StoreError> {
    const NUMBER: Type = Type::INT8_ARRAY;
    let mut columns = Columns::new([NUMBER, NUMBER, NUMBER, Type::TIMESTAMPTZ_ARRAY]);
    for batch in round {
        let newest_at =
            batch.rows.iter().map(Row::accepted_at).max().map(Moment::of).transpose()?;
        columns.push([
            i64::from(batch.shard.number()).into(),
            number(batch.upto.epoch)?.into(),
            number(batch.upto.n)?.into(),
            newest_at.into(),
        ]);
    }
    Ok(columns)
}

/// `false` when another writer came in between.
async fn try_rows(transaction: &Transaction<'_>, rows: &[Row]) -> Result<(bool, End), StoreError> {
    let wanted = BatchQueries::of(rows);
    let answers = pipeline(transaction.client(), &wanted.statements()).await?;
    let plan = WritePlan::new(BatchQueries::read(&answers)?, rows.iter())?;
    // What a commit would only find at its end is to be found here.
    let check = statement!("SET CONSTRAINTS ALL IMMEDIATE");
    let done = write(transaction.client(), plan, vec![check]).await?;
    Ok((done.is_some(), End::RollBack))
}

/// What must be known of what stands.
#[derive(Debug, Default)]
pub(super) struct BatchQueries<'a> {
    rows: ExistingQuery<'a>,
    changes: AppliedChangesQuery<'a>,
    firsts: FirstsQuery<'a>,
}

impl<'a> BatchQueries<'a> {
    pub(super) fn of(rows: impl IntoIterator<Item = &'a Row>) -> BatchQueries<'a> {
        let mut asked = BatchQueries::default();
        for row in rows {
            match row {
                Row::Message(message) => asked.rows.name(&message.room_id, &message.id),
                Row::Change(change) => {
                    asked.changes.change(change);
                    asked.firsts.change(change);
                    asked.rows.name(&change.room, &change.id);
                }
                Row::Receipt { .. } | Row::Credit(_) => {}
            }
        }
        asked
    }

    /// The questions; their answers are for [`BatchQueries::read`].
    pub(super) fn statements(&self) -> Vec<Statement<'_>> {
        let mut statements = vec![self.rows.statement()];
        statements.extend(self.changes.statement());
        statements.extend(self.firsts.statement());
        statements
    }

    pub(super) fn read(
        answers: &[Vec<tokio_postgres::Row>],
    ) -> Result<(ExistingRows, AppliedChanges, Firsts), StoreError> {
        let of = |question: usize| answers.get(question).map_or(&[][..], Vec::as_slice);
        Ok((ExistingRows::read(&answers[0])?, AppliedChanges::read(of(1))?, Firsts::read(of(2))?))
    }
}

/// The columns of [`RAISE_HEADS`]: each room once, in one order everywhere.
fn heads<'a>(round: &[&'a Batch]) -> Columns<'a> {
    let mut highest: BTreeMap<&str, Position> = BTreeMap::new();
    for (room, head) in round.iter().flat_map(|batch| &batch.heads) {
        let standing = highest.entry(room.as_str()).or_default();
        *standing = (*head).max(*standing);
    }
    let mut columns = Columns::new([Type::TEXT_ARRAY, Type::INT8_ARRAY, Type::INT8_ARRAY]);
    for (room, head) in highest {
        let place = Place::near(head);
        columns.push([room.into(), place.epoch.into(), place.seq.into()]);
    }
    columns
}
