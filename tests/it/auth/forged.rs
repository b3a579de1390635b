//! Tokens made by hand, with any header and any claims.

use super::SECRET;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use std::time::SystemTime;

/// Base64 for URLs, without padding (RFC 4648, section 5).
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..=chunk.len() {
            let digit = (bits >> (18 - 6 * place)) & 63;
            text.push(char::from(DIGITS[usize::try_from(digit).unwrap()]));
        }
    }
    text
}

/// A token with exactly this header and these claims, rightly signed by HMAC with SHA-256.
pub(super) fn signed(header: &str, claims: &str) -> String {
    signed_with(SECRET, Algorithm::HS256, header, claims)
}

pub(super) fn signed_with(
    secret: &str,
    algorithm: Algorithm,
    header: &str,
    claims: &str,
) -> String {
    let message = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// Unix seconds, so many from now.
pub(super) fn in_s(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

#[test]
fn base64_is_what_the_rfc_says() {
    let cases = [("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("ÿ>", "w78-")];
    for (bytes, text) in cases {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}
