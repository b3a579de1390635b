//! The answers that are being written in a room.

use shared::contract::id::RoomId;
use shared::contract::signal::StreamPart;

use crate::frame::Frame;

/// The board of one room.
#[derive(Debug, Default)]
pub(super) struct Board {}

impl Board {
    /// Takes a signal; gives what members are told of it, if anything.
    pub(super) fn apply(&mut self, _room: &RoomId, _part: StreamPart) -> Option<Frame> {
        None
    }
}
