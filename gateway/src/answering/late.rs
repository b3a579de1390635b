//! The end of an answer that is closed already: an edit of what was cut off.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::message::{Message, Metadata};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::timestamp::Timestamp;
use shared::log::Append;
use shared::store::Identity;
use tracing::warn;
use uuid::Uuid;

use super::Ending;
use crate::broker::appender::Outcome;
use crate::codec;
use crate::node::Node;
use crate::posting;
use crate::streams::{AnswerKey, Beginning, Closed};

/// The name space of the ids of these edits; chosen once.
const EDIT: Uuid = Uuid::from_u128(0x7c55_0e1d_92ab_5d3e_a6f4_524f_4f4d_4341);

/// What marks the message of an answer that was cut off.
const MARK: &str = "aborted";

/// The metadata with the mark; they may pass their limit by it.
pub(super) fn marked(metadata: &Metadata) -> Metadata {
    let mut object = object(metadata);
    object.insert(MARK.to_owned(), Value::Bool(true));
    Metadata::from_stored(&Value::Object(object).to_string())
}

/// The metadata without the mark.
fn unmarked(metadata: &Metadata) -> Metadata {
    let mut object = object(metadata);
    match object.remove(MARK) {
        Some(_) => Metadata::from_stored(&Value::Object(object).to_string()),
        None => metadata.clone(),
    }
}

fn object(metadata: &Metadata) -> Map<String, Value> {
    serde_json::from_str(metadata.as_str()).unwrap_or_default()
}

/// Of an answer that nothing is remembered of: what stands is answered as it stands, and edited if
/// it was cut off.
pub(super) async fn end(node: &Node, ending: Ending) -> Outcome {
    let AnswerKey { room, id } = ending.key.clone();
    let user = ending.user.clone();
    let identity = Identity { room: room.clone(), user: user.clone(), id: id.clone() };
    let Some(place) = posting::known(node, identity).await? else {
        let text = "no such answer is being written, and no such message stands";
        return Err(Refusal::new(RefusalCode::NotFound, text).field("id"));
    };
    let stored = node.store.message(&room, &user, &id).await.map_err(|error| {
        warn!(room.id = %room, message.id = %id, error = ?error, "message cannot be read");
        posting::away()
    })?;
    // The log has it and the database does not yet: soon it will.
    let message = stored.ok_or_else(posting::away)?;
    if message.user_id != user || !was_cut_off(&message) {
        return Ok(place);
    }
    let Message { kind, metadata, content, .. } = message;
    let beginning = Beginning { user, kind, metadata };
    edit(node, Closed { beginning, aborted: true, text: content }, ending).await
}

fn was_cut_off(message: &Message) -> bool {
    message.deleted_at.is_none() && object(&message.metadata).get(MARK) == Some(&Value::Bool(true))
}

/// What members are told of the edit, without its position.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Edited<'a> {
    room_id: &'a RoomId,
    id: &'a MessageId,
    change_id: &'a MessageId,
    content: &'a str,
    metadata: &'a Metadata,
    edited_at: Timestamp,
}

/// Edits the message of an answer that was cut off; however often that is asked for, once.
pub(super) async fn edit(node: &Node, closed: Closed, ending: Ending) -> Outcome {
    let Ending { key: AnswerKey { room, id }, user, content, metadata, cost } = ending;
    let content = content.unwrap_or(closed.text);
    let metadata = unmarked(&metadata.unwrap_or(closed.beginning.metadata));
    let change_id = change_id(&room, &user, &id);
    let edited_at = Timestamp(node.clock.now_ms());
    let edited = Edited {
        room_id: &room,
        id: &id,
        change_id: &change_id,
        content: &content,
        metadata: &metadata,
        edited_at,
    };
    let body = Bytes::from(codec::json(&edited));
    let digest = posting::digest(&[&content, metadata.as_str()]);
    let cost = cost.map(|charge| posting::usage(&room, &user, &id, edited_at, charge));
    let envelope = Envelope {
        kind: EntryKind::Edit,
        room,
        user: user.clone(),
        id,
        change_id: Some(change_id),
        accepted_at: edited_at,
        body,
    };
    let author = Some(user);
    let outcome = node.appender.append(Append { envelope, digest, cost, author })?;
    posting::settled(node, outcome).await
}

/// `UUIDv5` (RFC 9562, 5.5) of the message's identity.
fn change_id(room: &RoomId, user: &UserId, id: &MessageId) -> MessageId {
    // Ids have no white space, so that the spaces make the text unambiguous.
    MessageId::from_uuid(Uuid::new_v5(&EDIT, format!("{room} {user} {id}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_comes_and_goes_and_the_rest_stays() {
        let plain = Metadata::from_stored(r#"{"model":"small"}"#);
        let marked = marked(&plain);
        assert_eq!(object(&marked).get(MARK), Some(&Value::Bool(true)));
        assert_eq!(object(&unmarked(&marked)), object(&plain));
        assert_eq!(unmarked(&plain), plain);
    }
}
