//! Who is in a room and who belongs to it.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;
use shared::contract::id::UserId;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::store::Member;

use super::super::Answer;
use super::json;
use super::problem::Problem;
use super::request::Asked;
use crate::node::Node;
use crate::posting::away;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    members: Vec<Member>,
    has_more: bool,
}

/// `GET /rooms/{room}/members`
pub(super) async fn members(node: &Arc<Node>, asked: &Asked<'_>) -> Result<Answer, Problem> {
    let room = asked.room()?;
    let query = asked.query(&["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.get("after").map(UserId::parse).transpose().map_err(|error| {
        Refusal::new(RefusalCode::InvalidField, error.to_string()).field("after")
    })?;
    let found = node.store.members(&room, after.as_ref(), limit + 1).await;
    let mut members = found.map_err(|_| away())?;
    let has_more = members.len() > limit as usize;
    members.truncate(limit as usize);
    Ok(json(StatusCode::OK, &Members { members, has_more }))
}
