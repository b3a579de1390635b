//! Admission of a command: blocked users are refused, everything else is counted.

use std::sync::Arc;

use shared::contract::id::{RoomId, UserId};
use shared::contract::protocol::Command;
use shared::contract::refusal::{CloseReason, Refusal};
use shared::store::MemberRole;

use crate::command::session::Session;
use crate::config::RateClass;
use crate::node::Node;
use crate::operation::credit;
use crate::rate_limit::RatePermit;

/// Why a command does not begin.
#[derive(Debug)]
pub(super) enum Turned {
    /// Its sender is told.
    Refused(Refusal),
    /// It is dropped, and its sender told only where they have asked to be.
    Dropped(Refusal),
}

/// Counts a command, or says why it may not begin.
pub(super) async fn admit(
    session: &mut Session,
    node: &Arc<Node>,
    command: &Command,
) -> Result<(), Turned> {
    if let Some(class) = ephemeral(command) {
        return admit_ephemeral(session, node, class).await.map_err(Turned::Dropped);
    }
    admit_essential(session, node, command).await.map_err(Turned::Refused)
}

/// What may be lost costs its sender nothing but itself: no block, no connection, and nothing of
/// what the other commands may use.
async fn admit_ephemeral(session: &Session, node: &Node, class: RateClass) -> Result<(), Refusal> {
    node.limiter.check(&session.identity)?;
    let counted = node.limiter.count(&session.identity, class).await;
    counted.map(drop).inspect_err(|_| node.limiter.dropped(class))
}

async fn admit_essential(
    session: &mut Session,
    node: &Arc<Node>,
    command: &Command,
) -> Result<(), Refusal> {
    // Who is blocked may go, and show life until the block ends.
    if matches!(command, Command::Heartbeat(_) | Command::RoomLeave(_)) {
        return Ok(());
    }
    unblocked(session, node)?;
    // A delta is bounded by the answer that it belongs to.
    let is_general = !matches!(command, Command::StreamAppend(_));
    let general = is_general.then_some(RateClass::Commands);
    for class in general.into_iter().chain(class_of(command)) {
        let counted = match (class, command) {
            (RateClass::Joins, Command::RoomJoin(data)) => {
                count_join(session, node, &data.room_id).await
            }
            (class, _) => node.limiter.count(&session.identity, class).await,
        };
        if let Err(refusal) = counted {
            node.limiter.refused(&session.identity.user, class);
            return Err(refusal);
        }
    }
    if matches!(command, Command::StreamStart(_)) {
        credit::afford(node, &session.identity.user, 1).await?;
    }
    Ok(())
}

/// Counts somebody's coming into a room as a join, or, where the room is one of their usual ones,
/// as coming back. Who is over the limit of joins has it looked up whether it is: in what the nodes
/// have seen lately, and in what the database knows of members and of who has read. Joining on a
/// connection that is in the room already opens nothing, and counts like a new one.
async fn count_join(
    session: &mut Session,
    node: &Arc<Node>,
    room: &RoomId,
) -> Result<RatePermit, Refusal> {
    if session.is_in(room) {
        return node.limiter.count(&session.identity, RateClass::Joins).await;
    }
    let identity = &session.identity;
    let user = &identity.user;
    if node.limiter.is_usual_here(user, room) {
        return node.limiter.count(identity, RateClass::Resumes).await;
    }
    let refusal = match node.limiter.count(identity, RateClass::Joins).await {
        Ok(counted) => return Ok(counted),
        Err(refusal) => refusal,
    };
    if let Ok(looked_up) = node.limiter.count(identity, RateClass::Lookups).await
        && (node.limiter.is_usual(user, room).await || is_known(node, user, room).await)
    {
        node.limiter.refund(looked_up);
        return node.limiter.count(identity, RateClass::Resumes).await;
    }
    Err(refusal)
}

async fn is_known(node: &Node, user: &UserId, room: &RoomId) -> bool {
    let member = node.store.member(room, user).await;
    let is_member = matches!(member, Ok(Some(MemberRole::Member | MemberRole::Moderator)));
    is_member || matches!(node.store.receipt(room, user).await, Ok(Some(_)))
}

/// What a command is counted as that may be lost.
fn ephemeral(command: &Command) -> Option<RateClass> {
    match command {
        Command::TypingStart(_) | Command::TypingStop(_) => Some(RateClass::Typing),
        Command::PresenceUpdate(_) => Some(RateClass::Presence),
        Command::Auth(_)
        | Command::RoomJoin(_)
        | Command::RoomLeave(_)
        | Command::MessageSend(_)
        | Command::MessageEdit(_)
        | Command::MessageDelete(_)
        | Command::StreamStart(_)
        | Command::StreamAppend(_)
        | Command::StreamEnd(_)
        | Command::ReceiptUpdate(_)
        | Command::CreditsGet(_)
        | Command::CreditsTrack(_)
        | Command::HistoryGet(_)
        | Command::Heartbeat(_) => None,
    }
}

fn unblocked(session: &mut Session, node: &Node) -> Result<(), Refusal> {
    let checked = node.limiter.check(&session.identity);
    session.refused_while_blocked =
        if checked.is_err() { session.refused_while_blocked + 1 } else { 0 };
    checked
}

/// Ends a connection that hammers on although its user is blocked; said after the last refusal.
pub(super) fn close_if_abusive(session: &Session, node: &Node) {
    if node
        .limiter
        .refusals_before_close()
        .is_some_and(|most| session.refused_while_blocked >= most)
    {
        session.handle.queue.close(CloseReason::Blocked);
    }
}

/// What a command is counted as before it begins.
fn class_of(command: &Command) -> Option<RateClass> {
    match command {
        Command::RoomJoin(data) if data.since.is_some() => Some(RateClass::Resumes),
        Command::RoomJoin(_) => Some(RateClass::Joins),
        Command::StreamStart(_) => Some(RateClass::Streams),
        Command::HistoryGet(_) | Command::CreditsGet(_) => Some(RateClass::History),
        // Each asks for a proof or an id that may be nobody's.
        Command::Auth(_) | Command::CreditsTrack(_) => Some(RateClass::Lookups),
        // These count themselves, once they know what they are about.
        Command::MessageSend(_)
        | Command::MessageEdit(_)
        | Command::MessageDelete(_)
        | Command::StreamAppend(_)
        | Command::StreamEnd(_)
        | Command::ReceiptUpdate(_) => None,
        // Counted apart, or never refused.
        Command::TypingStart(_)
        | Command::TypingStop(_)
        | Command::PresenceUpdate(_)
        | Command::RoomLeave(_)
        | Command::Heartbeat(_) => None,
    }
}
