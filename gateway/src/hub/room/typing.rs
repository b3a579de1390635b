//! Who types in a room.

use shared::contract::id::{RoomId, UserId};

use crate::frame::Frame;

/// The board of one room.
#[derive(Debug, Default)]
pub(super) struct Board {}

impl Board {
    /// Takes a signal; gives what members are told of it, if anything.
    pub(super) fn apply(&mut self, _room: &RoomId, _user: UserId, _ms: u64) -> Option<Frame> {
        None
    }
}
