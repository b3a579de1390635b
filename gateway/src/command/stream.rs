//! `message:stream:*`: AI answers that are written bit by bit.

use std::sync::Arc;

use shared::contract::message::MessageType;
use shared::contract::protocol::{StreamAppend, StreamEnd, StreamReply, StreamStart};
use shared::contract::refusal::Refusal;

use super::send;
use crate::command::reply::Reply;
use crate::command::session::Session;
use crate::node::Node;
use crate::operation::credit;
use crate::operation::post;
use crate::operation::stream::{self, Ending, StreamLookup};
use crate::operation::submit::Author;
use crate::operation::validate;
use crate::stream::{StreamHeader, StreamKey};

/// Begins an answer, or says where to go on with it.
pub(super) async fn start(
    session: &mut Session,
    node: &Arc<Node>,
    reply: Reply,
    data: StreamStart,
) {
    let room = data.room_id.clone();
    match try_start(session, node, data).await {
        Ok(done) => reply.done(&done),
        Err(refusal) => reply.refuse(Some(&room), &refusal),
    }
}

async fn try_start(
    session: &mut Session,
    node: &Node,
    data: StreamStart,
) -> Result<StreamReply, Refusal> {
    let StreamStart { room_id: room, id, kind, metadata } = data;
    let now_ms = node.clock.now_ms();
    let id = id.unwrap_or_else(|| post::new_id(now_ms));
    validate::id("id", &id, now_ms)?;
    let metadata = validate::message_metadata(metadata)?;
    let kind = kind.unwrap_or(MessageType::Assistant);
    session.author(&room).may_say(kind, None)?;
    let user = session.identity.user.clone();
    let key = StreamKey { room, id: id.clone() };
    let offset = stream::start(node, &key, StreamHeader { user, kind, metadata }).await?;
    Ok(StreamReply { id, offset })
}

/// Goes on with an answer; answered before the members have it.
pub(super) async fn append(
    session: &mut Session,
    node: &Arc<Node>,
    reply: Reply,
    data: StreamAppend,
) {
    let room = data.room_id.clone();
    let StreamAppend { room_id, id, delta, offset } = data;
    let added = match session.member_of(&room).map(|_| ()) {
        Ok(()) => {
            let key = StreamKey { room: room_id, id: id.clone() };
            match look_up(session, node, &key).await {
                Ok(()) => {
                    let author = session.author(&room);
                    stream::append(node, &author, &key, offset, &delta).await
                }
                Err(refusal) => Err(refusal),
            }
        }
        Err(refusal) => Err(refusal),
    };
    match added {
        Ok(offset) => reply.done(&StreamReply { id, offset }),
        Err(refusal) => reply.refuse(Some(&room), &refusal),
    }
}

/// Counts a look at what other nodes know of an answer, where this one does not have it.
async fn look_up(session: &Session, node: &Node, key: &StreamKey) -> Result<(), Refusal> {
    if node.streams.get(key).is_some() {
        return Ok(());
    }
    node.limiter.look_up(&session.identity).await.map(drop)
}

/// Ends an answer; its reply comes when the log has the whole, later commands need not wait.
pub(super) async fn end(session: &mut Session, node: &Arc<Node>, reply: Reply, data: StreamEnd) {
    let room = data.room_id.clone();
    match try_end(session, node, data).await {
        Ok((found, ending, membership)) => {
            // The reader goes no further while too many answers are outstanding.
            let permit = session.in_flight.clone().acquire_owned().await;
            let node = Arc::clone(node);
            let identity = session.identity.clone();
            let waiter = Arc::downgrade(&session.handle.queue);
            tokio::spawn(async move {
                let id = ending.key.id.clone();
                let author = Author::Client { identity: &identity, membership, waiter };
                let outcome = stream::end(&node, &author, found, ending).await;
                send::answer(&reply, &room, id, outcome);
                drop(permit);
            });
        }
        Err(refusal) => reply.refuse(Some(&room), &refusal),
    }
}

async fn try_end(
    session: &mut Session,
    node: &Node,
    data: StreamEnd,
) -> Result<(StreamLookup, Ending, Result<(), Refusal>), Refusal> {
    let StreamEnd { room_id: room, id, content, metadata, credits } = data;
    if let Some(content) = &content {
        validate::content("content", content)?;
    }
    let metadata = metadata.map(validate::message_metadata).transpose()?;
    let user = session.identity.user.clone();
    let cost = credits.map(|cost| credit::charge(&user, cost)).transpose()?;
    let membership = session.member_of(&room).map(|_| ());
    let key = StreamKey { room, id };
    look_up(session, node, &key).await?;
    let ending = Ending { key, user, content, metadata, cost };
    let (found, ending) = stream::find(node, ending).await?;
    Ok((found, ending, membership))
}
