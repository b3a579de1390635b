//! Connections that requests come over: kept, cut, and finished before the node leaves.

use super::{api, publish};
use crate::fixtures::one_gateway::{SOON, gateway, gateway_with};
use crate::fixtures::{database, rows_of};
use fleet::GatewayOptions;
use harness::{Api, eventually};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const BODY: &str = "{\"userId\":\"ann\",\"content\":\"hello\"}";

fn request(port: u16, length: usize) -> String {
    format!(
        "POST /api/rooms/r/messages HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Reads until the text is there; what was read.
async fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let mut read = String::new();
    let mut buffer = [0; 4096];
    while !read.contains(text) {
        let count = timeout(SOON, socket.read(&mut buffer)).await.unwrap().unwrap();
        assert!(count > 0, "{text} does not come behind {read}");
        read.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    read
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other_problems_among_them() {
    let fleet = gateway().await;
    let port = fleet.gateway().port();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    for _ in 0..3 {
        socket.write_all((request(port, BODY.len()) + BODY).as_bytes()).await.unwrap();
        let answer = read_until(&mut socket, "\"durability\":\"store\"}").await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        let wrong = "{\"userId\":\"ann\"}";
        socket.write_all((request(port, wrong.len()) + wrong).as_bytes()).await.unwrap();
        let answer = read_until(&mut socket, "\"field\":\"content\"}").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert_eq!(rows_of(fleet.gateway(), "r").len(), 3);
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_body_is_cut() {
    let fleet = gateway().await;
    let port = fleet.gateway().port();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(request(port, BODY.len()).as_bytes()).await.unwrap();
    socket.write_all(&BODY.as_bytes()[..10]).await.unwrap();
    let began = Instant::now();
    let mut answer = String::new();
    timeout(Duration::from_secs(60), socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    assert!(rows_of(fleet.gateway(), "r").is_empty());
}

#[tokio::test]
async fn a_body_that_ends_early_is_nothing_that_was_said() {
    let fleet = gateway().await;
    let port = fleet.gateway().port();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all((request(port, BODY.len() + 10) + BODY).as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ended = timeout(SOON, socket.read_to_end(&mut answer)).await.unwrap();
    assert!(!String::from_utf8_lossy(&answer).contains(" 201 "));
    api(&fleet).get("/api/rooms/r/messages").await.expect(200);
    assert!(rows_of(fleet.gateway(), "r").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_answers_what_it_was_asked() {
    let mut fleet = gateway().await;
    let api = api(&fleet);
    // Somebody has spoken here before, so that the room asks the database for nothing more.
    let body = json!({ "userId": "ann", "content": "the beginning" });
    api.post("/api/rooms/r/messages", &body).await.expect(201);
    // An idle connection holds nobody up.
    let _idle = TcpStream::connect(("127.0.0.1", fleet.gateway().port())).await.unwrap();
    // The room's shard has its epoch, which is minted in the database.
    publish(&api, "r", "ann", "before").await;
    let held = database(fleet.gateway());
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let body = json!({ "userId": "ann", "content": "before the end" });
    let asking = tokio::spawn({
        let api = api.clone();
        async move { api.post("/api/rooms/r/messages", &body).await }
    });
    let under_way = || async {
        let metrics = fleet.gateway().metrics().await.map_err(|error| error.to_string())?;
        let lag = metrics.sum("roomcast_sync_log_lag_entries");
        if lag > 0.0 { Ok(()) } else { Err("nothing waits".to_owned()) }
    };
    eventually(SOON, "the message waits for the database", under_way).await;
    let leaving = fleet.gateway_mut();
    let (status, ()) = tokio::join!(leaving.terminate(Duration::from_secs(30)), async {
        // It is leaving when it answers newcomers that it is, which it does to the end. Who has
        // connected and not asked yet at that moment is cut like any idle connection.
        let leaving = || async {
            let answer = api.raw("GET", "/api/openapi.json", Vec::new()).await;
            answer.is_ok_and(|answer| answer.status == 503)
        };
        eventually(SOON, "the node takes nobody new", leaving).await;
        let answer = api.get("/api/openapi.json").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        held.execute_batch("COMMIT").unwrap();
    });
    assert!(status.unwrap().success());
    asking.await.unwrap().expect(201);
    assert_eq!(rows_of(fleet.gateway(), "r").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaving_node_answers_newcomers_for_as_long_as_it_was_told_to() {
    let options = GatewayOptions::default().with_env("ROOMCAST_DRAIN_NOTICE_MS", "3000");
    let mut fleet = gateway_with(options).await;
    let (api, began) = (api(&fleet), Instant::now());
    let operator = Api::new(fleet.gateway().operator_port());
    let (status, told) = tokio::join!(fleet.gateway_mut().terminate(SOON), async {
        let leaving = || async {
            let answer = operator.raw("GET", "/readyz", Vec::new()).await;
            answer.is_ok_and(|answer| answer.status == 503)
        };
        eventually(SOON, "the node is not ready", leaving).await;
        let mut told = 0;
        // For as long as the process is there: its operator port goes last.
        while let Ok(probe) = operator.raw("GET", "/readyz", Vec::new()).await {
            assert_eq!(probe.status, 503, "probes are answered");
            if let Ok(answer) = api.raw("GET", "/", Vec::new()).await {
                assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
                told += 1;
            }
        }
        told
    });
    assert!(status.unwrap().success());
    assert!(told >= 2, "asked {told} times");
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    let log = std::fs::read_to_string(fleet.gateway().log()).unwrap();
    let last = log.lines().last().unwrap();
    assert!(last.contains("gateway has left in order"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_connected_when_a_node_begins_to_leave_is_answered() {
    let mut fleet = gateway().await;
    let port = fleet.gateway().port();
    let mut opened = Vec::new();
    for _ in 0..20 {
        opened.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    // Each is accepted: what is behind it in the line of the listener has been answered.
    api(&fleet).get("/api/openapi.json").await.expect(200);
    let operator = Api::new(fleet.gateway().operator_port());
    let (status, ()) = tokio::join!(fleet.gateway_mut().terminate(SOON), async {
        let leaving = || async {
            let answer = operator.raw("GET", "/readyz", Vec::new()).await;
            answer.is_ok_and(|answer| answer.status == 503)
        };
        eventually(SOON, "the node is not ready", leaving).await;
        for socket in &mut opened {
            let request = format!("GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
        }
        for socket in &mut opened {
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains("retry-after: 1"), "{answer}");
        }
    });
    assert!(status.unwrap().success());
}
