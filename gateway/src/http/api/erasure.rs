//! Erases a user's or a room's messages everywhere.

use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use shared::contract::id::{RoomId, UserId};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::erase::{self, Total};
use shared::process::error_chain::error_chain;
use shared::store::Erased as Whose;
use shared::trouble;

use super::super::HttpResponse;
use super::json;
use super::problem::Problem;
use super::request::ApiRequest;
use crate::node::Node;

/// One of the two.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Erase {
    #[serde(default)]
    user_id: Option<UserId>,
    #[serde(default)]
    room_id: Option<RoomId>,
}

#[derive(Serialize)]
struct Erased {
    messages: u64,
    rooms: usize,
}

/// `POST /erase`
pub(super) async fn everything(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let whose = match asked.json()? {
        Erase { user_id: Some(user), room_id: None } => Whose::User(user),
        Erase { user_id: None, room_id: Some(room) } => Whose::Room(room),
        Erase { .. } => {
            let text = "one of userId and roomId";
            return Err(Refusal::new(RefusalCode::InvalidField, text).field("userId").into());
        }
    };
    let done = erase::erase(&*node.log, &*node.store, &whose, &|_| {}).await;
    let Total { messages, rooms } = done.map_err(|error| {
        trouble!(error = error_chain(&error), "not everything is erased");
        let text = "not everything is erased; ask for it again";
        Refusal::new(RefusalCode::Unavailable, text).retry_after_ms(1000)
    })?;
    Ok(json(StatusCode::OK, &Erased { messages, rooms: rooms.len() }))
}
