//! Commits a batch in one transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio_postgres::types::Type;

use super::PostgresStore;
use super::applied_changes::{AppliedChanges, AppliedChangesQuery};
use super::closing::{CLOSE, Firsts, FirstsQuery, PLACE, closed, told};
use super::columns::Columns;
use super::dead_letters::Letters;
use super::existing::{ExistingQuery, ExistingRows};
use super::failure::Trouble;
use super::plan::WritePlan;
use super::pool::{End, Statement, pipeline, statement};
use super::shards::{LOCK, NEWEST_EPOCH, lease_ms, shard_number};
use super::stored::scalar;
use super::value::{Moment, Place, count, log_id, number};
use super::write::write;
use crate::contract::id::RoomId;
use crate::contract::position::Position;
use crate::store::{Batch, Batches, Committed, Cursor, Row, StoreError};

/// Tries of a transaction that another program came in between of; after that the caller waits.
const TRIES_MAX: usize = 4;

const RAISE_HEADS: &str = "
    INSERT INTO room_heads (room_id, epoch, seq)
    SELECT room, epoch, seq
    FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS head(room, epoch, seq)
    ON CONFLICT (room_id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
    WHERE (excluded.epoch, excluded.seq) > (room_heads.epoch, room_heads.seq)";

/// Moves the cursor, remembers when the shard's youngest entry was accepted, and renews the lease
/// of `$5` for `$6` ms if it is the owner still.
const MOVE_CURSOR: &str = "
    UPDATE shards
    SET cursor_epoch = $2, cursor_n = $3, newest_at = greatest(newest_at, $4),
        lease_until = CASE WHEN lease_owner = $5
            THEN clock_timestamp() + $6 * interval '1 millisecond' ELSE lease_until END
    WHERE shard = $1";

#[async_trait]
impl Batches for PostgresStore {
    async fn commit(&self, batch: &Batch) -> Result<Committed, StoreError> {
        for _ in 0..TRIES_MAX {
            let done = self.pool.write(async |transaction| try_commit(transaction, batch).await);
            if let Some(done) = done.await? {
                return Ok(done);
            }
        }
        Err(Trouble::Contended.into())
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

/// `None` when another writer came in between.
async fn try_commit(
    transaction: &Transaction<'_>,
    batch: &Batch,
) -> Result<(Option<Committed>, End), StoreError> {
    let shard = shard_number(batch.shard);
    let wanted = BatchQueries::of(&batch.rows);
    let mut read = vec![
        statement!(LOCK, shard),
        // Not in one statement with the lock: it would see what was minted before it waited, and
        // minting changes no row that waiting for would make it look at again.
        statement!(NEWEST_EPOCH, shard),
    ];
    read.extend(wanted.statements());
    let answers = pipeline(transaction.client(), &read).await?;
    let row = answers[0].first().ok_or(Trouble::Unmigrated)?;
    let stands = Cursor {
        upto: log_id(row.try_get(0)?, row.try_get(1)?),
        epoch: count(scalar(&answers[1])?),
    };
    if stands != (Cursor { upto: batch.after, epoch: batch.epoch }) {
        return Err(StoreError::Fenced { shard: batch.shard });
    }

    let plan = WritePlan::new(BatchQueries::read(&answers[2..])?, &batch.rows)?;
    let letters = Letters::of(batch)?;
    let heads = heads(&batch.heads);
    let shard = shard_number(batch.shard);
    let (epoch, n) = (number(batch.upto.epoch)?, number(batch.upto.n)?);
    let newest_at = batch.rows.iter().map(Row::accepted_at).max().map(Moment::of).transpose()?;
    let owner = batch.lease.as_ref().map(|lease| lease.owner.as_str());
    let lease_ms = batch.lease.as_ref().map_or(0, lease_ms);
    let (closed, told) = (closed(batch), told(batch));
    let mut others = Vec::with_capacity(5);
    // Before new letters: what is refused again closes the old one.
    others.extend((!closed.is_empty()).then(|| closed.statement(CLOSE)));
    others.extend((!batch.dead.is_empty()).then(|| letters.statement()));
    others.extend((!told.is_empty()).then(|| told.statement(PLACE)));
    others.extend((!heads.is_empty()).then(|| heads.statement(RAISE_HEADS)));
    others.push(statement!(MOVE_CURSOR, shard, epoch, n, newest_at, owner, lease_ms));
    let done = write(transaction.client(), plan, others).await?;
    let end = if done.is_some() { End::Commit } else { End::RollBack };
    Ok((done, end))
}

/// `false` when another writer came in between.
async fn try_rows(transaction: &Transaction<'_>, rows: &[Row]) -> Result<(bool, End), StoreError> {
    let wanted = BatchQueries::of(rows);
    let answers = pipeline(transaction.client(), &wanted.statements()).await?;
    let plan = WritePlan::new(BatchQueries::read(&answers)?, rows)?;
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
    pub(super) fn of(rows: &'a [Row]) -> BatchQueries<'a> {
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
fn heads(heads: &[(RoomId, Position)]) -> Columns<'_> {
    let mut highest: BTreeMap<&str, Position> = BTreeMap::new();
    for (room, head) in heads {
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
