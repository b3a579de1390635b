//! `room:leave`; no event of the room follows its reply.

use shared::contract::protocol::{Done, RoomLeave};

use crate::command::reply::Reply;
use crate::command::session::Session;

/// Leaves; leaving a room that one is not in is done already.
pub(super) fn execute(session: &mut Session, reply: &Reply, data: &RoomLeave) {
    match session.leave(&data.room_id) {
        Some(membership) => membership.leave(|| reply.done(&Done {})),
        None => reply.done(&Done {}),
    }
}
