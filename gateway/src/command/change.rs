//! What an edit and a delete have in common on a connection.

use std::sync::Arc;

use shared::contract::id::{MessageId, RoomId};
use shared::contract::protocol::ChangeReply;
use shared::contract::refusal::{Refusal, RefusalCode};

use crate::broker::Place;
use crate::broker::appender::Outcome;
use crate::changing::{self, Asker, Change, Progress};
use crate::config::Allowance;
use crate::node::Node;
use crate::posting;
use crate::rate_limit::Counted;
use crate::reply::Reply;
use crate::session::Session;

pub(super) async fn execute(session: &mut Session, node: &Arc<Node>, reply: Reply, wanted: Change) {
    let (room, change_id) = (wanted.room.clone(), wanted.change_id.clone());
    let asker =
        Asker { user: session.identity.user.clone(), moderates: session.identity.role.moderates() };
    let (allowed, counted) = match admit(session, node, &room).await {
        Ok(counted) => (Ok(()), counted),
        Err(refusal) => (Err(refusal), Counted::nothing()),
    };
    match changing::change(node, &asker, wanted, allowed).await {
        Ok(Progress::Waiting(outcome)) => {
            // The reader goes no further while too many answers are outstanding.
            let permit = session.in_flight.clone().acquire_owned().await;
            let node = Arc::clone(node);
            tokio::spawn(async move {
                let outcome = changing::settled(&node, outcome).await;
                if posting::is_nothing_new(&outcome) {
                    node.limiter.give_back(counted);
                }
                answer(&reply, &room, change_id, outcome);
                drop(permit);
            });
        }
        Ok(Progress::Made(place)) => {
            node.limiter.give_back(counted);
            answer(&reply, &room, change_id, Ok(place));
        }
        Err(refusal) => {
            if posting::was_not_taken(&refusal) {
                node.limiter.give_back(counted);
            }
            if refusal.code == RefusalCode::RateLimited {
                node.limiter.refused(&asker.user, Allowance::Messages);
            }
            reply.refuse(Some(&room), &refusal);
        }
    }
}

/// Whether a fresh change may be made now; it is counted then.
async fn admit(session: &mut Session, node: &Node, room: &RoomId) -> Result<Counted, Refusal> {
    session.member_of(room)?;
    node.limiter.count(&session.identity, Allowance::Messages).await
}

fn answer(reply: &Reply, room: &RoomId, change_id: MessageId, outcome: Outcome) {
    match outcome {
        Ok(Place { position, duplicate, .. }) => {
            reply.done(&ChangeReply { change_id, position, duplicate });
        }
        Err(refusal) => reply.refuse(Some(room), &refusal),
    }
}
