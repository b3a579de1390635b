//! `credits:get` and `credits:track`.

use std::sync::Arc;

use shared::contract::credit::CreditKind;
use shared::contract::id::UserId;
use shared::contract::protocol::{CreditsGet, CreditsTrack};
use shared::contract::refusal::{Refusal, RefusalCode};

use crate::command::reply::Reply;
use crate::command::session::Session;
use crate::node::Node;
use crate::operation::credit;

/// One's own balance, or for the application's backend anybody's.
pub(super) async fn get(session: &Session, node: &Node, reply: &Reply, data: CreditsGet) {
    let user = match whose(session, data) {
        Ok(user) => user,
        Err(refusal) => return reply.refuse(None, &refusal),
    };
    match credit::balance(node, &user).await {
        Ok(credits) => reply.done(&credits),
        Err(refusal) => reply.refuse(None, &refusal),
    }
}

fn whose(session: &Session, data: CreditsGet) -> Result<UserId, Refusal> {
    let own = &session.identity.user;
    match data.user_id {
        Some(user) if user != *own && !session.identity.is_service() => {
            let text = "a balance of somebody else is for the application's backend";
            Err(Refusal::new(RefusalCode::Forbidden, text).field("userId"))
        }
        Some(user) => Ok(user),
        None => Ok(own.clone()),
    }
}

/// Puts a movement in line; its answer comes when the log has it, later commands need not wait.
pub(super) async fn track(session: &Session, node: &Arc<Node>, reply: Reply, data: CreditsTrack) {
    let tracked = may_track(session, data.kind).and_then(|()| credit::track(node, data));
    let tracked = match tracked {
        Ok(tracked) => tracked,
        Err(refusal) => return reply.refuse(None, &refusal),
    };
    // The reader goes no further while too many answers are outstanding.
    let permit = session.in_flight.clone().acquire_owned().await;
    let node = Arc::clone(node);
    tokio::spawn(async move {
        match credit::settled(&node, tracked).await {
            Ok(counted) => reply.done(&counted),
            Err(refusal) => reply.refuse(None, &refusal),
        }
        drop(permit);
    });
}

fn may_track(session: &Session, kind: CreditKind) -> Result<(), Refusal> {
    let (may, field) = match kind {
        CreditKind::Usage => (session.identity.may_track(), None),
        CreditKind::Purchase | CreditKind::Refund => (session.identity.is_service(), Some("kind")),
    };
    if may {
        return Ok(());
    }
    let text = format!("your role may not track a {}", kind.as_str());
    let refusal = Refusal::new(RefusalCode::Forbidden, text);
    Err(match field {
        Some(field) => refusal.field(field),
        None => refusal,
    })
}
