//! Retention: removes messages that have been in the database long enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::contract::limits::{EXPIRE_INTERVAL_MS, EXPIRE_ROWS};
use shared::contract::timestamp::Timestamp;
use shared::process::error_chain::error_chain;
use shared::trouble;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::deps::Deps;

/// Between two transactions, so that what is said now goes first.
const PAUSE: Duration = Duration::from_millis(50);

/// Removes what is old enough, again and again until `stop`, while `first` says that the first
/// shard is this worker's: one of all workers does it.
pub(crate) async fn run(parts: Arc<Deps>, first: Arc<AtomicBool>, stop: CancellationToken) {
    let Some(retention) = parts.settings.retention else { return stop.cancelled().await };
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let mut ticks = tokio::time::interval(Duration::from_millis(EXPIRE_INTERVAL_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let before = Timestamp(parts.clock.now_ms().saturating_sub(retention_ms));
        let expiring = async {
            while first.load(Ordering::Relaxed) && step(&parts, before).await {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = expiring => {}
        }
    }
}

/// Says whether there may be more.
async fn step(parts: &Deps, before: Timestamp) -> bool {
    match parts.store.expire(before, EXPIRE_ROWS).await {
        Ok(0) => false,
        Ok(expired) => {
            parts.metrics.expired_total.inc_by(expired);
            info!(messages = expired, "messages have expired");
            expired >= u64::from(EXPIRE_ROWS)
        }
        Err(error) => {
            trouble!(error = error_chain(&error), "messages cannot expire now");
            false
        }
    }
}
