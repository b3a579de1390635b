//! Client commands, one file each.

mod admission;
mod auth;
mod credits;
mod delete;
mod edit;
mod change;
mod heartbeat;
mod history;
mod join;
mod leave;
mod presence;
mod receipt;
mod stream;
mod send;
mod typing;
pub(crate) mod session;
pub(crate) mod reply;

use std::sync::Arc;

use shared::contract::protocol::Command;

use self::admission::Turned;
use self::reply::Reply;
use self::session::Session;
use crate::node::Node;

pub(crate) use auth::first as first_auth;

/// Does what was asked; returns when the next command of this connection may begin.
pub(crate) async fn execute(
    session: &mut Session,
    node: &Arc<Node>,
    reply: Reply,
    command: Command,
) {
    match admission::admit(session, node, &command).await {
        Ok(()) => {}
        Err(Turned::Refused(refusal)) => {
            reply.refuse(command.room_id(), &refusal);
            return admission::close_if_abusive(session, node);
        }
        Err(Turned::Dropped(refusal)) => return reply.refuse_if_asked(&refusal),
    }
    // What is rare lies in memory of its own, which a message does not ask for.
    match command {
        Command::Auth(data) => Box::pin(auth::refresh(session, node, &reply, &data)).await,
        Command::RoomJoin(data) => Box::pin(join::execute(session, node, &reply, data)).await,
        Command::RoomLeave(data) => leave::execute(session, &reply, &data),
        Command::MessageSend(data) => send::execute(session, node, reply, data).await,
        Command::MessageEdit(data) => Box::pin(edit::execute(session, node, reply, data)).await,
        Command::MessageDelete(data) => Box::pin(delete::execute(session, node, reply, data)).await,
        Command::StreamStart(data) => Box::pin(stream::start(session, node, reply, data)).await,
        Command::StreamAppend(data) => Box::pin(stream::append(session, node, reply, data)).await,
        Command::StreamEnd(data) => Box::pin(stream::end(session, node, reply, data)).await,
        Command::TypingStart(data) => typing::start(session, node, &reply, &data),
        Command::TypingStop(data) => typing::stop(session, &reply, &data),
        Command::ReceiptUpdate(data) => {
            Box::pin(receipt::execute(session, node, reply, data)).await
        }
        Command::PresenceUpdate(data) => presence::execute(session, &reply, &data),
        Command::CreditsGet(data) => Box::pin(credits::get(session, node, &reply, data)).await,
        Command::CreditsTrack(data) => Box::pin(credits::track(session, node, reply, data)).await,
        Command::HistoryGet(data) => Box::pin(history::execute(session, node, &reply, data)).await,
        Command::Heartbeat(_) => heartbeat::execute(session, &reply),
    }
}
