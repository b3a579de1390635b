//! `credits:get`, `credits:track`: balances and what moves them.

use std::sync::Arc;

use shared::contract::protocol::{CreditsGet, CreditsTrack};

use crate::node::Node;
use crate::reply::Reply;
use crate::session::Session;

use super::unbuilt;

pub(super) async fn get(_: &mut Session, _: &Arc<Node>, reply: &Reply, _: CreditsGet) {
    unbuilt(reply);
}

pub(super) async fn track(_: &mut Session, _: &Arc<Node>, reply: Reply, _: CreditsTrack) {
    unbuilt(&reply);
}
