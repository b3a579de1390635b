//! Limits of one user over several nodes, and over none: Redis is away.

use std::time::Duration;

use fleet::{ClusterOptions, Fleet, GatewayOptions};
use harness::client::{ClientError, Pending};
use harness::{Client, eventually, unique_id};
use serde_json::{Value, json};

use super::{PATIENCE, options, rows};
use crate::rate_limits::{SECRET, client};

/// Two gateways that ask for tokens, with these limits.
async fn cluster(limits: &[(&str, &str)]) -> Fleet {
    let gateway = GatewayOptions::default().with_jwt_secret(SECRET);
    let gateway =
        limits.iter().fold(gateway, |gateway, (key, value)| gateway.with_env(key, *value));
    Fleet::cluster(ClusterOptions { gateway, workers: 1, ..options() }).await.expect("a cluster")
}

/// A connection of the same user to each node.
async fn at_both(fleet: &Fleet) -> Vec<Client> {
    let mut clients = Vec::new();
    for gateway in fleet.gateways() {
        clients.push(client(&gateway.ws_url(), "alice", "member").await);
    }
    clients
}

/// The code of a refusal; `None` where it was done.
async fn code(reply: Pending) -> Option<String> {
    match reply.reply(PATIENCE).await {
        Ok(_) => None,
        Err(ClientError::Refused(refused)) => Some(refused.code),
        Err(other) => panic!("{other}"),
    }
}

/// Says so many things at each node as fast as can be; how many were accepted.
async fn hammer(clients: &[Client], times: usize) -> usize {
    let mut pending = Vec::new();
    for _ in 0..times {
        for client in clients {
            let data = json!({ "roomId": "r", "id": unique_id(), "content": "again" });
            pending.push(client.send_nowait("message:send", data).await);
        }
    }
    let mut accepted = 0;
    for reply in pending {
        match code(reply).await.as_deref() {
            None => accepted += 1,
            Some("rate_limited" | "blocked") => {}
            Some(other) => panic!("{other}"),
        }
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_hammers_two_nodes_stays_within_one_limit() {
    for limit in [10, 400] {
        let text = limit.to_string();
        let limits =
            [("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", text.as_str()), ("ROOMCAST_BLOCK_AFTER", "0")];
        let fleet = cluster(&limits).await;
        let clients = at_both(&fleet).await;
        for client in &clients {
            client.join("r", None).await.expect("it may join");
        }
        let accepted = hammer(&clients, 2 * limit).await;
        let (least, most) = (limit - limit / 20, limit + limit / 20);
        assert!((least..=most).contains(&accepted), "{accepted} of {limit}");
        let stored = || async {
            let stored = rows(&fleet).await?.len();
            if stored == accepted { Ok(()) } else { Err(format!("{stored} of {accepted}")) }
        };
        eventually(PATIENCE, "what was accepted is stored", stored).await;
    }
}

async fn history(client: &Client) -> Result<Value, ClientError> {
    client.command("history:get", json!({ "roomId": "r" })).await
}

async fn is_blocked(client: &Client) -> bool {
    history(client).await.is_err_and(|error| error.code() == Some("blocked"))
}

/// Waits for as long as it is told, and no longer; whoever asks meanwhile would be cut.
async fn until_free(client: &Client) {
    while let Err(ClientError::Refused(refused)) = history(client).await {
        assert_eq!(refused.code, "blocked");
        refused.obey(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_reaches_both_nodes_and_ends() {
    let limits = [
        ("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "3"),
        ("ROOMCAST_BLOCK_AFTER", "20"),
        ("ROOMCAST_BLOCK_MS", "5000"),
    ];
    let fleet = cluster(&limits).await;
    let clients = at_both(&fleet).await;
    for client in &clients {
        client.join("r", None).await.expect("it may join");
    }
    // Neither node alone sees enough of it: 3 are accepted, and the others are shared.
    let accepted = hammer(&clients, 14).await;
    assert!(accepted <= 3, "{accepted}");
    for client in &clients {
        eventually(PATIENCE, "the node blocks", || is_blocked(client)).await;
    }
    for gateway in fleet.gateways() {
        let metrics = gateway.metrics().await.expect("its metrics");
        assert!(metrics.sum("roomcast_blocks_total") >= 1.0);
    }
    for client in &clients {
        until_free(client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_not_heard_of_a_block_reads_it_when_the_user_comes() {
    let limits = [
        ("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "1"),
        ("ROOMCAST_BLOCK_AFTER", "5"),
        ("ROOMCAST_BLOCK_MS", "600000"),
    ];
    let mut fleet = cluster(&limits).await;
    let alice = client(&fleet.gateway().ws_url(), "alice", "member").await;
    alice.join("r", None).await.expect("it may join");
    hammer(std::slice::from_ref(&alice), 8).await;
    eventually(PATIENCE, "the node blocks", || is_blocked(&alice)).await;
    let told = || async {
        let asked = fleet.redis().command(&["EXISTS", "roomcast:block:{alice}"]).await;
        asked.is_ok_and(|reply| reply == fleet::Reply::Integer(1))
    };
    eventually(PATIENCE, "redis knows", told).await;
    fleet.gateways_mut()[1].kill_9().await.expect("it ran");
    fleet.gateways_mut()[1].restart(PATIENCE).await.expect("it runs again");
    let elsewhere = client(&fleet.gateways()[1].ws_url(), "alice", "member").await;
    eventually(PATIENCE, "the other node knows too", || is_blocked(&elsewhere)).await;
    let bob = client(&fleet.gateways()[1].ws_url(), "bob", "member").await;
    history(&bob).await.expect("others are not blocked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_node_holds_the_limit_by_itself() {
    let limits = [("WEBSOCKET_RATE_LIMIT_TYPING_EVENTS", "6"), ("ROOMCAST_BLOCK_AFTER", "0")];
    let fleet = cluster(&limits).await;
    let clients = at_both(&fleet).await;
    fleet.redis().stop().await.expect("it ran");
    for client in &clients {
        let mut passed = 0;
        for _ in 0..20 {
            let data = json!({ "roomId": "r" });
            let reply = client.send_nowait("typing:stop", data).await;
            passed += usize::from(code(reply).await.as_deref() != Some("rate_limited"));
        }
        assert_eq!(passed, 6);
    }
    for gateway in fleet.gateways() {
        let metrics = gateway.metrics().await.expect("its metrics");
        assert!(metrics.sum("roomcast_counted_alone_total") >= 6.0);
    }
    fleet.redis().cont().expect("it was stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usual_rooms_are_usual_on_every_node() {
    let limits = [("WEBSOCKET_RATE_LIMIT_ROOM_JOIN", "5"), ("ROOMCAST_BLOCK_AFTER", "0")];
    let fleet = cluster(&limits).await;
    let clients = at_both(&fleet).await;
    for room in ["a", "b", "c", "d", "e"] {
        clients[0].join(room, None).await.unwrap();
    }
    let all = || async {
        let far = client(&fleet.gateways()[1].ws_url(), "alice", "member").await;
        for room in ["a", "b", "c", "d", "e"] {
            far.join(room, None).await.map_err(|error| format!("{room}: {error}"))?;
        }
        Ok::<_, String>(())
    };
    eventually(PATIENCE, "all five are opened through the other node at once", all).await;
    let refused = clients[1].join("new", None).await.unwrap_err();
    assert_eq!(refused.code(), Some("rate_limited"), "five new ones, however many nodes");
}
