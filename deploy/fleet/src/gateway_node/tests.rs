use super::*;
use crate::fake_server;
use crate::http;
use crate::run_dir::Folder;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn node(folder: &Folder, script: &str) -> GatewayNode {
    let run_dir = folder.run_dir(false);
    let program = fake_server::program(folder.path(), script);
    GatewayNode::gateway("gateway-1", program, &run_dir, GatewayOptions::default()).unwrap()
}

#[tokio::test]
async fn a_node_comes_back_on_the_same_ports_after_a_kill() {
    let folder = Folder::temporary().unwrap();
    let mut node = node(&folder, &fake_server::script());
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
    let folder = Folder::temporary().unwrap();
    let mut node = node(&folder, &fake_server::script());
    node.start_anywhere(SOON).await.unwrap();
    node.stop().await.unwrap();
    let answer = http::get(node.operator_port(), "/readyz", Duration::from_millis(200)).await;
    assert!(matches!(answer, Err(FleetError::NoAnswer { .. })));
    node.cont().unwrap();
    node.ready(SOON).await.unwrap();
}

#[tokio::test]
async fn a_node_that_ends_at_start_says_why() {
    let folder = Folder::temporary().unwrap();
    let mut node = node(&folder, "#!/bin/sh\necho the folder is locked\nexit 64\n");
    let error = node.start_anywhere(SOON).await.unwrap_err();
    assert!(error.to_string().contains("the folder is locked"), "{error}");
}

#[tokio::test]
async fn a_node_whose_port_was_taken_moves_to_another() {
    let folder = Folder::temporary().unwrap();
    let mut node = node(&folder, &fake_server::script());
    let taken = std::net::TcpListener::bind(("127.0.0.1", node.operator_port())).unwrap();
    node.start_anywhere(SOON).await.unwrap();
    assert_ne!(node.operator_port(), taken.local_addr().unwrap().port());
}
