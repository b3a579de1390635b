//! `auth`: saying who is asking, and again before the proof ends.

use shared::contract::protocol::{Auth, AuthReply};
use shared::contract::refusal::{Refusal, RefusalCode};

use crate::auth::{AuthError, Identity};
use crate::node::Node;
use crate::reply::Reply;
use crate::session::Session;

/// The first frame of a connection that brought no other proof.
pub(crate) fn first(node: &Node, reply: &Reply, data: &Auth) -> Result<Identity, AuthError> {
    let proven = node.authenticator.token(&data.token, node.clock.now_ms());
    match &proven {
        Ok(identity) => reply.done(&AuthReply { expires_at: identity.expires_at }),
        Err(error) => reply.refuse(None, &refusal(*error)),
    }
    proven
}

/// A later one: the same user goes on with what the new token allows.
pub(super) fn refresh(session: &mut Session, node: &Node, reply: &Reply, data: &Auth) {
    match node.authenticator.token(&data.token, node.clock.now_ms()) {
        Ok(identity) if identity.user == session.identity.user => {
            reply.done(&AuthReply { expires_at: identity.expires_at });
            session.identity = identity;
        }
        Ok(_) => {
            let text = "the token is another user's; open another connection for it";
            reply.refuse(None, &Refusal::new(RefusalCode::Forbidden, text).field("token"));
        }
        Err(error) => reply.refuse(None, &refusal(error)),
    }
}

fn refusal(error: AuthError) -> Refusal {
    Refusal::new(RefusalCode::Unauthenticated, error.to_string()).field("token")
}
