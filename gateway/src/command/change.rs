//! What `message:edit` and `message:delete` have in common.

use std::sync::Arc;

use shared::contract::id::{MessageId, RoomId};

use crate::broker::append_queue::Outcome;
use crate::command::reply::Reply;
use crate::command::session::Session;
use crate::node::Node;
use crate::operation::change::ChangeRequest;
use crate::operation::submit;

pub(super) async fn execute(
    session: &mut Session,
    node: &Arc<Node>,
    reply: Reply,
    wanted: ChangeRequest,
) {
    let (room, change_id) = (wanted.room.clone(), wanted.change_id.clone());
    match submit::change(node, &session.author(&room), wanted, None).await {
        Ok(submitted) => {
            // The reader goes no further while too many answers are outstanding.
            let permit = session.in_flight.clone().acquire_owned().await;
            let node = Arc::clone(node);
            tokio::spawn(async move {
                answer(&reply, &room, change_id, submitted.settled(&node).await);
                drop(permit);
            });
        }
        Err(refusal) => reply.refuse(Some(&room), &refusal),
    }
}

fn answer(reply: &Reply, room: &RoomId, change_id: MessageId, outcome: Outcome) {
    match outcome {
        Ok(accepted) => reply.acked(&accepted.of_change(change_id)),
        Err(refusal) => reply.refuse(Some(room), &refusal),
    }
}
