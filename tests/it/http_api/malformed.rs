//! Requests that are wrong in some way: always a problem document, never a fault of the server's.

use super::api;
use crate::fixtures::one_gateway::{assert_no_panic, gateway};
use harness::{Api, ApiAnswer};
use serde_json::{Value, json};

/// Every route that takes a body.
const TAKING: [(&str, &str); 13] = [
    ("POST", "/api/rooms/r/messages"),
    ("POST", "/api/rooms/r/messages/batch"),
    ("PATCH", "/api/rooms/r/messages/m"),
    ("POST", "/api/rooms/r/presence"),
    ("PUT", "/api/rooms/r/members/ann"),
    ("POST", "/api/tickets"),
    ("POST", "/api/sessions"),
    ("POST", "/api/revoke"),
    ("POST", "/api/disconnect"),
    ("POST", "/api/credits/track"),
    ("POST", "/api/credits/synced"),
    ("POST", "/api/erase"),
    // A message that is called like a route.
    ("PATCH", "/api/rooms/r/messages/%62atch"),
];

#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    /// A problem document with its own status in it, and, where one is wanted, this one.
    fn problem(&mut self, what: &str, answer: &ApiAnswer, status: Option<u16>) {
        let document = answer.json();
        let wrong = answer.status < 400
            || answer.status >= 500
            || status.is_some_and(|status| status != answer.status)
            || answer.header("content-type") != Some("application/problem+json")
            || document["status"] != answer.status
            || !document["detail"].is_string();
        if wrong {
            self.0.push(format!("{what}: {} {document}", answer.status));
        }
    }

    fn assert_none(&self) {
        assert!(self.0.is_empty(), "{}:\n{}", self.0.len(), self.0.join("\n"));
    }
}

async fn raw(api: &Api, method: &str, path: &str, body: &[u8]) -> ApiAnswer {
    let api = api.with_header("content-type", "application/json");
    api.raw(method, path, body.to_vec()).await.expect("an answer")
}

#[tokio::test]
async fn a_body_that_is_no_object_of_known_fields_is_a_problem_on_every_route() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let mut findings = Findings::default();
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let deep_field =
        format!("{{\"userId\":\"ann\",\"content\":\"x\",\"metadata\":{{\"a\":{deep}}}}}");
    let bodies: Vec<Vec<u8>> = vec![
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"text\"".to_vec(),
        b"{".to_vec(),
        b"{}{}".to_vec(),
        b"{\"userId\":}".to_vec(),
        b"{'userId':'ann'}".to_vec(),
        b"\xff\xfe{}".to_vec(),
        b"{\"userId\":\"\xc3\x28\"}".to_vec(),
        b"{\"noSuchField\":1}".to_vec(),
        b"{\"userId\":\"ann\",\"content\":\"x\",\"role\":1,\"colour\":\"red\"}".to_vec(),
        b"{\"userId\":1,\"content\":1,\"role\":1,\"ids\":1,\"messages\":1,\"updates\":1}".to_vec(),
        b"{\"userId\":\"ann\",\"userId\":\"bob\",\"role\":\"member\",\"role\":\"member\"}".to_vec(),
        b"{\"userId\":\"a b\",\"content\":\"x\",\"role\":\"king\"}".to_vec(),
        b"{\"userId\":\"\\ud800\",\"content\":\"\\udfff\",\"role\":\"\\ud800\"}".to_vec(),
        deep.into_bytes(),
        deep_field.into_bytes(),
    ];
    for (method, path) in TAKING {
        for body in &bodies {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let answer = raw(&api, method, path, body).await;
            findings.problem(&format!("{method} {path} {shown}"), &answer, None);
        }
        let plain = api.with_header("content-type", "text/plain");
        let answer = plain.raw(method, path, b"{}".to_vec()).await.unwrap();
        findings.problem(&format!("{method} {path} as text"), &answer, Some(415));
    }
    findings.assert_none();
    assert_no_panic(&fleet);
}

