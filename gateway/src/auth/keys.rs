//! Keys that tokens are verified with, each pinned to one algorithm.
//!
//! The algorithm is the key's, never the token's: a token that names another one finds no key. An
//! RSA key is therefore never a secret for HMAC, whatever a header says.

use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use shared::contract::limits::JWKS_KEYS_MAX;

/// A key, its one algorithm, and its name.
#[derive(Debug)]
pub(super) struct VerificationKey {
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
    /// `kid`; a key that a setting holds by itself has none, and is tried whatever a token names.
    kid: Option<String>,
}

/// Why a text holds no keys to check tokens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// Whoever can read this could sign.
    #[error("it is a private key; give the public one")]
    Private,
    /// No PEM block.
    #[error("it holds no `-----BEGIN PUBLIC KEY-----`")]
    NoPem,
    /// A block of PEM that is no key of a kind that can be used.
    #[error("it is no public key for RS256, ES256, ES384 or EdDSA")]
    Kind,
    /// No JSON object with `keys`.
    #[error("it is no JSON Web Key Set")]
    NoSet,
    /// Nothing in the set can be used.
    #[error("no key in it is for RS, PS, ES or EdDSA signatures")]
    Empty,
    /// Too many to try.
    #[error("it holds more than {JWKS_KEYS_MAX} keys")]
    TooMany,
}

impl VerificationKey {
    /// The secret of HS256 tokens.
    pub(super) fn secret(secret: &str) -> VerificationKey {
        let decoding = DecodingKey::from_secret(secret.as_bytes());
        VerificationKey { algorithm: Algorithm::HS256, decoding, kid: None }
    }

    /// A key of a set. `None` for what is not there to check signatures with, a shared secret
    /// among them: a set is published.
    fn of_set(jwk: &Jwk) -> Option<VerificationKey> {
        let algorithm = pinned(&jwk.algorithm, &jwk.common)?;
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        Some(VerificationKey { algorithm, decoding, kid: jwk.common.key_id.clone() })
    }
}

/// `alg`, where it is one of the key's type; else what the type alone says.
fn pinned(parameters: &AlgorithmParameters, common: &CommonParameters) -> Option<Algorithm> {
    let signs = match &common.public_key_use {
        None | Some(PublicKeyUse::Signature) => true,
        Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)) => false,
    };
    let operations = common.key_operations.as_ref();
    let verifies = operations.is_none_or(|all| all.contains(&KeyOperations::Verify));
    if !signs || !verifies {
        return None;
    }
    let (natural, family) = match parameters {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, &RSA[..]),
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => (Algorithm::ES256, &[][..]),
            EllipticCurve::P384 => (Algorithm::ES384, &[][..]),
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, &[][..])
        }
        _ => return None,
    };
    match common.key_algorithm {
        None => Some(natural),
        Some(named) => {
            let named = Algorithm::try_from(named).ok()?;
            (named == natural || family.contains(&named)).then_some(named)
        }
    }
}

const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Every public key of a PEM text: RSA for RS256, P-256 for ES256, P-384 for ES384, Ed25519.
pub(super) fn of_pem(text: &str) -> Result<Vec<VerificationKey>, KeyError> {
    const BEGIN: &str = "-----BEGIN ";
    let blocks: Vec<&str> = text.split(BEGIN).skip(1).collect();
    if blocks.is_empty() {
        return Err(KeyError::NoPem);
    }
    blocks.into_iter().map(|block| of_block(&format!("{BEGIN}{block}"))).collect()
}

fn of_block(block: &str) -> Result<VerificationKey, KeyError> {
    let label = block.lines().next().unwrap_or_default();
    if label.contains("PRIVATE KEY") {
        return Err(KeyError::Private);
    }
    // A certificate has dates and issuers, which nobody here would look at.
    if !label.ends_with("PUBLIC KEY-----") {
        return Err(KeyError::Kind);
    }
    let bytes = block.as_bytes();
    let (algorithm, decoding) = if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
        (Algorithm::RS256, key)
    } else if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
        // An uncompressed point: a byte, and two coordinates.
        let algorithm = match key.try_get_as_bytes().map(<[u8]>::len) {
            Ok(65) => Algorithm::ES256,
            Ok(97) => Algorithm::ES384,
            Ok(_) | Err(_) => return Err(KeyError::Kind),
        };
        (algorithm, key)
    } else {
        let key = DecodingKey::from_ed_pem(bytes).map_err(|_| KeyError::Kind)?;
        (Algorithm::EdDSA, key)
    };
    Ok(VerificationKey { algorithm, decoding, kid: None })
}

/// The keys of one issuer, by their names.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<VerificationKey>);

impl KeySet {
    /// Reads a JSON Web Key Set (RFC 7517). What in it cannot be used is passed over, so that an
    /// issuer may add kinds of keys that nobody here knows.
    pub(super) fn parse(json: &[u8]) -> Result<KeySet, KeyError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }

        let Set { keys } = serde_json::from_slice(json).map_err(|_| KeyError::NoSet)?;
        if keys.len() > JWKS_KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        let read = |value: Value| VerificationKey::of_set(&serde_json::from_value(value).ok()?);
        let keys: Vec<VerificationKey> = keys.into_iter().filter_map(read).collect();
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(KeySet(keys)) }
    }

    /// The keys that a token with this `kid` may have been signed with. One without a `kid` can
    /// only mean a key without a name, or the only one.
    pub(super) fn named(&self, kid: Option<&str>) -> impl Iterator<Item = &VerificationKey> {
        let alone = self.0.len() == 1;
        self.0.iter().filter(move |key| match (kid, key.kid.as_deref()) {
            (Some(kid), Some(name)) => kid == name,
            (Some(_), None) => false,
            (None, name) => alone || name.is_none(),
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests;
