//! The epoch of each shard as this node believes it.

use std::sync::{Arc, Mutex, PoisonError};

use shared::contract::id::Shard;
use shared::epoch::{EpochError, establish};
use shared::log::Log;
use shared::store::{Epoch, Store};

/// Remembers epochs; a `stale` answer makes it forget one and ask anew.
pub(crate) struct Epochs {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    believed: Vec<Mutex<Option<Epoch>>>,
}

impl std::fmt::Debug for Epochs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epochs").field("believed", &self.believed).finish_non_exhaustive()
    }
}

impl Epochs {
    pub(crate) fn new(log: Arc<dyn Log>, store: Arc<dyn Store>) -> Epochs {
        Epochs { log, store, believed: Shard::all().map(|_| Mutex::new(None)).collect() }
    }

    fn cell(&self, shard: Shard) -> &Mutex<Option<Epoch>> {
        &self.believed[usize::from(shard.number())]
    }

    /// The shard's epoch; claims one where the log has none.
    pub(crate) async fn get(&self, shard: Shard) -> Result<Epoch, EpochError> {
        let believed = *self.cell(shard).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(epoch) = believed {
            return Ok(epoch);
        }
        let epoch = establish(shard, 0, &*self.log, &*self.store).await?;
        let mut cell = self.cell(shard).lock().unwrap_or_else(PoisonError::into_inner);
        // Two may have asked at once; epochs only grow.
        if cell.is_none_or(|known| known.number < epoch.number) {
            *cell = Some(epoch);
        }
        Ok(epoch)
    }

    /// The log says that `stale` is not its epoch.
    pub(crate) fn forget(&self, shard: Shard, stale: u64) {
        let mut cell = self.cell(shard).lock().unwrap_or_else(PoisonError::into_inner);
        if cell.is_some_and(|known| known.number == stale) {
            *cell = None;
        }
    }
}
