//! Edits and deletes messages, as a moderator.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Deserialize;
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::message::Metadata;
use shared::contract::refusal::{Refusal, RefusalCode};

use super::super::HttpResponse;
use super::problem::Problem;
use super::request::ApiRequest;
use super::{backend, json};
use crate::node::Node;
use crate::operation::change::{ChangeKind, ChangeRequest};
use crate::operation::post;
use crate::operation::submit::{self, Author};
use crate::operation::validate;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Edit {
    content: String,
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    change_id: Option<MessageId>,
    /// In whose name; the backend's own where it is absent.
    #[serde(default)]
    user_id: Option<UserId>,
    /// Who sent the message; where it is absent, the first of that id is meant.
    #[serde(default)]
    author_id: Option<UserId>,
}

/// `PATCH /rooms/{room}/messages/{id}`
pub(super) async fn edit(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let (room, id) = (asked.room()?, asked.message()?);
    let Edit { content, metadata, change_id, user_id, author_id: author } = asked.json()?;
    validate::content("content", &content)?;
    let metadata = metadata.map(validate::message_metadata).transpose()?;
    let what = ChangeKind::edit(content, metadata);
    change(node, asked, (room, id, what), By { user_id, author, change_id }).await
}

/// `DELETE /rooms/{room}/messages/{id}`
pub(super) async fn delete(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let (room, id) = (asked.room()?, asked.message()?);
    let query = asked.query(&["changeId", "userId", "authorId"])?;
    let user = |field: &str| {
        query.get(field).map(UserId::parse).transpose().map_err(|error| {
            Refusal::new(RefusalCode::InvalidField, error.to_string()).field(field)
        })
    };
    let (user_id, author) = (user("userId")?, user("authorId")?);
    let change_id =
        query.get("changeId").map(MessageId::parse).transpose().map_err(|error| {
            Refusal::new(RefusalCode::BadId, error.to_string()).field("changeId")
        })?;
    change(node, asked, (room, id, ChangeKind::Delete), By { user_id, author, change_id }).await
}

/// Who changes whose message, and under which name.
struct By {
    user_id: Option<UserId>,
    author: Option<UserId>,
    change_id: Option<MessageId>,
}

async fn change(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
    (room, id, what): (RoomId, MessageId, ChangeKind),
    By { user_id, author, change_id }: By,
) -> Result<HttpResponse, Problem> {
    let now_ms = node.clock.now_ms();
    let user = user_id.unwrap_or_else(backend);
    let named = asked.idempotent_id(&room, &user, None)?;
    let change_id = change_id.or(named).unwrap_or_else(|| post::new_id(now_ms));
    validate::id("changeId", &change_id, now_ms)?;
    let wanted = ChangeRequest { room, author, id, change_id: change_id.clone(), what };
    let submitted = submit::change(node, &Author::Backend(&user), wanted, None).await?;
    let accepted = submitted.settled(node).await?;
    Ok(json(StatusCode::OK, &accepted.of_change(change_id)))
}
