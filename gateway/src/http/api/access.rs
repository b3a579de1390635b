//! Tickets, session tokens, revocations, disconnects.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use shared::contract::id::{MessageId, UserId};
use shared::contract::limits::{SESSION_MS_DEFAULT, SESSION_MS_MAX, TOKEN_BYTES_MAX};
use shared::contract::protocol::Done;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::timestamp::Timestamp;
use shared::contract::whole;
use shared::store::RevokedSubject;

use super::super::HttpResponse;
use super::json;
use super::problem::Problem;
use super::request::ApiRequest;
use crate::auth::handshake;
use crate::auth::{Grant, Role, RoomClaim};
use crate::node::Node;
use crate::operation::authenticate;

/// Whom a proof lets in, and as what.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MintTicket {
    user_id: UserId,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    role: Role,
    #[serde(default)]
    origin: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MintSession {
    user_id: UserId,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    role: Role,
    #[serde(default, deserialize_with = "whole::optional")]
    expires_in_ms: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ticket {
    ticket: String,
    expires_at: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionToken {
    token: String,
    expires_at: Timestamp,
}

/// `POST /tickets`
pub(super) async fn mint_ticket(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let MintTicket { user_id: user, rooms, role, origin } = asked.json()?;
    check_rooms(&rooms)?;
    let origin = origin.map(|text| plain_origin(&text)).transpose()?;
    let grant = Grant { user, rooms, role, origin };
    let (ticket, expires_at) = authenticate::issue_ticket(node, grant).await?;
    Ok(json(StatusCode::CREATED, &Ticket { ticket, expires_at }))
}

/// `POST /sessions`
pub(super) async fn mint_session(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let MintSession { user_id: user, rooms, role, expires_in_ms } = asked.json()?;
    check_rooms(&rooms)?;
    let ttl_ms = ttl_ms(expires_in_ms)?;
    let grant = Grant { user, rooms, role, origin: None };
    let ttl = Duration::from_millis(ttl_ms);
    let (token, expires_at) = authenticate::issue_session(node, grant, ttl).await?;
    Ok(json(StatusCode::CREATED, &SessionToken { token, expires_at }))
}

/// What would be no token's claim any more is too much for a proof that stands for one.
fn check_rooms(rooms: &[String]) -> Result<(), Refusal> {
    let bytes: usize = rooms.iter().map(String::len).sum();
    if bytes > TOKEN_BYTES_MAX {
        let text = format!("the rooms have at most {TOKEN_BYTES_MAX} bytes together");
        let refusal = Refusal::new(RefusalCode::TooLarge, text).field("rooms");
        return Err(refusal.limit(TOKEN_BYTES_MAX));
    }
    for room in rooms {
        RoomClaim::parse(room).map_err(|error| {
            Refusal::new(RefusalCode::InvalidField, error.to_string()).field("rooms")
        })?;
    }
    Ok(())
}

fn plain_origin(text: &str) -> Result<String, Refusal> {
    handshake::plain_origin(text).ok_or_else(|| {
        let text = "an origin is a scheme, a host and, where it is not the usual one, a port";
        Refusal::new(RefusalCode::InvalidField, text).field("origin")
    })
}

fn ttl_ms(wanted: Option<u64>) -> Result<u64, Refusal> {
    let most = SESSION_MS_MAX.unsigned_abs();
    let wanted = wanted.unwrap_or(SESSION_MS_DEFAULT.unsigned_abs());
    if (1..=most).contains(&wanted) {
        return Ok(wanted);
    }
    let text = format!("a session token holds for 1 to {most} ms");
    let refusal = Refusal::new(RefusalCode::InvalidField, text).field("expiresInMs");
    Err(refusal.limit(usize::try_from(most).unwrap_or(usize::MAX)))
}

/// What is taken back: one of the three.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Revoke {
    /// Every proof of a user.
    #[serde(default)]
    user_id: Option<UserId>,
    /// A JSON Web Token, by its `jti`.
    #[serde(default)]
    token_id: Option<MessageId>,
    /// A session token.
    #[serde(default)]
    token: Option<String>,
}

/// `POST /revoke`
pub(super) async fn revoke(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    match asked.json()? {
        Revoke { user_id: Some(user), token_id: None, token: None } => {
            authenticate::revoke(node, RevokedSubject::User(user)).await?;
        }
        Revoke { user_id: None, token_id: Some(id), token: None } => {
            authenticate::revoke(node, RevokedSubject::Token(id.to_string())).await?;
        }
        Revoke { user_id: None, token_id: None, token: Some(token) } => {
            authenticate::end_session(node, &token).await?;
        }
        Revoke { .. } => {
            let text = "one of userId, tokenId and token";
            return Err(Refusal::new(RefusalCode::InvalidField, text).field("userId").into());
        }
    }
    Ok(json(StatusCode::OK, &Done {}))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Disconnect {
    user_id: UserId,
}

/// `POST /disconnect`
pub(super) async fn disconnect(
    node: &Arc<Node>,
    asked: &ApiRequest<'_>,
) -> Result<HttpResponse, Problem> {
    let Disconnect { user_id } = asked.json()?;
    authenticate::disconnect(node, &user_id).await?;
    Ok(json(StatusCode::OK, &Done {}))
}
