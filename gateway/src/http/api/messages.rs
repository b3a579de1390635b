//! Publishes messages, one or many.

use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::contract::credit::{CreditKind, event_id};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::API_BATCH_MAX;
use shared::contract::message::{MessageType, Metadata};
use shared::contract::protocol::{Cost, SendReply};
use shared::contract::refusal::{Refusal, RefusalCode};

use super::super::HttpResponse;
use super::json;
use super::problem::Problem;
use super::request::{ApiRequest, object};
use crate::broker::append_queue::Accepted;
use crate::node::Node;
use crate::operation::post::{self, MessageDraft};
use crate::operation::submit::{self, Author, Submitted};
use crate::operation::{credit, validate};

/// A message as whoever of the backend says it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Publish {
    user_id: UserId,
    #[serde(default)]
    id: Option<MessageId>,
    content: String,
    #[serde(default, rename = "type")]
    kind: MessageType,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    credits: Option<Cost>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishBatch {
    /// Read one by one: what is wrong with one is not the others' fault.
    messages: Vec<Box<RawValue>>,
}

/// What became of a message, and how its cost is called where it has one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Published {
    #[serde(flatten)]
    reply: SendReply,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_id: Option<MessageId>,
}

/// What became of each part of a batch, in its order.
#[derive(Serialize)]
pub(super) struct BatchReply<T> {
    pub(super) results: Vec<BatchResult<T>>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum BatchResult<T> {
    Stands(T),
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<MessageId>,
        error: Refusal,
    },
}

/// `POST /rooms/{room}/messages`
pub(super) async fn publish(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let room = asked.room()?;
    let publish: Publish = asked.json()?;
    let named = asked.idempotent_id(&room, &publish.user_id, None)?;
    let draft = draft(node, room, publish, named)?;
    let naming = Naming::of(&draft);
    let accepted = submit(node, draft).await?.settled(node).await?;
    let status = if accepted.is_duplicate() { StatusCode::OK } else { StatusCode::CREATED };
    Ok(json(status, &naming.stands(&accepted)))
}

/// `POST /rooms/{room}/messages/batch`
pub(super) async fn publish_batch(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let room = asked.room()?;
    asked.idempotency_key()?;
    let PublishBatch { messages } = asked.json()?;
    within_batch("messages", messages.len())?;
    let mut waiting = Vec::with_capacity(messages.len());
    let mut held_up: Option<Refusal> = None;
    for (place, message) in messages.iter().enumerate() {
        let one = match &held_up {
            // Behind one that is to be offered again: passing it would change their order.
            Some(refusal) => PendingPublish::refused(None, refusal.clone()),
            None => put_in_line(node, asked, &room, (place, message)).await?,
        };
        if let Err(refusal) = &one.posted
            && matches!(refusal.code, RefusalCode::Backpressure | RefusalCode::Unavailable)
        {
            held_up = Some(refusal.clone());
        }
        waiting.push(one);
    }
    let mut results = Vec::with_capacity(waiting.len());
    for one in waiting {
        results.push(one.settled(node).await);
    }
    Ok(json(StatusCode::OK, &BatchReply { results }))
}

/// How a message and its cost are called.
struct Naming {
    id: MessageId,
    credit_id: Option<MessageId>,
}

impl Naming {
    fn of(draft: &MessageDraft) -> Naming {
        let MessageDraft { room, user, id, cost, .. } = draft;
        let kind = CreditKind::Usage;
        let credit_id = cost.as_ref().map(|_| event_id(room, user, id, kind));
        Naming { id: id.clone(), credit_id }
    }

    fn stands(self, accepted: &Accepted) -> Published {
        let Naming { id, credit_id } = self;
        Published { reply: accepted.of_message(id), credit_id }
    }
}

async fn submit(node: &Node, draft: MessageDraft) -> Result<Submitted, Refusal> {
    let user = draft.user.clone();
    let submitted = submit::message(node, &Author::Backend(&user), draft).await?;
    if !submitted.has_a_turn() {
        return Ok(submitted);
    }
    // The next of a batch may spend of the same credits.
    submitted.settled(node).await.map(Submitted::Stands)
}

/// A message of a batch that is in line, or stands, or is refused.
struct PendingPublish {
    /// Known where the message could be read.
    naming: Option<Naming>,
    posted: Result<Submitted, Refusal>,
}

impl PendingPublish {
    fn refused(naming: Option<Naming>, refusal: Refusal) -> PendingPublish {
        PendingPublish { naming, posted: Err(refusal) }
    }

    async fn settled(self, node: &Node) -> BatchResult<Published> {
        let outcome = match self.posted {
            Ok(submitted) => submitted.settled(node).await,
            Err(refusal) => Err(refusal),
        };
        match (self.naming, outcome) {
            (Some(naming), Ok(accepted)) => BatchResult::Stands(naming.stands(&accepted)),
            (naming, Err(error)) => {
                BatchResult::Refused { id: naming.map(|naming| naming.id), error }
            }
            (None, Ok(_)) => unreachable!("what is in line was read"),
        }
    }
}

/// Only what is wrong with the request as a whole is a problem.
async fn put_in_line(
    node: &Node,
    asked: &ApiRequest<'_>,
    room: &RoomId,
    (place, message): (usize, &RawValue),
) -> Result<PendingPublish, Problem> {
    let publish: Publish = match object(message.get().as_bytes()) {
        Ok(publish) => publish,
        Err(refusal) => return Ok(PendingPublish::refused(None, refusal)),
    };
    let named = asked.idempotent_id(room, &publish.user_id, Some(place))?;
    let id = publish.id.clone();
    let draft = match draft(node, room.clone(), publish, named) {
        Ok(draft) => draft,
        Err(refusal) => {
            let naming = id.map(|id| Naming { id, credit_id: None });
            return Ok(PendingPublish::refused(naming, refusal));
        }
    };
    let naming = Some(Naming::of(&draft));
    Ok(PendingPublish { naming, posted: submit(node, draft).await })
}

/// Checks a message as the socket's are checked. `named` is its id where it brings none itself.
fn draft(
    node: &Node,
    room: RoomId,
    publish: Publish,
    named: Option<MessageId>,
) -> Result<MessageDraft, Refusal> {
    let now_ms = node.clock.now_ms();
    let Publish { user_id: user, id, content, kind, metadata, credits } = publish;
    let id = id.or(named).unwrap_or_else(|| post::new_id(now_ms));
    validate::id("id", &id, now_ms)?;
    validate::content("content", &content)?;
    let metadata = validate::message_metadata(metadata)?;
    let cost = credits.map(|cost| credit::charge(&user, cost)).transpose()?;
    Ok(MessageDraft { room, id, user, kind, content, metadata, cost })
}

/// Refuses a list that is empty or longer than a batch may be.
pub(super) fn within_batch(field: &str, length: usize) -> Result<(), Refusal> {
    if (1..=API_BATCH_MAX).contains(&length) {
        return Ok(());
    }
    let text = format!("{field} are from 1 to {API_BATCH_MAX}");
    Err(Refusal::new(RefusalCode::InvalidField, text).field(field).limit(API_BATCH_MAX))
}
