//! `auth`: authenticates a connection, and renews that before the token expires.

use shared::contract::id::RoomId;
use shared::contract::protocol::{Auth, AuthReply, RoomNotice};
use shared::contract::refusal::{CloseReason, Refusal, RefusalCode};

use crate::auth::Identity;
use crate::command::reply::Reply;
use crate::command::session::Session;
use crate::node::Node;
use crate::operation::authenticate::{self, AuthError};
use crate::operation::authorize;
use crate::wire::codec;

/// The first frame of a connection that brought no other proof.
pub(crate) async fn first(node: &Node, reply: &Reply, data: &Auth) -> Result<Identity, AuthError> {
    let proven = authenticate::token(node, &data.token).await;
    match &proven {
        Ok(identity) => reply.done(&AuthReply { expires_at: identity.expires_at }),
        Err(error) => reply.refuse(None, &error.refusal()),
    }
    proven
}

/// A later one: the same user goes on with what the new token allows.
pub(super) async fn refresh(session: &mut Session, node: &Node, reply: &Reply, data: &Auth) {
    match goes_on(session, node, data).await {
        Ok(identity) => reply.done(&AuthReply { expires_at: identity.expires_at }),
        Err(refusal) => reply.refuse(None, &refusal),
    }
}

/// Puts the new claims in the place of the old ones. Rooms that they do not allow are left before
/// the answer; where that cannot be found out, nothing changes.
async fn goes_on<'a>(
    session: &'a mut Session,
    node: &Node,
    data: &Auth,
) -> Result<&'a Identity, Refusal> {
    let identity = authenticate::token(node, &data.token).await.map_err(AuthError::refusal)?;
    if identity.user != session.identity.user {
        let text = "the token is another user's; open another connection for it";
        return Err(Refusal::new(RefusalCode::Forbidden, text).field("token"));
    }
    let lost = lost(session, node, &identity).await?;
    session.identity = identity;
    let bearer = session.identity.subject();
    node.connections.identify(&session.handle, &session.identity);
    // Taken back between the look at it and the moment from which a revocation finds it.
    if node.revocations.cover(&bearer) {
        session.handle.queue.close(CloseReason::Unauthenticated);
    }
    for room in lost {
        kick(session, &room);
    }
    Ok(&session.identity)
}

/// The joined rooms that the new claims do not allow.
async fn lost(session: &Session, node: &Node, identity: &Identity) -> Result<Vec<RoomId>, Refusal> {
    let joined: Vec<RoomId> = session.memberships().map(|(room, _)| room.clone()).collect();
    let mut lost = Vec::new();
    for room in joined {
        match authorize::may_join(node, identity, &room).await {
            Ok(_) => {}
            Err(refusal) if refusal.code == RefusalCode::Forbidden => lost.push(room),
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(lost)
}

fn kick(session: &mut Session, room: &RoomId) {
    if let Some(membership) = session.leave(room) {
        let queue = session.handle.queue.clone();
        let text = "your new token does not allow this room";
        membership.leave(|| queue.push(codec::notice(room, RoomNotice::Kicked, text)));
    }
}
