//! Presence and members of a room.

use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use shared::contract::id::{RoomId, UserId};
use shared::contract::protocol::{Done, PresenceStatus};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::store::{Member, MemberRole};

use super::super::HttpResponse;
use super::messages::within_batch;
use super::problem::Problem;
use super::request::ApiRequest;
use super::{backend, json};
use crate::node::Node;
use crate::operation::member;
use crate::operation::post::away;

/// `GET /rooms/{room}/presence`
pub(super) async fn presence(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let room = asked.room()?;
    asked.query(&[])?;
    Ok(json(StatusCode::OK, &node.hub.present(&room).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdatePresence {
    updates: Vec<PresenceUpdate>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PresenceUpdate {
    user_id: UserId,
    status: SaidStatus,
}

/// How somebody is said to be in a room.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SaidStatus {
    Active,
    Idle,
    Offline,
}

/// `POST /rooms/{room}/presence`
pub(super) async fn update_presence(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let room = asked.room()?;
    let UpdatePresence { updates } = asked.json()?;
    within_batch("updates", updates.len())?;
    let guests: Vec<(UserId, Option<PresenceStatus>)> = updates
        .into_iter()
        .map(|PresenceUpdate { user_id, status }| match status {
            SaidStatus::Active => (user_id, Some(PresenceStatus::Active)),
            SaidStatus::Idle => (user_id, Some(PresenceStatus::Idle)),
            SaidStatus::Offline => (user_id, None),
        })
        .collect();
    node.hub.host(&room, &guests).await?;
    Ok(json(StatusCode::OK, &Done {}))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    members: Vec<Member>,
    has_more: bool,
}

/// `GET /rooms/{room}/members`
pub(super) async fn members(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddMember {
    #[serde(default)]
    role: AddedRole,
}

/// As what somebody is added.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AddedRole {
    #[default]
    Member,
    Moderator,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RoomMember {
    room_id: RoomId,
    user_id: UserId,
    role: MemberRole,
}

/// `PUT /rooms/{room}/members/{user}`
pub(super) async fn add_member(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let (room_id, user_id) = (asked.room()?, asked.user(1)?);
    let AddMember { role } = asked.json_or_default()?;
    let role = match role {
        AddedRole::Member => MemberRole::Member,
        AddedRole::Moderator => MemberRole::Moderator,
    };
    member::add_member(node, &room_id, &user_id, role).await?;
    Ok(json(StatusCode::OK, &RoomMember { room_id, user_id, role }))
}

/// `DELETE /rooms/{room}/members/{user}`
pub(super) async fn remove_member(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let (room_id, user_id) = (asked.room()?, asked.user(1)?);
    member::remove_member(node, &room_id, &user_id, &backend()).await?;
    Ok(json(StatusCode::OK, &RoomMember { room_id, user_id, role: MemberRole::Removed }))
}
