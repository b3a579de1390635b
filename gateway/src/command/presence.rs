//! `presence:update`: whether somebody who is there does something.

use std::sync::Arc;

use shared::contract::protocol::PresenceUpdate;

use crate::node::Node;
use crate::reply::Reply;
use crate::session::Session;

use super::unbuilt;

pub(super) async fn execute(_: &mut Session, _: &Arc<Node>, reply: &Reply, _: PresenceUpdate) {
    unbuilt(reply);
}
