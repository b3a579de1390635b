//! Whether a command may begin: who is blocked does nothing, and everything else is counted.

use std::sync::Arc;

use shared::contract::protocol::Command;
use shared::contract::refusal::{CloseReason, Refusal};

use crate::config::Allowance;
use crate::crediting;
use crate::node::Node;
use crate::session::Session;

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
    if let Some(allowance) = ephemeral(command) {
        return admit_ephemeral(session, node, allowance).await.map_err(Turned::Dropped);
    }
    admit_essential(session, node, command).await.map_err(Turned::Refused)
}

/// What may be lost costs its sender nothing but itself: no block, no connection, and nothing of
/// what the other commands may use.
async fn admit_ephemeral(
    session: &Session,
    node: &Node,
    allowance: Allowance,
) -> Result<(), Refusal> {
    node.limiter.check(&session.identity)?;
    let counted = node.limiter.count(&session.identity, allowance).await;
    counted.map(drop).inspect_err(|_| node.limiter.dropped(allowance))
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
    let identity = &session.identity;
    // A delta is bounded by the answer that it belongs to.
    let is_general = !matches!(command, Command::StreamAppend(_));
    let general = is_general.then_some(Allowance::Commands);
    for allowance in general.into_iter().chain(allowance(command)) {
        if let Err(refusal) = node.limiter.count(identity, allowance).await {
            node.limiter.refused(&identity.user, allowance);
            return Err(refusal);
        }
    }
    if matches!(command, Command::StreamStart(_)) {
        crediting::afford(node, &identity.user, 1).await?;
    }
    Ok(())
}

/// What a command is counted as that may be lost.
fn ephemeral(command: &Command) -> Option<Allowance> {
    match command {
        Command::TypingStart(_) | Command::TypingStop(_) => Some(Allowance::Typing),
        Command::PresenceUpdate(_) => Some(Allowance::Presence),
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
pub(super) fn cut_hammerer(session: &Session, node: &Node) {
    if node.limiter.patience().is_some_and(|most| session.refused_while_blocked >= most) {
        session.handle.queue.close(CloseReason::Blocked);
    }
}

/// What a command is counted as before it begins.
fn allowance(command: &Command) -> Option<Allowance> {
    match command {
        Command::RoomJoin(data) if data.since.is_some() => Some(Allowance::Resumes),
        Command::RoomJoin(_) => Some(Allowance::Joins),
        Command::StreamStart(_) => Some(Allowance::Streams),
        Command::HistoryGet(_) | Command::CreditsGet(_) => Some(Allowance::History),
        // Each asks for a proof or an id that may be nobody's.
        Command::Auth(_) | Command::CreditsTrack(_) => Some(Allowance::Lookups),
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
