//! HTTP connections: how many there may be, how long they may wait, and what a leaving node does
//! about those that read nothing.

use std::time::Duration;

use super::floods::flood;
use crate::auth::{SECRET, good_token};
use crate::fixtures::one_gateway::{SOON, assert_no_panic, gateway_with};
use crate::fixtures::rows_of;
use fleet::{Fleet, GatewayOptions};
use harness::raw::{Ending, HttpAnswer, RawError, RawSocket, text, upgrade_request};
use harness::{Client, Proof, eventually, unique_id};
use serde_json::json;

const REQUEST: &[u8] = b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Asks once, and leaves the connection open.
async fn asked(socket: &mut RawSocket) -> Result<HttpAnswer, RawError> {
    socket.send(REQUEST).await.map_err(RawError::Socket)?;
    socket.answer(SOON).await
}

/// A connection that has asked once and waits.
async fn kept_alive(port: u16) -> RawSocket {
    let mut socket = RawSocket::open(port).await.unwrap();
    assert_eq!(asked(&mut socket).await.unwrap().status, 200);
    socket
}

/// What one more connection is answered, unasked or asked.
async fn one_more(port: u16) -> u16 {
    let mut socket = RawSocket::open(port).await.unwrap();
    // It may have been closed already.
    let _sent = socket.send(REQUEST).await;
    let answer = socket.answer(SOON).await.unwrap();
    let is_full = matches!(answer.status, 429 | 503);
    assert_eq!(answer.header("retry-after").is_some(), is_full, "{answer:?}");
    answer.status
}

async fn comes_in(port: u16) {
    eventually(SOON, "a place is free", || async { one_more(port).await == 200 }).await;
}

