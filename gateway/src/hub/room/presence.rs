//! Who is in a room, through which nodes.

use shared::contract::id::{RoomId, UserId};
use shared::contract::signal::Standing;
use uuid::Uuid;

use crate::frame::Frame;

/// The board of one room.
#[derive(Debug, Default)]
pub(super) struct Board {}

impl Board {
    /// Takes a signal; gives what members are told of it, if anything.
    pub(super) fn apply(
        &mut self,
        _room: &RoomId,
        _user: UserId,
        _incarnation: Uuid,
        _standing: Option<Standing>,
    ) -> Option<Frame> {
        None
    }
}
