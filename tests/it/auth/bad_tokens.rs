//! Tokens that prove nothing, and where token bytes must not show.

use super::forged::{base64, in_s, signed, signed_with};
use super::{SECRET, asking_gateway, client, good_token, next};
use crate::fixtures::one_gateway::{SOON, assert_closed_for, assert_no_panic, log_of, metric};
use fleet::Fleet;
use harness::Proof;
use harness::raw::{RawSocket, upgrade_request};
use harness::wire::{Incoming, Wire};
use jsonwebtoken::Algorithm;
use serde_json::json;

pub(super) const HS256: &str = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";

/// Claims with a value in the place of `exp`.
fn expiring(exp: &str) -> String {
    format!("{{\"sub\":\"ann\",\"rooms\":[\"*\"],\"exp\":{exp}}}")
}

/// Good claims with one more, or with another of the same name.
fn with(claim: &str) -> String {
    let exp = in_s(600);
    format!("{{\"sub\":\"ann\",\"exp\":{exp},\"rooms\":[\"*\"],{claim}}}")
}

fn of(subject: &str) -> String {
    let exp = in_s(600);
    format!("{{\"sub\":{subject},\"exp\":{exp},\"rooms\":[\"*\"]}}")
}

/// Right in all but the signature, the algorithm or the form.
fn badly_made() -> Vec<(&'static str, String)> {
    let good = good_token("ann", 600);
    let claims = of("\"ann\"");
    let unsigned =
        |header: &str| format!("{}.{}.", base64(header.as_bytes()), base64(claims.as_bytes()));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other = good_token("bob", 600);
    let (bobs, _) = other.rsplit_once('.').unwrap();
    let hmac = |algorithm, name: &str| {
        signed_with(SECRET, algorithm, &format!("{{\"alg\":\"{name}\"}}"), &claims)
    };
    vec![
        ("no algorithm, no signature", unsigned("{\"alg\":\"none\"}")),
        ("None", unsigned("{\"alg\":\"None\"}")),
        ("NONE", unsigned("{\"alg\":\"NONE\"}")),
        ("none, and a signature", signed("{\"alg\":\"none\"}", &claims)),
        ("HS256 without a signature", unsigned(HS256)),
        ("no alg at all", signed("{\"typ\":\"JWT\"}", &claims)),
        ("HS384", hmac(Algorithm::HS384, "HS384")),
        ("HS512", hmac(Algorithm::HS512, "HS512")),
        ("HS512 that says HS256", hmac(Algorithm::HS512, "HS256")),
        ("HS256 that says RS256", hmac(Algorithm::HS256, "RS256")),
        ("HS256 that says EdDSA", hmac(Algorithm::HS256, "EdDSA")),
        ("an algorithm nobody knows", signed("{\"alg\":\"HS257\"}", &claims)),
        ("another secret", signed_with("another", Algorithm::HS256, HS256, &claims)),
        ("an empty secret", signed_with("", Algorithm::HS256, HS256, &claims)),
        ("a header that is no JSON", signed("HS256", &claims)),
        ("a header that is an array", signed("[\"HS256\"]", &claims)),
        ("claims that are no JSON", signed(HS256, "ann")),
        ("claims in an array", signed(HS256, "[\"ann\",9999999999]")),
        ("somebody else's claims", format!("{bobs}.{signature}")),
        ("half a signature", format!("{head}.{}", &signature[..20])),
        ("no third part", head.to_owned()),
        ("a fourth part", format!("{good}.x")),
        ("five parts", format!("{good}.x.y")),
        ("a signature with padding", format!("{good}=")),
        ("one word", "token".to_owned()),
        ("three dots", "...".to_owned()),
        ("a critical header", signed("{\"alg\":\"HS256\",\"crit\":[\"exp\"],\"exp\":1}", &claims)),
        ("two algs", signed("{\"alg\":\"none\",\"alg\":\"HS256\"}", &claims)),
        ("an alg that is a list", signed("{\"alg\":[\"HS256\"]}", &claims)),
        ("a token in a token", signed(HS256, &format!("\"{good}\""))),
        ("encrypted by its form", format!("{good}.{}.{}", base64(b"iv"), base64(b"tag"))),
        ("a session token that nobody has", format!("rcs_{}", "0".repeat(64))),
        ("a session token cut short", format!("rcs_{}", "0".repeat(63))),
        ("a ticket", format!("rct_{}", "0".repeat(64))),
        ("over 8 KiB", signed(HS256, &with(&format!("\"x\":\"{}\"", "y".repeat(8_000))))),
    ]
}

