//! Appends entries that no client sends: redriven dead letters, and rows of other programs in rooms
//! that are in use.
//!
//! One of all workers looks for both, again and again. Everything it appends has an id that the log
//! knows afterwards, so that it does no harm if two do it for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::adding::{self, AddError};
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{RoomId, Shard};
use shared::contract::message::Message;
use shared::contract::timestamp::Timestamp;
use shared::log::{Append, Appended, LogError, Past};
use shared::process::error_chain::error_chain;
use shared::store::{StoreError, Unplaced};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::deps::Deps;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(500);

/// Dead letters of one look.
const LETTERS: u32 = 64;

/// Rooms of one look, and rows of one room in it.
const ROOMS: u32 = 200;
const ROWS: u32 = 128;

/// Why a look was not finished; the next one goes on.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Add(#[from] AddError),
}

/// Looks until `stop`, while `first` says that the first shard is this worker's. Where one process
/// has both the log and the database there is nothing to look for.
pub(crate) async fn run(parts: Arc<Deps>, first: Arc<AtomicBool>, stop: CancellationToken) {
    if parts.lease.is_none() {
        return stop.cancelled().await;
    }
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut after, mut failing) = (None, false);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if !first.load(Ordering::Relaxed) {
            continue;
        }
        let look = async {
            drive(&parts).await?;
            place(&parts, after.as_deref()).await
        };
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = look => looked,
        };
        match looked {
            Ok(next) => (after, failing) = (next, false),
            // Once for an outage: the readers of the shards say how it is.
            Err(error) if !failing => {
                failing = true;
                warn!(error = error_chain(&error), "additions to the log wait");
            }
            Err(_) => {}
        }
    }
}

/// Appends the dead letters that somebody wants driven again; their commit closes them.
async fn drive(parts: &Deps) -> Result<(), LookError> {
    let Deps { log, store, .. } = parts;
    for letter in store.driven(LETTERS).await? {
        let Ok(envelope) = Envelope::decode(&letter.raw) else { continue };
        let room = envelope.room.clone();
        if let Some(refused) = letter.position {
            log.lift(&room, refused).await?;
        }
        let entry = Append { envelope, digest: Uuid::nil(), cost: None, author: None };
        adding::add(room.shard(), &[entry], Past::Refusals, (&**log, &**store)).await?;
    }
    Ok(())
}

/// Appends what another program wrote into rooms of which somebody knows a head. Gives the room
/// after whose name the next look goes on.
async fn place(parts: &Deps, after: Option<&str>) -> Result<Option<String>, LookError> {
    let Deps { log, store, .. } = parts;
    let (found, next) = store.unplaced_rooms(after, ROOMS).await?;
    let (mut rooms, unknown): (Vec<Unplaced>, Vec<Unplaced>) =
        found.into_iter().partition(|unplaced| unplaced.has_head);
    let names: Vec<RoomId> = unknown.iter().map(|unplaced| unplaced.room.clone()).collect();
    let known = log.knows(&names).await?;
    rooms.extend(unknown.into_iter().zip(known).filter(|(_, known)| *known).map(|(room, _)| room));
    let now = Timestamp(parts.clock.now_ms());
    let mut shards: BTreeMap<Shard, Vec<Append>> = BTreeMap::new();
    for Unplaced { room, .. } in rooms {
        let messages = store.unplaced(&room, ROWS).await?;
        let entries = messages.iter().filter_map(|message| append(message, now));
        shards.entry(room.shard()).or_default().extend(entries);
    }
    for (shard, entries) in shards {
        // A part at a time: a call of the log takes a moment only.
        let mut new = 0;
        for entries in entries.chunks(ROWS as usize) {
            let added = adding::add(shard, entries, Past::Caps, (&**log, &**store)).await?;
            let is_new =
                |added: &&Appended| matches!(added, Appended::Placed(place) if !place.duplicate);
            new += added.iter().filter(is_new).count();
        }
        if new > 0 {
            info!(%shard, messages = new, "another program's messages have got their places");
        }
    }
    Ok(next)
}

/// The row as its sender would have sent it.
fn append(message: &Message, now: Timestamp) -> Option<Append> {
    let envelope = Envelope {
        kind: EntryKind::Message,
        room: message.room_id.clone(),
        user: message.user_id.clone(),
        id: message.id.clone(),
        change_id: None,
        // Not when it was said: by this is measured how far behind the worker is.
        accepted_at: now,
        body: serde_json::to_vec(message).ok()?.into(),
    };
    envelope.encode().ok()?;
    Some(Append { envelope, digest: Uuid::nil(), cost: None, author: None })
}
