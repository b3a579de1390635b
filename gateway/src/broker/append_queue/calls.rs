//! What is appended at a time, over all shards: a call is copied on its way.

use std::sync::Arc;

use shared::log::Append;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for.
const UNIT_BYTES: usize = 1024;

/// The turns of calls, by their bytes.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    turns: Arc<Semaphore>,
    units: usize,
}

impl Calls {
    /// So many bytes at a time, and one call at least, however large.
    pub(super) fn new(bytes: usize) -> Calls {
        let units = (bytes / UNIT_BYTES).max(1);
        Calls { turns: Arc::new(Semaphore::new(units)), units }
    }

    /// Waits until these may be appended; they may be until what it gives is dropped.
    pub(super) async fn turn(&self, entries: &[Append]) -> Option<OwnedSemaphorePermit> {
        let bytes: usize = entries.iter().map(|entry| entry.envelope.body.len()).sum();
        let units = (bytes / UNIT_BYTES + 1).min(self.units);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Arc::clone(&self.turns).acquire_many_owned(units).await.ok()
    }
}
