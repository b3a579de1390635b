//! Erases a user's or a room's messages everywhere: database, rings, the memory of every node.
//!
//! The database first, in steps; then what was in the log when it began has to get there, and is
//! erased there too; then each room's ring forgets what is persisted and every node what it
//! remembers, and tells its members to drop what they hold. Can be done again at will, and has to
//! be where it ended early. Places and ids stay, so that every order goes on.
//!
//! What a log keeps a while of what is persisted, for a database that fails over, goes by itself
//! within that while; nobody reads it. A client that was away keeps what it had: it has to be told
//! by whoever erases.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::contract::id::{RoomId, Shard};
use crate::contract::limits::{ERASE_PATIENCE_MS, ERASE_ROWS};
use crate::contract::position::Position;
use crate::epoch::{self, EpochError};
use crate::log::{Log, LogError, LogId, PageLimit};
use crate::store::{Erased, Store, StoreError};
use tokio::time::Instant;

/// How often the log is asked how far it is.
const POLL: Duration = Duration::from_millis(50);

/// Entries of a log that are read at once.
const PAGE_ENTRIES: usize = 1000;

/// Tries where the shard's epoch is being settled.
const TRIES_MAX: usize = 5;

/// Why not everything was erased; what was done stays done, and doing it again goes on.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The database does not answer.
    #[error("the database could not be asked")]
    Store(#[from] StoreError),
    /// The log does not answer.
    #[error("the log could not be asked")]
    Log(#[from] LogError),
    /// A shard has no epoch.
    #[error("the epoch of a shard could not be found")]
    Epoch(#[from] EpochError),
    /// Nothing moves the log into the database, or not fast enough.
    #[error(
        "what was said before is in the log of {shards} shards and not in the database after \
         {seconds} s: is there a worker? erase again when there is"
    )]
    Unpersisted {
        /// How many shards.
        shards: usize,
        /// How long it was waited for.
        seconds: u64,
    },
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many messages have no content in the database any more.
    Database {
        /// In all.
        messages: u64,
    },
    /// The logs of so many shards are waited for.
    Waiting {
        /// How many.
        shards: usize,
    },
    /// The rings, and the memory of every node, forget so many rooms.
    Forgetting {
        /// How many.
        rooms: usize,
    },
}

/// What was erased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Messages that have no content any more.
    pub messages: u64,
    /// The rooms in which something of theirs stands, in their order.
    pub rooms: Vec<RoomId>,
}

/// Erases everywhere; `tell` hears how far it is.
///
/// # Errors
/// Says what ended it early; begin again.
pub async fn erase(
    log: &dyn Log,
    store: &dyn Store,
    whose: &Erased,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<Total, EraseError> {
    let shards: Vec<Shard> = match whose {
        Erased::Room(room) => vec![room.shard()],
        Erased::User(_) => Shard::all().collect(),
    };
    // Before the database is looked at: what comes later was said after it began.
    let ends = ends(log, store, &shards).await?;
    let mut rooms = BTreeSet::new();
    let mut messages = from_database(store, whose, &mut rooms, tell).await?;
    if !ends.is_empty() {
        persisted(log, ends, tell).await?;
        messages += from_database(store, whose, &mut rooms, tell).await?;
    }
    tell(Progress::Forgetting { rooms: rooms.len() });
    for room in &rooms {
        forget(log, store, room).await?;
    }
    Ok(Total { messages, rooms: rooms.into_iter().collect() })
}

async fn from_database(
    store: &dyn Store,
    whose: &Erased,
    rooms: &mut BTreeSet<RoomId>,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<u64, StoreError> {
    let (mut messages, mut after) = (0, Position::ZERO);
    loop {
        let step = store.erase(whose, after, ERASE_ROWS).await?;
        messages += step.messages;
        rooms.extend(step.rooms);
        tell(Progress::Database { messages });
        let Some(more) = step.more else { return Ok(messages) };
        after = more;
    }
}

/// The last entry of each log that holds something which is not persisted.
async fn ends(
    log: &dyn Log,
    store: &dyn Store,
    shards: &[Shard],
) -> Result<Vec<(Shard, LogId)>, EraseError> {
    let mut ends = Vec::new();
    for shard in shards {
        if log.len(*shard).await? == 0 {
            continue;
        }
        let epoch = epoch::establish(*shard, 0, log, store).await?.number;
        let mut last = log.synced(*shard).await?;
        let mut more = false;
        loop {
            let entries = log.read(*shard, epoch, last, PageLimit::entries(PAGE_ENTRIES)).await?;
            let Some(entry) = entries.last() else { break };
            (last, more) = (entry.id, true);
        }
        if more {
            ends.push((*shard, last));
        }
    }
    Ok(ends)
}

/// Waits until the logs are in the database up to there.
async fn persisted(
    log: &dyn Log,
    mut ends: Vec<(Shard, LogId)>,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<(), EraseError> {
    let patience = Duration::from_millis(ERASE_PATIENCE_MS);
    let deadline = Instant::now() + patience;
    tell(Progress::Waiting { shards: ends.len() });
    loop {
        let mut left = Vec::with_capacity(ends.len());
        for (shard, end) in ends {
            if log.synced(shard).await? < end {
                left.push((shard, end));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(EraseError::Unpersisted {
                shards: left.len(),
                seconds: patience.as_secs(),
            });
        }
        ends = left;
        tokio::time::sleep(POLL).await;
    }
}

async fn forget(log: &dyn Log, store: &dyn Store, room: &RoomId) -> Result<(), EraseError> {
    let mut tries = 0;
    loop {
        let epoch = epoch::establish(room.shard(), 0, log, store).await?.number;
        match log.forget_ring(room, epoch).await {
            Err(LogError::Stale { .. }) if tries < TRIES_MAX => tries += 1,
            done => return Ok(done?),
        }
    }
}
