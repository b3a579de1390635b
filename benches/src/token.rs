//! JSON Web Tokens, HS256, for the users of a run.

use crate::clock;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How long a token holds, in seconds: longer than any run.
const LIFETIME_S: u64 = 86_400;

/// Signs tokens.
#[derive(Debug)]
pub struct Signer {
    key: hmac::Key,
}

impl Signer {
    /// A signer with this secret.
    pub fn new(secret: &str) -> Signer {
        Signer { key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) }
    }

    /// A token of this user, for all rooms, with the role of an assistant where asked.
    pub fn token(&self, user: &str, is_assistant: bool) -> String {
        let now = clock::unix_ms() / 1000;
        let role = if is_assistant { "assistant" } else { "member" };
        let claims = serde_json::json!({
            "sub": user, "iat": now, "exp": now + LIFETIME_S, "rooms": ["*"], "role": role,
        });
        let head = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let tag = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_with_the_secret_over_head_and_claims() {
        let token = Signer::new("a secret").token("ann", false);
        let (signed, tag) = token.rsplit_once('.').unwrap();
        let tag = URL_SAFE_NO_PAD.decode(tag).unwrap();
        let key = |secret: &str| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        assert!(hmac::verify(&key("a secret"), signed.as_bytes(), &tag).is_ok());
        assert!(hmac::verify(&key("another"), signed.as_bytes(), &tag).is_err());
        let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["sub"], "ann");
        assert_eq!(claims["rooms"], serde_json::json!(["*"]));
        assert!(claims["exp"].as_u64() > claims["iat"].as_u64());
    }
}
