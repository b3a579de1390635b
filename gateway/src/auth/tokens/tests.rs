use jsonwebtoken::{EncodingKey, encode};
use serde_json::{Value, json};
use shared::contract::id::RoomId;
use shared::contract::message::MessageType;

use super::*;

const NOW_S: i64 = 1_800_000_000;

fn token(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn authenticator(issuer: Option<&str>, audience: Option<&str>) -> Authenticator {
    let secret = Secret::from("secret");
    let trust = Trust { secret: Some(&secret), issuer, audience, ..Trust::default() };
    Authenticator::new(trust, false).unwrap()
}

async fn check(algorithm: Algorithm, secret: &str, claims: &Value) -> Result<Identity, TokenError> {
    authenticator(None, None).token(&token(algorithm, secret, claims), NOW_S * 1000).await
}

#[tokio::test]
async fn a_token_says_who_and_where_and_until_when() {
    let claims = json!({"sub": "ann", "exp": NOW_S + 60, "rooms": ["team-*"], "role": "assistant"});
    let identity = check(Algorithm::HS256, "secret", &claims).await.unwrap();
    assert_eq!(identity.user.as_str(), "ann");
    assert_eq!(identity.expires_at, Some(Timestamp((NOW_S + 60) * 1000)));
    assert!(identity.may_join(&RoomId::parse("team-1").unwrap()));
    assert!(!identity.may_join(&RoomId::parse("other").unwrap()));
    assert!(identity.may_send(MessageType::Assistant));
    assert!(!identity.may_send(MessageType::System));
}

#[tokio::test]
async fn bad_tokens_are_refused_by_reason() {
    let table = [
        (json!({"sub": "ann", "exp": NOW_S}), TokenError::Expired),
        (json!({"sub": "ann"}), TokenError::Invalid),
        (json!({"exp": NOW_S + 60}), TokenError::Invalid),
        (json!({"sub": "ann", "exp": "soon"}), TokenError::Invalid),
        (json!({"sub": "ann", "exp": i64::MAX}), TokenError::Invalid),
        (json!({"sub": "a b", "exp": NOW_S + 60}), TokenError::Subject),
        (json!({"sub": "a", "exp": NOW_S + 60, "nbf": NOW_S + 31}), TokenError::NotYet),
        (json!({"sub": "a", "exp": NOW_S + 60, "iat": NOW_S + 31}), TokenError::NotYet),
        (json!({"sub": "a", "exp": NOW_S + 60, "iat": "1"}), TokenError::Invalid),
        (json!({"sub": "a", "exp": NOW_S + 60, "jti": 1}), TokenError::Invalid),
        (json!({"sub": "a", "exp": NOW_S + 60, "role": "king"}), TokenError::Invalid),
    ];
    for (claims, expected) in table {
        let refused = check(Algorithm::HS256, "secret", &claims).await.unwrap_err();
        assert_eq!(refused, expected, "{claims}");
    }
    let good = json!({"sub": "ann", "exp": NOW_S + 60});
    assert!(check(Algorithm::HS256, "secret", &good).await.is_ok());
    let other = check(Algorithm::HS256, "other", &good).await;
    assert_eq!(other.unwrap_err(), TokenError::Invalid);
    let other = check(Algorithm::HS512, "secret", &good).await;
    assert_eq!(other.unwrap_err(), TokenError::Invalid);
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ.";
    for token in ["", "a.b.c", none, &"x".repeat(TOKEN_BYTES_MAX + 1)] {
        assert!(authenticator(None, None).token(token, 0).await.is_err(), "{token}");
    }
    let nobody = Authenticator::new(Trust::default(), false).unwrap();
    assert_eq!(nobody.token("x", 0).await.unwrap_err(), TokenError::NoKey);
}

#[tokio::test]
async fn issuer_and_audience_are_compared_where_a_setting_asks() {
    let claims =
        |iss: Value, aud: Value| json!({"sub": "ann", "exp": NOW_S + 60, "iss": iss, "aud": aud});
    let table = [
        (claims("us".into(), "chat".into()), Ok(())),
        (claims("us".into(), json!(["other", "chat"])), Ok(())),
        (claims("us ".into(), "chat".into()), Err(TokenError::Issuer)),
        (claims("US".into(), "chat".into()), Err(TokenError::Issuer)),
        (claims(Value::Null, "chat".into()), Err(TokenError::Issuer)),
        (claims("us".into(), Value::Null), Err(TokenError::Audience)),
        (claims("us".into(), json!([])), Err(TokenError::Audience)),
        (claims("us".into(), "chat2".into()), Err(TokenError::Audience)),
        (claims("us".into(), 7.into()), Err(TokenError::Invalid)),
        (claims(json!(["us"]), "chat".into()), Err(TokenError::Invalid)),
    ];
    for (claims, expected) in table {
        let token = token(Algorithm::HS256, "secret", &claims);
        let strict = authenticator(Some("us"), Some("chat")).token(&token, NOW_S * 1000).await;
        assert_eq!(strict.map(|_| ()), expected, "{claims}");
        let any = authenticator(None, None).token(&token, NOW_S * 1000).await;
        assert_eq!(any.is_ok(), expected != Err(TokenError::Invalid), "{claims}");
    }
}

#[tokio::test]
async fn what_a_header_calls_critical_is_not_understood() {
    let key = EncodingKey::from_secret(b"secret");
    let claims = json!({"sub": "ann", "exp": NOW_S + 60});
    let header = Header { crit: Some(vec!["exp".into()]), ..Header::new(Algorithm::HS256) };
    let token = encode(&header, &claims, &key).unwrap();
    let refused = authenticator(None, None).token(&token, NOW_S * 1000).await;
    assert_eq!(refused.unwrap_err(), TokenError::Invalid);
}

#[test]
fn a_public_key_is_pem_a_file_of_it_or_a_problem() {
    let pem = "-----BEGIN PUBLIC KEY-----\\n\
               MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\\n\
               -----END PUBLIC KEY-----";
    assert_eq!(public_keys(pem).unwrap().len(), 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    std::fs::write(&path, pem.replace("\\n", "\n")).unwrap();
    assert_eq!(public_keys(path.to_str().unwrap()).unwrap().len(), 1);
    let missing = folder.path().join("none.pem");
    assert!(matches!(public_keys(missing.to_str().unwrap()), Err(TrustError::File(_))));
}

#[test]
fn a_key_set_comes_from_a_file_or_a_plain_url() {
    let fault = |jwks| {
        let trust = Trust { jwks: Some(jwks), ..Trust::default() };
        Authenticator::new(trust, false).unwrap_err().to_string()
    };
    assert!(fault("ftp://example.com/keys").contains("https://HOST/PATH"));
    assert!(fault("https://ann:hunter2@example.com/keys").contains("password"));
    assert!(!fault("https://ann:hunter2@example.com/keys").contains("hunter2"));
    assert!(fault("/nowhere/keys.json").contains("cannot be read"));
}
