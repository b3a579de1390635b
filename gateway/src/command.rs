//! What a client can ask: one file per command.

mod auth;
mod heartbeat;
mod history;
mod join;
mod leave;
mod send;

use std::sync::Arc;

use shared::contract::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use shared::contract::position::Position;
use shared::contract::protocol::Command;
use shared::contract::refusal::{Refusal, RefusalCode};

use crate::node::Node;
use crate::reply::Reply;
use crate::session::Session;

pub(crate) use auth::first as first_auth;

/// Does what was asked; returns when the next command of this connection may begin.
pub(crate) async fn execute(
    session: &mut Session,
    node: &Arc<Node>,
    reply: Reply,
    command: Command,
) {
    match command {
        Command::Auth(data) => auth::refresh(session, node, &reply, &data),
        Command::RoomJoin(data) => join::execute(session, node, &reply, data).await,
        Command::RoomLeave(data) => leave::execute(session, &reply, &data),
        Command::MessageSend(data) => send::execute(session, node, reply, data).await,
        Command::HistoryGet(data) => history::execute(session, node, &reply, data).await,
        Command::Heartbeat(_) => heartbeat::execute(session, &reply),
    }
}

/// The page size that was asked for.
fn page_rows(limit: Option<u32>) -> Result<u32, Refusal> {
    match limit {
        None => Ok(PAGE_ROWS_DEFAULT),
        Some(limit) if (1..=PAGE_ROWS_MAX).contains(&limit) => Ok(limit),
        Some(_) => {
            let text = format!("limit is from 1 to {PAGE_ROWS_MAX}");
            let refusal = Refusal::new(RefusalCode::InvalidField, text).field("limit");
            Err(refusal.limit(PAGE_ROWS_MAX as usize))
        }
    }
}

/// A position whose parts are integers that JavaScript, Redis and the database hold exactly.
fn checked(field: &str, position: Position) -> Result<Position, Refusal> {
    if position.epoch <= Position::MAX.epoch && position.seq <= Position::MAX.seq {
        return Ok(position);
    }
    let text = "epoch and seq are at most 2^53 - 1";
    Err(Refusal::new(RefusalCode::InvalidField, text).field(field))
}
