//! Decides who may enter a room: by the claims of a token, or by the database.
//!
//! Whoever may not is told the same, whether the room exists or not.

use std::time::Duration;

use shared::contract::id::{RoomId, UserId};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::process::error_chain::error_chain;
use shared::store::MemberRole;
use shared::trouble;
use tokio::sync::SemaphorePermit;

use crate::auth::Identity;
use crate::hub::not_yours;
use crate::node::Node;

/// How long somebody waits to read a page.
const PAGE_PATIENCE: Duration = Duration::from_secs(2);

/// By what somebody may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomAccess {
    /// A pattern of their proof.
    Claims,
    /// The database counts them among the members.
    Member,
    /// And lets them change what others said.
    Moderator,
}

/// Whether somebody may enter the room now. Whoever was removed from it may not, whatever their
/// proof claims.
pub(crate) async fn may_enter(
    node: &Node,
    identity: &Identity,
    room: &RoomId,
) -> Result<RoomAccess, Refusal> {
    let claimed = identity.may_join(room);
    match role_in(node, &identity.user, room).await? {
        Some(MemberRole::Moderator) => Ok(RoomAccess::Moderator),
        Some(MemberRole::Member) => Ok(RoomAccess::Member),
        Some(MemberRole::Removed) => Err(not_yours()),
        None if claimed => Ok(RoomAccess::Claims),
        None => Err(not_yours()),
    }
}

/// The same before a join. A room that is joined knows by itself who was removed, so that the
/// database is asked only where the proof does not name the room.
pub(crate) async fn may_join(
    node: &Node,
    identity: &Identity,
    room: &RoomId,
) -> Result<RoomAccess, Refusal> {
    if identity.may_join(room) {
        Ok(RoomAccess::Claims)
    } else {
        may_enter(node, identity, room).await
    }
}

/// Whether there is memory for a page now: what is read of one waits for its client, however slowly
/// that reads.
pub(crate) fn may_read_now(node: &Node) -> Result<(), Refusal> {
    if node.excess_frames() == 0 { Ok(()) } else { Err(no_memory()) }
}

fn no_memory() -> Refusal {
    let text = "this node has no memory left for pages now";
    Refusal::new(RefusalCode::Backpressure, text).retry_after_ms(1000)
}

/// A turn to read a page of history: so many are read at a time, and who waits too long for one is
/// to come back.
pub(crate) async fn page_turn(node: &Node) -> Result<SemaphorePermit<'_>, Refusal> {
    let turn = tokio::time::timeout(PAGE_PATIENCE, node.pages.acquire()).await;
    turn.ok().and_then(Result::ok).ok_or_else(no_memory)
}

/// Whether the database lets somebody who may enter the room change what others said in it; a
/// proof's role may do so as well, see [`Role::moderates`](crate::auth::Role::moderates).
pub(crate) async fn is_moderator(
    node: &Node,
    user: &UserId,
    room: &RoomId,
) -> Result<bool, Refusal> {
    Ok(role_in(node, user, room).await? == Some(MemberRole::Moderator))
}

/// What the database says; nobody enters on a guess.
async fn role_in(node: &Node, user: &UserId, room: &RoomId) -> Result<Option<MemberRole>, Refusal> {
    node.store.member(room, user).await.map_err(|error| {
        trouble!(room.id = %room, error = error_chain(&error), "member cannot be looked up");
        let text = "whose the room is cannot be looked up now";
        Refusal::new(RefusalCode::Unavailable, text).retry_after_ms(1000)
    })
}
