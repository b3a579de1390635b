//! `receipt:update`: how far a user has read.

use std::sync::Arc;

use shared::contract::id::RoomId;
use shared::contract::position::Position;
use shared::contract::protocol::{ReceiptReply, ReceiptUpdate};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::signal::ReadMark;

use crate::command::reply::Reply;
use crate::command::session::Session;
use crate::node::Node;
use crate::operation::post;
use crate::operation::receipt;
use crate::operation::validate;

/// Puts a mark in line; its answer comes when the log has it, later commands need not wait.
pub(super) async fn execute(
    session: &mut Session,
    node: &Arc<Node>,
    reply: Reply,
    data: ReceiptUpdate,
) {
    let room = data.room_id.clone();
    let mark = match read(session, node, data).await {
        Ok(mark) => mark,
        Err(refusal) => return reply.refuse(Some(&room), &refusal),
    };
    let known = known(node, &room, &mark);
    if known >= mark.position {
        // Nothing new: others would not hear of it either.
        return reply.done(&ReceiptReply { position: known, durability: None });
    }
    let read = receipt::submit(node, &room, mark.clone());
    // The reader goes no further while too many answers are outstanding.
    let permit = session.in_flight.clone().acquire_owned().await;
    let node = Arc::clone(node);
    tokio::spawn(async move {
        match read.await.unwrap_or_else(|_| Err(post::leaving())) {
            Ok(ReceiptReply { position, durability }) => {
                let position = position.max(self::known(&node, &room, &mark));
                reply.done(&ReceiptReply { position, durability });
            }
            Err(refusal) => reply.refuse(Some(&room), &refusal),
        }
        drop(permit);
    });
}

/// How far the user has read already, as far as it is known here.
fn known(node: &Node, room: &RoomId, mark: &ReadMark) -> Position {
    node.hub.receipt(room, &mark.user).map_or(Position::ZERO, |known| known.position)
}

async fn read(
    session: &mut Session,
    node: &Arc<Node>,
    data: ReceiptUpdate,
) -> Result<ReadMark, Refusal> {
    let ReceiptUpdate { room_id: room, last_read_message_id, position } = data;
    let user = session.identity.user.clone();
    let head = match session.is_in(&room) {
        true => node.hub.head(&room),
        false => None,
    };
    let Some(head) = head else {
        let text = "join the room before you say how far you have read it";
        return Err(Refusal::new(RefusalCode::NotJoined, text).field("roomId"));
    };
    let (position, id) = match (last_read_message_id, position) {
        (Some(id), None) => {
            let looked_up = node.limiter.look_up(&session.identity).await?;
            let message = node.hub.message(&room, &user, &id).await?;
            let Some(position) = message.and_then(|message| message.position) else {
                let text = "no such message in this room";
                return Err(Refusal::new(RefusalCode::NotFound, text).field("lastReadMessageId"));
            };
            node.limiter.refund(looked_up);
            (position, Some(id))
        }
        (None, Some(position)) => {
            let position = validate::position("position", position)?.min(head);
            (position, node.hub.message_at(&room, position))
        }
        (Some(_), Some(_)) | (None, None) => {
            let text = "either lastReadMessageId or position says how far";
            return Err(Refusal::new(RefusalCode::InvalidField, text).field("lastReadMessageId"));
        }
    };
    // Found by its id, a message may be ahead of what the room has heard of here: not read, then.
    let id = id.filter(|_| position <= head);
    Ok(receipt::mark(node, user, position.min(head), id))
}
