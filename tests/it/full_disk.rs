//! A disk that is full under the embedded database.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::os::unix::fs::PermissionsExt;

use fleet::{Fleet, GatewayNode, GatewayOptions, Place};
use harness::{eventually, unique_id};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

use crate::fixtures::{SOON, client};

/// Beyond it no file of the process grows; more than an empty database needs.
pub(crate) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A program that starts the gateway so that a file at its limit is an error and not the end.
pub(crate) fn program(folder: &std::path::Path) -> std::path::PathBuf {
    let own = std::env::current_exe().unwrap();
    let gateway = own.parent().unwrap().parent().unwrap().join("gateway");
    let script = folder.join("gateway.sh");
    let text = format!("#!/bin/sh\ntrap '' XFSZ\nexec {} \"$@\"\n", gateway.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

pub(crate) fn limit(gateway: &GatewayNode, bytes: Option<u64>) {
    let pid = Pid::from_raw(gateway.pid().unwrap().cast_signed());
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_is_full_says_so_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { gateway_program: Some(program(folder.path())), ..Place::default() };
    let fleet = Fleet::embedded_at(place, GatewayOptions::default()).await.unwrap();
    let alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    limit(fleet.gateway(), Some(FILE_BYTES_MAX));

    let ready = async || fleet.gateway().operator_get("/readyz").await.unwrap();
    // More than fits.
    let mut waiting = Vec::new();
    for _ in 0..30 {
        let data = json!({ "roomId": "r", "id": unique_id(), "content": "x".repeat(100 * 1024) });
        waiting.push(alice.send_nowait("message:send", data).await);
    }
    let full = || async {
        let answer = ready().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body.starts_with("degraded\n")
    };
    eventually(SOON, "the node says that it cannot write", full).await;
    limit(fleet.gateway(), None);
    let well = || async { ready().await.body == "ok" };
    eventually(SOON, "the node is well again", well).await;
    alice.send("r", &unique_id(), "there is room").await.unwrap();
    // Nobody is left without an answer.
    for reply in waiting {
        match reply.reply(SOON).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.code(), Some("unavailable"), "{error}"),
        }
    }
}
