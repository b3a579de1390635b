//! `presence:update`: active or away.

use shared::contract::protocol::{Done, PresenceUpdate};

use crate::command::reply::Reply;
use crate::command::session::Session;

/// Says it for this connection; somebody is active while one of theirs is.
pub(super) fn execute(session: &mut Session, reply: &Reply, data: &PresenceUpdate) {
    match session.member_of(&data.room_id) {
        Ok(membership) => {
            membership.say(data.status);
            reply.done(&Done {});
        }
        Err(refusal) => reply.refuse(Some(&data.room_id), &refusal),
    }
}
