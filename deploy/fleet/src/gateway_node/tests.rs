use super::*;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

const SOON: Duration = Duration::from_secs(20);

/// What a stand-in program does: this very executable, as the operator port of a gateway.
#[test]
#[ignore = "not a test: it serves until it is killed"]
fn stand_in() {
    let port: u16 = std::env::var("ROOMCAST_OPERATOR_PORT").unwrap().parse().unwrap();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request).unwrap();
        let (status, body) = match request.split(' ').nth(1) {
            Some("/readyz") => ("200 OK", "ok"),
            Some("/stats") => ("200 OK", r#"{"connections":{"activeConnections":2}}"#),
            Some("/metrics") => ("200 OK", "# TYPE x_total counter\nx_total{reason=\"a\"} 3\n"),
            _ => ("404 Not Found", "no"),
        };
        let length = body.len();
        // A client that went away meanwhile is its own affair.
        let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
    }
}

fn stand_in_script() -> String {
    let own = std::env::current_exe().unwrap();
    let own = own.display();
    let name = "gateway_node::tests::stand_in";
    format!(
        "#!/bin/sh\necho \"flags $* bind $ROOMCAST_BIND\"\nexec {own} --ignored --exact {name}\n"
    )
}

fn node(folder: &Path, script: &str) -> GatewayNode {
    let program = folder.join("stand-in");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    GatewayNode::new("gateway-1", program, folder, GatewayOptions::default()).unwrap()
}

#[tokio::test]
async fn a_node_comes_back_on_the_same_ports_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = node(folder.path(), &stand_in_script());
    node.start_anywhere(SOON).await.unwrap();
    let (port, pid) = (node.operator_port(), node.pid());

    assert_eq!(node.metrics().await.unwrap().get("x_total{reason=\"a\"}"), Some(3.0));
    assert_eq!(node.stats().await.unwrap()["connections"]["activeConnections"], 2);
    assert_eq!(node.operator_get("/nothing").await.unwrap().status, 404);

    node.kill_9().await.unwrap();
    assert!(node.pid().is_none());
    assert!(matches!(node.stop().await, Err(FleetError::NotRunning { .. })));

    node.restart(SOON).await.unwrap();
    assert_eq!(node.operator_port(), port);
    assert_ne!(node.pid(), pid);
    let log = std::fs::read_to_string(node.log()).unwrap();
    assert_eq!(log.matches("flags --dev bind 127.0.0.1").count(), 2, "{log}");
    assert_eq!(node.terminate(SOON).await.unwrap().signal(), Some(15));
}

#[tokio::test]
async fn a_stopped_node_answers_nothing_until_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = node(folder.path(), &stand_in_script());
    node.start_anywhere(SOON).await.unwrap();
    node.stop().await.unwrap();
    let answer = http::get(node.operator_port(), "/readyz", Duration::from_millis(200)).await;
    assert!(matches!(answer, Err(FleetError::NoAnswer { .. })));
    node.cont().unwrap();
    node.ready(SOON).await.unwrap();
}

#[tokio::test]
async fn a_node_that_ends_at_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = node(folder.path(), "#!/bin/sh\necho the folder is locked\nexit 64\n");
    let error = node.start_anywhere(SOON).await.unwrap_err();
    assert!(error.to_string().contains("the folder is locked"), "{error}");
}

#[tokio::test]
async fn a_node_whose_port_was_taken_moves_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = node(folder.path(), &stand_in_script());
    let taken = std::net::TcpListener::bind(("127.0.0.1", node.operator_port())).unwrap();
    node.start_anywhere(SOON).await.unwrap();
    assert_ne!(node.operator_port(), taken.local_addr().unwrap().port());
}
