//! Checks, issues and revokes tokens, tickets and sessions.
//!
//! Whoever brings a bad one is told the same, whatever is bad about it. Where what is needed to
//! judge one does not answer, nobody is let in, and nobody is told to get another proof.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::id::UserId;
use shared::contract::limits::{
    REVOCATION_MEMORY_MS, REVOCATIONS_INTERVAL_MS, REVOCATIONS_PAUSE_MS, SESSION_MS_MAX,
    TICKET_CONNECTION_MS, TICKET_MS,
};
use shared::contract::refusal::{CloseReason, Refusal, RefusalCode};
use shared::contract::signal::{NodeSignal, Signal};
use shared::contract::timestamp::Timestamp;
use shared::process::error_chain::error_chain;
use shared::process::readiness::Condition;
use shared::store::{Revocation, RevokedSubject};
use shared::trouble;
use tokio::time::Instant;
use tracing::debug;

use crate::auth::{Grant, Identity, OpaqueToken, StoredGrant, TokenKind, TokenStoreError};
use crate::node::Node;

/// When to try again where something did not answer, in milliseconds.
const RETRY_AFTER_MS: u64 = 1000;

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// It proves nothing.
    #[error("the proof of who you are is not valid")]
    Invalid,
    /// It cannot be judged now.
    #[error("who you are cannot be checked now")]
    Unavailable,
}

/// Checks a token: a JSON Web Token, or a session token.
pub(crate) async fn token(node: &Node, text: &str) -> Result<Identity, AuthError> {
    let now_ms = node.clock.now_ms();
    let identity = match OpaqueToken::parse(TokenKind::Session, text) {
        Some(proof) => {
            let kept = found(node.token_store.look(&proof, now_ms).await)?;
            let until = kept.expires_at;
            kept.identity(until, &proof)
        }
        None => node.authenticator.token(text, now_ms).await.map_err(|error| {
            debug!(reason = %error, "token refused");
            AuthError::Invalid
        })?,
    };
    standing(node, identity)
}

/// Takes a ticket, which opens one connection. Where it is bound to an origin, a page of that
/// origin has to bring it; it is taken even if another does.
pub(crate) async fn ticket(
    node: &Node,
    text: &str,
    origin: Option<&str>,
) -> Result<Identity, AuthError> {
    let now_ms = node.clock.now_ms();
    let proof = OpaqueToken::parse(TokenKind::Ticket, text).ok_or(AuthError::Invalid)?;
    let kept = found(node.token_store.take(&proof, now_ms).await)?;
    if kept.origin.is_some() && kept.origin.as_deref() != origin {
        debug!("ticket of another origin");
        return Err(AuthError::Invalid);
    }
    let until = Timestamp(now_ms + TICKET_CONNECTION_MS);
    standing(node, kept.identity(until, &proof))
}

fn found(kept: Result<Option<StoredGrant>, TokenStoreError>) -> Result<StoredGrant, AuthError> {
    match kept {
        Ok(kept) => kept.ok_or(AuthError::Invalid),
        Err(error @ TokenStoreError::Form(_)) => {
            trouble!(error = error_chain(&error), "proof cannot be read");
            Err(AuthError::Invalid)
        }
        Err(error @ (TokenStoreError::Redis(_) | TokenStoreError::Full)) => {
            trouble!(error = error_chain(&error), "proof cannot be checked");
            Err(AuthError::Unavailable)
        }
    }
}

/// Who it is, unless that was revoked.
fn standing(node: &Node, identity: Identity) -> Result<Identity, AuthError> {
    if !node.revocations.are_known() {
        return Err(AuthError::Unavailable);
    }
    if node.revocations.cover(&identity.subject()) {
        debug!("proof is revoked");
        return Err(AuthError::Invalid);
    }
    Ok(identity)
}

/// Gives out a ticket: its text, and until when it can be taken.
pub(crate) async fn issue_ticket(
    node: &Node,
    grant: Grant,
) -> Result<(String, Timestamp), Refusal> {
    issue(node, TokenKind::Ticket, grant, TICKET_MS).await
}

/// Gives out a session token for as long as `ttl`, at most [`SESSION_MS_MAX`]: its text, and until
/// when it holds.
pub(crate) async fn issue_session(
    node: &Node,
    grant: Grant,
    ttl: Duration,
) -> Result<(String, Timestamp), Refusal> {
    let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).min(SESSION_MS_MAX);
    issue(node, TokenKind::Session, grant, ttl_ms).await
}

async fn issue(
    node: &Node,
    kind: TokenKind,
    grant: Grant,
    ttl_ms: i64,
) -> Result<(String, Timestamp), Refusal> {
    let now_ms = node.clock.now_ms();
    let (proof, text) = OpaqueToken::random(kind);
    let expires_at = Timestamp(now_ms + ttl_ms);
    let kept = StoredGrant::new(grant, Timestamp(now_ms), expires_at);
    match node.token_store.keep(&proof, kept, now_ms).await {
        Ok(()) => Ok((text, expires_at)),
        Err(error) => {
            trouble!(error = error_chain(&error), "proof cannot be given out");
            Err(unavailable("no proof can be given out now"))
        }
    }
}