/// Rightly signed, and wrong in what they claim.
fn bad_claims() -> Vec<(&'static str, String)> {
    let long = format!("\"{}\"", "a".repeat(129));
    let claims = [
        ("expired a second ago", expiring(&in_s(-1).to_string())),
        ("expired long ago", expiring("1")),
        ("an exp of 0", expiring("0")),
        ("a negative exp", expiring("-9999999999")),
        ("an exp in quotes", expiring("\"9999999999\"")),
        ("an exp with a fraction", expiring("9999999999.5")),
        ("an exp over i64", expiring("9223372036854775808")),
        ("an exp over i64 in milliseconds", expiring("9223372036854775807")),
        ("an exp of null", expiring("null")),
        ("an exp in an array", expiring("[9999999999]")),
        ("no exp", "{\"sub\":\"ann\",\"rooms\":[\"*\"]}".to_owned()),
        ("two exps", with("\"exp\":9999999999")),
        ("not yet valid", with(&format!("\"nbf\":{}", in_s(300)))),
        ("an nbf beyond i64", with("\"nbf\":1e300")),
        ("issued in the future", with(&format!("\"iat\":{}", in_s(300)))),
        ("an iat in quotes", with("\"iat\":\"1\"")),
        ("a jti that is a number", with("\"jti\":1")),
        ("an exp of infinity", expiring("1e999")),
        ("a sub of white space from elsewhere", of("\"a\u{2003}b\"")),
        ("a sub with a lone surrogate", of("\"a\\ud800\"")),
        ("a sub that is an object", of("{\"id\":\"ann\"}")),
        (
            "a role nested without end",
            expiring(&format!("{},\"role\":{}{}", in_s(600), "[".repeat(2000), "]".repeat(2000))),
        ),
        ("an nbf in quotes", with("\"nbf\":\"1\"")),
        ("no sub", format!("{{\"exp\":{},\"rooms\":[\"*\"]}}", in_s(600))),
        ("two subs", with("\"sub\":\"root\"")),
        ("an empty sub", of("\"\"")),
        ("a sub with a space", of("\"a b\"")),
        ("a sub with a brace", of("\"{a}\"")),
        ("a sub with NUL", of("\"a\\u0000\"")),
        ("a sub of 129 bytes", of(&long)),
        ("a sub that is a number", of("7")),
        ("a sub that is null", of("null")),
        ("rooms that are a text", with("\"role\":\"member\",\"rooms\":\"*\"")),
        (
            "rooms that are numbers",
            format!("{{\"sub\":\"a\",\"exp\":{},\"rooms\":[1]}}", in_s(600)),
        ),
        ("an unknown role", with("\"role\":\"king\"")),
        ("a role that is a number", with("\"role\":1")),
    ];
    claims.map(|(name, claims)| (name, signed(HS256, &claims))).into()
}

