//! Clients that send all they can and read nothing: what is queued for each of them is bounded.

use std::time::Duration;

use crate::auth::{SECRET, good_token};
use crate::fixtures::one_gateway::{SOON, assert_no_panic, gateway, gateway_with, resident_bytes};
use fleet::{Fleet, GatewayOptions};
use futures_util::future::join_all;
use harness::raw::{Ending, RawSocket, frame, opcode, text};
use harness::{Client, Proof};
use serde_json::json;

/// What each flood would send if it could, in bytes.
const FLOOD_BYTES: usize = 48 * 1024 * 1024;
/// Floods at a time.
const FLOODS: usize = 4;
/// How long a socket may take nothing before its flood is over.
const STALLED: Duration = Duration::from_secs(3);
/// What all of them together may make a gateway hold.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Sends `unit` again and again and reads nothing, until the server takes no more. Says how much
/// it took; the socket stays open.
pub(super) async fn flood(mut socket: RawSocket, unit: &[u8]) -> (RawSocket, usize) {
    let chunk = unit.repeat((64 * 1024 / unit.len()).max(1));
    let mut taken = 0;
    while taken < FLOOD_BYTES {
        match tokio::time::timeout(STALLED, socket.send(&chunk)).await {
            Ok(Ok(())) => taken += chunk.len(),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    (socket, taken)
}

/// Floods on sockets of their own, after `opening`; the gateway stays small and answers others.
async fn stays_small(fleet: &Fleet, what: &str, opening: &[u8], unit: &[u8]) {
    let before = resident_bytes(fleet);
    let floods = (0..FLOODS).map(|_| async {
        let mut socket = RawSocket::open(fleet.gateway().port()).await.unwrap();
        if !opening.is_empty() {
            socket.send(opening).await.unwrap();
            assert_eq!(socket.answer(SOON).await.unwrap().status, 101, "{what}");
        }
        flood(socket, unit).await
    });
    let floods = join_all(floods).await;
    let grown = resident_bytes(fleet).saturating_sub(before);
    let taken: Vec<usize> = floods.iter().map(|(_, taken)| *taken).collect();
    assert!(grown < GROWTH_BYTES_MAX, "{what}: {grown} bytes more; {taken:?} were taken");
    assert_eq!(fleet.gateway().get("/").await.unwrap().status, 200, "{what}");
    drop(floods);
    assert_no_panic(fleet);
}

fn opening(fleet: &Fleet, path: &str) -> Vec<u8> {
    harness::raw::upgrade_request(fleet.gateway().port(), path).into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_not_said_who_they_are_makes_a_gateway_hold_nothing() {
    let fleet = gateway().await;
    let opening = opening(&fleet, "/ws");
    let wrong = text(r#"{"event":"nothing","ref":1}"#);
    stays_small(&fleet, "unknown commands", &opening, &wrong).await;
    let early = text(r#"{"event":"heartbeat","ref":1,"data":{}}"#);
    stays_small(&fleet, "commands", &opening, &early).await;
    let ping = frame(true, 0, opcode::PING, true, &[b'p'; 125]);
    stays_small(&fleet, "pings", &opening, &ping).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_is_not_read_either() {
    let fleet = gateway().await;
    let opening = opening(&fleet, "/ws?user=ann");
    for (what, command) in [
        ("unknown commands", r#"{"event":"nothing","ref":1}"#),
        ("fields without a reference", r#"{"event":"heartbeat","data":{"x":1}}"#),
        ("heartbeats", r#"{"event":"heartbeat","ref":1,"data":{}}"#),
        (
            "messages to other rooms",
            r#"{"event":"message:send","ref":1,"data":{"roomId":"r","content":"x"}}"#,
        ),
        ("typing elsewhere", r#"{"event":"typing:start","ref":1,"data":{"roomId":"r"}}"#),
    ] {
        stays_small(&fleet, what, &opening, &text(command)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_follow_one_another_are_answered_one_by_one() {
    let fleet = gateway().await;
    for path in ["/", "/assets/page.js", "/api/openapi.json", "/nothing", "/ws"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stays_small(&fleet, path, &[], request.as_bytes()).await;
    }
}

/// Sends frames to a connection that has not said who it is; how it ends, and what was answered
/// before.
async fn unproven(fleet: &Fleet, frames: &[Vec<u8>]) -> (Ending, usize) {
    let port = fleet.gateway().port();
    let mut socket = RawSocket::upgraded(port, "/ws", SOON).await.unwrap();
    // It may have been closed before all of it was sent.
    let _sent = socket.send(&frames.concat()).await;
    let mut answers = 0;
    loop {
        match socket.next_frame(SOON).await {
            Ok(frame) if frame.opcode == opcode::CLOSE => {
                return (Ending::Close(frame.close_code()), answers);
            }
            Ok(_) => answers += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn before_auth_frames_are_small_and_few() {
    let fleet = gateway_with(GatewayOptions::default().with_jwt_secret(SECRET)).await;
    let wrong = text(r#"{"event":"nothing","ref":1}"#);
    let ping = frame(true, 0, opcode::PING, true, b"p");
    let mixed: Vec<Vec<u8>> =
        (0..20).map(|n| if n % 2 == 0 { &wrong } else { &ping }.clone()).collect();
    let closed = Ending::Close(Some(4401));
    for frames in [vec![wrong.clone(); 20], vec![ping; 20], mixed] {
        assert_eq!(unproven(&fleet, &frames).await, (closed, 8));
    }
    let large = |bytes: usize| text(&"x".repeat(bytes));
    assert_eq!(unproven(&fleet, &[large(16 * 1024 + 1)]).await, (Ending::Close(Some(1009)), 0));
    let (ending, answers) = unproven(
        &fleet,
        &[large(16 * 1024), text(r#"{"event":"auth","ref":1,"data":{"token":"x"}}"#)],
    )
    .await;
    assert_eq!((ending, answers), (closed, 2));

    // A few mistakes are forgiven, and whoever has said who they are sends what is large.
    let token = good_token("ann", 600);
    let url = fleet.gateway().ws_url();
    let ann = Client::connect(&url, &Proof::AuthFrame(token.clone())).await.unwrap();
    ann.join("r", None).await.unwrap();
    let content = "x".repeat(200 * 1024);
    ann.command("message:send", json!({ "roomId": "r", "content": content })).await.unwrap();
    let mut frames = vec![wrong; 7];
    frames
        .push(text(&json!({ "event": "auth", "ref": 2, "data": { "token": token } }).to_string()));
    let port = fleet.gateway().port();
    let mut socket = RawSocket::upgraded(port, "/ws", SOON).await.unwrap();
    socket.send(&frames.concat()).await.unwrap();
    let mut said = String::new();
    while !said.contains("welcome") {
        said = socket.next_frame(SOON).await.unwrap().text();
    }
}
