//! What costs Redis or the database and changes nothing is counted, and generously.

use fleet::{Fleet, GatewayOptions};
use harness::unique_id;
use serde_json::{Value, json};

use super::{SECRET, ask, client, limited};
use crate::fixtures::{SOON, offer};

/// Look-ups of a user.
const LOOKUPS: usize = 40;

fn few_lookups() -> GatewayOptions {
    limited(&[
        ("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "10"),
        ("ROOMCAST_RATE_LIMIT_LOOKUP", "40"),
        ("ROOMCAST_BLOCK_AFTER", "0"),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_in_vain_is_counted_whatever_it_is() {
    let fleet = Fleet::embedded(few_lookups()).await.unwrap();
    let url = fleet.gateway().ws_url();
    let stands = unique_id();
    let nothing = "nothing-is-called-so";
    let message = json!({ "roomId": "r", "id": stands, "content": "hello" });
    let cases: [(&str, &str, Value); 9] = [
        ("a room that is not joined", "message:send", json!({ "roomId": "x", "content": "x" })),
        ("an edit in one", "message:edit", json!({ "roomId": "x", "id": "m", "content": "x" })),
        ("a deletion in one", "message:delete", json!({ "roomId": "x", "id": "m" })),
        ("a message that stands", "message:send", message.clone()),
        (
            "another under its id",
            "message:send",
            json!({ "roomId": "r", "id": stands, "content": "other" }),
        ),
        (
            "a receipt of nothing",
            "receipt:update",
            json!({ "roomId": "r", "lastReadMessageId": nothing }),
        ),
        ("the end of nothing", "message:stream:end", json!({ "roomId": "r", "id": nothing })),
        (
            "a delta of nothing",
            "message:stream:append",
            json!({ "roomId": "r", "id": nothing, "delta": "x", "offset": 0 }),
        ),
        ("another's proof", "auth", json!({ "token": "nobody's" })),
    ];
    for (number, (what, event, data)) in cases.into_iter().enumerate() {
        let user = client(&url, &format!("user-{number}"), "assistant").await;
        user.join("r", None).await.unwrap();
        // Only in one's own name does it stand.
        user.command("message:send", message.clone()).await.unwrap();
        let (passed, refused) = ask(&user, event, &data, 5 * LOOKUPS).await;
        assert_eq!((passed, refused.code.as_str()), (LOOKUPS, "rate_limited"), "{what}");
        assert!(refused.retry_after_ms.is_some(), "{what}");
        // It cost nothing of what new messages may use.
        let other = client(&url, &format!("other-{number}"), "member").await;
        other.join("r", None).await.unwrap();
        other.send("r", &unique_id(), "hello").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_of_a_thousand_messages_is_offered_again_and_all_of_it_answered() {
    let options = GatewayOptions::plain().with_jwt_secret(SECRET);
    // What it takes to have so many; everything else is as it is by default.
    let options = options.with_env("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "1000");
    let fleet = Fleet::embedded(options).await.unwrap();
    let url = fleet.gateway().ws_url();
    let ids: Vec<String> = (0..1000).map(|_| unique_id()).collect();
    for round in 0..3 {
        let alice = client(&url, "alice", "member").await;
        alice.join("r", None).await.unwrap();
        for reply in offer(&alice, "r", &ids).await {
            let reply = reply.reply(SOON).await.unwrap();
            assert_eq!(reply["duplicate"], json!(round > 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_together_has_a_bound_but_for_what_shows_life() {
    let fleet = Fleet::embedded(limited(&[
        ("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "10"),
        ("WEBSOCKET_RATE_LIMIT_ROOM_JOIN", "2"),
        ("ROOMCAST_RATE_LIMIT_RESUME", "1"),
        ("ROOMCAST_RATE_LIMIT_STREAM", "1"),
        ("ROOMCAST_RATE_LIMIT_HISTORY", "1"),
        ("ROOMCAST_RATE_LIMIT_LOOKUP", "15"),
        ("ROOMCAST_RATE_LIMIT_COMMAND", "5"),
        ("ROOMCAST_BLOCK_AFTER", "0"),
    ]))
    .await
    .unwrap();
    let alice = client(&fleet.gateway().ws_url(), "alice", "member").await;
    alice.join("r", None).await.unwrap();
    let place = alice.send("r", &unique_id(), "hello").await.unwrap().position.unwrap();
    let receipt = json!({ "roomId": "r", "position": place });
    // Twice what the others allow together, of which two were used.
    let (passed, _) = ask(&alice, "receipt:update", &receipt, 100).await;
    assert_eq!(passed, 2 * (15 + 2 + 1 + 1 + 1) - 2);
    for _ in 0..100 {
        alice.command("heartbeat", json!({})).await.unwrap();
        alice.command("typing:start", json!({ "roomId": "r" })).await.unwrap();
    }
    alice.command("room:leave", json!({ "roomId": "r" })).await.unwrap();
}
