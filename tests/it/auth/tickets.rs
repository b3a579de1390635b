//! Tickets that open one connection, and session tokens that are as good as a token.

use super::bad_tokens::{assert_all_refused, status_with};
use super::{cluster_with_api, gateway_with_api, good_token, refusal};
use crate::fixtures::one_gateway::{SOON, assert_no_panic, log_of};
use fleet::{Fleet, Reply};
use futures_util::future::join_all;
use harness::http::Api;
use harness::raw::{RawSocket, upgrade_request};
use harness::{Client, Proof};
use serde_json::{Value, json};

/// How many tickets each race is about.
const TICKETS: usize = 1_000;
/// Races at a time.
const ABREAST: usize = 10;

async fn ticket(api: &Api, more: Value) -> String {
    let mut asked = json!({ "userId": "ann", "rooms": ["team-*"] });
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let minted = api.post("/api/tickets", &asked).await.expect(201);
    minted["ticket"].as_str().unwrap().to_owned()
}

async fn session(api: &Api, more: Value) -> String {
    let mut asked = json!({ "userId": "ann", "rooms": ["team-*"] });
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let minted = api.post("/api/sessions", &asked).await.expect(201);
    minted["token"].as_str().unwrap().to_owned()
}

/// The status of a handshake at this path, with further lines.
async fn status_at(port: u16, path: &str, lines: &str) -> u16 {
    let mut socket = RawSocket::open(port).await.unwrap();
    let request = upgrade_request(port, path).replace("\r\n\r\n", &format!("\r\n{lines}\r\n"));
    socket.send(request.as_bytes()).await.unwrap();
    socket.answer(SOON).await.unwrap().status
}

