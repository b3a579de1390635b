//! The steps of the two hottest paths, for the micro-benchmarks: nothing else calls them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use shared::contract::id::UserId;
use shared::contract::limits::RATE_WINDOW_MS;
use shared::contract::position::Position;
use shared::log::RingEntry;

use crate::config::RateClass;
use crate::connection::decoder::{Decoder, Incoming};
use crate::hub::entry::RoomEntry;
use crate::rate_limit::memory::{LocalCount, Windows};
use crate::wire::codec;
use crate::wire::send_queue::SendQueue;

/// Reads what a client sent, frame by frame, as the commands they are; says how many there were.
///
/// # Panics
/// When the bytes are no frames of a client.
#[must_use]
pub fn read_commands(mut input: BytesMut, message_bytes_max: usize) -> usize {
    let (mut decoder, mut commands) = (Decoder::new(message_bytes_max), 0);
    while let Some(incoming) = decoder.next(&mut input).expect("sound frames") {
        if let Incoming::Text(text) = incoming {
            commands += usize::from(codec::read(&text.into_bytes()).command.is_ok());
        }
    }
    commands
}

/// The members of a room, without sockets.
#[derive(Debug)]
pub struct FanOut {
    queues: Vec<Arc<SendQueue>>,
}

impl FanOut {
    /// So many members.
    #[must_use]
    pub fn new(members: usize) -> FanOut {
        FanOut { queues: (0..members).map(|_| Arc::default()).collect() }
    }

    /// Makes a frame of a publication and offers it to every member, who takes it; gives the bytes
    /// they took.
    ///
    /// # Panics
    /// When `raw` is no envelope.
    #[must_use]
    pub fn publish(&self, raw: &Bytes, seq: u64) -> usize {
        let entry = RingEntry { position: Position::new(1, seq), raw: raw.clone() };
        let (_, entry) = RoomEntry::from_entry(&entry).expect("a sound envelope");
        let frame = entry.next_frame().expect("a message has one");
        let taken = self.queues.iter().map(|queue| {
            queue.offer(frame);
            queue.read().iter().map(Bytes::len).sum::<usize>()
        });
        taken.sum()
    }
}

/// One node's rate limit windows.
#[derive(Debug)]
pub struct Rates(Windows);

impl Default for Rates {
    fn default() -> Rates {
        Rates(Windows::new([RATE_WINDOW_MS; RateClass::COUNT]))
    }
}

impl Rates {
    /// Counts a message of a user; says whether it is within `limit`.
    #[must_use]
    pub fn count(&self, user: &UserId, limit: u32, now_ms: i64) -> bool {
        let taken = self.0.take(user, RateClass::Messages, limit, now_ms);
        !matches!(taken, LocalCount::Over { .. })
    }
}
