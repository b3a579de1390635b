//! `heartbeat`: shows life, and compares the heads of rooms.

use shared::contract::protocol::{EventName, Heartbeat};

use crate::command::reply::Reply;
use crate::command::session::Session;

/// Answers with the heads of the rooms that the session is in.
pub(super) fn execute(session: &Session, reply: &Reply) {
    let heads = session
        .memberships()
        .filter(|(_, membership)| membership.is_alive())
        .map(|(room, membership)| (room.clone(), membership.room.head()));
    reply.done_or_event(EventName::Heartbeat, &Heartbeat { heads: heads.collect() });
}