/// Two connections come with each ticket at the same time; one of the two is let in.
async fn race(ports: [u16; 2], api: &Api) {
    for _ in 0..TICKETS / ABREAST {
        let races = (0..ABREAST).map(|_| async {
            let path = format!("/ws?ticket={}", ticket(api, json!({})).await);
            let both = ports.map(|port| status_at(port, &path, ""));
            let mut statuses = join_all(both).await;
            statuses.sort_unstable();
            assert_eq!(statuses, [101, 401]);
        });
        join_all(races).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_come_with_one_ticket_one_is_let_in() {
    let (fleet, api) = gateway_with_api().await;
    race([fleet.gateway().port(); 2], &api).await;
    assert_no_panic(&fleet);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_come_with_one_ticket_to_two_nodes_one_is_let_in() {
    let (fleet, [api, _]) = cluster_with_api().await;
    race([fleet.gateways()[0].port(), fleet.gateways()[1].port()], &api).await;
}

#[tokio::test]
async fn a_ticket_opens_a_connection_as_the_user_and_for_the_rooms_it_was_made_for() {
    let (fleet, api) = gateway_with_api().await;
    let ticket = ticket(&api, json!({ "role": "assistant" })).await;
    let url = format!("{}?ticket={ticket}", fleet.gateway().ws_url());
    let ann = Client::connect(&url, &Proof::Nobody).await.unwrap();
    assert_eq!(ann.welcome()["userId"], "ann");
    ann.join("team-1", None).await.unwrap();
    let data = json!({ "roomId": "team-1", "content": "x", "type": "assistant" });
    ann.command("message:send", data).await.unwrap();
    assert_eq!(refusal(ann.command("room:join", json!({ "roomId": "x" })).await).code, "forbidden");
    // It goes on with a token, as any other connection does.
    ann.command("auth", json!({ "token": good_token("ann", 600) })).await.unwrap();
    ann.join("x", None).await.unwrap();
    let again = Client::connect(&url, &Proof::Nobody).await.unwrap_err();
    assert!(again.to_string().contains("no connection"), "{again}");
}

#[tokio::test]
async fn a_ticket_that_is_bound_to_an_origin_refuses_every_other() {
    let (options, key) = super::with_api();
    let list = "https://app.example.com, https://two.example.com, http://localhost:3000";
    let options = options.with_env("ROOMCAST_ALLOWED_ORIGINS", list);
    let fleet = crate::fixtures::one_gateway::gateway_with(options).await;
    let port = fleet.gateway().port();
    let api = Api::new(port).with_key(&key);
    let app = "https://app.example.com";
    let own = format!("http://127.0.0.1:{port}");
    // All of these origins may connect; the ticket alone tells them apart.
    let table = [
        (Some(app), Some(app), 101),
        (Some("https://APP.example.com:443"), Some(app), 101),
        (Some(app), Some("https://app.example.com:443"), 101),
        (Some(app), Some("https://two.example.com"), 401),
        (Some(app), Some("http://localhost:3000"), 401),
        (Some(app), Some(own.as_str()), 401),
        (Some(app), None, 401),
        (Some(own.as_str()), Some(own.as_str()), 101),
        (Some("http://localhost:3000"), Some("http://localhost:3000"), 101),
        (None, Some("https://two.example.com"), 101),
        (None, None, 101),
    ];
    for (bound, comes_from, expected) in table {
        let more = bound.map_or(json!({}), |origin| json!({ "origin": origin }));
        let path = format!("/ws?ticket={}", ticket(&api, more).await);
        let line = comes_from.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let status = status_at(port, &path, &line).await;
        assert_eq!(status, expected, "{bound:?} {comes_from:?}");
        // Whoever brought it, it is gone.
        let again = bound.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        assert_eq!(status_at(port, &path, &again).await, 401);
    }
    for origin in ["null", "app.example.com", "https://app.example.com/", "https://*", ""] {
        let asked = json!({ "userId": "ann", "origin": origin });
        assert_eq!(api.post("/api/tickets", &asked).await.status, 400, "{origin}");
    }
}

#[tokio::test]
async fn a_token_in_an_address_and_a_proof_beside_another_are_refused() {
    let (fleet, api) = gateway_with_api().await;
    let port = fleet.gateway().port();
    let good = good_token("ann", 600);
    let bearer = format!("Authorization: Bearer {good}\r\n");
    let unused = ticket(&api, json!({})).await;
    let table = [
        (format!("/ws?token={good}"), "", 400),
        (format!("/ws?token={good}"), bearer.as_str(), 400),
        (format!("/ws?access_token={good}"), "", 400),
        (format!("/ws?ticket={unused}&token={good}"), "", 400),
        (format!("/ws?ticket={unused}"), bearer.as_str(), 400),
        (format!("/ws?ticket={unused}&ticket={unused}"), "", 400),
        (format!("/ws?ticket={good}"), "", 401),
        ("/ws?ticket=".to_owned(), "", 401),
        ("/ws?ticket".to_owned(), "", 401),
        (format!("/ws?ticket={}", unused.to_uppercase()), "", 401),
        (format!("/ws?ticket={}", &unused[..unused.len() - 1]), "", 401),
        (format!("/ws?ticket=rct_{}", "0".repeat(64)), "", 401),
        (format!("/ws?ticket={unused}"), "", 101),
    ];
    for (path, lines, expected) in table {
        assert_eq!(status_at(port, &path, lines).await, expected, "{path}");
    }
    // A ticket is for the address alone.
    let fresh = ticket(&api, json!({})).await;
    assert_all_refused(&fleet, &[("a ticket", fresh.clone())]).await;
    assert_eq!(status_at(port, &format!("/ws?ticket={fresh}"), "").await, 101);
    let session = session(&api, json!({})).await;
    assert_eq!(status_at(port, &format!("/ws?ticket={session}"), "").await, 401);
}

#[tokio::test]
async fn a_session_token_is_as_good_as_a_token_until_it_expires_or_is_taken_back() {
    let (fleet, api) = gateway_with_api().await;
    let port = fleet.gateway().port();
    let token = session(&api, json!({})).await;
    let bearer = format!("Authorization: Bearer {token}\r\n");
    for _ in 0..2 {
        assert_eq!(status_with(port, &bearer).await, 101, "it is good more than once");
    }
    let url = fleet.gateway().ws_url();
    let mut ann = Client::connect(&url, &Proof::AuthFrame(token.clone())).await.unwrap();
    ann.join("team-1", None).await.unwrap();
    ann.command("auth", json!({ "token": token })).await.unwrap();
    // Another one, which ends soon, and takes its place.
    let short = session(&api, json!({ "expiresInMs": 1_500 })).await;
    let mut bob = Client::connect(&url, &Proof::Bearer(short.clone())).await.unwrap();
    assert_eq!(bob.closed(SOON).await.unwrap().code, Some(4401));
    assert_all_refused(&fleet, &[("an expired session", short)]).await;
    api.post("/api/revoke", &json!({ "token": token })).await.expect(200);
    assert_eq!(ann.closed(SOON).await.unwrap().code, Some(4401));
    assert_all_refused(&fleet, &[("a session that was taken back", token)]).await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn redis_holds_no_proof_and_each_node_takes_what_another_gave_out() {
    let (fleet, [one, _]) = cluster_with_api().await;
    let (ticket, token) = (ticket(&one, json!({})).await, session(&one, json!({})).await);
    let keys = fleet.redis().command(&["KEYS", "roomcast:*"]).await.unwrap();
    let keys: Vec<&str> = keys.array().iter().filter_map(Reply::text).collect();
    let proofs = ["roomcast:ticket:", "roomcast:session:"];
    let proofs = proofs.map(|prefix| *keys.iter().find(|key| key.starts_with(prefix)).unwrap());
    for (key, most_ms) in proofs.into_iter().zip([30_000, i64::MAX]) {
        let value = fleet.redis().command(&["GET", key]).await.unwrap();
        let shown = format!("{key}{}", value.text().unwrap());
        for proof in [&ticket, &token] {
            assert!(!shown.contains(&proof[4..]), "{shown}");
        }
        let left = fleet.redis().command(&["PTTL", key]).await.unwrap().integer().unwrap();
        assert!((1..=most_ms).contains(&left), "{key} {left}");
    }
    let port = fleet.gateways()[1].port();
    assert_eq!(status_at(port, &format!("/ws?ticket={ticket}"), "").await, 101);
    assert_eq!(status_with(port, &format!("Authorization: Bearer {token}\r\n")).await, 101);
    // Nobody is let in, and nobody is told to get another proof, while nobody can look.
    fleet.redis().stop().await.unwrap();
    assert_eq!(status_with(port, &format!("Authorization: Bearer {token}\r\n")).await, 503);
    let jwt = format!("Authorization: Bearer {}\r\n", good_token("ann", 600));
    assert_eq!(status_with(port, &jwt).await, 101, "a token needs no Redis");
    fleet.redis().cont().unwrap();
}

#[tokio::test]
async fn tickets_and_session_tokens_show_in_no_log_and_no_metric() {
    let (fleet, api) = gateway_with_api().await;
    let port = fleet.gateway().port();
    let (used, unused) = (ticket(&api, json!({})).await, ticket(&api, json!({})).await);
    let token = session(&api, json!({})).await;
    for path in [&used, &used, &token].map(|proof| format!("/ws?ticket={proof}")) {
        status_at(port, &path, "").await;
    }
    for path in [&unused, &token].map(|proof| format!("/ws?token={proof}")) {
        assert_eq!(status_at(port, &path, "").await, 400);
    }
    let ann = Client::connect(&fleet.gateway().ws_url(), &Proof::Bearer(token.clone())).await;
    let ann = ann.unwrap();
    ann.command("auth", json!({ "token": token })).await.unwrap();
    ann.command("auth", json!({ "token": unused })).await.unwrap_err();
    api.post("/api/revoke", &json!({ "token": token })).await.expect(200);
    assert_nothing_shows(&fleet, &[used, unused, token]).await;
}

async fn assert_nothing_shows(fleet: &Fleet, proofs: &[String]) {
    let metrics = fleet.gateway().operator_get("/metrics").await.unwrap().body;
    let stats = fleet.gateway().stats().await.unwrap().to_string();
    let shown = [log_of(fleet), metrics, stats].concat();
    for proof in proofs {
        assert!(!shown.contains(&proof[4..]), "a proof shows:\n{shown}");
    }
}
