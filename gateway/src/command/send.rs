//! `message:send`: from the socket to the log. The members, the sender among them, hear of it
//! through the broker.

use std::sync::Arc;

use shared::contract::id::{MessageId, RoomId};
use shared::contract::protocol::MessageSend;
use shared::contract::refusal::Refusal;

use crate::broker::append_queue::Outcome;
use crate::command::reply::Reply;
use crate::command::session::Session;
use crate::node::Node;
use crate::operation::post::{self, MessageDraft};
use crate::operation::submit::{self, Submitted};
use crate::operation::{credit, validate};

/// Puts a message in line; its answer comes when the log has it, later commands need not wait.
pub(super) async fn execute(
    session: &mut Session,
    node: &Arc<Node>,
    reply: Reply,
    data: MessageSend,
) {
    let room = data.room_id.clone();
    match submit(session, node, data).await {
        Ok((id, submitted)) => {
            // The reader goes no further while too many answers are outstanding.
            let permit = session.in_flight.clone().acquire_owned().await;
            let node = Arc::clone(node);
            tokio::spawn(async move {
                answer(&reply, &room, id, submitted.settled(&node).await);
                drop(permit);
            });
        }
        Err(refusal) => reply.refuse(Some(&room), &refusal),
    }
}

async fn submit(
    session: &mut Session,
    node: &Arc<Node>,
    data: MessageSend,
) -> Result<(MessageId, Submitted), Refusal> {
    let now_ms = node.clock.now_ms();
    let MessageSend { room_id: room, id, content, kind, metadata, credits } = data;
    let id = id.unwrap_or_else(|| post::new_id(now_ms));
    validate::id("id", &id, now_ms)?;
    validate::content("content", &content)?;
    let metadata = validate::message_metadata(metadata)?;
    let user = session.identity.user.clone();
    let cost = credits.map(|cost| credit::charge(&user, cost)).transpose()?;
    let author = session.author(&room);
    let draft =
        MessageDraft { room: room.clone(), id: id.clone(), user, kind, content, metadata, cost };
    let submitted = submit::message(node, &author, draft).await?;
    session.touch(&room, now_ms);
    Ok((id, submitted))
}

/// Says where a message stands.
pub(super) fn answer(reply: &Reply, room: &RoomId, id: MessageId, outcome: Outcome) {
    match outcome {
        Ok(accepted) => reply.acked(&accepted.of_message(id)),
        Err(refusal) => reply.refuse(Some(room), &refusal),
    }
}
