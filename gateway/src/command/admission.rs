//! Whether a command may begin: who is blocked does nothing, and everything else is counted.

use std::sync::Arc;

use shared::contract::protocol::Command;
use shared::contract::refusal::{CloseReason, Refusal};

use crate::config::Allowance;
use crate::crediting;
use crate::node::Node;
use crate::session::Session;

/// Counts a command, or says why it may not begin.
pub(super) async fn admit(
    session: &mut Session,
    node: &Arc<Node>,
    command: &Command,
) -> Result<(), Refusal> {
    // Who is blocked may go, and show life until the block ends.
    if !matches!(command, Command::Heartbeat(_) | Command::RoomLeave(_)) {
        unblocked(session, node)?;
    }
    let identity = &session.identity;
    if let Some(allowance) = allowance(command)
        && let Err(refusal) = node.limiter.count(identity, allowance).await
    {
        node.limiter.refused(&identity.user, allowance);
        return Err(refusal);
    }
    if matches!(command, Command::StreamStart(_)) {
        crediting::afford(node, &identity.user, 1).await?;
    }
    Ok(())
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
        Command::TypingStart(_) | Command::TypingStop(_) => Some(Allowance::Typing),
        Command::PresenceUpdate(_) => Some(Allowance::Presence),
        Command::HistoryGet(_) | Command::CreditsGet(_) => Some(Allowance::History),
        // These count themselves, once they know that they are not offered again.
        Command::MessageSend(_) | Command::MessageEdit(_) | Command::MessageDelete(_) => None,
        // These cost little, or belong to something that was counted, or need a trusted role.
        Command::Auth(_)
        | Command::RoomLeave(_)
        | Command::StreamAppend(_)
        | Command::StreamEnd(_)
        | Command::ReceiptUpdate(_)
        | Command::CreditsTrack(_)
        | Command::Heartbeat(_) => None,
    }
}
