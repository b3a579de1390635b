//! Reading a room: its history page by page, and what has changed since.

use std::sync::Arc;

use hyper::StatusCode;
use shared::contract::position::Position;
use shared::contract::protocol::HistoryReply;
use shared::contract::refusal::{Refusal, RefusalCode};

use super::super::Answer;
use super::problem::Problem;
use super::raw;
use super::request::Asked;
use crate::codec;
use crate::hub::Bound;
use crate::node::Node;

/// `GET /rooms/{room}/messages`
pub(super) async fn history(node: &Arc<Node>, asked: &Asked<'_>) -> Result<Answer, Problem> {
    let room = asked.room()?;
    let query = asked.query(&["before", "after", "limit"])?;
    let limit = query.limit()?;
    let bound = match (query.position("before")?, query.position("after")?) {
        (None, None) => Bound::Before(Position::MAX),
        (Some(before), None) => Bound::Before(before),
        (None, Some(after)) => Bound::After(after),
        (Some(_), Some(_)) => {
            let text = "a page is before or after a position, not both";
            return Err(Refusal::new(RefusalCode::InvalidField, text).field("after").into());
        }
    };
    let page = node.hub.history(&room, bound, limit).await?;
    let reply = HistoryReply { has_more: page.more };
    Ok(raw(StatusCode::OK, codec::with_messages(&reply, &page.messages)))
}
