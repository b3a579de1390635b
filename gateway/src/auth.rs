//! Who is asking: from a token to an identity and what it may do.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use shared::contract::id::{RoomId, UserId};
use shared::contract::limits::TOKEN_BYTES_MAX;
use shared::contract::message::MessageType;
use shared::contract::timestamp::Timestamp;
use shared::process::settings::Secret;

/// How far the clock of whoever minted a token may be ahead of ours, in seconds.
const NOT_BEFORE_LEEWAY_S: i64 = 30;

/// What a token's bearer may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Speaks for itself.
    #[default]
    Member,
    /// May also change what others said.
    Moderator,
    /// Speaks as an AI assistant.
    Assistant,
    /// The application's backend.
    Service,
}

impl Role {
    /// Whether it may send messages of this type.
    pub(crate) fn may_send(self, kind: MessageType) -> bool {
        match kind {
            MessageType::User => true,
            MessageType::Assistant => matches!(self, Role::Assistant | Role::Service),
            MessageType::System => self == Role::Service,
        }
    }
}

/// Somebody, proven.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Who.
    pub(crate) user: UserId,
    /// Until when; `None` for ever.
    pub(crate) expires_at: Option<Timestamp>,
    /// What they may do.
    role: Role,
    /// Patterns of the rooms they may enter.
    rooms: Vec<String>,
    /// Every room and every type: the development mode.
    anything: bool,
}

impl Identity {
    /// Whether this one may enter the room.
    pub(crate) fn may_join(&self, room: &RoomId) -> bool {
        self.anything || self.rooms.iter().any(|pattern| matches(pattern, room.as_str()))
    }

    /// Whether this one may say what something cost, and whom.
    pub(crate) fn may_charge(&self) -> bool {
        self.anything || matches!(self.role, Role::Assistant | Role::Service)
    }

    /// Whether this one may change what others said, in every room.
    pub(crate) fn may_moderate(&self) -> bool {
        self.anything || matches!(self.role, Role::Moderator | Role::Service)
    }

    /// Whether this one may send messages of this type.
    pub(crate) fn may_send(&self, kind: MessageType) -> bool {
        self.anything || self.role.may_send(kind)
    }
}

/// Whether a text is what the pattern says, `*` standing for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Why somebody is not let in. The text is for the client and tells nothing about keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// No token may be checked here.
    #[error("this server accepts no tokens")]
    NoKey,
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("a token has at most {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// `sub` is no user id.
    #[error("the token's sub is no user id")]
    Subject,
    /// Anything else: form, signature, algorithm, a claim that is missing or of another type.
    #[error("the token is not valid")]
    Invalid,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    role: Role,
}

/// Checks tokens.
pub(crate) struct Authenticator {
    hs256: Option<DecodingKey>,
    /// Whether `?user=` is believed.
    pub(crate) dev: bool,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("dev", &self.dev).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// With the secret that HS256 tokens are signed with.
    pub(crate) fn new(secret: Option<&Secret>, dev: bool) -> Authenticator {
        let key = |secret: &Secret| DecodingKey::from_secret(secret.expose().as_bytes());
        Authenticator { hs256: secret.map(key), dev }
    }

    /// Anybody, in the development mode.
    pub(crate) fn anybody(user: UserId) -> Identity {
        let rooms = Vec::new();
        Identity { user, expires_at: None, role: Role::Service, rooms, anything: true }
    }

    /// Checks a JSON Web Token (RFC 7519). The algorithm is the key's, never the header's.
    pub(crate) fn token(&self, token: &str, now_ms: i64) -> Result<Identity, AuthError> {
        let key = self.hs256.as_ref().ok_or(AuthError::NoKey)?;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        // The times are compared below, by the server's own clock and without a leeway on `exp`:
        // the connection ends at that moment too.
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["exp", "sub"]);
        // An audience is the application's business: it shares the secret with this server alone.
        validation.validate_aud = false;
        let claims: Claims =
            decode(token, key, &validation).map_err(|_| AuthError::Invalid)?.claims;
        let expires_ms = claims.exp.checked_mul(1000).ok_or(AuthError::Invalid)?;
        if expires_ms <= now_ms {
            return Err(AuthError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf > now_ms / 1000 + NOT_BEFORE_LEEWAY_S) {
            return Err(AuthError::NotYet);
        }
        Ok(Identity {
            user: UserId::parse(&claims.sub).map_err(|_| AuthError::Subject)?,
            expires_at: Some(Timestamp(expires_ms)),
            role: claims.role,
            rooms: claims.rooms,
            anything: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};
    use shared::process::settings::Setting;

    use super::*;

    const NOW_S: i64 = 1_800_000_000;

    fn check(algorithm: Algorithm, secret: &str, claims: &Value) -> Result<Identity, AuthError> {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = encode(&Header::new(algorithm), claims, &key).unwrap();
        authenticator().token(&token, NOW_S * 1000)
    }

    fn authenticator() -> Authenticator {
        Authenticator::new(Some(&Secret::parse("secret").unwrap()), false)
    }

    #[test]
    fn a_token_says_who_and_where_and_until_when() {
        let claims =
            json!({"sub": "ann", "exp": NOW_S + 60, "rooms": ["team-*"], "role": "assistant"});
        let identity = check(Algorithm::HS256, "secret", &claims).unwrap();
        assert_eq!(identity.user.as_str(), "ann");
        assert_eq!(identity.expires_at, Some(Timestamp((NOW_S + 60) * 1000)));
        assert!(identity.may_join(&RoomId::parse("team-1").unwrap()));
        assert!(!identity.may_join(&RoomId::parse("other").unwrap()));
        assert!(identity.may_send(MessageType::Assistant));
        assert!(!identity.may_send(MessageType::System));
    }

    #[test]
    fn bad_tokens_are_refused_by_reason() {
        let hs256 = |claims: Value| check(Algorithm::HS256, "secret", &claims).unwrap_err();
        assert_eq!(hs256(json!({"sub": "ann", "exp": NOW_S})), AuthError::Expired);
        assert_eq!(hs256(json!({"sub": "ann"})), AuthError::Invalid);
        assert_eq!(hs256(json!({"exp": NOW_S + 60})), AuthError::Invalid);
        assert_eq!(hs256(json!({"sub": "ann", "exp": "soon"})), AuthError::Invalid);
        assert_eq!(hs256(json!({"sub": "ann", "exp": i64::MAX})), AuthError::Invalid);
        assert_eq!(hs256(json!({"sub": "a b", "exp": NOW_S + 60})), AuthError::Subject);
        assert_eq!(
            hs256(json!({"sub": "a", "exp": NOW_S + 60, "nbf": NOW_S + 31})),
            AuthError::NotYet
        );
        assert_eq!(
            hs256(json!({"sub": "a", "exp": NOW_S + 60, "role": "king"})),
            AuthError::Invalid
        );
        let good = json!({"sub": "ann", "exp": NOW_S + 60});
        assert!(check(Algorithm::HS256, "secret", &good).is_ok());
        assert_eq!(check(Algorithm::HS256, "other", &good).unwrap_err(), AuthError::Invalid);
        assert_eq!(check(Algorithm::HS512, "secret", &good).unwrap_err(), AuthError::Invalid);
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ.";
        for token in ["", "a.b.c", none, &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            assert!(authenticator().token(token, 0).is_err(), "{token}");
        }
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let cases = [
            ("*", "anything", true),
            ("team-*", "team-", true),
            ("team-*", "tea", false),
            ("*-dev", "a-dev", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "acb", false),
            ("aba*aba", "aba", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
