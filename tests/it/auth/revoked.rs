//! Proofs that are taken back, and people who are cut off, on every node.

use super::bad_tokens::status_with;
use super::forged::in_s;
use super::{SECRET, cluster_with_api, gateway_with_api};
use crate::fixtures::one_gateway::SOON;
use fleet::Fleet;
use harness::{Client, Proof, eventually, token};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Far below the 30 s after which a node would find out by itself.
const AT_ONCE: Duration = Duration::from_secs(10);

fn issued(user: &str, iat: i64, more: Value) -> String {
    let mut claims = json!({ "rooms": ["*"], "iat": iat });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    token(SECRET, user, 600, &claims)
}

async fn connected(fleet: &Fleet, node: usize, token: &str) -> Client {
    let url = fleet.gateways()[node].ws_url();
    Client::connect(&url, &Proof::Bearer(token.to_owned())).await.unwrap()
}

/// What each node answers to a handshake with this token.
async fn statuses(fleet: &Fleet, token: &str) -> Vec<u16> {
    let line = format!("Authorization: Bearer {token}\r\n");
    let mut statuses = Vec::new();
    for node in fleet.gateways() {
        statuses.push(status_with(node.port(), &line).await);
    }
    statuses
}

/// The connection ends so, and soon.
async fn ends_with(client: &mut Client, code: u16) {
    let began = Instant::now();
    assert_eq!(client.closed(AT_ONCE).await.unwrap().code, Some(code));
    assert!(began.elapsed() < AT_ONCE);
}

/// Still there, and heard.
async fn is_there(client: &Client) -> bool {
    client.command("heartbeat", json!({})).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_user_is_cut_off_on_every_node_and_comes_back_with_a_new_token_only() {
    let (fleet, [api, _]) = cluster_with_api().await;
    let old = issued("ann", in_s(-5), json!({}));
    let unmarked = token(SECRET, "ann", 600, &json!({ "rooms": ["*"] }));
    let session = json!({ "userId": "ann", "rooms": ["*"] });
    let session = api.post("/api/sessions", &session).await.expect(201);
    let session = session["token"].as_str().unwrap().to_owned();
    let mut cut = Vec::new();
    for (node, proof) in [(0, &old), (1, &old), (1, &unmarked), (0, &session), (1, &session)] {
        cut.push(connected(&fleet, node, proof).await);
    }
    let bob = connected(&fleet, 1, &issued("bob", in_s(-5), json!({}))).await;
    api.post("/api/revoke", &json!({ "userId": "ann" })).await.expect(200);
    for client in &mut cut {
        ends_with(client, 4401).await;
    }
    assert!(is_there(&bob).await);
    for refused in [&old, &unmarked, &session] {
        assert_eq!(statuses(&fleet, refused).await, [401, 401]);
    }
    let back = || async {
        let fresh = issued("ann", in_s(0), json!({}));
        statuses(&fleet, &fresh).await == [101, 101]
    };
    eventually(SOON, "a token of the next second is good", back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_revoked_token_takes_no_other_with_it() {
    let (fleet, [_, api]) = cluster_with_api().await;
    let revoked = issued("ann", in_s(-5), json!({ "jti": "t-1" }));
    let other = issued("ann", in_s(-5), json!({ "jti": "t-2" }));
    let mut cut = connected(&fleet, 0, &revoked).await;
    let stays = connected(&fleet, 0, &other).await;
    api.post("/api/revoke", &json!({ "tokenId": "t-1" })).await.expect(200);
    ends_with(&mut cut, 4401).await;
    assert!(is_there(&stays).await);
    assert_eq!(statuses(&fleet, &revoked).await, [401, 401]);
    assert_eq!(statuses(&fleet, &other).await, [101, 101]);
    // Nor does it come in by the back door.
    let refreshed = stays.command("auth", json!({ "token": revoked })).await.unwrap_err();
    assert_eq!(refreshed.code(), Some("unauthenticated"));
    assert!(is_there(&stays).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnected_user_is_gone_from_every_node_and_may_come_back() {
    let (fleet, [api, _]) = cluster_with_api().await;
    let ann = issued("ann", in_s(-5), json!({}));
    let mut cut = [connected(&fleet, 0, &ann).await, connected(&fleet, 1, &ann).await];
    let bob = connected(&fleet, 1, &issued("bob", in_s(-5), json!({}))).await;
    api.post("/api/disconnect", &json!({ "userId": "ann" })).await.expect(200);
    for client in &mut cut {
        ends_with(client, 4403).await;
    }
    assert!(is_there(&bob).await);
    assert_eq!(statuses(&fleet, &ann).await, [101, 101]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_no_signal_carries_reaches_every_node_from_the_database() {
    let (mut fleet, [api, _]) = cluster_with_api().await;
    let ann = issued("ann", in_s(-5), json!({}));
    let mut cut = [connected(&fleet, 0, &ann).await, connected(&fleet, 1, &ann).await];
    fleet.redis_mut().kill_9().await.unwrap();
    api.post("/api/revoke", &json!({ "userId": "ann" })).await.expect(200);
    ends_with(&mut cut[0], 4401).await;
    fleet.redis_mut().restart(SOON).await.unwrap();
    let within = Duration::from_secs(35);
    assert_eq!(cut[1].closed(within).await.unwrap().code, Some(4401));
    assert_eq!(statuses(&fleet, &ann).await, [401, 401]);
}

#[tokio::test]
async fn a_revocation_outlives_the_process_that_made_it() {
    let (mut fleet, api) = gateway_with_api().await;
    let ann = issued("ann", in_s(-5), json!({}));
    let mut cut = connected(&fleet, 0, &ann).await;
    api.post("/api/revoke", &json!({ "userId": "ann" })).await.expect(200);
    ends_with(&mut cut, 4401).await;
    fleet.gateway_mut().kill_9().await.unwrap();
    fleet.gateway_mut().restart(SOON).await.unwrap();
    assert_eq!(statuses(&fleet, &ann).await, [401]);
}
