//! What is hardly HTTP, too much of it, or never comes.

use super::{Findings, answer_to, edited};
use crate::fixtures::one_gateway::{SOON, assert_no_panic, gateway, gateway_with};
use fleet::GatewayOptions;
use harness::RawSocket;
use harness::raw::{Ending, RawError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How long a client may take for its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn too_many_or_too_large_headers_are_431_and_garbage_is_400() {
    let fleet = gateway().await;
    let port = fleet.gateway().port();
    let with = |lines: String| edited(port, &[("\r\n\r\n", &format!("\r\n{lines}\r\n"))]);
    let many = |count: usize| -> String { (0..count).map(|n| format!("X-{n}: y\r\n")).collect() };
    let header = |bytes: usize| format!("X: {}\r\n", "y".repeat(bytes));
    let mut findings = Findings::default();
    let cases: [(&str, Vec<u8>, u16); 17] = [
        ("a header of 20 KB", with(header(20_000)).into(), 431),
        ("a header of 1 MB", with(header(1_000_000)).into(), 431),
        ("80 headers", with(many(80)).into(), 431),
        ("5,000 headers", with(many(5_000)).into(), 431),
        ("50 headers", with(many(50)).into(), 101),
        ("a header of 8 KB", with(header(8_000)).into(), 101),
        ("a line of words", b"what is this\r\n\r\n".into(), 400),
        ("one word", b"nonsense\r\n\r\n".into(), 400),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".into(), 400),
        ("zeros", vec![0; 64], 400),
        ("an SSH banner", b"SSH-2.0-OpenSSH_9.2\r\n".into(), 400),
        ("a header without a colon", with("broken\r\n".into()).into(), 400),
        ("a space before the colon", with("X : y\r\n".into()).into(), 400),
        ("a folded header", with("X: y\r\n  z\r\n".into()).into(), 400),
        ("NUL in a header", with("X: \0\r\n".into()).into(), 400),
        ("a name beyond ASCII", with("Ä: y\r\n".into()).into(), 400),
        ("HTTP/3.0", edited(port, &[("HTTP/1.1", "HTTP/3.0")]).into(), 400),
    ];
    for (name, request, status) in &cases {
        findings.expect(port, name, request, *status).await;
    }
    findings.assert_none();
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_request_line_without_end_is_refused() {
    let fleet = gateway().await;
    let port = fleet.gateway().port();
    let long = edited(port, &[("user=ann", &format!("user={}", "a".repeat(100_000)))]);
    let answer = answer_to(port, long.as_bytes()).await.unwrap();
    assert!(matches!(answer.status, 414 | 431), "{answer:?}");
    let large = edited(port, &[("user=ann", &format!("user={}", "a".repeat(129)))]);
    assert_eq!(answer_to(port, large.as_bytes()).await.unwrap().status, 400);
    assert_no_panic(&fleet);
}

/// How a client is slow.
#[derive(Debug, Clone, Copy)]
enum Slowness {
    /// It says nothing.
    Silent,
    /// It sends half of its request, and no more.
    Half,
    /// It sends a byte now and then: the time is for all of them.
    Dripping,
    /// It was answered, and asks nothing further.
    Idle,
}

/// How long the server bears such a client, and how it ends it.
async fn borne(port: u16, slowness: Slowness) -> (Slowness, Duration, bool) {
    let mut socket = RawSocket::open(port).await.unwrap();
    let request = edited(port, &[]);
    match slowness {
        Slowness::Silent | Slowness::Dripping => {}
        Slowness::Half => socket.send(&request.as_bytes()[..40]).await.unwrap(),
        Slowness::Idle => {
            let page = edited(port, &[("/ws?user=ann", "/none")]);
            socket.send(page.as_bytes()).await.unwrap();
            assert_eq!(socket.answer(SOON).await.unwrap().status, 404);
        }
    }
    let began = Instant::now();
    if let Slowness::Dripping = slowness {
        let mut ticks = interval(Duration::from_millis(250));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for byte in request.bytes() {
            ticks.tick().await;
            // The first bytes after its end are still taken by the kernel; then there is an error.
            if socket.send(&[byte]).await.is_err() || began.elapsed() > 2 * HEADER_TIMEOUT {
                break;
            }
        }
    }
    let ended = match socket.ending(SOON).await {
        Ok(Ending::Eof | Ending::Reset) => true,
        Ok(Ending::Close(_)) => false,
        Err(error) => matches!(error, RawError::Socket(_)),
    };
    (slowness, began.elapsed(), ended)
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_headers_is_cut_after_five_seconds() {
    // What waits for its next request has a time of its own; here it is as long.
    let options = GatewayOptions::default().with_env("ROOMCAST_HTTP_IDLE_TIMEOUT_MS", "5000");
    let fleet = gateway_with(options).await;
    let port = fleet.gateway().port();
    let mut clients = JoinSet::new();
    for slowness in [Slowness::Silent, Slowness::Half, Slowness::Dripping, Slowness::Idle] {
        for _ in 0..25 {
            clients.spawn(borne(port, slowness));
        }
    }
    for (slowness, took, ended) in clients.join_all().await {
        assert!(ended, "{slowness:?}");
        let least = HEADER_TIMEOUT - Duration::from_millis(200);
        assert!(took >= least && took < 2 * HEADER_TIMEOUT, "{slowness:?} {took:?}");
    }
    let quick = edited(port, &[]);
    assert_eq!(answer_to(port, quick.as_bytes()).await.unwrap().status, 101);
    assert_no_panic(&fleet);
}
