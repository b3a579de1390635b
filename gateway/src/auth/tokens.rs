//! Verifies JSON Web Tokens (RFC 7519) and makes identities of them.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use prometheus::IntCounter;
use serde::Deserialize;
use shared::contract::id::UserId;
use shared::contract::limits::TOKEN_BYTES_MAX;
use shared::contract::timestamp::Timestamp;
use shared::process::settings::Secret;

use super::identity::{Identity, Role, RoomClaim};
use super::jwks::{Jwks, JwksError};
use super::keys::{self, KeyError, KeySet, VerificationKey};

/// How far the clock of whoever minted a token may be ahead of ours, in seconds.
const AHEAD_S_MAX: i64 = 30;

/// Why somebody is not let in. For logs: a client is told the same of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// No token may be checked here.
    #[error("this server accepts no tokens")]
    NoKey,
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("a token has at most {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// `sub` is no user id.
    #[error("the token's sub is no user id")]
    Subject,
    /// Not from the issuer that is trusted here.
    #[error("the token is of another issuer")]
    Issuer,
    /// Made for somebody else.
    #[error("the token is for another audience")]
    Audience,
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
    iat: Option<i64>,
    #[serde(default)]
    jti: Option<String>,
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    aud: Option<Audience>,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    role: Role,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn contains(&self, wanted: &str) -> bool {
        match self {
            Audience::One(audience) => audience == wanted,
            Audience::Many(all) => all.iter().any(|audience| audience == wanted),
        }
    }
}

/// What tokens are checked with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trust<'a> {
    /// Signs HS256.
    pub(crate) secret: Option<&'a Secret>,
    /// PEM, or a file with it.
    pub(crate) public_key: Option<&'a str>,
    /// A file or URL with a key set.
    pub(crate) jwks: Option<&'a str>,
    /// What `iss` has to be.
    pub(crate) issuer: Option<&'a str>,
    /// What `aud` has to be, or contain.
    pub(crate) audience: Option<&'a str>,
}

/// A setting that says what to trust, and cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// The PEM's file.
    #[error("the file cannot be read")]
    File(#[source] std::io::Error),
    /// The PEM.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key set.
    #[error(transparent)]
    Jwks(#[from] JwksError),
}

/// Checks tokens.
#[derive(Debug)]
pub(crate) struct Authenticator {
    /// Those that the settings hold: the secret, the PEM.
    keys: Vec<VerificationKey>,
    jwks: Option<Arc<Jwks>>,
    issuer: Option<String>,
    audience: Option<String>,
    /// Whether `?user=` is believed.
    pub(crate) dev: bool,
}

impl Authenticator {
    /// Reads the keys that lie in settings and files.
    pub(crate) fn new(trust: Trust<'_>, dev: bool) -> Result<Authenticator, TrustError> {
        let mut keys: Vec<VerificationKey> =
            trust.secret.iter().map(|secret| VerificationKey::secret(secret.expose())).collect();
        if let Some(setting) = trust.public_key {
            keys.extend(public_keys(setting)?);
        }
        let jwks = trust.jwks.map(Jwks::new).transpose()?.map(Arc::new);
        let (issuer, audience) =
            (trust.issuer.map(str::to_owned), trust.audience.map(str::to_owned));
        Ok(Authenticator { keys, jwks, issuer, audience, dev })
    }

    /// Keeps the key set fresh for as long as the process runs, and counts how often that failed.
    pub(crate) async fn attend(&self, failures: &IntCounter) {
        match &self.jwks {
            Some(jwks) => jwks.run(failures).await,
            None => std::future::pending().await,
        }
    }

    /// Checks a token. The algorithm is the key's, never the header's; nothing else that a header
    /// says is heeded either, except for `kid`, which chooses among the keys that are here.
    pub(crate) async fn token(&self, token: &str, now_ms: i64) -> Result<Identity, TokenError> {
        if self.keys.is_empty() && self.jwks.is_none() {
            return Err(TokenError::NoKey);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        // RFC 7515, 4.1.11: what is critical and not understood makes it invalid.
        if header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        let set = self.key_set();
        let mut claims = self.verified(token, &header, &set);
        if claims.is_none() && self.was_read_again(&header, &set).await {
            claims = self.verified(token, &header, &self.key_set());
        }
        self.identity(claims.ok_or(TokenError::Invalid)?, now_ms)
    }

    fn key_set(&self) -> Arc<KeySet> {
        self.jwks.as_ref().map(|jwks| jwks.keys()).unwrap_or_default()
    }

    /// The claims, where one of the keys has signed them.
    fn verified(&self, token: &str, header: &Header, set: &KeySet) -> Option<Claims> {
        let named = set.named(header.kid.as_deref());
        let mut keys = self.keys.iter().chain(named).filter(|key| key.algorithm == header.alg);
        keys.find_map(|key| {
            let checks = signature_only(key.algorithm);
            decode(token, &key.decoding, &checks).ok().map(|data| data.claims)
        })
    }

    /// Whether the set was read anew for a token that none of its keys has signed: a key may have
    /// come, or another one under a name that is known.
    async fn was_read_again(&self, header: &Header, set: &Arc<KeySet>) -> bool {
        let hmac = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        let Some(jwks) = self.jwks.as_ref().filter(|_| !hmac.contains(&header.alg)) else {
            return false;
        };
        !Arc::ptr_eq(&jwks.keys(), set) || jwks.read_again().await
    }

    fn identity(&self, claims: Claims, now_ms: i64) -> Result<Identity, TokenError> {
        let expires_ms = claims.exp.checked_mul(1000).ok_or(TokenError::Invalid)?;
        if expires_ms <= now_ms {
            return Err(TokenError::Expired);
        }
        let latest_s = now_ms / 1000 + AHEAD_S_MAX;
        if [claims.nbf, claims.iat].into_iter().flatten().any(|at_s| at_s > latest_s) {
            return Err(TokenError::NotYet);
        }
        if self.issuer.is_some() && claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        let audience = self.audience.as_deref();
        if audience.is_some_and(|own| claims.aud.is_none_or(|audience| !audience.contains(own))) {
            return Err(TokenError::Audience);
        }
        Ok(Identity {
            user: UserId::parse(&claims.sub).map_err(|_| TokenError::Subject)?,
            expires_at: Some(Timestamp(expires_ms)),
            role: claims.role,
            rooms: RoomClaim::all_of(&claims.rooms),
            anything: false,
            issued_at: claims.iat.map(|at_s| Timestamp(at_s.saturating_mul(1000))),
            proof_id: claims.jti,
        })
    }
}

/// The keys of a setting that holds PEM, or names a file of it. Environments that cannot hold a
/// line's end write `\n`.
pub(super) fn public_keys(setting: &str) -> Result<Vec<VerificationKey>, TrustError> {
    if setting.contains("-----BEGIN ") {
        return Ok(keys::of_pem(&setting.replace("\\n", "\n"))?);
    }
    Ok(keys::of_pem(&std::fs::read_to_string(setting).map_err(TrustError::File)?)?)
}

/// Times are compared by the server's own clock and without a leeway on `exp`, when the connection
/// ends too; issuer and audience only where a setting asks.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.set_required_spec_claims(&["exp", "sub"]);
    validation
}

#[cfg(test)]
mod tests;
