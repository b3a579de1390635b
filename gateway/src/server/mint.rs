//! The subcommand `token`: mints tokens for trials, and for backends without a library for them.

use std::net::{Ipv4Addr, SocketAddr};

use clap::{Args, value_parser};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use shared::contract::id::UserId;
use shared::contract::limits::{JWT_SECRET_BYTES_MIN, TOKEN_BYTES_MAX};
use uuid::Uuid;

use crate::auth::{Role, RoomClaim};
use crate::config::GatewaySettings;

/// Longest that a token minted here holds, in seconds: a year.
const TTL_S_MAX: i64 = 366 * 24 * 60 * 60;

/// Why no token is minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// Only whoever has a secret can sign.
    #[error(
        "ROOMCAST_JWT_SECRET: missing: tokens are signed with it. Tokens that are checked with \
         ROOMCAST_JWT_PUBLIC_KEY or ROOMCAST_JWKS come from whoever has the private key"
    )]
    NoSecret,
    /// A node would refuse it too.
    #[error("ROOMCAST_JWT_SECRET: it has less than {JWT_SECRET_BYTES_MIN} bytes")]
    WeakSecret,
    /// A page shows one room.
    #[error("--open: name a room that is no pattern with --room, too: the page opens it")]
    NoRoomToOpen,
    /// Too many or too long rooms.
    #[error("the token would be over {TOKEN_BYTES_MAX} bytes; name fewer rooms")]
    TooLong,
    /// The claims cannot be signed.
    #[error("the token cannot be signed")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

#[derive(Serialize)]
struct MintedClaims<'a> {
    sub: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
    rooms: &'a [String],
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// What a token says, as `gateway token` is asked for it.
#[derive(Debug, PartialEq, Eq, Args)]
pub struct TokenRequest {
    /// Whose token it is
    #[arg(long, value_name = "ID", value_parser = UserId::parse)]
    user: UserId,
    /// A room that may be entered, or a pattern such as `team-*`; may be repeated
    #[arg(long = "room", value_name = "ROOM", value_parser = room)]
    rooms: Vec<String>,
    /// What its bearer may do
    #[arg(long, default_value = "member")]
    role: Role,
    /// How long it holds, in seconds; a year at most
    #[arg(long = "ttl", value_name = "1..31622400", default_value = "3600",
          value_parser = value_parser!(i64).range(1..=TTL_S_MAX))]
    ttl_s: i64,
    /// Print the address of this node's page with the token in it, to open in a browser
    #[arg(long)]
    open: bool,
}

/// A room's id or a pattern of some, as it was written.
fn room(text: &str) -> Result<String, &'static str> {
    let claim = RoomClaim::parse(text).map_err(|_| "expected a room id or a pattern of one");
    claim.map(|_| text.to_owned())
}

/// Mints a token with the configured secret, for the configured issuer and audience.
///
/// # Errors
/// Says what is missing.
pub fn token(
    settings: &GatewaySettings,
    now_ms: i64,
    wanted: &TokenRequest,
) -> Result<String, MintError> {
    let secret = settings.jwt_secret.as_ref().ok_or(MintError::NoSecret)?;
    if secret.expose().len() < JWT_SECRET_BYTES_MIN {
        return Err(MintError::WeakSecret);
    }
    let iat = now_ms / 1000;
    let claims = MintedClaims {
        sub: wanted.user.as_str(),
        iat,
        exp: iat + wanted.ttl_s,
        jti: Uuid::new_v4().to_string(),
        rooms: &wanted.rooms,
        role: wanted.role,
        iss: settings.jwt_issuer.as_deref(),
        aud: settings.jwt_audience.as_deref(),
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let token = encode(&Header::new(Algorithm::HS256), &claims, &key)?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(MintError::TooLong);
    }
    let is_pattern = |room: &String| room.contains('*');
    if wanted.open && !wanted.rooms.is_empty() && wanted.rooms.iter().all(is_pattern) {
        return Err(MintError::NoRoomToOpen);
    }
    Ok(if wanted.open { page_address(settings, &token, &wanted.rooms) } else { token })
}

/// The page on this machine, with the token and the first room that is no pattern in its fragment,
/// which a browser sends to nobody.
fn page_address(settings: &GatewaySettings, token: &str, rooms: &[String]) -> String {
    let host = settings.addresses().into_iter().find(|address| !address.is_unspecified());
    let host = host.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let page = SocketAddr::new(host, settings.port);
    let room = rooms.iter().find(|room| !room.contains('*'));
    let room = room.map(|room| utf8_percent_encode(room, NON_ALPHANUMERIC));
    let room = room.map(|room| format!("&room={room}")).unwrap_or_default();
    format!("http://{page}/#token={token}{room}")
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use clap::{Command, FromArgMatches};

    use super::*;

    fn request(arguments: &[&str]) -> Result<TokenRequest, clap::Error> {
        let command = TokenRequest::augment_args(Command::new("token").no_binary_name(true));
        TokenRequest::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    #[test]
    fn what_is_asked_for_is_read_or_named() {
        let wanted = request(&[
            "--user",
            "ann",
            "--room",
            "team-*",
            "--room=b",
            "--role",
            "assistant",
            "--ttl=60",
        ]);
        let expected = TokenRequest {
            user: UserId::parse("ann").unwrap(),
            rooms: vec!["team-*".into(), "b".into()],
            role: Role::Assistant,
            ttl_s: 60,
            open: false,
        };
        assert_eq!(wanted.unwrap(), expected);
        let table: [(&[&str], ErrorKind); 9] = [
            (&[], ErrorKind::MissingRequiredArgument),
            (&["ann"], ErrorKind::UnknownArgument),
            (&["--name", "ann"], ErrorKind::UnknownArgument),
            (&["--user"], ErrorKind::InvalidValue),
            (&["--user", "a", "--user", "b"], ErrorKind::ArgumentConflict),
            (&["--role", "king"], ErrorKind::InvalidValue),
            (&["--ttl", "0"], ErrorKind::ValueValidation),
            (&["--ttl", "soon"], ErrorKind::ValueValidation),
            (&["--room", "a b"], ErrorKind::ValueValidation),
        ];
        for (arguments, kind) in table {
            assert_eq!(request(arguments).unwrap_err().kind(), kind, "{arguments:?}");
        }
    }
}