/// Takes a session token back; connections that it opened are closed.
pub(crate) async fn end_session(node: &Node, text: &str) -> Result<(), Refusal> {
    let Some(proof) = OpaqueToken::parse(TokenKind::Session, text) else { return Ok(()) };
    let now_ms = node.clock.now_ms();
    // Afterwards nobody needs to remember it. Where Redis does not say until when it holds, or may
    // know it again once it is set back, it is for as long as any session can.
    let kept = node.token_store.look(&proof, now_ms).await.ok().flatten();
    let until = kept.map_or(Timestamp(now_ms + SESSION_MS_MAX), |kept| kept.expires_at);
    revoke_until(node, RevokedSubject::Token(proof.id()), until).await
}

/// From now on what was issued before is refused, on every node, and connections that stand on it
/// are closed.
pub(crate) async fn revoke(node: &Node, subject: RevokedSubject) -> Result<(), Refusal> {
    // Nothing says for how long a token holds that was given out elsewhere.
    let until = Timestamp(node.clock.now_ms() + REVOCATION_MEMORY_MS);
    revoke_until(node, subject, until).await
}

async fn revoke_until(
    node: &Node,
    subject: RevokedSubject,
    until: Timestamp,
) -> Result<(), Refusal> {
    let at = Timestamp(node.clock.now_ms());
    let revocation = Revocation { subject, at, until };
    if let Err(error) = node.store.revoke(&revocation).await {
        trouble!(error = error_chain(&error), "revocation cannot be stored");
        return Err(unavailable("the database does not answer"));
    }
    node.revocations.add(revocation);
    cut_revoked(node);
    // What is being read from the database may be from before.
    node.revocations.wake();
    if let Err(error) = node.broker.signal(&Signal::Nodes(NodeSignal::Revoked)).await {
        // The others look for themselves, a little later.
        trouble!(error = error_chain(&error), "revocation cannot be told");
    }
    Ok(())
}

/// Closes a user's connections on every node. They may come back where their proof holds.
pub(crate) async fn disconnect(node: &Node, user: &UserId) -> Result<(), Refusal> {
    cut(node, user);
    let signal = Signal::Nodes(NodeSignal::Disconnect { user: user.clone() });
    node.broker.signal(&signal).await.map_err(|error| {
        trouble!(error = error_chain(&error), "disconnect cannot be told");
        unavailable("other nodes cannot be told now")
    })
}

/// Closes a user's connections on this node.
pub(crate) fn cut(node: &Node, user: &UserId) {
    for handle in node.connections.of(user) {
        handle.queue.close(CloseReason::Forbidden);
    }
}

fn cut_revoked(node: &Node) {
    let revoked = |subject: &_| node.revocations.cover(subject);
    node.connections.close_where(CloseReason::Unauthenticated, revoked);
}

/// How often all revocations are read, and how far back those that are new: a commit takes a while,
/// and no node's clock is off by more.
const REVOCATIONS_WHOLE: Duration = Duration::from_secs(60 * 60);
const REVOCATIONS_OVERLAP_MS: i64 = 5 * 60 * 1000;

/// Reads revocations at the start and every hour, and those that are new when somebody says that
/// there are some, and every 30 s. `readable` is met from the first reading on: before it no token
/// lets anybody in.
pub(crate) async fn watch_revocations(node: Arc<Node>, readable: Condition) {
    let mut failing = false;
    let mut read: Option<(Instant, Timestamp)> = None;
    loop {
        let began = Timestamp(node.clock.now_ms());
        let whole = read.filter(|(at, _)| at.elapsed() < REVOCATIONS_WHOLE);
        let since = whole.map_or(Timestamp(0), |(_, since)| since);
        let pause_ms = match node.store.revocations_since(since).await {
            Ok(revocations) => {
                let new = Timestamp(began.0 - REVOCATIONS_OVERLAP_MS);
                if let Some((at, _)) = whole {
                    node.revocations.extend(revocations);
                    read = Some((at, new));
                } else {
                    // Those that may be forgotten are so, too.
                    node.revocations.replace(revocations);
                    read = Some((Instant::now(), new));
                }
                cut_revoked(&node);
                readable.ready();
                failing = false;
                REVOCATIONS_INTERVAL_MS
            }
            Err(error) => {
                // Before the first reading the database may not have its tables yet, and
                // readiness says that something is missing.
                let news = !std::mem::replace(&mut failing, true) && node.revocations.are_known();
                if news {
                    trouble!(error = error_chain(&error), "revocations cannot be read");
                } else {
                    debug!(error = error_chain(&error), "revocations cannot be read");
                }
                if !node.revocations.are_known() {
                    readable.waits("the database does not say which tokens were revoked");
                }
                REVOCATIONS_PAUSE_MS
            }
        };
        tokio::select! {
            () = node.revocations.woken() => {}
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
        }
    }
}

fn unavailable(text: &str) -> Refusal {
    Refusal::new(RefusalCode::Unavailable, text).retry_after_ms(RETRY_AFTER_MS)
}

impl AuthError {
    /// As the answer to `auth`.
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            AuthError::Invalid => {
                Refusal::new(RefusalCode::Unauthenticated, self.to_string()).field("token")
            }
            AuthError::Unavailable => unavailable(&self.to_string()),
        }
    }
}
