//! What the parts of a node may have of its memory.

use shared::contract::limits::{
    APPEND_BATCH_BYTES_MAX, MEMORY_LOG_BYTES_MAX, PAGE_BYTES_MAX, RETAINED_BYTES_MAX,
    STREAMS_BYTES_MAX,
};
use shared::process::memory::{MIB, MemoryBound};

/// The least that a node works with, in bytes.
pub(super) const MEMORY_BYTES_LEAST: u64 = 64 * MIB as u64;

/// Two of the largest entries.
const DELIVERIES_BYTES_LEAST: usize = 4 * MIB;

/// In bytes. With a large bound each is what a large node needs; with a small one they are shares
/// of it, which leave more than a half for the program, idle connections, copies on their way, and
/// what the allocator keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryShares {
    /// What waits for the log, and what was accepted and is not known to be in the database.
    pub(crate) accepted: usize,
    /// Of that, one shard's.
    pub(crate) accepted_of_shard: usize,
    /// On its way to Redis, of all shards: it is encoded and copied there.
    pub(crate) appending: usize,
    /// The log of an embedded node, and what it delivers.
    pub(crate) log: usize,
    /// What rooms remember.
    pub(crate) rooms: usize,
    /// What is published meanwhile to rooms that synchronise.
    pub(crate) syncing: usize,
    /// Frames that wait for clients: beyond it who does not read is cut.
    pub(crate) frames: usize,
    /// What was heard of the log and is not handed to its rooms yet.
    pub(crate) deliveries: usize,
    /// Messages that are read from sockets and are not whole.
    pub(crate) reading: usize,
    /// Pages of history that are read at a time.
    pub(crate) pages: usize,
    /// Bodies of requests.
    pub(crate) bodies: usize,
    /// Answers that are being written.
    pub(crate) streams: usize,
}

impl MemoryShares {
    pub(crate) fn of(bound: MemoryBound) -> MemoryShares {
        let accepted = bound.share(8, 256 * MIB);
        MemoryShares {
            accepted,
            accepted_of_shard: RETAINED_BYTES_MAX.min(accepted / 4),
            appending: bound.share(64, 16 * APPEND_BATCH_BYTES_MAX),
            log: bound.share(8, MEMORY_LOG_BYTES_MAX),
            rooms: bound.share(32, 256 * MIB),
            syncing: bound.share(32, 64 * MIB),
            frames: bound.share(16, 1024 * MIB),
            deliveries: bound.share(64, 64 * MIB).max(DELIVERIES_BYTES_LEAST),
            reading: bound.share(32, 256 * MIB),
            pages: (bound.share(32, 256 * MIB) / PAGE_BYTES_MAX).max(1),
            bodies: bound.share(32, 64 * MIB),
            streams: bound.share(32, STREAMS_BYTES_MAX),
        }
    }
}
