//! Who may use the API at all.

use super::api;
use crate::fixtures::one_gateway::{gateway, gateway_with, log_of};
use fleet::{Fleet, FleetError, GatewayOptions};
use harness::{Api, ApiAnswer};
use serde_json::json;

const PATH: &str = "/api/rooms/r/messages";

/// What `gateway api-key` prints: the key and its digest.
pub(super) async fn minted() -> (String, String) {
    let mut options = GatewayOptions::default();
    options.flags.push("api-key".to_owned());
    let Err(FleetError::Ended { status, log, .. }) = Fleet::embedded(options).await else {
        panic!("it prints a key and ends");
    };
    assert!(status.success(), "{log}");
    let value = |name: &str| {
        let line = log.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    (value("key "), value("digest "))
}

fn is_problem(answer: &ApiAnswer, status: u16, code: &str) {
    assert_eq!(answer.expect(status)["code"], code);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

#[tokio::test]
async fn a_minted_key_opens_the_api_and_nothing_else_does() {
    let (key, digest) = minted().await;
    let (second, second_digest) = minted().await;
    assert!(key.starts_with("rck_") && key != second, "{key}");
    let options = GatewayOptions::default()
        .with_env("ROOMCAST_API_KEYS", format!("{digest}, {second_digest}"));
    let fleet = gateway_with(options).await;
    let api = api(&fleet);
    for key in [&key, &second] {
        api.with_key(key).get(PATH).await.expect(200);
    }
    let (stranger, _) = minted().await;
    let cut = &key[..key.len() - 1];
    for wrong in [stranger.as_str(), cut, &digest, "", "rck_"] {
        let answer = api.with_key(wrong).get(PATH).await;
        is_problem(&answer, 401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    is_problem(&api.get(PATH).await, 401, "unauthenticated");
    let basic = api.with_header("authorization", &format!("Basic {key}"));
    is_problem(&basic.get(PATH).await, 401, "unauthenticated");
    let twice = api.with_key(&key).with_key(&stranger);
    is_problem(&twice.get(PATH).await, 401, "unauthenticated");
    // Without a key nobody learns which routes there are; the description is for everybody.
    is_problem(&api.get("/api/nothing").await, 401, "unauthenticated");
    is_problem(&api.with_key(&key).get("/api/nothing").await, 404, "not_found");
    api.get("/api/openapi.json").await.expect(200);
    let log = log_of(&fleet);
    assert!(!log.contains(&key[4..]) && !log.contains(&stranger[4..]), "{log}");
}

#[tokio::test]
async fn without_keys_the_api_is_closed_except_to_this_machine_in_the_development_mode() {
    let asking = gateway_with(GatewayOptions::default().with_jwt_secret(crate::auth::SECRET)).await;
    let answer = api(&asking).get(PATH).await;
    is_problem(&answer, 403, "forbidden");
    assert!(answer.json()["detail"].as_str().unwrap().contains("gateway api-key"));
    is_problem(&api(&asking).with_key("rck_whatever").get(PATH).await, 403, "forbidden");

    let open = gateway().await;
    api(&open).get(PATH).await.expect(200);
    api(&open).with_header("host", "localhost:3001").get(PATH).await.expect(200);
    // A name of another site that leads here, as a page can have it.
    let rebound = Api::new(open.gateway().port()).with_header("host", "evil.example:3001");
    is_problem(&rebound.get(PATH).await, 403, "forbidden");
    // What a page can send without asking first.
    let form = api(&open).with_header("content-type", "text/plain");
    let body = json!({ "userId": "ann", "content": "x" }).to_string().into_bytes();
    let answer = form.raw("POST", PATH, body).await.unwrap();
    is_problem(&answer, 415, "bad_request");
}

#[tokio::test]
async fn a_key_where_a_digest_belongs_is_refused_at_the_start_and_not_shown() {
    let (key, _) = minted().await;
    let options = GatewayOptions::default().with_env("ROOMCAST_API_KEYS", key.clone());
    let Err(FleetError::Ended { status, log, .. }) = Fleet::embedded(options).await else {
        panic!("it does not start");
    };
    assert_eq!(status.code(), Some(64));
    assert!(log.contains("ROOMCAST_API_KEYS: ") && !log.contains(&key[4..]), "{log}");
}

#[tokio::test]
async fn there_is_no_other_command() {
    let mut options = GatewayOptions::default();
    options.flags.push("api-keys".to_owned());
    let Err(FleetError::Ended { status, log, .. }) = Fleet::embedded(options).await else {
        panic!("there is no such command");
    };
    assert_eq!((status.code(), log.trim()), (Some(64), "api-keys: no such command"));
}
