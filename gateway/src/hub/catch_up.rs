//! Bringing one member to where its room stands, at the pace at which it reads.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::limits::CATCH_UP_ROWS;
use shared::process::backoff::Backoff;
use tracing::warn;

use super::room::{Lagging, MemberId, Room, Step};
use super::sources::{Page, SourceError};
use crate::send_queue::SendQueue;

const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Runs until the member has caught up or is gone.
pub(super) async fn run(room: Arc<Room>, member: MemberId, queue: Arc<SendQueue>) {
    let mut pauses = Backoff::new(PAUSE, PAUSE_MAX);
    while queue.low().await {
        match room.advance(member, &queue) {
            Step::Over => return,
            Step::Wait => {}
            Step::Read { lagging, floor } => match read(&room, &lagging).await {
                Ok(Some(page)) => {
                    if room.hand_over(member, &lagging.cursor, floor, &page) {
                        pauses.reset();
                    } else {
                        // What was read has not been published here yet.
                        tokio::time::sleep(pauses.next_delay()).await;
                    }
                }
                Ok(None) => {
                    room.reset(member, &lagging.cursor);
                    return;
                }
                Err(error) => {
                    warn!(room.id = %room.id, error = ?error, "member cannot be caught up yet");
                    tokio::time::sleep(pauses.next_delay()).await;
                }
            },
        }
    }
}

/// What follows the cursor; `None` when it stands in no order that is known.
async fn read(room: &Room, lagging: &Lagging) -> Result<Option<Arc<Page>>, SourceError> {
    let sources = &room.parts.sources;
    let Lagging { cursor, base, verified } = lagging;
    if !verified && !sources.can_resume(&room.id, cursor).await? {
        return Ok(None);
    }
    sources.after(&room.id, cursor.position, *base, CATCH_UP_ROWS).await.map(Some)
}
