//! How many are there, and whose word counts of those who need no connection.

use std::time::Duration;

use fleet::Fleet;
use harness::client::Event;
use harness::{Client, eventually, unique_name};
use serde_json::{Value, json};

use super::{cluster, connect};
use crate::cluster::PATIENCE;
use crate::removal::api;

/// How many the last word says to be there.
async fn last_count(client: &mut Client, count: &mut u64) {
    while let Ok(Event { name, data }) = client.next_event(Duration::ZERO).await {
        if name.starts_with("presence:") {
            *count = data["presenceCount"].as_u64().expect("a count");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_come_on_two_nodes_at_the_same_moment_leave_everybody_with_the_right_count() {
    let fleet = cluster().await;
    for round in 0..30 {
        let room = unique_name("room");
        let join = async |gateway: usize, name: String| {
            let client = connect(&fleet, gateway, &name).await;
            client.command("room:join", json!({ "roomId": room })).await.expect("a reply");
            client
        };
        let (ann, bob) =
            tokio::join!(join(0, format!("ann-{round}")), join(1, format!("bob-{round}")));
        for mut client in [ann, bob] {
            let told = std::cell::RefCell::new((&mut client, 0));
            #[expect(clippy::await_holding_refcell_ref, reason = "one at a time is asked")]
            let right = || async {
                let (client, count) = &mut *told.borrow_mut();
                last_count(client, count).await;
                if *count == 2 { Ok(()) } else { Err(format!("{count} in round {round}")) }
            };
            eventually(PATIENCE, "two are there", right).await;
        }
    }
}

async fn present(fleet: &Fleet, gateway: usize, room: &str) -> Value {
    let api = api(&fleet.gateways()[gateway]);
    let path = format!("/api/rooms/{room}/presence");
    api.ask("GET", &path, None).await.expect(200)["presence"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_backend_says_last_counts_whichever_node_it_says_it_to() {
    let fleet = cluster().await;
    let room = unique_name("room");
    let said = async |gateway: usize, status: &str| {
        let body = json!({ "updates": [{ "userId": "carol", "status": status }] });
        let api = api(&fleet.gateways()[gateway]);
        api.post(&format!("/api/rooms/{room}/presence"), &body).await.expect(200);
    };
    let wordings = [(0, "active"), (1, "idle"), (2, "active"), (0, "offline"), (1, "active")];
    for (gateway, status) in wordings.into_iter().chain([(2, "offline")]) {
        said(gateway, status).await;
        for node in 0..3 {
            let is_so = || async {
                let carol = present(&fleet, node, &room).await["carol"]["status"].clone();
                let wanted = if status == "offline" { Value::Null } else { json!(status) };
                if carol == wanted { Ok(()) } else { Err(format!("{carol} at node {node}")) }
            };
            // Far less than the minute for which what was said elsewhere would stand.
            eventually(Duration::from_secs(20), &format!("{status} counts"), is_so).await;
        }
    }
}
