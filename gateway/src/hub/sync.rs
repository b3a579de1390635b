//! Syncs a room with the log: when it is first joined, after a gap, after a loss.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::position::Position;
use shared::log::LogError;
use shared::process::backoff::Backoff;
use shared::process::error_chain::error_chain;
use shared::trouble;
use tracing::debug;

use super::entry::{RoomEntry, leave_out_refused};
use super::history::{HistoryError, SideState};
use super::room::{Effects, Room};
use super::{catch_up, presence_sync};
use crate::presence::PresenceError;

const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long a subscription may take to be confirmed; asking again is harmless.
const SUBSCRIBE_PATIENCE: Duration = Duration::from_secs(5);

/// Why an attempt did not come through.
#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error("the subscription is not confirmed")]
    Unheard,
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Presence(#[from] PresenceError),
    #[error(transparent)]
    Source(#[from] HistoryError),
}

/// Starts what a change of a room calls for.
pub(super) fn start(room: &Arc<Room>, effects: Effects) {
    if effects.sync {
        tokio::spawn(run(Arc::clone(room)));
    }
    room.parts.metrics.lagging_total.inc_by(effects.catch_up.len() as u64);
    for (member, queue) in effects.catch_up {
        tokio::spawn(catch_up::run(Arc::clone(room), member, queue));
    }
    if effects.read_streams {
        tokio::spawn(read_streams(Arc::clone(room)));
    }
}

/// Something of a room may have been missed: it is read anew.
pub(super) fn resync(room: &Arc<Room>) {
    start(room, room.change(|state| state.resync()));
}

/// Reads until the room is live or was taken out of use; never gives up.
pub(super) async fn run(room: Arc<Room>) {
    let mut pauses = Backoff::new(PAUSE, PAUSE_MAX);
    // Nobody waits for one that was taken out of use.
    while !room.read(|state| state.retired) {
        if room.parts.history.is_away() {
            read_stored(&room).await;
        }
        let tried = attempt(&room).await;
        room.change(|state| state.tried(tried.is_err()));
        match tried {
            Ok(true) => return,
            // Some of what was published meanwhile is missing, or there was too much of it.
            Ok(false) => tokio::time::sleep(pauses.next_delay()).await,
            Err(error) => {
                trouble!(room.id = %room.id, error = error_chain(&error), "room cannot be read");
                tokio::time::sleep(pauses.next_delay()).await;
            }
        }
    }
}

/// Subscribe, confirmed; then read; then go on with what was published meanwhile.
async fn attempt(room: &Arc<Room>) -> Result<bool, SyncError> {
    let confirmed = room.parts.broker.subscribe(&room.id);
    tokio::select! {
        confirmed = tokio::time::timeout(SUBSCRIBE_PATIENCE, confirmed) => match confirmed {
            Ok(confirmed) => confirmed?,
            Err(_) => return Err(SyncError::Unheard),
        },
        // Nobody waits for it then: the database may be read.
        () = room.parts.history.goes_away() => return Err(SyncError::Unheard),
    }
    presence_sync::read(room, room.read(|state| state.settled)).await?;
    read_streams(Arc::clone(room)).await;
    // What is read from here on may hold what is erased meanwhile.
    let erasures = room.read(|state| state.erasures);
    let history = &room.parts.history;
    if let Some(head) = room.change(|state| state.begin_reading()) {
        let tail = history.tail(&room.id, head).await?;
        if tail.goes_on_from(head) {
            let is_other_epoch = tail.epoch != room.read(|state| state.epoch);
            if is_other_epoch {
                // The log has lost its memory, and a removal with it, perhaps.
                let side_state = history.side_state(&room.id).await?;
                room.change(|state| state.take_side_state(side_state));
            }
            let entries: Result<Vec<RoomEntry>, _> = tail
                .entries
                .iter()
                .map(|entry| RoomEntry::from_entry(entry).map(|(_, logged)| logged))
                .collect();
            let mut entries = entries.map_err(HistoryError::from)?;
            leave_out_refused(&mut entries);
            learn_refused(room, tail.persisted).await?;
            let as_of = (tail.epoch, erasures);
            let (live, effects) = room.change(|state| state.finish(entries, as_of, tail.persisted));
            start(room, effects);
            if live && !is_other_epoch {
                tokio::spawn(read_side_state(Arc::clone(room)));
            }
            return Ok(live);
        }
    }
    let snapshot = history.snapshot(&room.id).await?;
    // A removal may lie below what was read: nobody is let in, and nobody goes on, before it is
    // known who was removed.
    let side_state = history.side_state(&room.id).await?;
    room.change(|state| state.take_side_state(side_state));
    learn_refused(room, snapshot.persisted).await?;
    let (live, effects) = room.change(|state| state.load(snapshot, erasures));
    start(room, effects);
    Ok(live)
}

/// Reads what the database has of a room that is not known yet, where the log gives no answers.
async fn read_stored(room: &Arc<Room>) {
    let (settled, erasures) = room.read(|state| (state.settled, state.erasures));
    if settled {
        return;
    }
    let history = &room.parts.history;
    let read = async {
        let snapshot = history.stored_snapshot(&room.id).await?;
        let receipts = history.store.receipts(&room.id, 0).await?;
        let removed = history.store.removed(&room.id).await?;
        Ok::<_, HistoryError>((snapshot, SideState { receipts, whole: false, removed }))
    };
    match read.await {
        Ok((snapshot, side_state)) => room.change(|state| {
            state.take_side_state(side_state);
            state.load_stored(snapshot, erasures);
        }),
        Err(error) => trouble!(room.id = %room.id, error = error_chain(&error),
            "neither log nor database say what is in a room"),
    }
}

/// Before the members are told that the database has the room up to `persisted`: who of them sent
/// what it refused on the way is told so. The watermark that said it may have been missed.
pub(super) async fn learn_refused(
    room: &Arc<Room>,
    persisted: Position,
) -> Result<(), HistoryError> {
    if persisted > room.read(|state| state.persisted) {
        let refused = room.parts.history.log.refused(&room.id).await?;
        room.change(|state| state.refuse(&refused));
    }
    Ok(())
}

/// Reads the answers that are being written, where some part of one was missed or the room is not
/// known yet.
async fn read_streams(room: Arc<Room>) {
    room.change(|state| state.begin_reading_streams());
    let read = room.parts.streams.open_in(&room.id).await.inspect_err(|error| {
        debug!(room.id = %room.id, error = error_chain(error), "answers cannot be read");
    });
    room.change(|state| state.take_streams(read.ok()));
}

/// Reads what is kept of the room beside its order, for as long as it is of use.
async fn read_side_state(room: Arc<Room>) {
    let mut pauses = Backoff::new(PAUSE, PAUSE_MAX);
    while !room.read(|state| state.retired) {
        match room.parts.history.side_state(&room.id).await {
            Ok(side_state) => return room.change(|state| state.take_side_state(side_state)),
            Err(error) => {
                trouble!(room.id = %room.id, error = error_chain(&error),
                    "receipts and removals cannot be read");
                tokio::time::sleep(pauses.next_delay()).await;
            }
        }
    }
}
