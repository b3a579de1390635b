//! Reads a room: history by pages, and changes since a position.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::position::Position;
use shared::contract::protocol::HistoryReply;
use shared::contract::refusal::{Refusal, RefusalCode};

use super::super::HttpResponse;
use super::problem::Problem;
use super::raw;
use super::request::{self, ApiRequest};
use crate::hub::Bound;
use crate::node::Node;
use crate::operation::validate;
use crate::wire::codec;

/// `GET /rooms/{room}/messages`
pub(super) async fn history(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let room = asked.room()?;
    let query = asked.query(&["before", "after", "limit"])?;
    let limit = query.limit()?;
    let bound = match (query.position("before")?, query.position("after")?) {
        (None, None) => Bound::Before(Position::MAX),
        (Some(before), None) => Bound::Before(before),
        (None, Some(after)) => Bound::After(after),
        (Some(_), Some(_)) => {
            let text = "a page is before or after a position, not both";
            return Err(Refusal::new(RefusalCode::InvalidField, text).field("after").into());
        }
    };
    let page = node.hub.history(&room, bound, limit).await?;
    let reply = HistoryReply { has_more: page.more };
    Ok(raw(StatusCode::OK, codec::with_messages(&reply, &page.messages)))
}

/// Reply to a stream, without its `messages`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StreamPage {
    /// After which the next page begins, as `after` takes it.
    next: String,
    has_more: bool,
}

/// `GET /rooms/{room}/stream`
pub(super) async fn stream(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let room = asked.room()?;
    let query = asked.query(&["after", "limit"])?;
    let limit = query.limit()?;
    let after = match query.get("after") {
        None => Position::ZERO,
        Some(text) => place(node, &room, text).await?,
    };
    let unknown = || not_found("the room has not come that far");
    let changes = node.hub.changes(&room, after, limit).await?.ok_or_else(unknown)?;
    let page = StreamPage { next: changes.next.to_string(), has_more: changes.more };
    Ok(raw(StatusCode::OK, codec::with_messages(&page, &changes.messages)))
}

/// The place that `after` names: a position, or a message's.
async fn place(node: &Node, room: &RoomId, text: &str) -> Result<Position, Refusal> {
    if let Some(position) = request::position(text) {
        return validate::position("after", position);
    }
    let id = MessageId::parse(text)
        .map_err(|error| Refusal::new(RefusalCode::BadId, error.to_string()).field("after"))?;
    let found = node.hub.message(room, &nobody(), &id).await?;
    let place = found.and_then(|message| message.position);
    place.ok_or_else(|| not_found("no message of this room has this id"))
}

/// Whose messages are none: where several senders chose one id, the first is meant.
fn nobody() -> UserId {
    UserId::parse("-").expect("one character that is allowed")
}

fn not_found(text: &str) -> Refusal {
    Refusal::new(RefusalCode::NotFound, text).field("after")
}
