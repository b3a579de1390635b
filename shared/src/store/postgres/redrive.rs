//! A dead letter driven again, in one transaction.

use deadpool_postgres::Transaction;
use tokio_postgres::types::Type;

use super::commit::Asked;
use super::failure::Trouble;
use super::fold::Fold;
use super::link::{End, Link, Statement, pipeline};
use super::shards::{LOCK, shard_number};
use super::write::write;
use super::{PostgresStore, Redriven};
use crate::store::{Row, StoreError};

/// Tries of a transaction that another writer came in between of.
const TRIES_MAX: usize = 4;

const LOCK_LETTER: &str = "SELECT 1 FROM dead_letters WHERE id = $1 FOR UPDATE";

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
        for _ in 0..TRIES_MAX {
            if let Some(done) = once(&self.link, number, row).await? {
                return Ok(done);
            }
        }
        Err(Trouble::Contended.into())
    }
}

/// `None` when another writer came in between.
async fn once(link: &Link, number: i64, row: &Row) -> Result<Option<Redriven>, StoreError> {
    link.write(async |transaction| try_once(transaction, number, row).await).await
}

async fn try_once(
    transaction: &Transaction<'_>,
    number: i64,
    row: &Row,
) -> Result<(Option<Redriven>, End), StoreError> {
    let client = transaction.client();
    let room = match row {
        Row::Message(message) => &message.room_id,
        Row::Change(change) => &change.room,
        Row::Receipt { room, .. } => room,
        Row::Credit(credit) => &credit.room,
    };
    let (shard, rows) = (shard_number(room.shard()), std::slice::from_ref(row));
    let wanted = Asked::of(rows);
    let mut read = vec![
        Statement { sql: LOCK_LETTER, parameters: vec![(&number, Type::INT8)] },
        // Whatever is done in a shard waits for its row.
        Statement { sql: LOCK, parameters: vec![(&shard, Type::INT2)] },
    ];
    read.extend(wanted.statements());
    let answers = pipeline(client, &read).await?;
    if answers[0].is_empty() {
        return Ok((Some(Redriven::Gone), End::RollBack));
    }
    let fold = Fold::new(Asked::read(&answers[2..])?, rows)?;
    if fold.done.orphaned > 0 {
        return Ok((Some(Redriven::Orphaned), End::RollBack));
    }
    let remove = Statement { sql: REMOVE, parameters: vec![(&number, Type::INT8)] };
    let Some(done) = write(client, fold, vec![remove]).await? else {
        return Ok((None, End::RollBack));
    };
    let stored = done.inserted + done.renamed + done.changed + done.read + done.credited;
    let redriven = match (stored, done.quarantined) {
        (0, 0) => Redriven::Stood,
        (0, _) => Redriven::Quarantined,
        (_, _) => Redriven::Stored,
    };
    Ok((Some(redriven), End::Commit))
}
