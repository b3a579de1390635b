//! `typing:start`, `typing:stop`: marks that expire by themselves.

use std::sync::Arc;

use shared::contract::protocol::Typing;

use crate::node::Node;
use crate::reply::Reply;
use crate::session::Session;

use super::unbuilt;

pub(super) async fn start(_: &mut Session, _: &Arc<Node>, reply: &Reply, _: Typing) {
    unbuilt(reply);
}

pub(super) async fn stop(_: &mut Session, _: &Arc<Node>, reply: &Reply, _: Typing) {
    unbuilt(reply);
}
