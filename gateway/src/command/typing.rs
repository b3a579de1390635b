//! `typing:start` and `typing:stop`: marks that expire by themselves.

use shared::contract::protocol::{Done, Typing};

use crate::command::reply::Reply;
use crate::command::session::Session;
use crate::node::Node;

/// Shows that somebody types, for a few seconds from now.
pub(super) fn start(session: &mut Session, node: &Node, reply: &Reply, data: &Typing) {
    session.touch(&data.room_id, node.clock.now_ms());
    types(session, reply, data, true);
}

/// Shows it no more.
pub(super) fn stop(session: &mut Session, reply: &Reply, data: &Typing) {
    types(session, reply, data, false);
}

fn types(session: &mut Session, reply: &Reply, data: &Typing, types: bool) {
    match session.member_of(&data.room_id) {
        Ok(membership) => {
            membership.types(types);
            reply.done(&Done {});
        }
        Err(refusal) => reply.refuse(Some(&data.room_id), &refusal),
    }
}
