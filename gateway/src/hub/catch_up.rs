//! Catches a lagging member up with its room, at the pace at which it reads.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::limits::CATCH_UP_ROWS;
use shared::process::backoff::Backoff;
use shared::process::error_chain::error_chain;
use shared::trouble;

use super::history::{HistoryError, Page};
use super::room::{Handover, Lagging, MemberId, Room, Step};
use crate::wire::send_queue::SendQueue;

const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Runs until the member has caught up or is gone.
pub(super) async fn run(room: Arc<Room>, member: MemberId, queue: Arc<SendQueue>) {
    let mut pauses = Backoff::new(PAUSE, PAUSE_MAX);
    // The size of the frame that was refused: the next try waits until it fits.
    let mut refused = 0;
    while queue.room_for(refused).await {
        refused = 0;
        // What is in memory on both sides needs no wait at all, and a member that reads as fast as
        // it is served would keep its thread.
        tokio::task::yield_now().await;
        match room.change(|state| state.advance(member, &queue)) {
            Step::Over => return,
            Step::Wait(bytes) => refused = bytes,
            Step::Read { lagging, floor } => match read(&room, &lagging).await {
                Ok(Some((page, epoch))) => {
                    let (page, from) = ((&*page, epoch), &lagging.cursor);
                    match room.change(|state| state.hand_over(member, from, floor, page)) {
                        Handover::Some => pauses.reset(),
                        // Read anew then: a page that waits with each reader that has stopped would
                        // be too much to hold.
                        Handover::Refused(bytes) => refused = bytes,
                        // What was read has not been published here yet.
                        Handover::Ahead => tokio::time::sleep(pauses.next_delay()).await,
                    }
                }
                Ok(None) => return room.change(|state| state.reset(member, &lagging.cursor)),
                Err(error) => {
                    trouble!(room.id = %room.id, error = error_chain(&error),
                        "member cannot be caught up yet");
                    tokio::time::sleep(pauses.next_delay()).await;
                }
            },
        }
    }
}

/// What follows the cursor, and as of which epoch; `None` when it stands in no order that is known.
async fn read(room: &Room, lagging: &Lagging) -> Result<Option<(Arc<Page>, u64)>, HistoryError> {
    let history = &room.parts.history;
    let Lagging { cursor, complete_up_to, verified } = lagging;
    let mut epoch = u64::MAX;
    if !verified {
        match history.can_resume(&room.id, cursor).await? {
            Some(stands_in) => epoch = stands_in,
            None => return Ok(None),
        }
    }
    let page = history.after(&room.id, cursor.position, *complete_up_to, CATCH_UP_ROWS).await?;
    if page.entries.iter().any(|entry| entry.ends_what_was()) {
        return Ok(None);
    }
    let epoch = epoch.min(page.epoch);
    Ok(Some((page, epoch)))
}
