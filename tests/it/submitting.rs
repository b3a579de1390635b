//! What stands is answered, what is new passes every check: by every way into the log.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

use fleet::{ClusterOptions, Fleet, GatewayNode, GatewayOptions};
use harness::client::ClientError;
use harness::{Api, Client, Proof, token, unique_id};
use serde_json::{Value, json};

use crate::auth::SECRET;
use crate::fixtures::{SOON, client, gateway, until_heard};

/// How a gateway closes answers soon.
fn impatient(options: GatewayOptions) -> GatewayOptions {
    options.with_env("ROOMCAST_STREAM_TIMEOUT_MS", "500")
}

fn code(outcome: Result<Value, ClientError>) -> String {
    let refused = outcome.expect_err("it is refused");
    refused.code().unwrap_or_else(|| panic!("{refused}")).to_owned()
}

#[track_caller]
fn stands(outcome: Result<Value, ClientError>) {
    assert_eq!(outcome.expect("it is answered")["duplicate"], true);
}

/// What somebody did in the room `r` while they were in it.
struct Past {
    message: Value,
    edit: Value,
    /// The end of an answer that was ended in time.
    end: Value,
    /// The end of one that was cut off.
    late_end: Value,
}

impl Past {
    /// Says, edits and answers; `watcher` is in the room.
    async fn of(author: &Client, watcher: &mut Client) -> Past {
        author.join("r", None).await.unwrap();
        let ids: Vec<String> = (0..4).map(|_| unique_id()).collect();
        let message = json!({ "roomId": "r", "id": ids[0], "content": "hello" });
        author.command("message:send", message.clone()).await.unwrap();
        let edit = json!({ "roomId": "r", "id": ids[0], "changeId": ids[1], "content": "hello!" });
        author.command("message:edit", edit.clone()).await.unwrap();
        for id in &ids[2..] {
            let start = json!({ "roomId": "r", "id": id });
            author.command("message:stream:start", start).await.unwrap();
            let delta = json!({ "roomId": "r", "id": id, "delta": "half", "offset": 0 });
            author.command("message:stream:append", delta).await.unwrap();
        }
        let end = json!({ "roomId": "r", "id": ids[2] });
        author.command("message:stream:end", end.clone()).await.unwrap();
        until_heard(watcher, &ids[3]).await;
        let late_end = json!({ "roomId": "r", "id": ids[3], "content": "half and whole" });
        Past { message, edit, end, late_end }
    }

    /// Whoever is in the room no more is told what stands, and changes nothing.
    async fn is_all(&self, author: &Client, watcher: &Client) {
        stands(author.command("message:send", self.message.clone()).await);
        stands(author.command("message:edit", self.edit.clone()).await);
        stands(author.command("message:stream:end", self.end.clone()).await);
        let late = author.command("message:stream:end", self.late_end.clone()).await;
        assert_eq!(code(late), "not_joined");
        let fresh = json!({ "roomId": "r", "content": "more" });
        assert_eq!(code(author.command("message:send", fresh).await), "not_joined");
        let id = &self.message["id"];
        let edit = json!({ "roomId": "r", "id": id, "content": "more" });
        assert_eq!(code(author.command("message:edit", edit).await), "not_joined");
        let delete = json!({ "roomId": "r", "id": id });
        assert_eq!(code(author.command("message:delete", delete).await), "not_joined");
        let start = json!({ "roomId": "r" });
        assert_eq!(code(author.command("message:stream:start", start).await), "not_joined");
        let page = watcher.history("r", json!({})).await.unwrap();
        let cut_off = page.messages.iter().find(|message| message.id == self.late_end["id"]);
        assert_eq!(cut_off.unwrap().content, "half");
        assert_eq!(page.messages.len(), 3, "{page:?}");
    }
}

