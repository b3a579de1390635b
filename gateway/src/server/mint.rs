//! Tokens for trying things out and for backends without a library for them: `gateway token`.

use std::net::{Ipv4Addr, SocketAddr};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use shared::contract::id::{IdError, UserId};
use shared::contract::limits::{JWT_SECRET_BYTES_MIN, TOKEN_BYTES_MAX};
use uuid::Uuid;

use crate::auth::{Role, RoomClaim};
use crate::config::Settings;

/// How long a token holds where nothing else is said, in seconds.
const TTL_S: i64 = 3600;

/// Longest that a token minted here holds, in seconds: a year.
const TTL_S_MAX: i64 = 366 * 24 * 60 * 60;

/// What `gateway token` takes.
pub const USAGE: &str = "token --user ID [--room PATTERN]... [--role member|moderator|assistant|\
                         service] [--ttl SECONDS] [--open]";

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
    /// No such subcommand.
    #[error("{word}: expected: {USAGE}")]
    Usage {
        /// The word that is at fault.
        word: String,
    },
    /// A flag without its value, or twice where it may stand once.
    #[error("{flag}: {complaint}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        complaint: &'static str,
    },
    /// No user id.
    #[error("--user: {0}")]
    User(#[from] IdError),
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

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct TokenRequest {
    user: Option<String>,
    rooms: Vec<String>,
    role: Option<Role>,
    ttl_s: Option<i64>,
    open: bool,
}

/// Mints a token with the configured secret, for the configured issuer and audience. `arguments`
/// are those behind `token`.
///
/// # Errors
/// Says what is missing or not understood.
pub fn token(settings: &Settings, now_ms: i64, arguments: &[&str]) -> Result<String, MintError> {
    let wanted = TokenRequest::read(arguments)?;
    let missing = || MintError::Flag { flag: "--user", complaint: "missing: whose token it is" };
    let user = UserId::parse(wanted.user.as_deref().ok_or_else(missing)?)?;
    let secret = settings.jwt_secret.as_ref().ok_or(MintError::NoSecret)?;
    if secret.expose().len() < JWT_SECRET_BYTES_MIN {
        return Err(MintError::WeakSecret);
    }
    let iat = now_ms / 1000;
    let claims = MintedClaims {
        sub: user.as_str(),
        iat,
        exp: iat + wanted.ttl_s.unwrap_or(TTL_S),
        jti: Uuid::new_v4().to_string(),
        rooms: &wanted.rooms,
        role: wanted.role.unwrap_or_default(),
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
        let complaint = "name a room that is no pattern with --room, too: the page opens it";
        return Err(MintError::Flag { flag: "--open", complaint });
    }
    Ok(if wanted.open { page_address(settings, &token, &wanted.rooms) } else { token })
}

/// The page on this machine, with the token and the first room that is no pattern in its fragment,
/// which a browser sends to nobody.
fn page_address(settings: &Settings, token: &str, rooms: &[String]) -> String {
    let host = settings.addresses().into_iter().find(|address| !address.is_unspecified());
    let host = host.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let page = SocketAddr::new(host, settings.port);
    let room = rooms.iter().find(|room| !room.contains('*'));
    let room = room.map(|room| utf8_percent_encode(room, NON_ALPHANUMERIC));
    let room = room.map(|room| format!("&room={room}")).unwrap_or_default();
    format!("http://{page}/#token={token}{room}")
}

impl TokenRequest {
    fn read(arguments: &[&str]) -> Result<TokenRequest, MintError> {
        let mut wanted = TokenRequest::default();
        let mut arguments = arguments.iter();
        while let Some(word) = arguments.next() {
            if *word == "--open" {
                wanted.open = true;
                continue;
            }
            let (name, given) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (*word, None),
            };
            let flag = ["--user", "--room", "--role", "--ttl"].into_iter().find(|f| *f == name);
            let Some(flag) = flag else { return Err(MintError::Usage { word: (*word).into() }) };
            let wrong = |complaint| MintError::Flag { flag, complaint };
            let value = given.or_else(|| arguments.next().copied());
            let value = value.ok_or_else(|| wrong("expected a value"))?;
            let again = match flag {
                "--user" => wanted.user.replace(value.to_owned()).is_some(),
                "--role" => {
                    let role = Role::parse(value).ok_or_else(|| wrong("no such role"))?;
                    wanted.role.replace(role).is_some()
                }
                "--ttl" => {
                    let ttl = value.parse().ok().filter(|ttl| (1..=TTL_S_MAX).contains(ttl));
                    let ttl = ttl.ok_or_else(|| wrong("expected seconds, 1 to 31622400"))?;
                    wanted.ttl_s.replace(ttl).is_some()
                }
                _ => {
                    let room = "expected a room id or a pattern of one";
                    RoomClaim::parse(value).map_err(|_| wrong(room))?;
                    wanted.rooms.push(value.to_owned());
                    false
                }
            };
            if again {
                return Err(wrong("said twice"));
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_or_named() {
        let wanted = TokenRequest::read(&[
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
            user: Some("ann".into()),
            rooms: vec!["team-*".into(), "b".into()],
            role: Some(Role::Assistant),
            ttl_s: Some(60),
            open: false,
        };
        assert_eq!(wanted.unwrap(), expected);
        let table: [(&[&str], &str); 8] = [
            (&["ann"], "ann: expected: token --user ID"),
            (&["--name", "ann"], "--name: expected: token"),
            (&["--user"], "--user: expected a value"),
            (&["--user", "a", "--user", "b"], "--user: said twice"),
            (&["--role", "king"], "--role: no such role"),
            (&["--ttl", "0"], "--ttl: expected seconds"),
            (&["--ttl", "soon"], "--ttl: expected seconds"),
            (&["--ttl", "99999999"], "--ttl: expected seconds"),
        ];
        for (arguments, text) in table {
            let error = TokenRequest::read(arguments).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