/// The status of a handshake with these header lines.
pub(super) async fn status_with(port: u16, lines: &str) -> u16 {
    let mut socket = RawSocket::open(port).await.unwrap();
    let lines = format!("\r\n{lines}\r\n");
    let request = upgrade_request(port, "/ws?user=ann").replace("\r\n\r\n", &lines);
    socket.send(request.as_bytes()).await.unwrap();
    let answer = socket.answer(SOON).await.unwrap();
    if answer.status == 401 {
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    answer.status
}

/// How a connection ends whose first frame is `auth` with this token: its refusal's code, field
/// and text, and the close code.
async fn fate(ws_url: &str, token: &str) -> Result<(String, String, String, u16), String> {
    let mut wire = Wire::connect(ws_url, &Proof::AuthFrame(token.to_owned())).await.unwrap();
    let refused = match next(&mut wire).await {
        Incoming::Reply { reference: 0, outcome: Err(refused) } => refused,
        other => return Err(format!("{other:?}")),
    };
    match next(&mut wire).await {
        Incoming::Closed(closed) => {
            let code = closed.code.ok_or("a close without a code")?;
            Ok((refused.code, refused.field.unwrap_or_default(), refused.message, code))
        }
        other => Err(format!("{other:?}")),
    }
}

/// Each of these is refused, by the header and by the first frame, and in the same words.
pub(super) async fn assert_all_refused(fleet: &Fleet, tokens: &[(&'static str, String)]) {
    let (port, url) = (fleet.gateway().port(), fleet.gateway().ws_url());
    let mut wrong = Vec::new();
    for (name, token) in tokens {
        let status = status_with(port, &format!("Authorization: Bearer {token}\r\n")).await;
        let fate = fate(&url, token).await;
        let told = ["unauthenticated", "token", "the proof of who you are is not valid"];
        let [code, field, text] = told.map(str::to_owned);
        let expected = (code, field, text, 4401);
        if status != 401 || fate != Ok(expected) {
            wrong.push(format!("{name}: {status}, {fate:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), tokens.len(), wrong.join("\n"));
}

#[tokio::test]
async fn a_bad_token_is_401_in_the_handshake_and_4401_in_the_frame() {
    let fleet = asking_gateway().await;
    let port = fleet.gateway().port();
    let tokens = [badly_made(), bad_claims()].concat();
    assert_all_refused(&fleet, &tokens).await;
    assert!(tokens.len() >= 60, "{}", tokens.len());
    assert_closed_for(&fleet, "unauthenticated", tokens.len()).await;
    // The corpus is worth something only if its good neighbours are let in.
    for header in [HS256, "{\"alg\":\"HS256\",\"kid\":\"../../etc/passwd\",\"jku\":\"http://x\"}"] {
        let good = signed(header, &with("\"nbf\":1"));
        let line = format!("Authorization: Bearer {good}\r\n");
        assert_eq!(status_with(port, &line).await, 101, "{header}");
    }
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn an_authorization_that_is_not_one_bearer_token_is_401() {
    let fleet = asking_gateway().await;
    let port = fleet.gateway().port();
    let good = good_token("ann", 600);
    let cases = [
        (format!("Authorization: bearer {good}\r\n"), 101),
        (format!("Authorization: {good}\r\n"), 401),
        (format!("Authorization: Basic {good}\r\n"), 401),
        (format!("Authorization: Bearer {good}, {good}\r\n"), 401),
        ("Authorization: Bearer\r\n".to_owned(), 401),
        ("Authorization: Bearer \r\n".to_owned(), 401),
        ("Authorization:\r\n".to_owned(), 401),
        ("Authorization: Bearer räume\r\n".to_owned(), 401),
        (format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n"), 401),
        (format!("Authorization: Bearer {good}\r\nAuthorization: Bearer x\r\n"), 401),
    ];
    for (lines, status) in cases {
        assert_eq!(status_with(port, &lines).await, status, "{lines}");
    }
}

#[tokio::test]
async fn tokens_secrets_and_what_people_write_show_in_no_log_and_no_metric() {
    let fleet = asking_gateway().await;
    let url = fleet.gateway().ws_url();
    let good = good_token("canary-subject", 600);
    let bad = signed_with("canary", Algorithm::HS256, HS256, &of("\"ann\""));
    let ann = client(&fleet, good.clone()).await;
    ann.join("canary-room", None).await.unwrap();
    ann.send("canary-room", &harness::unique_id(), "canary-content").await.unwrap();
    ann.command("auth", json!({ "token": good })).await.unwrap();
    ann.command("auth", json!({ "token": bad })).await.unwrap_err();
    ann.send_text(format!("{{\"event\":\"auth\",\"data\":{{\"token\":[\"{bad}\"]}}}}"))
        .await
        .unwrap();
    ann.command("heartbeat", json!({})).await.unwrap();
    fate(&url, &bad).await.unwrap();
    let port = fleet.gateway().port();
    assert_eq!(status_with(port, &format!("Authorization: Bearer {bad}\r\n")).await, 401);

    let metrics = fleet.gateway().operator_get("/metrics").await.unwrap().body;
    let stats = fleet.gateway().stats().await.unwrap().to_string();
    let shown = [log_of(&fleet), metrics, stats].concat();
    assert!(metric(&fleet, "roomcast_refusals_total").await >= 3.0);
    for token in [&good, &bad] {
        for part in token.split('.').skip(1) {
            assert!(!shown.contains(part), "a part of a token:\n{shown}");
        }
    }
    assert!(!shown.contains(SECRET) && !shown.contains("canary-content"), "{shown}");
}
