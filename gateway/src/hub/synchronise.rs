//! Bringing a room to where the log stands: when it is first entered, after a gap, after a loss.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::position::Position;
use shared::process::backoff::Backoff;
use tracing::warn;

use super::attendance;
use super::logged::Logged;
use super::room::Room;
use super::sources::{SourceError, Tail};
use crate::broker::BrokerError;
use crate::presence::PresenceError;

const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Why an attempt did not come through.
#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Presence(#[from] PresenceError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Reads until the room is live; never gives up.
pub(super) async fn run(room: Arc<Room>) {
    let mut pauses = Backoff::new(PAUSE, PAUSE_MAX);
    loop {
        match attempt(&room).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                warn!(room.id = %room.id, error = ?error, "room cannot be read");
                tokio::time::sleep(pauses.next_delay()).await;
            }
        }
    }
}

/// Subscribe, confirmed; then read; then go on with what was published meanwhile.
async fn attempt(room: &Arc<Room>) -> Result<bool, SyncError> {
    room.parts.broker.subscribe(&room.id).await?;
    attendance::read(room, room.is_settled()).await?;
    let sources = &room.parts.sources;
    if let Some(head) = room.begin_reading() {
        let tail = sources.tail(&room.id, head).await?;
        if goes_on(head, &tail) {
            let entries: Result<Vec<Logged>, _> = tail
                .entries
                .iter()
                .map(|entry| Logged::from_entry(entry).map(|(_, logged)| logged))
                .collect();
            return Ok(room.finish(entries.map_err(SourceError::from)?, tail.persisted));
        }
    }
    let refill = sources.refill(&room.id).await?;
    Ok(room.refill(refill))
}

/// Whether the ring has every entry above the head, in the same epoch.
fn goes_on(head: Position, tail: &Tail) -> bool {
    match tail.entries.first() {
        Some(first) => first.position == head.next() && tail.head.epoch == head.epoch,
        None => tail.head == head,
    }
}
