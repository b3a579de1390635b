//! `message:delete`: taking back what was said.

use std::sync::Arc;

use shared::contract::protocol::MessageDelete;

use crate::node::Node;
use crate::reply::Reply;
use crate::session::Session;

use super::unbuilt;

pub(super) async fn execute(_: &mut Session, _: &Arc<Node>, reply: Reply, _: MessageDelete) {
    unbuilt(&reply);
}
