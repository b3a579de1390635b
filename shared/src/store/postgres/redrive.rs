//! Redrives a dead letter, in one transaction.

use deadpool_postgres::Transaction;

use super::commit::BatchQueries;
use super::failure::Trouble;
use super::plan::WritePlan;
use super::pool::{End, Pool, pipeline, statement};
use super::shards::{LOCK, shard_number};
use super::write::write;
use super::{NumberedLetter, PostgresStore, Redriven};
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::store::{DeadLetter, Row, StoreError};

/// Tries of a transaction that another writer came in between of.
const TRIES_MAX: usize = 4;

const LOCK_LETTER: &str = "SELECT 1 FROM dead_letters WHERE id = $1 FOR UPDATE";

const WANT: &str = "
    UPDATE dead_letters SET driven_at = clock_timestamp() WHERE id = $1 RETURNING 1";

/// The letter itself, or else a later one of the same identity.
const OUTCOME: &str = "
    SELECT id, code, error FROM dead_letters
    WHERE id = $1 OR (id > $1 AND room_id = $2 AND user_id = $3 AND message_id = $4)
    ORDER BY id LIMIT 1";

const REMOVE: &str = "DELETE FROM dead_letters WHERE id = $1";

impl PostgresStore {
    /// Stores the row of a dead letter at its place and removes the letter, in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Data`] when the row is refused still; then, as with every error, the letter
    /// stays.
    pub async fn redrive(&self, number: u64, row: &Row) -> Result<Redriven, StoreError> {
        // No letter has a number that the database cannot count to.
        let Ok(number) = i64::try_from(number) else { return Ok(Redriven::Gone) };
        self.try_redrive(number, row, End::Commit).await
    }

    /// What [`PostgresStore::redrive`] would do, undone again: of a row that has a place in its
    /// room, where a worker does it through the log.
    ///
    /// # Errors
    /// As there.
    pub async fn consider(&self, number: u64, row: &Row) -> Result<Redriven, StoreError> {
        let Ok(number) = i64::try_from(number) else { return Ok(Redriven::Gone) };
        self.try_redrive(number, row, End::RollBack).await
    }

    /// Notes that a dead letter is to be driven again by a worker; says whether there is one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn want_driven(&self, number: u64) -> Result<bool, StoreError> {
        let Ok(number) = i64::try_from(number) else { return Ok(false) };
        let wanted = self.pool.write(async |transaction| {
            let want = statement!(WANT, number);
            Ok((pipeline(transaction.client(), &[want]).await?[0].len(), End::Commit))
        });
        Ok(wanted.await? > 0)
    }

    /// What has become of a dead letter that was to be driven again: `None` as long as nothing has.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn driven_again(
        &self,
        numbered: &NumberedLetter,
    ) -> Result<Option<DrivenAgain>, StoreError> {
        let number = i64::try_from(numbered.number).unwrap_or(i64::MAX);
        let DeadLetter { room, user, id, .. } = &numbered.letter;
        let room = room.as_ref().map(RoomId::as_str);
        let user = user.as_ref().map(UserId::as_str);
        let id = id.as_ref().map(MessageId::as_str);
        let outcome = statement!(OUTCOME, number, room, user, id);
        let answers = self.pool.read(&[outcome]).await?;
        match answers[0].first() {
            None => Ok(Some(DrivenAgain::Stored)),
            Some(row) if row.try_get::<_, i64>(0)? == number => Ok(None),
            Some(row) => {
                let (code, detail) = (row.try_get(1)?, row.try_get(2)?);
                Ok(Some(DrivenAgain::Refused { code, detail }))
            }
        }
    }

    async fn try_redrive(&self, number: i64, row: &Row, end: End) -> Result<Redriven, StoreError> {
        for _ in 0..TRIES_MAX {
            if let Some(done) = once(&self.pool, number, row, end).await? {
                return Ok(done);
            }
        }
        Err(Trouble::Contended.into())
    }
}

/// What became of a dead letter that a worker drove again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrivenAgain {
    /// It is closed.
    Stored,
    /// It is another letter now.
    Refused {
        /// The database's code.
        code: String,
        /// What it said.
        detail: String,
    },
}

/// `None` when another writer came in between.
async fn once(
    pool: &Pool,
    number: i64,
    row: &Row,
    end: End,
) -> Result<Option<Redriven>, StoreError> {
    pool.write(async |transaction| try_once(transaction, number, row, end).await).await
}

async fn try_once(
    transaction: &Transaction<'_>,
    number: i64,
    row: &Row,
    end: End,
) -> Result<(Option<Redriven>, End), StoreError> {
    let client = transaction.client();
    let room = match row {
        Row::Message(message) => &message.room_id,
        Row::Change(change) => &change.room,
        Row::Receipt { room, .. } => room,
        Row::Credit(credit) => &credit.room,
    };
    let (shard, rows) = (shard_number(room.shard()), std::slice::from_ref(row));
    let wanted = BatchQueries::of(rows);
    let mut read = vec![
        statement!(LOCK_LETTER, number),
        // Whatever is done in a shard waits for its row.
        statement!(LOCK, shard),
    ];
    read.extend(wanted.statements());
    let answers = pipeline(client, &read).await?;
    if answers[0].is_empty() {
        return Ok((Some(Redriven::Gone), End::RollBack));
    }
    let plan = WritePlan::new(BatchQueries::read(&answers[2..])?, rows.iter())?;
    if plan.done.orphaned > 0 {
        return Ok((Some(Redriven::Orphaned), End::RollBack));
    }
    let remove = statement!(REMOVE, number);
    let Some(done) = write(client, plan, vec![remove]).await? else {
        return Ok((None, End::RollBack));
    };
    let stored = done.inserted + done.renamed + done.changed + done.read + done.credited;
    let redriven = match (stored, done.quarantined) {
        (0, 0) => Redriven::Stood,
        (0, _) => Redriven::Quarantined,
        (_, _) => Redriven::Stored,
    };
    Ok((Some(redriven), end))
}
