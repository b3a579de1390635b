//! `message:edit`.

use std::sync::Arc;

use shared::contract::protocol::MessageEdit;
use shared::contract::refusal::Refusal;

use super::change;
use crate::command::reply::Reply;
use crate::command::session::Session;
use crate::node::Node;
use crate::operation::change::{ChangeKind, ChangeRequest};
use crate::operation::post;
use crate::operation::validate;

/// Puts an edit in line; its answer comes when the log has it, later commands need not wait.
pub(super) async fn execute(
    session: &mut Session,
    node: &Arc<Node>,
    reply: Reply,
    data: MessageEdit,
) {
    let room = data.room_id.clone();
    match read(node, data) {
        Ok(wanted) => change::execute(session, node, reply, wanted).await,
        Err(refusal) => reply.refuse(Some(&room), &refusal),
    }
}

fn read(node: &Node, data: MessageEdit) -> Result<ChangeRequest, Refusal> {
    let now_ms = node.clock.now_ms();
    let MessageEdit { room_id: room, id, user_id: author, change_id, content, metadata } = data;
    let change_id = change_id.unwrap_or_else(|| post::new_id(now_ms));
    validate::id("changeId", &change_id, now_ms)?;
    validate::content("content", &content)?;
    let metadata = metadata.map(validate::message_metadata).transpose()?;
    Ok(ChangeRequest { room, author, id, change_id, what: ChangeKind::edit(content, metadata) })
}
