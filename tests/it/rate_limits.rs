//! How often one user may ask: each kind of command by its own allowance, and what becomes of those
//! who hammer on.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

mod ephemeral;
mod lookups;

use std::time::Duration;

use fleet::{Fleet, GatewayOptions};
use gateway::config::GatewaySettings;
use gateway::server::Server;
use harness::client::{ClientError, Pending};
use harness::wire::{Refused, Since};
use harness::{Client, Position, Proof, token, unique_id};
use serde_json::{Value, json};
use shared::process::clock::Clock;
use shared::process::settings::{self, Sources};

use crate::fixtures::{SOON, is_event, offer};

/// What the gateways' tokens are signed with.
pub(crate) const SECRET: &str = "the-secret-of-the-rate-limits-is-long";

/// A gateway that asks for tokens, since the development mode multiplies limits, with these set.
fn limited(limits: &[(&str, &str)]) -> GatewayOptions {
    let options = GatewayOptions::default().with_jwt_secret(SECRET);
    limits.iter().fold(options, |options, (key, value)| options.with_env(key, *value))
}

/// A connection of `user` with this role.
pub(crate) async fn client(url: &str, user: &str, role: &str) -> Client {
    let claims = json!({ "rooms": ["*"], "role": role });
    let proof = Proof::Bearer(token(SECRET, user, 600, &claims));
    Client::connect(url, &proof).await.unwrap()
}

async fn member(fleet: &Fleet, user: &str) -> Client {
    client(&fleet.gateway().ws_url(), user, "member").await
}

/// How a reply came out: `None` for done.
async fn refusal(reply: Pending) -> Option<Refused> {
    match reply.reply(SOON).await {
        Ok(_) => None,
        Err(ClientError::Refused(refused)) => Some(refused),
        Err(other) => panic!("{other}"),
    }
}

