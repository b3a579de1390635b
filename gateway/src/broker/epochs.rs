//! The epoch of each shard, as this node believes it.
//!
//! A belief is checked against the log, which alone can refute it, and is kept while it cannot be:
//! the database is asked only about an epoch that is new to this node. So a node whose database is
//! away goes on for as long as its log does.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use shared::contract::id::Shard;
use shared::epoch::{EpochError, establish};
use shared::log::{Claim, Epoch, Log};
use shared::store::Store;
use uuid::Uuid;

/// Remembers epochs; a `stale` answer makes it ask the log anew.
#[derive(Debug)]
pub(crate) struct Epochs {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    beliefs: Vec<Mutex<Option<Belief>>>,
}

/// The newest epoch that this node has known a shard to have.
#[derive(Clone, Copy, Debug)]
struct Belief {
    epoch: Epoch,
    /// Nothing speaks against it; otherwise the log is asked before it is used.
    holds: bool,
}

impl Epochs {
    pub(crate) fn new(log: Arc<dyn Log>, store: Arc<dyn Store>) -> Epochs {
        Epochs { log, store, beliefs: Shard::all().map(|_| Mutex::new(None)).collect() }
    }

    fn belief(&self, shard: Shard) -> MutexGuard<'_, Option<Belief>> {
        let belief = &self.beliefs[usize::from(shard.number())];
        belief.lock()
    }

    /// The shard's epoch; claims one where the log has none.
    pub(crate) async fn get(&self, shard: Shard) -> Result<Epoch, EpochError> {
        let believed = *self.belief(shard);
        match believed {
            Some(Belief { epoch, holds: true }) => Ok(epoch),
            Some(_) | None => self.verify(shard).await,
        }
    }

    /// The shard's epoch by the log's own word, as of now.
    pub(crate) async fn verify(&self, shard: Shard) -> Result<Epoch, EpochError> {
        let known = *self.belief(shard);
        let known = known.map(|belief| belief.epoch);
        let at_least = known.map_or(0, |epoch| epoch.number);
        // A log that holds an older epoch than was known once is not the one that was known.
        let claim = self.log.claim(shard, at_least, Uuid::new_v4()).await?;
        let epoch = match (claim, known) {
            (Claim::Armed(armed), Some(known)) if armed.number == known.number => known,
            (Claim::Armed(_) | Claim::Token(_), _) => {
                self.forget(shard, at_least);
                establish(shard, at_least, &*self.log, &*self.store).await?
            }
        };
        let mut belief = self.belief(shard);
        // Two may have asked at once; epochs only grow.
        if belief.is_none_or(|belief| belief.epoch.number <= epoch.number) {
            *belief = Some(Belief { epoch, holds: true });
        }
        Ok(epoch)
    }

    /// The log says that `stale` is not its epoch.
    pub(crate) fn forget(&self, shard: Shard, stale: u64) {
        if let Some(belief) = self.belief(shard).as_mut()
            && belief.epoch.number == stale
        {
            belief.holds = false;
        }
    }
}
