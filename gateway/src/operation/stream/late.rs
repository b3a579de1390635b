//! The late end of an answer that was closed already: an edit of what was cut off.

use shared::contract::id::{MessageId, MessageKey, RoomId, UserId};
use shared::contract::message::Message;
use shared::contract::refusal::{Refusal, RefusalCode};
use uuid::Uuid;

use super::Ending;
use crate::broker::append_queue::Outcome;
use crate::node::Node;
use crate::operation::change::{self, ChangeKind, ChangeRequest, NewMetadata};
use crate::operation::post;
use crate::operation::submit::{self, Author};
use crate::stream::{ClosedStream, StreamHeader, StreamKey};

/// The name space of the ids of these edits; chosen once.
const EDIT: Uuid = Uuid::from_u128(0x7c55_0e1d_92ab_5d3e_a6f4_524f_4f4d_4341);

/// Of an answer that was ended before, or of which nothing is remembered: what stands is answered
/// as it stands, and edited if it was cut off.
pub(super) async fn end(node: &Node, author: &Author<'_>, ending: Ending) -> Outcome {
    let StreamKey { room, id } = ending.key.clone();
    let user = ending.user.clone();
    let identity = MessageKey { room: room.clone(), user: user.clone(), id: id.clone() };
    let Some(known) = post::known(node, identity.clone()).await? else {
        let text = "no such answer is being written, and no such message stands";
        return Err(Refusal::new(RefusalCode::NotFound, text).field("id"));
    };
    // The log has it and the database does not yet: soon it will.
    let found = node.hub.message(&room, &user, &id).await?;
    let message = found.ok_or_else(post::away)?;
    if message.user_id != user || !was_cut_off(&message) {
        author.wait(node, identity, &known);
        return Ok(known);
    }
    let Message { kind, metadata, content, .. } = message;
    let beginning = StreamHeader { user, kind, metadata };
    edit(node, author, ClosedStream { beginning, aborted: true, text: content }, ending).await
}

fn was_cut_off(message: &Message) -> bool {
    message.deleted_at.is_none() && change::is_marked(&message.metadata)
}

/// Edits the message of an answer that was cut off; however often that is asked for, once.
pub(super) async fn edit(
    node: &Node,
    author: &Author<'_>,
    closed: ClosedStream,
    ending: Ending,
) -> Outcome {
    let Ending { key: StreamKey { room, id }, user, content, metadata, cost } = ending;
    let content = content.unwrap_or(closed.text);
    let metadata = change::unmarked(&metadata.unwrap_or(closed.beginning.metadata));
    let change_id = change_id(&room, &user, &id);
    let what = ChangeKind::Edit { content, metadata: NewMetadata::Unmarked(metadata) };
    let change = ChangeRequest { room, author: Some(user), id, change_id, what };
    submit::change(node, author, change, cost).await?.settled(node).await
}

/// `UUIDv5` (RFC 9562, 5.5) of the message's identity.
fn change_id(room: &RoomId, user: &UserId, id: &MessageId) -> MessageId {
    // Ids have no white space, so that the spaces make the text unambiguous.
    MessageId::from_uuid(Uuid::new_v5(&EDIT, format!("{room} {user} {id}").as_bytes()))
}