#[tokio::test]
async fn a_connection_waits_longer_for_its_next_request_than_for_the_rest_of_one() {
    let fleet = gateway_with(GatewayOptions::default()).await;
    let mut patient = kept_alive(fleet.gateway().port()).await;
    let mut slow = kept_alive(fleet.gateway().port()).await;
    slow.send(&REQUEST[..10]).await.unwrap();
    assert_eq!(slow.ending(SOON).await.unwrap(), Ending::Eof, "a head has five seconds");
    // The other has waited for as long, and a balancer may still use it.
    assert_eq!(asked(&mut patient).await.unwrap().status, 200);
    assert_eq!(asked(&mut patient).await.unwrap().status, 200);

    let options = GatewayOptions::default().with_env("ROOMCAST_HTTP_IDLE_TIMEOUT_MS", "500");
    let fleet = gateway_with(options).await;
    let mut idle = kept_alive(fleet.gateway().port()).await;
    assert_eq!(idle.ending(SOON).await.unwrap(), Ending::Eof);
    let url = fleet.gateway().ws_url();
    let ann = Client::connect(&url, &Proof::user("ann")).await.unwrap();
    // A WebSocket is no idle connection of that kind.
    let mut idle = kept_alive(fleet.gateway().port()).await;
    assert_eq!(idle.ending(SOON).await.unwrap(), Ending::Eof);
    ann.command("heartbeat", json!({})).await.unwrap();
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn sockets_that_nobody_has_said_whose_they_are_are_bounded_in_all() {
    let options = GatewayOptions::default()
        .with_env("ROOMCAST_UNAUTHENTICATED_MAX", "6")
        .with_env("ROOMCAST_CONNECTIONS_MAX", "100");
    let fleet = gateway_with(options).await;
    let port = fleet.gateway().port();
    let url = fleet.gateway().ws_url();
    let mut clients = Vec::new();
    for user in 0..10 {
        clients.push(Client::connect(&url, &Proof::user(&format!("user-{user}"))).await.unwrap());
    }
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(kept_alive(port).await);
    }
    // One that says nothing at all counts too.
    waiting.push(RawSocket::open(port).await.unwrap());
    let full = || async { one_more(port).await == 503 };
    eventually(SOON, "all places are taken", full).await;
    for client in &clients {
        client.command("heartbeat", json!({})).await.unwrap();
    }
    waiting.pop();
    comes_in(port).await;
    drop(waiting);

    // Where only few connections are allowed, few sockets are.
    let options = GatewayOptions::default().with_env("ROOMCAST_CONNECTIONS_MAX", "1");
    let fleet = gateway_with(options).await;
    let port = fleet.gateway().port();
    let mut waiting = Vec::new();
    for _ in 0..65 {
        waiting.push(kept_alive(port).await);
    }
    assert_eq!(one_more(port).await, 503);
    assert_eq!(fleet.gateway().operator_get("/livez").await.unwrap().status, 200);
    waiting.clear();
    comes_in(port).await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn sockets_that_nobody_has_said_whose_they_are_are_bounded_for_an_address() {
    let options = GatewayOptions::default().with_jwt_secret(SECRET);
    let options = options.with_env("ROOMCAST_UNAUTHENTICATED_PER_ADDRESS", "3");
    let fleet = gateway_with(options).await;
    let port = fleet.gateway().port();
    let url = fleet.gateway().ws_url();
    let token = good_token("ann", 600);
    let mut known = Vec::new();
    for proof in [Proof::Bearer(token.clone()), Proof::AuthFrame(token.clone())] {
        for _ in 0..5 {
            known.push(Client::connect(&url, &proof).await.unwrap());
        }
    }
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(RawSocket::upgraded(port, "/ws", SOON).await.unwrap());
    }
    assert_eq!(one_more(port).await, 429);
    let auth = json!({ "event": "auth", "ref": 1, "data": { "token": token } });
    silent[0].send(&text(&auth.to_string())).await.unwrap();
    comes_in(port).await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn behind_a_proxy_each_client_has_its_own_bound() {
    let options = GatewayOptions::default()
        .with_jwt_secret(SECRET)
        .with_env("ROOMCAST_TRUSTED_PROXIES", "127.0.0.1")
        .with_env("ROOMCAST_UNAUTHENTICATED_PER_ADDRESS", "2");
    let fleet = gateway_with(options).await;
    let port = fleet.gateway().port();
    let mut open = Vec::new();
    for (client, expected) in [("1.2.3.4", [101, 101, 429]), ("5.6.7.8", [101, 101, 429])] {
        for status in expected {
            let mut socket = RawSocket::open(port).await.unwrap();
            let line = format!("\r\nX-Forwarded-For: {client}\r\n\r\n");
            let request = upgrade_request(port, "/ws").replacen("\r\n\r\n", &line, 1);
            socket.send(request.as_bytes()).await.unwrap();
            assert_eq!(socket.answer(SOON).await.unwrap().status, status, "{client}");
            open.push(socket);
        }
    }
    assert_no_panic(&fleet);
}

/// A gateway with clients that read nothing leaves all the same: with what was said in its
/// database, and with success.
async fn leaves(mut fleet: Fleet, opening: &[u8], unit: &[u8]) {
    let url = fleet.gateway().ws_url();
    let ann = Client::connect(&url, &Proof::user("ann")).await.unwrap();
    ann.join("r", None).await.unwrap();
    let mut socket = RawSocket::open(fleet.gateway().port()).await.unwrap();
    if !opening.is_empty() {
        socket.send(opening).await.unwrap();
        assert_eq!(socket.answer(SOON).await.unwrap().status, 101);
    }
    let stalled = flood(socket, unit).await;
    let id = unique_id();
    ann.send("r", &id, "not lost").await.unwrap();
    let status = fleet.gateway_mut().terminate(2 * SOON).await.unwrap();
    assert!(status.success(), "{status:?}");
    assert_eq!(rows_of(fleet.gateway(), "r")[0].id, id);
    assert_no_panic(&fleet);
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaving_node_waits_for_no_one_who_reads_nothing() {
    // Less than any of them may hold an answer for.
    let options = GatewayOptions::default().with_env("ROOMCAST_DRAIN_TIMEOUT_MS", "6000");
    let fleet = gateway_with(options.clone()).await;
    let page = b"GET /assets/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
    leaves(fleet, &[], page).await;
    let fleet = gateway_with(options).await;
    let opening = upgrade_request(fleet.gateway().port(), "/ws?user=stalled").into_bytes();
    leaves(fleet, &opening, &text(r#"{"event":"nothing","ref":1}"#)).await;
}

/// How long it takes until a slow sender of a body is given up.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let fleet = gateway_with(GatewayOptions::default()).await;
    let mut socket = RawSocket::open(fleet.gateway().port()).await.unwrap();
    let head = "POST /api/rooms/r/messages HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    socket.send(head.as_bytes()).await.unwrap();
    let answer = socket.answer(BODY_PATIENCE).await.unwrap();
    assert!((400..500).contains(&answer.status), "{answer:?}");
    assert_no_panic(&fleet);
}
