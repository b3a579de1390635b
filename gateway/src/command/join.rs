//! `room:join`: joins a room, or resumes in it.

use std::sync::Arc;

use shared::contract::id::RoomId;
use shared::contract::limits::{PAGE_BYTES_MAX, PAGE_ROWS_MAX};
use shared::contract::protocol::{JoinReply, RoomJoin, Since};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::process::error_chain::error_chain;
use shared::trouble;

use crate::command::reply::Reply;
use crate::command::session::Session;
use crate::hub::Resumption;
use crate::hub::room::{InitialState, Joined, Joiner, ReadProgress};
use crate::node::Node;
use crate::operation::authorize;
use crate::operation::validate;
use crate::wire::codec;
use crate::wire::send_queue::SendQueue;

/// Joins; joining again is idempotent and answers like the first time.
pub(super) async fn execute(session: &mut Session, node: &Node, reply: &Reply, data: RoomJoin) {
    let room = data.room_id.clone();
    if let Err(refusal) = join(session, node, reply, data).await {
        reply.refuse(Some(&room), &refusal);
    }
}

async fn join(
    session: &mut Session,
    node: &Node,
    reply: &Reply,
    data: RoomJoin,
) -> Result<(), Refusal> {
    let RoomJoin { room_id, since, limit } = data;
    let limit = validate::page_rows(limit)?;
    authorize::may_read_now(node)?;
    since
        .as_ref()
        .map(|since: &Since| validate::position("since", since.position()))
        .transpose()?;
    authorize::may_join(node, &session.identity, &room_id).await?;
    let user = session.identity.user.clone();
    session.forget_ended();
    let max = node.settings.rooms_per_user;
    let place = node.room_quota.enter(&user, &room_id, max).ok_or_else(|| too_many_rooms(max))?;
    let answer = |joined: Joined| {
        match joined.how {
            Resumption::Fresh => {}
            Resumption::Recovered => node.metrics.resumes_total.inc(),
            Resumption::Reset => node.metrics.resets_total.inc(),
        }
        let InitialState { presence, typing } = joined.found;
        let object = JoinReply {
            room_id: room_id.clone(),
            head: joined.head,
            persisted: joined.persisted,
            recovered: joined.how == Resumption::Recovered,
            reset: joined.how == Resumption::Reset,
            has_more: joined.more,
            presence: presence.presence,
            presence_count: presence.presence_count,
            receipts: joined.receipts,
            typing,
            unread: joined.unread,
        };
        reply.joined(&codec::with_messages(&object, &joined.messages));
    };
    let queue = session.handle.queue.clone();
    let (member, progress) = (session.handle.number, ReadProgress::default());
    let joiner = Joiner { member, user, queue, limit, progress, reply: &answer };
    let membership = node.hub.join(&room_id, joiner, since).await?;
    node.limiter.entered(&session.identity, &room_id);
    session.joined(room_id.clone(), membership, place);
    show_pending(node, &session.handle.queue, &room_id).await;
    Ok(())
}

/// What of the room is only in this node's journal, as much of it as a page has.
async fn show_pending(node: &Node, queue: &Arc<SendQueue>, room: &RoomId) {
    let journal = node.append_queue.journal().filter(|journal| journal.holds_any());
    let Some(journal) = journal else { return };
    match journal.journal.of_room(room, PAGE_ROWS_MAX, PAGE_BYTES_MAX).await {
        Ok(noted) => node.hub.show_pending(room, queue, &noted),
        Err(error) => trouble!(error = error_chain(&error), "the journal cannot be read"),
    }
}

fn too_many_rooms(max: usize) -> Refusal {
    let text = format!("a user is in at most {max} rooms; leave one first");
    Refusal::new(RefusalCode::TooManyRooms, text).limit(max)
}
