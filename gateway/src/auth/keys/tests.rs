use serde_json::json;

use super::*;

/// The examples of RFC 7517, A.1, and RFC 8037, A.2.
fn curve() -> Value {
    json!({
        "kty": "EC",
        "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    })
}

fn edwards() -> Value {
    json!({
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    })
}

fn rsa() -> Value {
    json!({"kty": "RSA", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4", "e": "AQAB"})
}

fn with(mut key: Value, name: &str, value: impl Into<Value>) -> Value {
    key[name] = value.into();
    key
}

fn set(keys: &[Value]) -> Result<KeySet, KeyError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn algorithm(key: Value) -> Option<Algorithm> {
    set(&[key]).ok().map(|set| set.0[0].algorithm)
}

#[test]
fn a_key_of_a_set_has_one_algorithm_its_own_or_that_of_its_type() {
    let table = [
        (rsa(), Some(Algorithm::RS256)),
        (with(rsa(), "alg", "RS384"), Some(Algorithm::RS384)),
        (with(rsa(), "alg", "RS512"), Some(Algorithm::RS512)),
        (with(rsa(), "alg", "PS256"), Some(Algorithm::PS256)),
        (curve(), Some(Algorithm::ES256)),
        (with(curve(), "alg", "ES256"), Some(Algorithm::ES256)),
        (with(curve(), "crv", "P-384"), Some(Algorithm::ES384)),
        (edwards(), Some(Algorithm::EdDSA)),
        (with(edwards(), "alg", "EdDSA"), Some(Algorithm::EdDSA)),
        (with(rsa(), "use", "sig"), Some(Algorithm::RS256)),
        (with(rsa(), "key_ops", json!(["verify"])), Some(Algorithm::RS256)),
        // Another type's algorithm, or none to check signatures with.
        (with(rsa(), "alg", "HS256"), None),
        (with(rsa(), "alg", "ES256"), None),
        (with(rsa(), "alg", "none"), None),
        (with(rsa(), "alg", "RSA-OAEP"), None),
        (with(curve(), "alg", "ES384"), None),
        (with(curve(), "alg", "RS256"), None),
        (with(curve(), "crv", "P-521"), None),
        (with(edwards(), "alg", "ES256"), None),
        (with(edwards(), "crv", "X25519"), None),
        (with(rsa(), "use", "enc"), None),
        (with(rsa(), "key_ops", json!(["encrypt"])), None),
        (json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}), None),
        (json!({"kty": "new", "z": 1}), None),
        (json!("key"), None),
        (json!({}), None),
    ];
    for (key, expected) in table {
        assert_eq!(algorithm(key.clone()), expected, "{key}");
    }
}

#[test]
fn a_set_is_read_past_what_nobody_knows_and_refused_where_nothing_is_left() {
    let unknown = json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"});
    assert_eq!(set(&[unknown.clone(), edwards(), rsa()]).unwrap().len(), 2);
    assert_eq!(set(&[unknown]).unwrap_err(), KeyError::Empty);
    assert_eq!(set(&[]).unwrap_err(), KeyError::Empty);
    assert_eq!(set(&vec![rsa(); JWKS_KEYS_MAX + 1]).unwrap_err(), KeyError::TooMany);
    for text in ["", "{}", "[]", "<html>", "{\"keys\":1}"] {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), KeyError::NoSet, "{text}");
    }
}

#[test]
fn a_kid_chooses_among_the_keys_and_none_means_the_only_one() {
    let two = set(&[with(rsa(), "kid", "a"), with(edwards(), "kid", "b")]).unwrap();
    let named = |set: &KeySet, kid| set.named(kid).map(|key| key.algorithm).collect::<Vec<_>>();
    assert_eq!(named(&two, Some("b")), [Algorithm::EdDSA]);
    assert_eq!(named(&two, Some("../b")), []);
    assert_eq!(named(&two, None), []);
    let one = set(&[with(rsa(), "kid", "a")]).unwrap();
    assert_eq!(named(&one, None), [Algorithm::RS256]);
    assert_eq!(named(&one, Some("b")), []);
    let unnamed = set(&[rsa(), with(edwards(), "kid", "b")]).unwrap();
    assert_eq!(named(&unnamed, None), [Algorithm::RS256]);
    assert_eq!(named(&unnamed, Some("a")), []);
}

const EDWARDS_PEM: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";

#[test]
fn pem_holds_public_keys_and_is_named_where_it_does_not() {
    let algorithms = |text: &str| -> Result<Vec<Algorithm>, KeyError> {
        Ok(of_pem(text)?.into_iter().map(|key| key.algorithm).collect())
    };
    assert_eq!(algorithms(EDWARDS_PEM), Ok(vec![Algorithm::EdDSA]));
    let two = format!("{EDWARDS_PEM}\n{EDWARDS_PEM}");
    assert_eq!(algorithms(&two), Ok(vec![Algorithm::EdDSA; 2]));
    let private = EDWARDS_PEM.replace("PUBLIC", "PRIVATE");
    assert_eq!(algorithms(&private), Err(KeyError::Private));
    assert_eq!(algorithms("MCowBQYDK2VwAyEA"), Err(KeyError::NoPem));
    let certificate = EDWARDS_PEM.replace("PUBLIC KEY", "CERTIFICATE");
    assert_eq!(algorithms(&certificate), Err(KeyError::Kind));
    let cut = EDWARDS_PEM.replace("MCow", "");
    assert_eq!(algorithms(&cut), Err(KeyError::Kind));
}
