//! What an edit and a delete have in common on a connection.

use std::sync::Arc;

use shared::contract::id::{MessageId, RoomId};
use shared::contract::protocol::ChangeReply;
use shared::contract::refusal::{Refusal, RefusalCode};

use crate::broker::Place;
use crate::broker::appender::Outcome;
use crate::changing::{self, Asker, Change, Progress};
use crate::node::Node;
use crate::reply::Reply;
use crate::session::Session;

pub(super) async fn execute(session: &mut Session, node: &Arc<Node>, reply: Reply, wanted: Change) {
    let (room, change_id) = (wanted.room.clone(), wanted.change_id.clone());
    let asker =
        Asker { user: session.identity.user.clone(), moderates: session.identity.role.moderates() };
    let allowed = may_change(session, &room);
    match changing::change(node, &asker, wanted, allowed).await {
        Ok(Progress::Waiting(outcome)) => {
            // The reader goes no further while too many answers are outstanding.
            let permit = session.in_flight.clone().acquire_owned().await;
            let node = Arc::clone(node);
            tokio::spawn(async move {
                let outcome = changing::settled(&node, outcome).await;
                answer(&reply, &room, change_id, outcome);
                drop(permit);
            });
        }
        Ok(Progress::Made(place)) => answer(&reply, &room, change_id, Ok(place)),
        Err(refusal) => reply.refuse(Some(&room), &refusal),
    }
}

fn may_change(session: &mut Session, room: &RoomId) -> Result<(), Refusal> {
    if session.is_in(room) {
        return Ok(());
    }
    let text = "join the room before you change what is in it";
    Err(Refusal::new(RefusalCode::NotJoined, text).field("roomId"))
}

fn answer(reply: &Reply, room: &RoomId, change_id: MessageId, outcome: Outcome) {
    match outcome {
        Ok(Place { position, duplicate, .. }) => {
            reply.done(&ChangeReply { change_id, position, duplicate });
        }
        Err(refusal) => reply.refuse(Some(room), &refusal),
    }
}
