//! Naming in Redis what the database has refused.

use super::{CallError, RedisLog};
use crate::contract::keys;
use crate::contract::limits::{REFUSAL_MEMORY_MS, REFUSALS_REMEMBERED_MAX};
use crate::log::{LogError, RejectedEntry};

impl RedisLog {
    /// Names what the database has refused; to be done before anything says that it is persisted.
    pub(super) async fn name_refused(&self, refused: &[RejectedEntry]) -> Result<(), LogError> {
        if refused.is_empty() {
            return Ok(());
        }
        let mut call = self.scripts.refused.prepare_invoke();
        call.arg(REFUSAL_MEMORY_MS).arg(REFUSALS_REMEMBERED_MAX);
        for entry in refused {
            call.key(keys::refused(&entry.room)).arg(entry.position.seq);
            call.arg(serde_json::to_vec(entry).map_err(CallError::from)?);
        }
        self.call(&call).await.map(drop)
    }
}
