//! Epochs: minted by the database, armed in the log, so that no position is used twice.
//!
//! *Claim*: a token is put where the log holds no valid epoch (it is new, was emptied, restarted or
//! promoted). *Mint*: the database gives one epoch per token, the highest plus one, the same to
//! everyone who asks for that token. *Arm*: the log takes the epoch if that token still stands, and
//! is cut at the database's cursor, which no older epoch moves any more.

use std::time::Duration;

use uuid::Uuid;

use crate::contract::id::Shard;
use crate::log::{Claim, Epoch, Log, LogError};
use crate::store::{Store, StoreError};

/// How long the database may take to say when an epoch was minted that the log holds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tries of the whole sequence before giving up; each failure means that another claimed between.
const TRIES_MAX: usize = 8;

/// Why there is no epoch.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// The log does not answer.
    #[error("the log could not be claimed")]
    Log(#[from] LogError),
    /// The database does not answer.
    #[error("no epoch could be minted")]
    Store(#[from] StoreError),
    /// Another database mints epochs for the same log.
    #[error("epoch {epoch} of shard {shard} was never minted by this database, nor was one before")]
    Foreign {
        /// Which shard.
        shard: Shard,
        /// Which epoch.
        epoch: u64,
    },
    /// Others were faster every time.
    #[error("the epoch of shard {shard} is being fought over")]
    Contended {
        /// Which shard.
        shard: Shard,
    },
}

/// The epoch of a shard: the one that the log holds, or a new one where it holds none, or one
/// below `at_least`.
///
/// # Errors
/// Says which of the two does not answer; calling again is safe.
pub async fn establish(
    shard: Shard,
    at_least: u64,
    log: &dyn Log,
    store: &dyn Store,
) -> Result<Epoch, EpochError> {
    let mut at_least = at_least;
    for _ in 0..TRIES_MAX {
        match log.claim(shard, at_least, Uuid::new_v4()).await? {
            Claim::Armed(armed) => match confirmed(shard, armed, store).await? {
                Some(epoch) => return Ok(epoch),
                // A database that was set back goes on above it. One that is the copy of another,
                // whose nodes mint too, must leave the log alone.
                None if store.foreign_epoch(shard, armed.number).await? => {
                    return Err(EpochError::Foreign { shard, epoch: armed.number });
                }
                None => at_least = armed.number + 1,
            },
            Claim::Token(token) => {
                let minted = store.mint(shard, token, at_least).await?;
                let cursor = store.cursor(shard).await?.upto;
                if let Some(armed) = log.arm(shard, token, minted, cursor).await? {
                    return Ok(armed);
                }
            }
        }
    }
    Err(EpochError::Contended { shard })
}

/// What the database says of an epoch that the log holds. While it does not answer, the log's word
/// has to do: a batch is compared with the database's own epochs in any case.
async fn confirmed(
    shard: Shard,
    armed: Epoch,
    store: &dyn Store,
) -> Result<Option<Epoch>, StoreError> {
    match tokio::time::timeout(PATIENCE, store.epoch(shard, armed.number)).await {
        Ok(Err(StoreError::Unavailable(_))) | Err(_) => Ok(Some(armed)),
        Ok(answer) => Ok(answer?.map(|epoch| Epoch { quiet: epoch.quiet && armed.quiet, ..epoch })),
    }
}
