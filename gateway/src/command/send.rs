//! `message:send`: socket → command → log. The members, the sender among them, hear of it through
//! the broker.

use std::sync::Arc;

use shared::contract::id::{MessageId, RoomId};
use shared::contract::protocol::{MessageSend, SendReply};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::store::Identity;
use tokio::sync::oneshot;

use crate::broker::Place;
use crate::broker::appender::Outcome;
use crate::config::Allowance;
use crate::crediting;
use crate::node::Node;
use crate::posting::{self, Draft};
use crate::rate_limit::Counted;
use crate::reply::Reply;
use crate::session::Session;
use crate::validation;

/// Puts a message in line; its answer comes when the log has it, later commands need not wait.
pub(super) async fn execute(
    session: &mut Session,
    node: &Arc<Node>,
    reply: Reply,
    data: MessageSend,
) {
    let room = data.room_id.clone();
    match accept(session, node, data).await {
        Ok(Accepted::Waiting(id, outcome, counted)) => {
            // The reader goes no further while too many answers are outstanding.
            let permit = session.in_flight.clone().acquire_owned().await;
            let node = Arc::clone(node);
            tokio::spawn(async move {
                let outcome = posting::settled(&node, outcome).await;
                if posting::is_nothing_new(&outcome) {
                    node.limiter.give_back(counted);
                }
                answer(&reply, &room, id, outcome);
                drop(permit);
            });
        }
        Ok(Accepted::Known(id, place)) => answer(&reply, &room, id, Ok(place)),
        Err(refusal) => reply.refuse(Some(&room), &refusal),
    }
}

enum Accepted {
    /// In line, and counted.
    Waiting(MessageId, oneshot::Receiver<Outcome>, Counted),
    /// It stood already.
    Known(MessageId, Place),
}

async fn accept(
    session: &mut Session,
    node: &Arc<Node>,
    data: MessageSend,
) -> Result<Accepted, Refusal> {
    let now_ms = node.clock.now_ms();
    let MessageSend { room_id: room, id, content, kind, metadata, credits } = data;
    let id = id.unwrap_or_else(|| posting::new_id(now_ms));
    validation::id("id", &id, now_ms)?;
    validation::content("content", &content)?;
    let metadata = validation::metadata("metadata", metadata)?;
    let user = session.identity.user.clone();
    let cost = credits.map(|cost| crediting::charge(&user, cost)).transpose()?;
    let draft = Draft { room, id: id.clone(), user, kind, content, metadata, cost };
    let counted = match admit(session, node, &draft).await {
        Ok(counted) => counted,
        // A known id is answered before anything that only a fresh message is asked for.
        Err(refusal) => {
            let Draft { room, id, user, .. } = draft;
            let identity = Identity { room, user: user.clone(), id: id.clone() };
            return match posting::known(node, identity).await? {
                Some(place) => Ok(Accepted::Known(id, place)),
                None => {
                    if refusal.code == RefusalCode::RateLimited {
                        node.limiter.refused(&user, Allowance::Messages);
                    }
                    Err(refusal)
                }
            };
        }
    };
    session.touch(&draft.room, now_ms);
    match posting::post(node, draft) {
        Ok(outcome) => Ok(Accepted::Waiting(id, outcome, counted)),
        Err(refusal) => {
            node.limiter.give_back(counted);
            Err(refusal)
        }
    }
}

/// Whether a fresh message may be sent now; it is counted then.
async fn admit(session: &mut Session, node: &Node, draft: &Draft) -> Result<Counted, Refusal> {
    may_send(session, draft)?;
    crediting::afford_message(node, draft.kind, draft.cost.as_ref()).await?;
    node.limiter.count(&session.identity, Allowance::Messages).await
}

fn may_send(session: &mut Session, draft: &Draft) -> Result<(), Refusal> {
    session.member_of(&draft.room)?;
    if !session.identity.may_send(draft.kind) {
        let text = format!("your role may not send messages of type {}", draft.kind.as_str());
        return Err(Refusal::new(RefusalCode::Forbidden, text).field("type"));
    }
    match draft.cost {
        Some(_) => crediting::may_charge(&session.identity),
        None => Ok(()),
    }
}

/// Says where a message stands.
pub(super) fn answer(reply: &Reply, room: &RoomId, id: MessageId, outcome: Outcome) {
    match outcome {
        Ok(Place { position, duplicate, persisted, durability }) => {
            let position = Some(position);
            reply.done(&SendReply { id, position, duplicate, persisted, durability });
        }
        Err(refusal) => reply.refuse(Some(room), &refusal),
    }
}