async fn only_members_change_anything(near: &GatewayNode, far: &GatewayNode) {
    let mut alice = client(far, "alice").await;
    alice.join("r", None).await.unwrap();
    let mut mallory = client(near, "mallory").await;
    let past = Past::of(&mallory, &mut alice).await;

    mallory.command("room:leave", json!({ "roomId": "r" })).await.unwrap();
    past.is_all(&mallory, &alice).await;
    mallory.join("r", None).await.unwrap();
    let api = Api::new(near.port());
    api.ask("DELETE", "/api/rooms/r/members/mallory", None).await.expect(200);
    mallory.wait_for("room:error", SOON).await.unwrap();
    past.is_all(&mallory, &alice).await;

    api.ask("PUT", "/api/rooms/r/members/mallory", None).await.expect(200);
    mallory.join("r", None).await.unwrap();
    let ended = mallory.command("message:stream:end", past.late_end.clone()).await.unwrap();
    assert_eq!(ended["duplicate"], false);
    mallory.command("room:leave", json!({ "roomId": "r" })).await.unwrap();
    stands(mallory.command("message:stream:end", past.late_end.clone()).await);
    let page = alice.history("r", json!({})).await.unwrap();
    assert!(page.messages.iter().any(|message| message.content == "half and whole"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_in_a_room_no_more_is_told_what_stands_and_changes_nothing() {
    let fleet = Fleet::embedded(impatient(GatewayOptions::default())).await.unwrap();
    only_members_change_anything(fleet.gateway(), fleet.gateway()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_in_a_room_no_more_changes_nothing_through_any_node() {
    let gateway = impatient(GatewayOptions::default());
    let options = ClusterOptions { gateways: 2, workers: 1, gateway, ..ClusterOptions::default() };
    let fleet = Fleet::cluster(options).await.unwrap();
    only_members_change_anything(&fleet.gateways()[0], &fleet.gateways()[1]).await;
}

fn with_role(role: &str) -> String {
    token(SECRET, "bot", 600, &json!({ "rooms": ["*"], "role": role }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_end_is_counted_and_needs_its_role_and_what_stands_needs_neither() {
    let options = impatient(GatewayOptions::default().with_jwt_secret(SECRET));
    let options = options.with_env("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "2");
    let fleet = Fleet::embedded(options).await.unwrap();
    let url = fleet.gateway().ws_url();
    let ann = token(SECRET, "ann", 600, &json!({ "rooms": ["*"] }));
    let mut ann = Client::connect(&url, &Proof::Bearer(ann)).await.unwrap();
    ann.join("r", None).await.unwrap();
    let bot = Client::connect(&url, &Proof::Bearer(with_role("assistant"))).await.unwrap();
    // A message and an edit: the allowance is used up.
    let past = Past::of(&bot, &mut ann).await;
    let late = bot.command("message:stream:end", past.late_end.clone()).await;
    assert_eq!(code(late), "rate_limited");
    stands(bot.command("message:send", past.message.clone()).await);
    stands(bot.command("message:edit", past.edit.clone()).await);

    let open = json!({ "roomId": "r", "id": unique_id() });
    bot.command("message:stream:start", open.clone()).await.unwrap();
    bot.command("auth", json!({ "token": with_role("member") })).await.unwrap();
    let delta = json!({ "roomId": "r", "id": open["id"], "delta": "x", "offset": 0 });
    assert_eq!(code(bot.command("message:stream:append", delta.clone()).await), "forbidden");
    assert_eq!(code(bot.command("message:stream:end", open.clone()).await), "forbidden");
    // What needs a role that is gone is answered where it stands.
    let mut end = past.end.clone();
    end["credits"] = json!(5);
    stands(bot.command("message:stream:end", end).await);
    bot.command("auth", json!({ "token": with_role("assistant") })).await.unwrap();
    let kept = bot.command("message:stream:append", delta).await;
    // Long silence closes it; until then it goes on.
    assert!(kept.is_ok() || code(kept) == "conflict");
}

/// Keys of the server's own, in metadata.
const MARKS: [&str; 4] = ["aborted", "roomcast.id", "roomcast.room", "roomcast."];

/// The field that a problem of the API or a refusal names.
fn field(problem: &Value) -> (&str, &str) {
    (problem["code"].as_str().unwrap(), problem["field"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_marks_of_the_server_are_not_a_clients_to_set_at_any_door() {
    let fleet = gateway().await;
    let ann = client(fleet.gateway(), "ann").await;
    let api = Api::new(fleet.gateway().port());
    ann.join("r", None).await.unwrap();
    let id = unique_id();
    ann.send("r", &id, "hello").await.unwrap();
    let open = unique_id();
    ann.command("message:stream:start", json!({ "roomId": "r", "id": open })).await.unwrap();
    for mark in MARKS {
        let named = format!("metadata.{mark}");
        let metadata = json!({ "fine": 1, mark: true });
        let commands = [
            ("message:send", json!({ "content": "x", "metadata": metadata })),
            ("message:edit", json!({ "id": id, "content": "x", "metadata": metadata })),
            ("message:stream:start", json!({ "metadata": metadata })),
            ("message:stream:end", json!({ "id": open, "metadata": metadata })),
            ("message:stream:end", json!({ "id": id, "metadata": metadata })),
        ];
        for (command, mut data) in commands {
            data["roomId"] = json!("r");
            let Err(ClientError::Refused(refused)) = ann.command(command, data).await else {
                panic!("{command} takes {mark}");
            };
            let refused = (refused.code.as_str(), refused.field.as_deref());
            assert_eq!(refused, ("invalid_field", Some(named.as_str())), "{command} {mark}");
        }
        let message = json!({ "userId": "ann", "content": "x", "metadata": metadata });
        let problem = api.post("/api/rooms/r/messages", &message).await.expect(400);
        assert_eq!(field(&problem), ("invalid_field", named.as_str()));
        let batch = json!({ "messages": [message] });
        let answer = api.post("/api/rooms/r/messages/batch", &batch).await.expect(200);
        assert_eq!(field(&answer["results"][0]["error"]), ("invalid_field", named.as_str()));
        let edit = json!({ "content": "x", "metadata": metadata });
        let path = format!("/api/rooms/r/messages/{id}");
        let problem = api.ask("PATCH", &path, Some(&edit)).await.expect(400);
        assert_eq!(field(&problem), ("invalid_field", named.as_str()));
    }
    // Deeper down, or nearly the same, a key is the application's.
    let fine =
        json!({ "Aborted": 1, "roomcast": 2, "deep": { "aborted": true, "roomcast.id": "x" } });
    let data = json!({ "roomId": "r", "content": "x", "metadata": fine });
    ann.command("message:send", data).await.unwrap();
    let track = json!({ "userId": "ann", "amount": 1, "metadata": { "roomcast.room": "r" } });
    assert_eq!(code(ann.command("credits:track", track).await), "invalid_field");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_leaves_the_mark_of_an_answer_that_was_cut_off() {
    let fleet = Fleet::embedded(impatient(GatewayOptions::default())).await.unwrap();
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let bot = client(fleet.gateway(), "bot").await;
    let past = Past::of(&bot, &mut alice).await;
    let id = past.late_end["id"].as_str().unwrap();
    let edit = json!({ "roomId": "r", "id": id, "content": "half", "metadata": { "note": 1 } });
    bot.command("message:edit", edit).await.unwrap();
    loop {
        let update = alice.wait_for("message:update", SOON).await.unwrap();
        if update["id"] == id {
            assert_eq!(update["metadata"], json!({ "aborted": true, "note": 1 }));
            break;
        }
    }
    bot.command("message:stream:end", past.late_end.clone()).await.unwrap();
    let update = alice.wait_for("message:update", SOON).await.unwrap();
    assert_eq!((&update["id"], &update["content"]), (&json!(id), &json!("half and whole")));
    assert_eq!(update["metadata"].get("aborted"), None, "{update}");
}
