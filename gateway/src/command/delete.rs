//! `message:delete`.

use std::sync::Arc;

use shared::contract::protocol::MessageDelete;

use super::change;
use crate::command::reply::Reply;
use crate::command::session::Session;
use crate::node::Node;
use crate::operation::change::{ChangeKind, ChangeRequest};
use crate::operation::post;
use crate::operation::validate;

/// Puts a delete in line; its answer comes when the log has it, later commands need not wait.
pub(super) async fn execute(
    session: &mut Session,
    node: &Arc<Node>,
    reply: Reply,
    data: MessageDelete,
) {
    let now_ms = node.clock.now_ms();
    let MessageDelete { room_id: room, id, user_id: author, change_id } = data;
    let change_id = change_id.unwrap_or_else(|| post::new_id(now_ms));
    match validate::id("changeId", &change_id, now_ms) {
        Ok(()) => {
            let wanted = ChangeRequest { room, author, id, change_id, what: ChangeKind::Delete };
            change::execute(session, node, reply, wanted).await;
        }
        Err(refusal) => reply.refuse(Some(&room), &refusal),
    }
}
