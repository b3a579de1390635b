//! A machine whose clock is wrong.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::path::PathBuf;
use std::process::Command;

use fleet::{Fleet, GatewayNode, GatewayOptions};
use harness::{Client, eventually, unique_id};
use serde::Deserialize;
use serde_json::json;
use shared::contract::timestamp::Timestamp;
use shared::process::clock::Clock;
use uuid::Uuid;

use super::{PATIENCE, cluster};
use crate::fixtures::client;

/// What a program believes the time of day to be, moved by `WRONG_CLOCK_S` seconds.
const SHIM: &str = r#"
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <stdlib.h>
    #include <sys/time.h>
    #include <time.h>
    int clock_gettime(clockid_t id, struct timespec *at) {
        static int (*real)(clockid_t, struct timespec *);
        if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
        int answer = real(id, at);
        const char *by = getenv("WRONG_CLOCK_S");
        if (id == CLOCK_REALTIME && by) at->tv_sec += atol(by);
        return answer;
    }
"#;

const MINUTE: i64 = 60;

fn shim(fleet: &Fleet) -> PathBuf {
    let (source, library) =
        (fleet.folder().join("wrong_clock.c"), fleet.folder().join("wrong_clock.so"));
    std::fs::write(&source, SHIM).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(compiled.success());
    library
}

/// A third gateway, whose clock is off by so many seconds: it runs, whether it is ready or not.
async fn with_clock(fleet: &mut Fleet, by_s: i64) -> &GatewayNode {
    let library = shim(fleet).display().to_string();
    let options = GatewayOptions::default()
        .with_env("LD_PRELOAD", library)
        .with_env("WRONG_CLOCK_S", by_s.to_string());
    fleet.add_gateway(options).await.unwrap();
    let wrong = fleet.gateways_mut().last_mut().unwrap();
    wrong.start().unwrap();
    let wrong = fleet.gateways().last().unwrap();
    let there = || async { wrong.operator_get("/livez").await.is_ok() };
    eventually(PATIENCE, "it runs", there).await;
    wrong
}

/// `/readyz`: its status and what it says.
async fn readiness(gateway: &GatewayNode) -> (u16, String) {
    let answer = gateway.operator_get("/readyz").await.unwrap();
    (answer.status, answer.body)
}

fn now_ms() -> i64 {
    Clock::system().now_ms()
}

/// An id that was made so many seconds ago.
fn id_of(ago_s: i64) -> String {
    let at_ms = u64::try_from(now_ms() - ago_s * 1000).unwrap();
    let at = uuid::Timestamp::from_unix(uuid::NoContext, at_ms / 1000, 0);
    Uuid::new_v7(at).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_off_says_so_is_not_ready_and_goes_by_redis() {
    let mut fleet = cluster().await;
    for (by_s, how) in [(-60 * MINUTE, "behind"), (60 * MINUTE, "ahead")] {
        let wrong = with_clock(&mut fleet, by_s).await;
        let says = || async {
            let (status, text) = readiness(wrong).await;
            let says = status == 503 && text.contains("clock is 3600 s") && text.contains(how);
            says.then_some(()).ok_or(text)
        };
        eventually(PATIENCE, "it says that its clock is off", says).await;
        let logged =
            || async { std::fs::read_to_string(wrong.log()).unwrap().contains("clock is") };
        eventually(PATIENCE, "its log says so", logged).await;
        // Whoever is connected all the same is served by the right time.
        let alice = client(wrong, "alice").await;
        let told = Timestamp::deserialize(&alice.welcome()["serverTime"]).unwrap();
        let off_ms = (told.0 - now_ms()).abs();
        assert!(off_ms < 30_000, "{off_ms} ms");
        alice.join("r", None).await.unwrap();
        alice.send("r", &unique_id(), "now").await.unwrap();
    }
    for gateway in &fleet.gateways()[..2] {
        assert_eq!(readiness(gateway).await.0, 200, "the others are ready");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_stands_once_whatever_the_clock_of_the_node_that_it_is_offered_to() {
    let mut fleet = cluster().await;
    // So old that Redis may have forgotten it, and by a clock that is behind, young.
    for by_s in [-12 * MINUTE, -60 * MINUTE, 60 * MINUTE] {
        let (id, room) = (id_of(14 * MINUTE), format!("room{by_s}"));
        let right = client(&fleet.gateways()[0], "alice").await;
        right.join(&room, None).await.unwrap();
        let at = right.send(&room, &id, "once").await.unwrap().position.unwrap();
        let stored = format!("SELECT 1 FROM team_chat_messages WHERE id = '{id}'");
        let database = fleet.database();
        let is_there = || async {
            fleet.postgres().query(database, &stored).await.is_ok_and(|r| r.len() == 1)
        };
        eventually(PATIENCE, "it is stored", is_there).await;
        forget_ids(&fleet).await;

        let wrong = with_clock(&mut fleet, by_s).await;
        let again = offered(wrong, &room, &id).await;
        assert_eq!(again, (at.epoch, at.seq, true), "by a clock that is off by {by_s} s");
    }
}

/// As a quarter of an hour does.
async fn forget_ids(fleet: &Fleet) {
    let script = "for _, key in ipairs(redis.call('KEYS', '*:id:*')) do redis.call('DEL', key) end";
    fleet.redis().command(&["EVAL", script, "0"]).await.unwrap();
}

/// Offers a message until it is answered, and gives its place and whether it stood already.
async fn offered(gateway: &GatewayNode, room: &str, id: &str) -> (u64, u64, bool) {
    let answered = || async {
        let alice = Client::connect(&gateway.ws_url(), &harness::Proof::user("alice")).await;
        let alice = alice.map_err(|error| error.to_string())?;
        alice.join(room, None).await.map_err(|error| error.to_string())?;
        let message = json!({"roomId": room, "id": id, "content": "once"});
        let reply = alice.command("message:send", message).await;
        let reply = reply.map_err(|error| error.to_string())?;
        let number = |field: &str| reply["position"][field].as_u64().unwrap();
        Ok::<_, String>((number("epoch"), number("seq"), reply["duplicate"] == true))
    };
    eventually(PATIENCE, "it is answered", answered).await
}
