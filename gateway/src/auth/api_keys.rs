//! API keys of the application's backend, known by their digests only.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::random::random_hex;

/// How every key begins, so that one that leaked is recognised.
const PREFIX: &str = "rck_";

/// Longest key that is looked at, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
struct KeyDigest([u8; 32]);

/// The digests of every key that holds.
#[derive(Clone, Default)]
pub(crate) struct ApiKeys(Vec<KeyDigest>);

/// A text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key is given as the 64 hexadecimal digits of its SHA-256; `gateway api-key` prints them"
)]
pub(crate) struct DigestError;

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.0.len())
    }
}

impl ApiKeys {
    /// Reads digests in hexadecimal.
    pub(crate) fn parse<'a>(
        digests: impl IntoIterator<Item = &'a String>,
    ) -> Result<ApiKeys, DigestError> {
        digests.into_iter().map(|text| digest(text)).collect::<Result<_, _>>().map(ApiKeys)
    }

    /// Whether no key holds.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is a key that holds. Takes the same time for every key of a length: all digests
    /// are compared, and each to its end.
    pub(crate) fn holds(&self, key: &str) -> bool {
        if key.len() > KEY_BYTES_MAX {
            return false;
        }
        let given = sha256(key);
        let none = Choice::from(0);
        self.0.iter().fold(none, |found, known| found | known.0.ct_eq(&given)).into()
    }
}

/// A new key, 256 random bits, and its digest in hexadecimal.
#[must_use]
pub fn mint() -> (String, String) {
    let key = format!("{PREFIX}{}", random_hex());
    let digest = hex::encode(sha256(&key));
    (key, digest)
}

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn digest(text: &str) -> Result<KeyDigest, DigestError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| DigestError)?;
    Ok(KeyDigest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_key_holds_and_no_other_does() {
        let (key, digest) = mint();
        let (other, other_digest) = mint();
        assert!(key.starts_with(PREFIX) && key.len() == PREFIX.len() + 64, "{key}");
        let keys = ApiKeys::parse(&[digest.clone(), other_digest.to_uppercase()]).unwrap();
        assert!(keys.holds(&key) && keys.holds(&other));
        for wrong in ["", "rck_", &digest, &key[1..], &key.to_uppercase(), &"x".repeat(9999)] {
            assert!(!keys.holds(wrong), "{wrong}");
        }
        assert!(!ApiKeys::default().holds(&key));
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        let short = "ab".repeat(31);
        for bad in ["", "rck_secret", &short, &format!("{short}zz"), &format!("{short}é")] {
            assert!(ApiKeys::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
