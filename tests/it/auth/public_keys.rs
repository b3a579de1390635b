//! Tokens that somebody else signs, and this server only checks.

use super::bad_tokens::{HS256, assert_all_refused, status_with};
use super::forged::{base64, in_s, signed, signed_with};
use super::issuer::Issuer;
use super::signers::{Signer, key_set};
use super::{SECRET, next};
use crate::fixtures::one_gateway::{SOON, assert_no_panic, gateway_with, log_of};
use fleet::{Fleet, GatewayOptions};
use futures_util::future::join_all;
use harness::wire::{Incoming, Wire};
use harness::{Proof, eventually};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

/// A gateway without `--dev`, that trusts what these variables name.
async fn trusting(variables: &[(&str, &str)]) -> Fleet {
    let options = GatewayOptions { dev: false, ..GatewayOptions::default() };
    let options = variables
        .iter()
        .fold(options, |options, (name, value)| options.with_env(name, (*value).to_owned()));
    gateway_with(options.with_env("ROOMCAST_LOG", "debug")).await
}

fn claims() -> Value {
    json!({ "sub": "ann", "exp": in_s(600), "rooms": ["*"] })
}

/// Whether a token is let in, by the header and by the first frame alike.
async fn is_let_in(fleet: &Fleet, token: &str) -> bool {
    let line = format!("Authorization: Bearer {token}\r\n");
    let by_header = status_with(fleet.gateway().port(), &line).await == 101;
    let proof = Proof::AuthFrame(token.to_owned());
    let mut wire = Wire::connect(&fleet.gateway().ws_url(), &proof).await.unwrap();
    let by_frame = matches!(next(&mut wire).await, Incoming::Reply { outcome: Ok(_), .. });
    assert_eq!(by_header, by_frame, "header and frame disagree");
    by_header
}

#[tokio::test]
async fn a_public_key_lets_in_what_its_one_algorithm_has_signed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    let kinds = [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
    let signers = kinds.map(Signer::new);
    let all: String = signers.iter().map(|signer| signer.pem.as_str()).collect();
    std::fs::write(&path, &all).unwrap();
    // As a file, as the text itself, and as a text whose line ends are written.
    let escaped = all.replace('\n', "\\n");
    for setting in [path.to_str().unwrap(), all.as_str(), escaped.as_str()] {
        let fleet = trusting(&[("ROOMCAST_JWT_PUBLIC_KEY", setting)]).await;
        for signer in &signers {
            let name = signer.alg();
            assert!(is_let_in(&fleet, &signer.token(None, &claims())).await, "{name}");
            assert!(is_let_in(&fleet, &signer.token(Some("any"), &claims())).await, "{name}");
            let stranger = Signer::new(signer.algorithm).token(None, &claims());
            assert!(!is_let_in(&fleet, &stranger).await, "{name} of a stranger");
        }
    }
}

