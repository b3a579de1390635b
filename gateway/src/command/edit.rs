//! `message:edit`: saying something else instead.

use std::sync::Arc;

use shared::contract::protocol::MessageEdit;

use crate::node::Node;
use crate::reply::Reply;
use crate::session::Session;

use super::unbuilt;

pub(super) async fn execute(_: &mut Session, _: &Arc<Node>, reply: Reply, _: MessageEdit) {
    unbuilt(&reply);
}
