//! Appends entries that no client sends: refusals, redriven letters, rows of other programs. Epoch
//! and heads are handled as for any append.

use crate::contract::id::{RoomId, Shard};
use crate::contract::limits::REFUSAL_MEMORY_MS;
use crate::contract::timestamp::Timestamp;
use crate::epoch::{self, EpochError};
use crate::log::{Append, AppendStop, Appended, Hydration, Log, LogError, Past};
use crate::store::{Store, StoreError};

/// Tries to append, each after what was missing was seen to.
const TRIES_MAX: usize = 8;

/// Why something was not added; trying again is safe.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The log does not answer.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no epoch to do it under.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The epoch or a head was settled by others every time, or the log is full.
    #[error("the log of shard {shard} takes nothing now")]
    Unsettled {
        /// Which shard.
        shard: Shard,
    },
}

/// Appends the entries, all of rooms of `shard`, in their order; one that the log knows already
/// is a duplicate. Empty where the log takes no additions.
///
/// # Errors
/// Those in front may have been added.
pub async fn add(
    shard: Shard,
    entries: &[Append],
    past: Past,
    (log, store): (&dyn Log, &dyn Store),
) -> Result<Vec<Appended>, AddError> {
    let mut done = Vec::with_capacity(entries.len());
    let mut at_least = store.cursor(shard).await?.epoch;
    for _ in 0..TRIES_MAX {
        let epoch = epoch::establish(shard, at_least, log, store).await?.number;
        at_least = epoch;
        let rest = &entries[done.len()..];
        let batch = log.append(shard, epoch, rest, past).await?;
        done.extend(batch.done);
        match batch.stop {
            None => return Ok(done),
            Some(AppendStop::Stale) => {}
            Some(AppendStop::Full) => break,
            Some(AppendStop::Unhydrated) => {
                let mut rooms: Vec<RoomId> =
                    rest.iter().map(|entry| entry.envelope.room.clone()).collect();
                rooms.sort_unstable();
                rooms.dedup();
                let asked_at_ms = log.now_ms().await?;
                let heads = store.heads(&rooms).await?;
                let since = Timestamp(asked_at_ms - REFUSAL_MEMORY_MS);
                let refused = store.refused(&rooms, since).await?;
                let heads = rooms.into_iter().zip(heads).collect();
                let hydration = Hydration { shard, asked_at_ms, heads, refused };
                match log.hydrate(epoch, &hydration).await {
                    Ok(()) | Err(LogError::Stale { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Err(AddError::Unsettled { shard })
}
