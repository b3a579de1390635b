//! `message:send`: socket → command → log. The members, the sender among them, hear of it through
//! the broker.

use std::sync::Arc;

use shared::contract::id::{MessageId, RoomId};
use shared::contract::message::MessageType;
use shared::contract::protocol::{MessageSend, SendReply};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::store::Identity;
use tokio::sync::oneshot;

use crate::broker::Place;
use crate::broker::appender::Outcome;
use crate::node::Node;
use crate::posting::{self, Draft};
use crate::reply::Reply;
use crate::session::Session;
use crate::validation;

/// Puts a message in line; its answer comes when the log has it, later commands need not wait.
pub(super) async fn execute(
    session: &mut Session,
    node: &Arc<Node>,
    reply: Reply,
    data: MessageSend,
) {
    let room = data.room_id.clone();
    match accept(session, node, data).await {
        Ok(Accepted::Waiting(id, outcome)) => {
            // The reader goes no further while too many answers are outstanding.
            let permit = session.in_flight.clone().acquire_owned().await;
            let node = Arc::clone(node);
            tokio::spawn(async move {
                let outcome = posting::settled(&node, outcome).await;
                answer(&reply, &room, id, outcome);
                drop(permit);
            });
        }
        Ok(Accepted::Known(id, place)) => answer(&reply, &room, id, Ok(place)),
        Err(refusal) => reply.refuse(Some(&room), &refusal),
    }
}

enum Accepted {
    /// In line.
    Waiting(MessageId, oneshot::Receiver<Outcome>),
    /// It stood already.
    Known(MessageId, Place),
}

async fn accept(
    session: &mut Session,
    node: &Node,
    data: MessageSend,
) -> Result<Accepted, Refusal> {
    let now_ms = node.clock.now_ms();
    let MessageSend { room_id, id, content, kind, metadata, credits: _ } = data;
    let id = id.unwrap_or_else(|| posting::new_id(now_ms));
    validation::id("id", &id, now_ms)?;
    validation::content("content", &content)?;
    let metadata = validation::metadata("metadata", metadata)?;
    let user = session.identity.user.clone();
    // A known id is answered before anything that only a fresh message is asked for.
    if let Err(refusal) = may_send(session, &room_id, kind) {
        let identity = Identity { room: room_id, user, id: id.clone() };
        return match posting::known(node, identity).await? {
            Some(place) => Ok(Accepted::Known(id, place)),
            None => Err(refusal),
        };
    }
    session.touch(&room_id, now_ms);
    let draft = Draft { room: room_id, id: id.clone(), user, kind, content, metadata, cost: None };
    Ok(Accepted::Waiting(id, posting::post(node, draft)?))
}

fn may_send(session: &mut Session, room: &RoomId, kind: MessageType) -> Result<(), Refusal> {
    if !session.is_in(room) {
        let text = "join the room before you send to it";
        return Err(Refusal::new(RefusalCode::NotJoined, text).field("roomId"));
    }
    if !session.identity.may_send(kind) {
        let text = format!("your role may not send messages of type {}", kind.as_str());
        return Err(Refusal::new(RefusalCode::Forbidden, text).field("type"));
    }
    Ok(())
}

fn answer(reply: &Reply, room: &RoomId, id: MessageId, outcome: Outcome) {
    match outcome {
        Ok(Place { position, duplicate, persisted, durability }) => {
            let position = Some(position);
            reply.done(&SendReply { id, position, duplicate, persisted, durability });
        }
        Err(refusal) => reply.refuse(Some(room), &refusal),
    }
}
