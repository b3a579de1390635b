//! What the backend says in a room: one message, or many at once.

use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::API_BATCH_MAX;
use shared::contract::message::MessageType;
use shared::contract::protocol::{Attached, Cost, SendReply};
use shared::contract::refusal::{Refusal, RefusalCode};
use tokio::sync::oneshot;

use super::super::Answer;
use super::json;
use super::problem::Problem;
use super::request::{Asked, object};
use crate::broker::Place;
use crate::broker::appender::Outcome;
use crate::node::Node;
use crate::posting::{self, Charge, Draft};
use crate::validation;

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
    metadata: Attached,
    #[serde(default)]
    credits: Option<Cost>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishBatch {
    /// Read one by one: what is wrong with one is not the others' fault.
    messages: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct BatchReply {
    results: Vec<BatchResult>,
}

/// What became of one message of a batch.
#[derive(Serialize)]
#[serde(untagged)]
enum BatchResult {
    Stands(SendReply),
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<MessageId>,
        error: Refusal,
    },
}

/// `POST /rooms/{room}/messages`
pub(super) async fn publish(node: &Arc<Node>, asked: &Asked<'_>) -> Result<Answer, Problem> {
    let room = asked.room()?;
    let publish: Publish = asked.json()?;
    let named = asked.idempotent_id(&room, &publish.user_id, None)?;
    let draft = draft(node, room, publish, named)?;
    let id = draft.id.clone();
    let outcome = posting::post(node, draft)?;
    let place = posting::settled(node, outcome).await?;
    let status = if place.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    Ok(json(status, &stands(id, place)))
}

/// `POST /rooms/{room}/messages/batch`
pub(super) async fn publish_batch(node: &Arc<Node>, asked: &Asked<'_>) -> Result<Answer, Problem> {
    let room = asked.room()?;
    let PublishBatch { messages } = asked.json()?;
    within_batch("messages", messages.len())?;
    let mut waiting = Vec::with_capacity(messages.len());
    let mut held_up: Option<Refusal> = None;
    for (place, message) in messages.iter().enumerate() {
        let one = match &held_up {
            // Behind one that is to be offered again: passing it would change their order.
            Some(refusal) => Waiting::refused(None, refusal.clone()),
            None => put_in_line(node, asked, &room, (place, message))?,
        };
        if let Waiting { outcome: Err(refusal), .. } = &one
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

/// A message of a batch that is in line, or is not.
struct Waiting {
    id: Option<MessageId>,
    outcome: Result<oneshot::Receiver<Outcome>, Refusal>,
}

impl Waiting {
    fn refused(id: Option<MessageId>, refusal: Refusal) -> Waiting {
        Waiting { id, outcome: Err(refusal) }
    }

    async fn settled(self, node: &Node) -> BatchResult {
        let outcome = match self.outcome {
            Ok(outcome) => posting::settled(node, outcome).await,
            Err(refusal) => Err(refusal),
        };
        match (self.id, outcome) {
            (Some(id), Ok(place)) => BatchResult::Stands(stands(id, place)),
            (id, Err(error)) => BatchResult::Refused { id, error },
            (None, Ok(_)) => unreachable!("what is in line has an id"),
        }
    }
}

/// Only what is wrong with the request as a whole is a problem.
fn put_in_line(
    node: &Node,
    asked: &Asked<'_>,
    room: &RoomId,
    (place, message): (usize, &RawValue),
) -> Result<Waiting, Problem> {
    let publish: Publish = match object(message.get().as_bytes()) {
        Ok(publish) => publish,
        Err(refusal) => return Ok(Waiting::refused(None, refusal)),
    };
    let named = asked.idempotent_id(room, &publish.user_id, Some(place))?;
    let id = publish.id.clone();
    let draft = match draft(node, room.clone(), publish, named) {
        Ok(draft) => draft,
        Err(refusal) => return Ok(Waiting::refused(id, refusal)),
    };
    let id = Some(draft.id.clone());
    Ok(Waiting { id, outcome: posting::post(node, draft) })
}

/// Checks a message as the socket's are checked. `named` is its id where it brings none itself.
fn draft(
    node: &Node,
    room: RoomId,
    publish: Publish,
    named: Option<MessageId>,
) -> Result<Draft, Refusal> {
    let now_ms = node.clock.now_ms();
    let Publish { user_id: user, id, content, kind, metadata, credits } = publish;
    let id = id.or(named).unwrap_or_else(|| posting::new_id(now_ms));
    validation::id("id", &id, now_ms)?;
    validation::content("content", &content)?;
    let metadata = validation::metadata("metadata", metadata)?;
    let cost = credits.map(|cost| charge(&user, cost)).transpose()?;
    Ok(Draft { room, id, user, kind, content, metadata, cost })
}

fn charge(sender: &UserId, cost: Cost) -> Result<Charge, Refusal> {
    let Cost { amount, user_id, metadata } = cost;
    let amount = validation::amount("credits.amount", amount)?;
    validation::metadata("credits.metadata", metadata.clone())?;
    Ok(Charge { user: user_id.unwrap_or_else(|| sender.clone()), amount, metadata })
}

fn stands(id: MessageId, place: Place) -> SendReply {
    let Place { position, duplicate, persisted, durability } = place;
    SendReply { id, position: Some(position), duplicate, persisted, durability }
}

/// Refuses a list that is empty or longer than a batch may be.
pub(super) fn within_batch(field: &str, length: usize) -> Result<(), Refusal> {
    if (1..=API_BATCH_MAX).contains(&length) {
        return Ok(());
    }
    let text = format!("{field} are from 1 to {API_BATCH_MAX}");
    Err(Refusal::new(RefusalCode::InvalidField, text).field(field).limit(API_BATCH_MAX))
}
