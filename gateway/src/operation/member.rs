//! Adds members to a room, and removes them so that nothing later reaches them.
//!
//! A removal is written into the database first, and then takes a place in the room's order. Every
//! node ends the memberships at that place; whoever asks anew meanwhile is told by the database.

use bytes::Bytes;
use shared::contract::envelope::{EntryKind, Envelope, Removal};
use shared::contract::id::{RoomId, UserId};
use shared::contract::refusal::Refusal;
use shared::contract::timestamp::Timestamp;
use shared::log::Append;
use shared::store::MemberRole;

use crate::hub::not_yours;
use crate::node::Node;
use crate::operation::post::{self, away, digest};
use crate::wire::codec;

/// Removes somebody from a room, whatever their token says; nothing that comes after it reaches
/// them. Where the outcome is not known, it may be asked for again.
pub(crate) async fn remove_member(
    node: &Node,
    room: &RoomId,
    user: &UserId,
    by: &UserId,
) -> Result<(), Refusal> {
    node.store.set_member(room, user, MemberRole::Removed).await.map_err(|_| away())?;
    let now_ms = node.clock.now_ms();
    let id = post::new_id(now_ms);
    let envelope = Envelope {
        kind: EntryKind::Removal,
        room: room.clone(),
        user: by.clone(),
        id: id.clone(),
        change_id: Some(id),
        accepted_at: Timestamp(now_ms),
        body: Bytes::from(codec::json(&Removal { removed: user.clone() })),
    };
    let digest = digest(&["removal", user.as_str()]);
    let outcome =
        node.append_queue.append(Append { envelope, digest, cost: None, author: None }, None)?;
    outcome.await.unwrap_or_else(|_| Err(post::leaving())).map(drop)
}

/// Makes somebody a member or moderator, who may have been removed before.
pub(crate) async fn add_member(
    node: &Node,
    room: &RoomId,
    user: &UserId,
    role: MemberRole,
) -> Result<(), Refusal> {
    node.store.set_member(room, user, role).await.map_err(|_| away())
}

/// Refuses somebody who was removed from a room; asked after what they would get was read, it
/// leaves out nothing that happened before.
pub(crate) async fn refuse_removed(
    node: &Node,
    room: &RoomId,
    user: &UserId,
) -> Result<(), Refusal> {
    match node.store.member(room, user).await.map_err(|_| away())? {
        Some(MemberRole::Removed) => Err(not_yours()),
        Some(MemberRole::Member | MemberRole::Moderator) | None => Ok(()),
    }
}
