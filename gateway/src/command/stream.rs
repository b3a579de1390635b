//! `message:stream:…`: answers that are written bit by bit.

use std::sync::Arc;

use shared::contract::protocol::{StreamAppend, StreamEnd, StreamStart};

use crate::node::Node;
use crate::reply::Reply;
use crate::session::Session;

use super::unbuilt;

pub(super) async fn start(_: &mut Session, _: &Arc<Node>, reply: Reply, _: StreamStart) {
    unbuilt(&reply);
}

pub(super) async fn append(_: &mut Session, _: &Arc<Node>, reply: Reply, _: StreamAppend) {
    unbuilt(&reply);
}

pub(super) async fn end(_: &mut Session, _: &Arc<Node>, reply: Reply, _: StreamEnd) {
    unbuilt(&reply);
}
