//! Every word that keys, channels, patterns and events are made of, as the name of a room, of a
//! user and of a message.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

use fleet::{ClusterOptions, Fleet, GatewayOptions};
use harness::{Api, Client, Proof};
use serde_json::json;

use crate::auth::{gateway_with_api, refusal};
use crate::fixtures::{SOON, gateway, until_heard};

/// Names that an id may have and that something of ours is called, or nearly.
const RESERVED: [&str; 38] = [
    "watermark",
    ":watermark",
    "x:watermark",
    "s17:watermark",
    "{s17}:watermark",
    "nodes",
    "roomcast:nodes",
    "x:roomcast:nodes",
    "probe",
    "roomcast:probe:",
    "roomcast:leases",
    "roomcast:rate:ann:messages",
    "s3:room:lobby",
    "room:lobby",
    ":room:",
    "ring:lobby",
    "head:lobby",
    "streams:lobby",
    "streaming",
    "epoch",
    "log",
    "synced",
    "unsynced",
    "message:new",
    "message:persisted",
    "room:join",
    "reply",
    "api",
    "rct_0",
    "rcs_0",
    "0-0",
    "1-1:-:-",
    ":",
    "-",
    "-1",
    "__proto__",
    "null",
    "a/../b?c#d%2A&e=f",
];

/// The address of a connection of `user`, whose name may have any character.
fn url_of(ws_url: &str, user: &str) -> String {
    let encoded: String = user.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("{ws_url}?user={encoded}")
}

async fn connected(ws_url: &str, user: &str) -> Client {
    Client::connect(&url_of(ws_url, user), &Proof::Nobody).await.unwrap()
}

/// A name does as a room, as its reader's and its writer's name, and as the name of a message and
/// of a change: what is said through one node is heard through the other, stored and read back.
async fn does(name: &str, room: &str, urls: [&str; 2]) {
    let writer = connected(urls[0], name).await;
    let mut reader = connected(urls[1], &format!("{name}:reader")).await;
    reader.join(room, None).await.unwrap();
    writer.join(room, None).await.unwrap();
    let said = writer.send(room, name, "hello").await.unwrap();
    assert!(!said.duplicate, "{name} in {room}");
    until_heard(&mut reader, name).await;
    let change = format!("{name}:change");
    let edit = json!({ "roomId": room, "id": name, "changeId": change, "content": "hello again" });
    assert_eq!(writer.command("message:edit", edit).await.unwrap()["duplicate"], false, "{name}");
    assert_eq!(reader.wait_for("message:update", SOON).await.unwrap()["id"], name);
    let receipt = json!({ "roomId": room, "position": said.position.unwrap() });
    reader.command("receipt:update", receipt).await.unwrap();
    writer.command("typing:start", json!({ "roomId": room })).await.unwrap();
    assert_eq!(reader.wait_for("typing:start", SOON).await.unwrap()["userId"], name);
    let again = writer.send(room, name, "hello").await.unwrap();
    assert!(again.duplicate, "{name}");
    let track = json!({ "userId": name, "amount": 1, "id": format!("{name}:credit") });
    writer.command("credits:track", track).await.unwrap();
    let fresh = connected(urls[1], &format!("{name}:fresh")).await;
    let page = fresh.join(room, None).await.unwrap();
    assert!(page.messages.iter().any(|message| message.id == name), "{name}: {page:?}");
}

/// Whether an id may not be called so.
fn has_brace(name: &str) -> bool {
    name.contains(['{', '}'])
}

async fn all_do(urls: [&str; 2]) {
    for name in RESERVED {
        if has_brace(name) {
            let ann = connected(urls[0], "ann").await;
            let refused = refusal(ann.command("room:join", json!({ "roomId": name })).await);
            assert_eq!(refused.code, "invalid_field", "{name}");
            continue;
        }
        does(name, name, urls).await;
    }
    // Users and messages may have a star, rooms may not.
    for name in ["*", "**", "room-*", "*:watermark"] {
        does(name, "stars", urls).await;
        let ann = connected(urls[0], "ann").await;
        let refused = refusal(ann.command("room:join", json!({ "roomId": name })).await);
        assert_eq!(
            (refused.code.as_str(), refused.field.as_deref()),
            ("invalid_field", Some("roomId")),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reserved_word_is_a_name_like_any_other_on_two_nodes() {
    let options = ClusterOptions {
        gateways: 2,
        workers: 1,
        gateway: GatewayOptions::default(),
        ..ClusterOptions::default()
    };
    let fleet = Fleet::cluster(options).await.unwrap();
    let urls = [fleet.gateways()[0].ws_url(), fleet.gateways()[1].ws_url()];
    all_do([&urls[0], &urls[1]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reserved_word_is_a_name_like_any_other_on_one_node() {
    let fleet = gateway().await;
    let url = fleet.gateway().ws_url();
    all_do([&url, &url]).await;
}

/// Every way in which the API could make or enter a room that is called like a pattern.
async fn has_no_room(api: &Api, name: &str) {
    let encoded = name.replace('*', "%2A");
    let message = json!({ "userId": "ann", "content": "x" });
    for path in [format!("/api/rooms/{encoded}"), format!("/api/rooms/{name}")] {
        let answers = [
            api.post(&format!("{path}/messages"), &message).await,
            api.ask("PUT", &format!("{path}/members/ann"), None).await,
            api.get(&format!("{path}/messages")).await,
            api.get(&format!("{path}/stream")).await,
            api.get(&format!("{path}/presence")).await,
        ];
        for answer in answers {
            assert_eq!(answer.status, 400, "{path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_room_is_never_called_like_a_pattern_and_a_pattern_never_taken_for_a_room() {
    let (fleet, api) = gateway_with_api().await;
    for name in ["*", "team-*", "**", "a*b"] {
        has_no_room(&api, name).await;
    }
    // The same claim opens the same rooms, whatever kind of proof carries it.
    let cases = [("team-1", "team-2", false), ("team-*", "team-2", true), ("*", "team-2", true)];
    for (pattern, room, opens) in cases {
        let grant = json!({ "userId": "ann", "rooms": [pattern] });
        let ticket = api.post("/api/tickets", &grant).await.expect(201);
        let session = api.post("/api/sessions", &grant).await.expect(201);
        let url = fleet.gateway().ws_url();
        let with_ticket = format!("{url}?ticket={}", ticket["ticket"].as_str().unwrap());
        let by_ticket = Client::connect(&with_ticket, &Proof::Nobody).await.unwrap();
        let session = Proof::Bearer(session["token"].as_str().unwrap().to_owned());
        let by_session = Client::connect(&url, &session).await.unwrap();
        let token = harness::token(crate::auth::SECRET, "ann", 600, &json!({ "rooms": [pattern] }));
        let by_token = Client::connect(&url, &Proof::Bearer(token)).await.unwrap();
        for client in [by_ticket, by_session, by_token] {
            assert_eq!(client.join(room, None).await.is_ok(), opens, "{pattern} {room}");
        }
    }
    // What can be no room's id and no pattern of one is refused where it is asked for.
    for wrong in ["", "a b", "a{b", "x\n"] {
        let grant = json!({ "userId": "ann", "rooms": ["fine", wrong] });
        for path in ["/api/tickets", "/api/sessions"] {
            let problem = api.post(path, &grant).await;
            assert_eq!(problem.status, 400, "{wrong:?} {path}: {problem:?}");
        }
    }
}