/// Asks so many times at once; how often it was not refused as too often, and the last refusal.
async fn ask(client: &Client, event: &str, data: &Value, times: usize) -> (usize, Refused) {
    let mut pending = Vec::new();
    for _ in 0..times {
        pending.push(client.send_nowait(event, data.clone()).await);
    }
    let (mut passed, mut last) = (0, None);
    for reply in pending {
        match refusal(reply).await {
            Some(refused) if refused.code == "rate_limited" => last = Some(refused),
            Some(_) | None => passed += 1,
        }
    }
    (passed, last.expect("more was asked than is allowed"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_command_has_an_allowance_of_its_own() {
    let options = limited(&[
        ("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "7"),
        ("WEBSOCKET_RATE_LIMIT_TYPING_EVENTS", "6"),
        ("WEBSOCKET_RATE_LIMIT_ROOM_JOIN", "3"),
        ("WEBSOCKET_RATE_LIMIT_PRESENCE_UPDATE", "2"),
        ("ROOMCAST_RATE_LIMIT_RESUME", "9"),
        ("ROOMCAST_RATE_LIMIT_STREAM", "4"),
        ("ROOMCAST_RATE_LIMIT_HISTORY", "8"),
        ("ROOMCAST_BLOCK_AFTER", "0"),
    ]);
    let fleet = Fleet::embedded(options).await.unwrap();
    let alice = member(&fleet, "alice").await;
    let room = json!({ "roomId": "r" });
    let since = json!({ "roomId": "r", "since": { "epoch": 0, "seq": 0 } });
    let presence = json!({ "roomId": "r", "status": "idle" });
    let message = json!({ "roomId": "r", "content": "hello" });
    for (event, data, limit) in [
        ("room:join", &room, 3),
        ("room:join", &since, 9),
        ("message:send", &message, 7),
        ("typing:start", &room, 6),
        ("presence:update", &presence, 2),
        ("message:stream:start", &room, 4),
        ("history:get", &room, 8),
    ] {
        let (passed, refused) = ask(&alice, event, data, 3 * limit).await;
        assert_eq!(passed, limit, "{event}");
        let rest_ms = refused.retry_after_ms.unwrap();
        assert!((1..=60_000).contains(&rest_ms), "{event}: {rest_ms}");
    }
    // One allowance over all connections of a user, and one for each user.
    let tab = member(&fleet, "alice").await;
    let (passed, _) = ask(&tab, "history:get", &room, 3).await;
    assert_eq!(passed, 0);
    let bob = member(&fleet, "bob").await;
    let (passed, _) = ask(&bob, "history:get", &room, 10).await;
    assert_eq!(passed, 8);
    // What goes and what shows life is never refused.
    for _ in 0..100 {
        alice.command("heartbeat", json!({})).await.unwrap();
    }
    alice.command("room:leave", room).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_id_is_not_counted_and_is_answered_when_nothing_fresh_would_be() {
    let limits = [("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "5"), ("ROOMCAST_BLOCK_AFTER", "3")];
    let fleet = Fleet::embedded(limited(&limits)).await.unwrap();
    let alice = member(&fleet, "alice").await;
    alice.join("r", None).await.unwrap();
    let ids: Vec<String> = (0..5).map(|_| unique_id()).collect();
    for _ in 0..20 {
        assert!(offer(&alice, "r", &ids[..1]).await.pop().unwrap().reply(SOON).await.is_ok());
        // Nor is a conflict.
        let conflict = alice.send("r", &ids[0], "other content").await;
        let first = alice.send("r", &ids[0], &ids[0]).await.unwrap();
        assert!(first.duplicate);
        assert_eq!(conflict.unwrap_err().code(), Some("conflict"));
    }
    for reply in offer(&alice, "r", &ids[1..]).await {
        assert_eq!(reply.reply(SOON).await.unwrap()["duplicate"], false);
    }
    let refused = alice.send("r", &unique_id(), "one too many").await.unwrap_err();
    assert_eq!(refused.code(), Some("rate_limited"));
    // All of them, many times more than it takes to be blocked.
    for _ in 0..10 {
        for reply in offer(&alice, "r", &ids).await {
            assert_eq!(reply.reply(SOON).await.unwrap()["duplicate"], true);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_and_deletions_count_as_messages_but_for_those_that_were_made() {
    let limits = [("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "4"), ("ROOMCAST_BLOCK_AFTER", "0")];
    let fleet = Fleet::embedded(limited(&limits)).await.unwrap();
    let alice = member(&fleet, "alice").await;
    alice.join("r", None).await.unwrap();
    let ids = [unique_id(), unique_id()];
    for id in &ids {
        alice.send("r", id, "hello").await.unwrap();
    }
    let edit = |id: &str, change: &str| {
        let content = "hello again";
        json!({ "roomId": "r", "id": id, "changeId": change, "content": content })
    };
    let made = unique_id();
    for offer in 0..5 {
        let reply = alice.command("message:edit", edit(&ids[0], &made)).await.unwrap();
        assert_eq!(reply["duplicate"], json!(offer > 0));
    }
    let delete = json!({ "roomId": "r", "id": ids[1], "changeId": unique_id() });
    alice.command("message:delete", delete.clone()).await.unwrap();
    // Four are used up, whatever was done with them.
    let more = edit(&ids[0], &unique_id());
    let refused = alice.command("message:edit", more).await.unwrap_err();
    assert_eq!(refused.code(), Some("rate_limited"));
    let refused = alice.send("r", &unique_id(), "more").await.unwrap_err();
    assert_eq!(refused.code(), Some("rate_limited"));
    // What was made is answered all the same.
    let again = alice.command("message:edit", edit(&ids[0], &made)).await.unwrap();
    assert_eq!(again["duplicate"], true);
    let again = alice.command("message:delete", delete).await.unwrap();
    assert_eq!(again["duplicate"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_comes_back_into_ten_rooms_at_once_by_the_defaults() {
    let options = GatewayOptions::plain().with_jwt_secret(SECRET);
    // The first visit to ten rooms takes two minutes by the default.
    let options = options.with_env("WEBSOCKET_RATE_LIMIT_ROOM_JOIN", "10");
    let fleet = Fleet::embedded(options).await.unwrap();
    let alice = member(&fleet, "alice").await;
    for room in 0..10 {
        alice.join(&format!("room-{room}"), None).await.unwrap();
    }
    let since = Since { position: Position::new(0, 0), message_id: unique_id() };
    for _ in 0..6 {
        let again = member(&fleet, "alice").await;
        for room in 0..10 {
            again.join(&format!("room-{room}"), Some(&since)).await.unwrap();
        }
    }
    let refused = alice.join("room-0", Some(&since)).await.unwrap_err();
    assert_eq!(refused.code(), Some("rate_limited"));
}

/// Joins rooms on a new connection; how many were not refused as too often.
async fn opened(fleet: &Fleet, user: &str, rooms: &[&str]) -> usize {
    let tab = member(fleet, user).await;
    let mut passed = 0;
    for room in rooms {
        match tab.join(room, None).await {
            Ok(_) => passed += 1,
            Err(error) => assert_eq!(error.code(), Some("rate_limited"), "{room}"),
        }
    }
    passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usual_rooms_are_opened_at_once_and_new_ones_five_a_minute() {
    let rooms = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let options = GatewayOptions::plain().with_jwt_secret(SECRET);
    let options = options.with_env("ROOMCAST_BLOCK_AFTER", "0");
    let options = options.with_env("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "100");
    let mut fleet = Fleet::embedded(options).await.unwrap();
    // A page with three rooms, loaded three times.
    for _ in 0..3 {
        assert_eq!(opened(&fleet, "alice", &rooms[..3]).await, 3);
    }
    assert_eq!(opened(&fleet, "alice", &rooms).await, 5, "two more of the seed's five");
    assert_eq!(opened(&fleet, "bob", &rooms).await, 5, "everybody for themselves");

    // After a restart the database knows whose rooms they are: by what they have read, and by the
    // list of members.
    let alice = member(&fleet, "alice").await;
    for room in &rooms[..5] {
        alice.join(room, None).await.unwrap();
        let said = alice.send(room, &unique_id(), "hello").await.unwrap();
        let receipt = json!({ "roomId": room, "position": said.position.unwrap() });
        alice.command("receipt:update", receipt).await.unwrap();
    }
    for room in &rooms[5..9] {
        let sql = "INSERT INTO room_members (room_id, user_id, role, added_at)
                   VALUES (?1, 'alice', 'member', 0)";
        crate::fixtures::database(fleet.gateway()).execute(sql, [room]).unwrap();
    }
    fleet.gateway_mut().restart(SOON).await.unwrap();
    let strange = ["s1", "s2", "s3", "s4", "s5", "s6", "s7"];
    assert_eq!(opened(&fleet, "alice", &strange).await, 5);
    let all = || async {
        let opened = opened(&fleet, "alice", &rooms).await;
        if opened == 9 { Ok(()) } else { Err(format!("{opened} of 9")) }
    };
    harness::eventually(SOON, "all but the one where she never was", all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_has_a_window_of_its_own() {
    let options = limited(&[
        ("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "2"),
        ("ROOMCAST_RATE_WINDOW_MESSAGE_SEND_MS", "3000"),
        ("WEBSOCKET_RATE_LIMIT_TYPING_EVENTS", "2"),
        ("ROOMCAST_BLOCK_AFTER", "0"),
    ]);
    let fleet = Fleet::embedded(options).await.unwrap();
    let alice = member(&fleet, "alice").await;
    alice.join("r", None).await.unwrap();
    let message = json!({ "roomId": "r", "content": "hello" });
    let (_, refused) = ask(&alice, "message:send", &message, 9).await;
    assert!(refused.retry_after_ms.unwrap() <= 3000, "{refused}");
    let (_, refused) = ask(&alice, "typing:start", &json!({ "roomId": "r" }), 9).await;
    assert!(refused.retry_after_ms.unwrap() > 3000, "{refused}");
    let again = || async { alice.command("message:send", message.clone()).await };
    harness::eventually(Duration::from_secs(30), "its window is over", again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_applications_backend_is_not_limited_and_the_development_mode_is_generous() {
    let one = [("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "1"), ("ROOMCAST_BLOCK_AFTER", "1")];
    let fleet = Fleet::embedded(limited(&one)).await.unwrap();
    let backend = client(&fleet.gateway().ws_url(), "backend", "service").await;
    backend.join("r", None).await.unwrap();
    for _ in 0..50 {
        backend.send("r", &unique_id(), "news").await.unwrap();
    }
    let options = GatewayOptions::plain().with_env("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "1");
    let fleet = Fleet::embedded(options).await.unwrap();
    let dev = crate::fixtures::client(fleet.gateway(), "anybody").await;
    dev.join("r", None).await.unwrap();
    let message = json!({ "roomId": "r", "content": "hello" });
    assert_eq!(ask(&dev, "message:send", &message, 30).await.0, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_as_long_as_they_were_told_is_accepted_again() {
    let folder = tempfile::tempdir().unwrap();
    let sources = Sources::from_map(&[
        ("PORT", "0"),
        ("ROOMCAST_OPERATOR_PORT", "0"),
        ("ROOMCAST_DATA_DIR", folder.path().to_str().unwrap()),
        ("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "1"),
    ]);
    let settings: GatewaySettings = settings::load(&sources).unwrap();
    let clock = Clock::system();
    let server = Server::start(settings, clock.clone(), |_, _| ()).await.unwrap();
    let url = format!("ws://{}/ws", server.address());
    let alice = Client::connect(&url, &Proof::user("alice")).await.unwrap();
    alice.join("r", None).await.unwrap();
    for _ in 0..3 {
        for _ in 0..20 {
            alice.send("r", &unique_id(), "hello").await.unwrap();
        }
        let Err(ClientError::Refused(refused)) = alice.send("r", &unique_id(), "more").await else {
            panic!("one too many is accepted");
        };
        clock.advance(Duration::from_millis(refused.retry_after_ms.unwrap()));
    }
    assert!(tokio::time::timeout(SOON, server.drain()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hammers_on_is_blocked_then_cut_and_after_a_while_is_neither() {
    let fleet = Fleet::embedded(limited(&[
        ("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "2"),
        ("ROOMCAST_BLOCK_AFTER", "5"),
        ("ROOMCAST_BLOCK_MS", "3000"),
    ]))
    .await
    .unwrap();
    let mut alice = member(&fleet, "alice").await;
    let tab = member(&fleet, "alice").await;
    alice.join("r", None).await.unwrap();
    let message = json!({ "roomId": "r", "content": "hello" });
    let mut codes = Vec::new();
    for _ in 0..8 {
        let code = refusal(alice.send_nowait("message:send", message.clone()).await).await;
        codes.push(code.map_or("done".to_owned(), |refused| refused.code));
    }
    let [done, limited, blocked] = ["done", "rate_limited", "blocked"];
    assert_eq!(codes, [done, done, limited, limited, limited, limited, limited, blocked]);
    // Everything is refused, on every connection, with the time that is left.
    let room = json!({ "roomId": "r" });
    let refused = refusal(tab.send_nowait("history:get", room.clone()).await).await.unwrap();
    assert_eq!(refused.code, "blocked");
    assert!((1..=3000).contains(&refused.retry_after_ms.unwrap()));
    tab.command("heartbeat", json!({})).await.unwrap();
    tab.command("room:leave", room.clone()).await.unwrap();
    // Without a `ref` it is an event, with the room.
    let text = json!({ "event": "history:get", "data": { "roomId": "r" } }).to_string();
    alice.send_text(text).await.unwrap();
    let event = alice.wait_for("room:error", SOON).await.unwrap();
    assert_eq!((&event["code"], &event["roomId"]), (&json!("blocked"), &json!("r")));
    // Others are not.
    let bob = member(&fleet, "bob").await;
    bob.join("r", None).await.unwrap();
    // Who goes on is cut, and may come back to be refused.
    for _ in 0..5 {
        let _refused = alice.send_nowait("history:get", room.clone()).await;
    }
    assert_eq!(alice.closed(SOON).await.unwrap().code, Some(4429));
    let back = member(&fleet, "alice").await;
    assert_eq!(back.history("r", json!({})).await.unwrap_err().code(), Some("blocked"));
    while let Some(refused) = refusal(tab.send_nowait("history:get", room.clone()).await).await {
        assert_eq!(refused.code, "blocked");
        refused.obey(Duration::from_secs(3)).await;
    }
    assert!(!bob.log().iter().any(|incoming| is_event(incoming, "room:error")));
}
