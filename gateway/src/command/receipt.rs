//! `receipt:update`: how far one has read.

use std::sync::Arc;

use shared::contract::protocol::ReceiptUpdate;

use crate::node::Node;
use crate::reply::Reply;
use crate::session::Session;

use super::unbuilt;

pub(super) async fn execute(_: &mut Session, _: &Arc<Node>, reply: Reply, _: ReceiptUpdate) {
    unbuilt(&reply);
}
