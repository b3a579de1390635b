//! `message:send`: socket → command → log. The members, the sender among them, hear of it through
//! the broker.

use std::sync::Arc;

use bytes::Bytes;
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::MessageId;
use shared::contract::limits::{ID_AHEAD_MS_MAX, METADATA_LEVELS_MAX};
use shared::contract::message::{Message, MessageType, Metadata, TextError, check_content};
use shared::contract::protocol::{Durability, MessageSend, SendReply};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::timestamp::Timestamp;
use shared::store::Identity;
use uuid::Uuid;

use crate::broker::appender::Outcome;
use crate::broker::{Answer, Place};
use crate::codec;
use crate::node::Node;
use crate::reply::Reply;
use crate::session::Session;

/// The name space of content digests; chosen once.
const DIGEST: Uuid = Uuid::from_u128(0x2f7a_91c4_63de_5b1f_8c0e_524f_4f4d_4331);

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
                let outcome = outcome.await.unwrap_or_else(|_| Err(leaving()));
                if outcome.as_ref().is_ok_and(|place| !place.duplicate) {
                    node.metrics.messages_in_total.inc();
                }
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
    Waiting(MessageId, tokio::sync::oneshot::Receiver<Outcome>),
    /// It stood already.
    Known(MessageId, Place),
}

async fn accept(
    session: &mut Session,
    node: &Node,
    data: MessageSend,
) -> Result<Accepted, Refusal> {
    let now_ms = node.clock.now_ms();
    let MessageSend { room_id, id, content, kind, metadata } = data;
    let id = id.unwrap_or_else(|| new_id(now_ms));
    check_id(&id, now_ms)?;
    check_content(&content).map_err(|error| refusal_of("content", error))?;
    let metadata = Metadata::check(metadata).map_err(|error| refusal_of("metadata", error))?;
    let user = session.identity.user.clone();
    // A known id is answered before anything that only a fresh message is asked for.
    if let Err(refusal) = may_send(session, &room_id, kind) {
        let identity = Identity { room: room_id, user, id: id.clone() };
        return match known(node, identity).await? {
            Some(place) => Ok(Accepted::Known(id, place)),
            None => Err(refusal),
        };
    }
    let digest = digest(kind, &content, &metadata);
    let message = Message {
        room_id: room_id.clone(),
        id: id.clone(),
        user_id: user.clone(),
        kind,
        content,
        metadata,
        created_at: Timestamp(now_ms),
        edited_at: None,
        deleted_at: None,
        changed_position: None,
        change_id: None,
        position: None,
    };
    let envelope = Envelope {
        kind: EntryKind::Message,
        room: room_id,
        user,
        id: id.clone(),
        change_id: None,
        accepted_at: Timestamp(now_ms),
        body: Bytes::from(codec::json(&message)),
    };
    Ok(Accepted::Waiting(id, node.appender.append(envelope, digest)?))
}

fn may_send(
    session: &mut Session,
    room: &shared::contract::id::RoomId,
    kind: MessageType,
) -> Result<(), Refusal> {
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

/// Where an id stands, in the log's memory or in the database.
async fn known(node: &Node, identity: Identity) -> Result<Option<Place>, Refusal> {
    let away = |_| Refusal::new(RefusalCode::Unavailable, "try again").retry_after_ms(1000);
    match node.broker.known(&identity).await.map_err(away)? {
        Some(Answer::Placed(place)) => return Ok(Some(place)),
        Some(Answer::Rejected(refusal)) => return Err(refusal),
        Some(Answer::Conflict) | None => {}
    }
    let away = |_| Refusal::new(RefusalCode::Unavailable, "try again").retry_after_ms(1000);
    let found = node.store.find(&[identity]).await.map_err(away)?;
    Ok(found.into_iter().next().flatten().map(|position| Place {
        position,
        duplicate: true,
        persisted: true,
        durability: Durability::Store,
    }))
}

fn answer(reply: &Reply, room: &shared::contract::id::RoomId, id: MessageId, outcome: Outcome) {
    match outcome {
        Ok(Place { position, duplicate, persisted, durability }) => {
            let position = Some(position);
            reply.done(&SendReply { id, position, duplicate, persisted, durability });
        }
        Err(refusal) => reply.refuse(Some(room), &refusal),
    }
}

/// A `UUIDv7` by the node's clock.
fn new_id(now_ms: i64) -> MessageId {
    let now_ms = u64::try_from(now_ms).unwrap_or(0);
    let nanos = u32::try_from(now_ms % 1000).unwrap_or(0) * 1_000_000;
    let time = uuid::Timestamp::from_unix(uuid::NoContext, now_ms / 1000, nanos);
    MessageId::from_uuid(Uuid::new_v7(time))
}

/// An id from the future would be young for ever, and escape the lookup of late duplicates.
fn check_id(id: &MessageId, now_ms: i64) -> Result<(), Refusal> {
    if id.made_at_ms().is_none_or(|made_at_ms| made_at_ms <= now_ms + ID_AHEAD_MS_MAX) {
        return Ok(());
    }
    let now = Timestamp(now_ms);
    let text = format!("the id's time is more than 5 minutes ahead of the server's, {now}");
    Err(Refusal::new(RefusalCode::BadId, text).field("id"))
}

fn digest(kind: MessageType, content: &str, metadata: &Metadata) -> Uuid {
    // Lengths make the text unambiguous.
    let text = format!("{} {} {content}{}", kind.as_str(), content.len(), metadata.as_str());
    Uuid::new_v5(&DIGEST, text.as_bytes())
}

fn refusal_of(field: &str, error: TextError) -> Refusal {
    let text = error.to_string();
    match error {
        TextError::TooLong { limit, .. } => {
            Refusal::new(RefusalCode::TooLarge, text).field(field).limit(limit)
        }
        TextError::TooDeep => {
            let refusal = Refusal::new(RefusalCode::TooLarge, text).field(field);
            refusal.limit(METADATA_LEVELS_MAX)
        }
        TextError::Nul => Refusal::new(RefusalCode::InvalidField, text).field(field),
    }
}

fn leaving() -> Refusal {
    let text = "the node is leaving; offer it again under the same id";
    Refusal::new(RefusalCode::Unavailable, text).retry_after_ms(1000)
}
