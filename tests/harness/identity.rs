//! Names nobody else has, and tokens that say who is asking.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::SystemTime;
use uuid::Uuid;

/// A `UUIDv7`, as clients choose for their messages; later ones sort after earlier ones.
pub fn unique_id() -> String {
    Uuid::now_v7().to_string()
}

/// A name with a random end, for rooms and users that no other test meets.
pub fn unique_name(prefix: &str) -> String {
    let id = Uuid::now_v7().simple().to_string();
    // The front of the id is the time; its end is random.
    format!("{prefix}-{}", &id[20..])
}

/// A JWT (HS256) for `subject`, which expires `expires_in_s` seconds from now (negative: it has
/// expired already). `extra` is an object of further claims; they win over `sub` and `exp`.
pub fn token(secret: &str, subject: &str, expires_in_s: i64, extra: &Value) -> String {
    let mut claims = json!({ "sub": subject, "exp": now_s() + expires_in_s });
    if let (Some(claims), Some(extra)) = (claims.as_object_mut(), extra.as_object()) {
        claims.extend(extra.clone());
    }
    encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("claims of plain JSON can be signed with any secret")
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation, decode};

    #[test]
    fn a_token_can_be_read_with_its_secret_only() {
        let made = token("a secret of the tests", "alice", 60, &json!({ "rooms": ["*"] }));
        let read = |secret: &str| {
            let key = DecodingKey::from_secret(secret.as_bytes());
            decode::<Value>(&made, &key, &Validation::default())
        };
        let claims = read("a secret of the tests").unwrap().claims;
        assert_eq!((&claims["sub"], &claims["rooms"][0]), (&json!("alice"), &json!("*")));
        assert!(read("another").is_err());
    }

    #[test]
    fn ids_sort_in_the_order_they_were_made() {
        let ids: Vec<String> = (0..1_000).map(|_| unique_id()).collect();
        assert!(ids.is_sorted());
    }
}