#[tokio::test]
async fn nothing_that_a_token_says_of_its_own_key_is_believed() {
    let (rsa, curve) = (Signer::new(Algorithm::RS256), Signer::new(Algorithm::ES256));
    let stranger = Signer::new(Algorithm::RS256);
    let rogue = Issuer::start(key_set(&[stranger.jwk("rogue")])).await;
    let pem = format!("{}{}", rsa.pem, curve.pem);
    let fleet = trusting(&[("ROOMCAST_JWT_PUBLIC_KEY", &pem)]).await;
    let claims = claims().to_string();
    let header = |more: Value| {
        let mut header = json!({ "alg": "RS256", "kid": "rogue" });
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        stranger.signed(&header.to_string(), &claims)
    };
    let by_text = |secret: &str, name: &str| {
        signed_with(secret, Algorithm::HS256, &format!("{{\"alg\":\"{name}\"}}"), &claims)
    };
    let der: String = rsa.pem.lines().filter(|line| !line.starts_with('-')).collect();
    let said =
        |alg: &str, signer: &Signer| signer.signed(&json!({ "alg": alg }).to_string(), &claims);
    let unsigned = |alg: &str| {
        let header = json!({ "alg": alg }).to_string();
        format!("{}.{}.", base64(header.as_bytes()), base64(claims.as_bytes()))
    };
    let tokens = vec![
        ("the public key as HMAC's secret", by_text(&rsa.pem, "HS256")),
        ("the public key without its last line end", by_text(rsa.pem.trim_end(), "HS256")),
        ("the public key's digits as HMAC's secret", by_text(&der, "HS256")),
        ("HMAC that says RS256", by_text(&rsa.pem, "RS256")),
        ("the other public key as HMAC's secret", by_text(&curve.pem, "HS256")),
        ("an empty secret", by_text("", "HS256")),
        ("an embedded key", header(json!({ "jwk": stranger.jwk("rogue") }))),
        ("a key set elsewhere", header(json!({ "jku": rogue.url() }))),
        ("a certificate elsewhere", header(json!({ "x5u": rogue.url() }))),
        ("a certificate embedded", header(json!({ "x5c": ["MIIB"] }))),
        (
            "an issuer elsewhere",
            stranger.token(
                None,
                &json!({
            "sub": "ann", "exp": in_s(600), "iss": rogue.url() }),
            ),
        ),
        ("an RSA signature that says ES256", said("ES256", &rsa)),
        ("an RSA signature that says RS512", said("RS512", &rsa)),
        ("an RSA signature that says PS256", said("PS256", &rsa)),
        ("a curve's signature that says RS256", said("RS256", &curve)),
        ("a curve's signature that says EdDSA", said("EdDSA", &curve)),
        ("no signature, RS256", unsigned("RS256")),
        ("no signature, ES256", unsigned("ES256")),
        ("no signature, none", unsigned("none")),
        ("the secret of other gateways", signed(HS256, &claims)),
    ];
    assert_all_refused(&fleet, &tokens).await;
    assert_eq!(rogue.requests(), 0, "somebody asked where a token pointed to");
    assert!(is_let_in(&fleet, &rsa.token(None, &self::claims())).await);
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_set_in_a_file_lets_in_by_kid_and_by_each_keys_own_algorithm() {
    let kinds = [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];
    let signers = kinds.map(Signer::new);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let jwks: Vec<Value> = signers.iter().map(|signer| signer.jwk(&signer.alg())).collect();
    std::fs::write(&path, key_set(&jwks)).unwrap();
    let fleet = trusting(&[("ROOMCAST_JWKS", path.to_str().unwrap())]).await;
    let mut wrong = Vec::new();
    for signer in &signers {
        let name = signer.alg();
        let kid = Some(name.as_str());
        if !is_let_in(&fleet, &signer.token(kid, &claims())).await {
            wrong.push(("is refused by its kid", name.clone()));
        }
        if is_let_in(&fleet, &signer.token(None, &claims())).await {
            wrong.push(("needs no kid among several", name.clone()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    let [rs256, rs384, ..] = &signers;
    let claims = claims().to_string();
    let kid = |kid: &str| rs256.signed(&json!({ "alg": "RS256", "kid": kid }).to_string(), &claims);
    let tokens = vec![
        ("another key's kid", kid("RS384")),
        ("a kid that is a path", kid("../../../etc/passwd")),
        ("a kid that is a device", kid("/dev/null")),
        ("a kid that is a URL", kid("http://127.0.0.1/keys")),
        ("a kid that is SQL", kid("RS256' OR '1'='1")),
        ("a kid with NUL", kid("RS256\0")),
        ("a kid in another case", kid("rs256")),
        ("an empty kid", kid("")),
        ("a kid that is a number", rs256.signed("{\"alg\":\"RS256\",\"kid\":1}", &claims)),
        (
            "two kids",
            rs256.signed("{\"alg\":\"RS256\",\"kid\":\"RS384\",\"kid\":\"RS256\"}", &claims),
        ),
        (
            "an algorithm of another key of its type",
            rs384.signed("{\"alg\":\"RS256\",\"kid\":\"RS384\"}", &claims),
        ),
        (
            "HMAC under an RSA key's kid",
            signed_with(
                &rs256.pem,
                Algorithm::HS256,
                "{\"alg\":\"HS256\",\"kid\":\"RS256\"}",
                &claims,
            ),
        ),
    ];
    assert_all_refused(&fleet, &tokens).await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_new_key_is_found_the_old_one_forgotten_and_the_issuer_not_asked_too_often() {
    let (old, new) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::EdDSA));
    let issuer = Issuer::start(key_set(&[old.jwk("old")])).await;
    let fleet = trusting(&[("ROOMCAST_JWKS", &issuer.url())]).await;
    // Asked for at the start; whoever comes first waits for it.
    assert!(is_let_in(&fleet, &old.token(Some("old"), &claims())).await);
    assert_eq!(issuer.requests(), 1);
    issuer.answer(200, key_set(&[old.jwk("old"), new.jwk("new")]));
    // Everybody comes with the new key at once, and everybody knows a key that nobody has.
    let stranger = Signer::new(Algorithm::ES256);
    let port = fleet.gateway().port();
    let newcomer = format!("Authorization: Bearer {}\r\n", new.token(Some("new"), &claims()));
    let unknown =
        format!("Authorization: Bearer {}\r\n", stranger.token(Some("unknown"), &claims()));
    let learnt = || async {
        let lines = std::iter::repeat_n([&newcomer, &unknown], 20).flatten();
        let statuses = join_all(lines.map(|line| status_with(port, line))).await;
        let (newcomers, strangers): (Vec<_>, Vec<_>) =
            statuses.chunks(2).map(|pair| (pair[0], pair[1])).unzip();
        assert_eq!(strangers, [401; 20]);
        newcomers == [101; 20]
    };
    eventually(SOON, "the new key is known", learnt).await;
    assert!(is_let_in(&fleet, &old.token(Some("old"), &claims())).await, "both keys hold");
    assert_eq!(issuer.requests(), 2, "once at the start, once for all who knew a new key");

    // An issuer that has nothing to say, or too much, leaves the keys that were there.
    let too_much = "x".repeat(2 * 1024 * 1024);
    let faults = [(500, String::new()), (200, "<html>".to_owned()), (200, too_much)];
    let mut asked = issuer.requests();
    for (status, body) in faults {
        issuer.answer(status, body);
        let again = || async {
            assert!(!is_let_in(&fleet, &stranger.token(Some("unknown"), &claims())).await);
            issuer.requests() > asked
        };
        eventually(2 * SOON, "the issuer is asked again", again).await;
        asked = issuer.requests();
        assert!(is_let_in(&fleet, &new.token(Some("new"), &claims())).await);
    }
    let failures = fleet.gateway().metrics().await.unwrap().sum("roomcast_key_set_failures_total");
    assert!(failures >= 2.0, "{failures}");
    issuer.answer(200, key_set(&[new.jwk("new")]));
    let forgotten = || async {
        let _refused = is_let_in(&fleet, &stranger.token(Some("unknown"), &claims())).await;
        !is_let_in(&fleet, &old.token(Some("old"), &claims())).await
    };
    eventually(2 * SOON, "the old key is forgotten", forgotten).await;
    assert!(log_of(&fleet).contains("key set cannot be read"));
    assert_no_panic(&fleet);
}

/// Whoever holds the new key is let in soon, though the old one had the same name, and whoever
/// holds the old one no more.
async fn is_replaced(fleet: &Fleet, (old, new): (&Signer, &Signer)) {
    // By the header alone: between two ways of asking the set may be read.
    let status = async |signer: &Signer| {
        let token = signer.token(Some("key"), &claims());
        status_with(fleet.gateway().port(), &format!("Authorization: Bearer {token}\r\n")).await
    };
    let replaced = || async { status(new).await == 101 && status(old).await == 401 };
    // Well before the set would be read anyway.
    eventually(2 * SOON, "the key under the same name is another", replaced).await;
}

#[tokio::test]
async fn a_key_that_changes_under_its_name_is_read_again_when_its_signature_fails() {
    let (old, new) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256));
    let issuer = Issuer::start(key_set(&[old.jwk("key")])).await;
    let fleet = trusting(&[("ROOMCAST_JWKS", &issuer.url())]).await;
    assert!(is_let_in(&fleet, &old.token(Some("key"), &claims())).await);
    issuer.answer(200, key_set(&[new.jwk("key")]));
    is_replaced(&fleet, (&old, &new)).await;
    // Whoever makes signatures up does not have it read more often than that.
    let asked = issuer.requests();
    let stranger = Signer::new(Algorithm::ES256);
    for _ in 0..50 {
        assert!(!is_let_in(&fleet, &stranger.token(Some("key"), &claims())).await);
    }
    assert!(issuer.requests() <= asked + 2, "{} and {asked}", issuer.requests());

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, key_set(&[old.jwk("key")])).unwrap();
    let fleet = trusting(&[("ROOMCAST_JWKS", file.to_str().unwrap())]).await;
    assert!(is_let_in(&fleet, &old.token(Some("key"), &claims())).await);
    std::fs::write(&file, key_set(&[new.jwk("key")])).unwrap();
    is_replaced(&fleet, (&old, &new)).await;
}

#[tokio::test]
async fn issuer_and_audience_are_those_of_the_settings() {
    let variables = [
        ("ROOMCAST_JWT_SECRET", SECRET),
        ("ROOMCAST_JWT_ISSUER", "https://login.example.com/"),
        ("ROOMCAST_JWT_AUDIENCE", "chat"),
    ];
    let fleet = trusting(&variables).await;
    let with = |iss: Value, aud: Value| {
        let claims = json!({
            "sub": "ann", "exp": in_s(600), "rooms": ["*"], "iss": iss, "aud": aud });
        signed(HS256, &claims.to_string())
    };
    let ours = json!("https://login.example.com/");
    assert!(is_let_in(&fleet, &with(ours.clone(), json!("chat"))).await);
    assert!(is_let_in(&fleet, &with(ours.clone(), json!(["mail", "chat"]))).await);
    let tokens = vec![
        ("no issuer", with(Value::Null, json!("chat"))),
        ("another issuer", with(json!("https://login.example.org/"), json!("chat"))),
        ("the issuer without its slash", with(json!("https://login.example.com"), json!("chat"))),
        ("the issuer in another case", with(json!("https://LOGIN.example.com/"), json!("chat"))),
        ("the issuer in a list", with(json!([ours]), json!("chat"))),
        ("no audience", with(ours.clone(), Value::Null)),
        ("another audience", with(ours.clone(), json!("mail"))),
        ("an audience that begins so", with(ours.clone(), json!("chat2"))),
        ("an empty list of audiences", with(ours.clone(), json!([]))),
        ("an audience that is an object", with(ours, json!({ "chat": 1 }))),
    ];
    assert_all_refused(&fleet, &tokens).await;
}
