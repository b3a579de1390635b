//! `history:get`: a page of a room's messages.

use shared::contract::position::Position;
use shared::contract::protocol::{HistoryGet, HistoryReply};
use shared::contract::refusal::{Refusal, RefusalCode};

use crate::command::reply::Reply;
use crate::command::session::Session;
use crate::hub::Bound;
use crate::node::Node;
use crate::operation::authorize;
use crate::operation::member;
use crate::operation::validate;
use crate::wire::codec;

/// Reads for whoever may enter the room; joining is not needed.
pub(super) async fn execute(session: &mut Session, node: &Node, reply: &Reply, data: HistoryGet) {
    match page(session, node, &data).await {
        Ok(page) => reply.done_raw(&page),
        Err(refusal) => reply.refuse(Some(&data.room_id), &refusal),
    }
}

async fn page(session: &mut Session, node: &Node, data: &HistoryGet) -> Result<Vec<u8>, Refusal> {
    let limit = validate::page_rows(data.limit)?;
    let bound = match (data.before, data.after) {
        (None, None) => Bound::Before(Position::MAX),
        (Some(before), None) => Bound::Before(validate::position("before", before)?),
        (None, Some(after)) => Bound::After(validate::position("after", after)?),
        (Some(_), Some(_)) => {
            let text = "a page is before or after a position, not both";
            return Err(Refusal::new(RefusalCode::InvalidField, text).field("after"));
        }
    };
    // A room that is joined has looked already, and ends the memberships of those it loses.
    if !session.is_in(&data.room_id) {
        authorize::may_enter(node, &session.identity, &data.room_id).await?;
    }
    let _turn = authorize::page_turn(node).await?;
    let page = node.hub.history(&data.room_id, bound, limit).await?;
    // Behind the reading, so that nothing is in it that was said after a removal.
    member::refuse_removed(node, &data.room_id, &session.identity.user).await?;
    // Nothing is awaited from here on: what others make meanwhile is counted already.
    authorize::may_read_now(node)?;
    Ok(codec::with_messages(&HistoryReply { has_more: page.more }, &page.messages))
}