async fn raw_body(api: &Api, path: &str, body: String) -> ApiAnswer {
    let json = api.with_header("content-type", "application/json");
    json.raw("POST", path, body.into_bytes()).await.unwrap()
}

#[tokio::test]
async fn a_value_out_of_its_limits_is_refused_by_name() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let message = |field: &str, value: Value| {
        let mut body = json!({ "userId": "ann", "content": "x" });
        body[field] = value;
        body
    };
    let deep = (0..17).fold(json!(1), |inner, _| json!([inner]));
    let ahead = "0fffffff-ffff-7abc-8def-0123456789ab";
    let cases = [
        (message("content", json!("a\u{0}b")), 400, "content"),
        (message("content", json!("x".repeat(262_145))), 413, "content"),
        (message("content", json!(null)), 400, "content"),
        (message("metadata", json!({ "a": "\u{0}" })), 400, "metadata"),
        (message("metadata", json!({ "a": "x".repeat(16_384) })), 413, "metadata"),
        (message("metadata", json!({ "a": deep })), 413, "metadata"),
        (message("metadata", json!([])), 400, "metadata"),
        (message("type", json!("robot")), 400, "type"),
        (message("id", json!("")), 400, "id"),
        (message("id", json!("x".repeat(129))), 400, "id"),
        (message("id", json!(ahead)), 400, "id"),
        (message("userId", json!("a\u{a0}b")), 400, "userId"),
        (message("credits", json!(0)), 400, "credits.amount"),
        (message("credits", json!(-1)), 400, "credits"),
        (message("credits", json!(1.5)), 400, "credits"),
        (message("credits", json!({ "amount": 1, "colour": 1 })), 400, "credits.colour"),
        (message("roomId", json!("r")), 400, "roomId"),
        (message("id", json!(null)), 400, "id"),
        (message("type", json!(null)), 400, "type"),
        (message("metadata", json!(null)), 400, "metadata"),
        (message("credits", json!(null)), 400, "credits"),
        (message("credits", json!({ "amount": 1, "userId": null })), 400, "credits.userId"),
    ];
    for (body, status, field) in cases {
        let problem = api.post("/api/rooms/r/messages", &body).await.expect(status);
        assert_eq!(problem["field"], field, "{problem}");
    }
    for key in ["", &"x".repeat(256), "é", "a\tb"] {
        let keyed = api.with_header("idempotency-key", key);
        let problem = keyed.post("/api/rooms/r/messages", &message("type", json!("user"))).await;
        assert_eq!(problem.expect(400)["field"], "Idempotency-Key", "{key}");
        let named = json!({ "content": "x", "changeId": "c" });
        let (one, many) = (message("id", json!("m")), json!({ "messages": [{}] }));
        let used = json!({ "userId": "ann", "amount": 1, "id": "u" });
        // Whether the key is needed or not.
        for (method, path, body) in [
            ("POST", "/api/rooms/r/messages", Some(&one)),
            ("POST", "/api/rooms/r/messages/batch", Some(&many)),
            ("PATCH", "/api/rooms/r/messages/m", Some(&named)),
            ("DELETE", "/api/rooms/r/messages/m?changeId=c", None),
            ("POST", "/api/credits/track", Some(&used)),
            ("POST", "/api/credits/track", Some(&json!({ "items": [{}] }))),
        ] {
            let problem = keyed.ask(method, path, body).await.expect(400);
            assert_eq!(problem["field"], "Idempotency-Key", "{method} {path} {key}");
        }
    }
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn nothing_is_no_value_and_whole_numbers_are_whole_however_they_are_written() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let nulls = [
        ("PATCH", "/api/rooms/r/messages/m", json!({ "content": "x", "metadata": null })),
        ("POST", "/api/tickets", json!({ "userId": "ann", "origin": null })),
        ("POST", "/api/sessions", json!({ "userId": "ann", "expiresInMs": null })),
        ("POST", "/api/revoke", json!({ "userId": "ann", "token": null })),
        ("POST", "/api/erase", json!({ "userId": "ann", "roomId": null })),
        ("POST", "/api/credits/track", json!({ "userId": "ann", "amount": 1, "messageId": null })),
        ("POST", "/api/credits/track", json!({ "items": null })),
    ];
    for (method, path, body) in nulls {
        let problem = api.ask(method, path, Some(&body)).await.expect(400);
        assert!(body[problem["field"].as_str().unwrap()].is_null(), "{problem}");
    }
    let whole = |text: &str| raw_body(&api, "/api/credits/track", text.to_owned());
    let used = whole(r#"{"userId":"ann","amount":25128484.0,"id":"w"}"#).await.expect(201);
    assert_eq!(used["duplicate"], false);
    let used = whole(r#"{"userId":"ann","amount":2.5128484e7,"id":"w"}"#).await.expect(200);
    assert_eq!(used["duplicate"], true);
    assert_eq!(whole(r#"{"userId":"ann","amount":1.5}"#).await.expect(400)["field"], "amount");
    let large = vec![b' '; 1024 * 1024 + 1];
    let answer = raw(&api, "POST", "/api/rooms/r/messages", &large).await;
    assert_eq!(answer.expect(413)["limit"], 1024 * 1024);
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_path_or_a_query_that_is_wrong_is_a_problem() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let mut findings = Findings::default();
    let long = format!("/api/rooms/{}/messages", "x".repeat(129));
    let cases = [
        ("/api", 404),
        ("/api/", 404),
        ("/api/nothing", 404),
        ("/api/rooms", 404),
        ("/api/rooms/r", 404),
        ("/api/rooms/r/messages/", 405),
        ("/api/rooms//messages", 400),
        ("/api/rooms/%/messages", 400),
        ("/api/rooms/%2/messages", 400),
        ("/api/rooms/%zz/messages", 400),
        ("/api/rooms/%ff/messages", 400),
        ("/api/rooms/%00/messages", 400),
        ("/api/rooms/a%20b/messages", 400),
        ("/api/rooms/%7Bx%7D/messages", 400),
        ("/api/rooms/%ED%A0%80/messages", 400),
        (long.as_str(), 400),
        ("/api/rooms/r/messages?limit=0", 400),
        ("/api/rooms/r/messages?limit=201", 400),
        ("/api/rooms/r/messages?limit=ten", 400),
        ("/api/rooms/r/messages?limit=1&limit=1", 400),
        ("/api/rooms/r/messages?colour=red", 400),
        ("/api/rooms/r/messages?before=1", 400),
        ("/api/rooms/r/messages?before=1-x", 400),
        ("/api/rooms/r/messages?after=%", 400),
        ("/api/rooms/r/messages?after=99999999999999999999-1", 400),
        ("/api/rooms/r/stream?after=a%20b", 400),
        ("/api/rooms/r/stream?before=1-1", 400),
        ("/api/rooms/r/members?after=a%20b", 400),
        ("/api/rooms/r/presence?x=1", 400),
        ("/api/credits/a%20b", 400),
        ("/api/credits/ann?x=1", 400),
    ];
    for (path, status) in cases {
        findings.problem(path, &api.get(path).await, Some(status));
    }
    findings.assert_none();
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_method_that_a_route_does_not_have_is_named_with_those_it_has() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let mut findings = Findings::default();
    for (path, allow) in [
        ("/api/rooms/r/messages", "GET, HEAD, POST"),
        ("/api/rooms/r/messages/batch", "POST"),
        ("/api/rooms/r/members/ann", "PUT, DELETE"),
        ("/api/credits/track", "POST"),
        ("/api/credits/synced", "POST"),
        ("/api/credits/%74rack", "GET, HEAD"),
        ("/api/openapi.json", "GET, HEAD"),
    ] {
        for method in ["OPTIONS", "TRACE", "BREW", "get"] {
            let answer = raw(&api, method, path, b"").await;
            findings.problem(&format!("{method} {path}"), &answer, Some(405));
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        }
    }
    let head = api.ask("HEAD", "/api/rooms/r/messages", None).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    findings.assert_none();
    assert_no_panic(&fleet);
}
