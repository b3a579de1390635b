//! Edits and deletes: who may, what is answered, and what everybody ends up seeing.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

pub(crate) mod everywhere;
pub(crate) mod model;

use fleet::{Fleet, GatewayOptions};
use harness::client::ClientError;
use harness::wire::Since;
use harness::{Client, Position, Proof, eventually, token, unique_id};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixtures::{SOON, client, database, gateway};

const SECRET: &str = "a secret of the tests that is long enough";

/// What an edit or a delete is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Changed {
    pub(crate) change_id: String,
    pub(crate) position: Position,
    pub(crate) duplicate: bool,
    pub(crate) persisted: bool,
}

pub(crate) async fn edit(
    client: &Client,
    room: &str,
    (id, change_id): (&str, &str),
    content: &str,
) -> Result<Changed, ClientError> {
    let data = json!({ "roomId": room, "id": id, "changeId": change_id, "content": content });
    Ok(Changed::deserialize(client.command("message:edit", data).await?).unwrap())
}

pub(crate) async fn delete(
    client: &Client,
    room: &str,
    (id, change_id): (&str, &str),
) -> Result<Changed, ClientError> {
    let data = json!({ "roomId": room, "id": id, "changeId": change_id });
    Ok(Changed::deserialize(client.command("message:delete", data).await?).unwrap())
}

fn code<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> String {
    outcome.unwrap_err().code().unwrap().to_owned()
}

/// A message of alice's in room `r`, and its id.
async fn said(alice: &Client) -> String {
    let id = unique_id();
    let metadata = json!({ "mood": "fine" });
    let data = json!({ "roomId": "r", "id": id, "content": "first", "metadata": metadata });
    alice.command("message:send", data).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_keeps_metadata_is_told_and_stands_once() {
    let fleet = gateway().await;
    let alice = client(fleet.gateway(), "alice").await;
    let mut bob = client(fleet.gateway(), "bob").await;
    alice.join("r", None).await.unwrap();
    bob.join("r", None).await.unwrap();
    let id = said(&alice).await;
    let change_id = unique_id();
    let first = edit(&alice, "r", (&id, &change_id), "second").await.unwrap();
    assert!(!first.duplicate);
    let told = bob.wait_for("message:update", SOON).await.unwrap();
    assert_eq!((&told["id"], &told["changeId"]), (&json!(id), &json!(change_id)));
    assert_eq!((&told["content"], &told["metadata"]), (&json!("second"), &json!({"mood": "fine"})));
    assert_eq!(Position::deserialize(&told["position"]).unwrap(), first.position);
    assert!(told["editedAt"].is_string());
    let again = edit(&alice, "r", (&id, &change_id), "second").await.unwrap();
    assert_eq!(again, Changed { duplicate: true, ..first.clone() });
    assert_eq!(code(edit(&alice, "r", (&id, &change_id), "other").await), "conflict");
    let page = bob.history("r", json!({})).await.unwrap();
    assert_eq!(page.messages[0].content, "second");
    assert_eq!(page.messages[0].changed_position, Some(first.position));
    assert_eq!(page.messages[0].metadata, json!({"mood": "fine"}));

    let gone = delete(&alice, "r", (&id, &unique_id())).await.unwrap();
    let told = bob.wait_for("message:delete", SOON).await.unwrap();
    assert_eq!(Position::deserialize(&told["position"]).unwrap(), gone.position);
    assert!(told["deletedAt"].is_string() && told.get("content").is_none());
    let twice = delete(&alice, "r", (&id, &unique_id())).await.unwrap();
    assert_eq!((twice.position, twice.duplicate), (gone.position, true));
    assert_eq!(code(edit(&alice, "r", (&id, &unique_id()), "third").await), "not_found");
    // The edit that was made before the delete is still answered.
    assert_eq!(edit(&alice, "r", (&id, &change_id), "second").await.unwrap(), again);
    let page = bob.history("r", json!({})).await.unwrap();
    assert_eq!((page.messages[0].content.as_str(), &page.messages[0].metadata), ("", &json!({})));
    assert!(page.messages[0].deleted_at.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_messages_of_one_id_a_change_says_whose_and_means_that_one() {
    let fleet = gateway().await;
    let alice = client(fleet.gateway(), "alice").await;
    let mut bob = client(fleet.gateway(), "bob").await;
    alice.join("r", None).await.unwrap();
    bob.join("r", None).await.unwrap();
    let id = said(&alice).await;
    bob.send("r", &id, "bob's").await.unwrap();
    let change = async |name: &str, whose: &str| {
        let content = (name == "message:edit").then_some("moderated");
        let data = json!({ "roomId": "r", "id": id, "userId": whose, "content": content });
        let mut data: serde_json::Map<_, _> = data.as_object().unwrap().clone();
        data.retain(|_, value| !value.is_null());
        alice.command(name, Value::Object(data)).await
    };
    change("message:edit", "bob").await.unwrap();
    let told = bob.wait_for("message:update", SOON).await.unwrap();
    assert_eq!((&told["id"], &told["userId"]), (&json!(id), &json!("bob")));
    assert_eq!(code(change("message:edit", "nobody").await), "not_found");
    let contents = async || -> Vec<String> {
        let page = alice.history("r", json!({})).await.unwrap();
        page.messages.into_iter().map(|message| message.content).collect()
    };
    assert_eq!(contents().await, ["first", "moderated"]);
    change("message:delete", "bob").await.unwrap();
    let told = bob.wait_for("message:delete", SOON).await.unwrap();
    assert_eq!((&told["id"], &told["userId"]), (&json!(id), &json!("bob")));
    assert_eq!(contents().await, ["first", ""]);
    change("message:delete", "alice").await.unwrap();
    assert_eq!(contents().await, ["", ""]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_authors_and_moderators_change_a_message_and_only_in_its_room() {
    let options = GatewayOptions::default().with_jwt_secret(SECRET);
    let fleet = Fleet::embedded(options).await.unwrap();
    let url = fleet.gateway().ws_url();
    let connect = async |user: &str, role: &str| {
        let claims = json!({ "rooms": ["*"], "role": role });
        let proof = Proof::Bearer(token(SECRET, user, 600, &claims));
        Client::connect(&url, &proof).await.unwrap()
    };
    let alice = connect("alice", "member").await;
    let bob = connect("bob", "member").await;
    let carol = connect("carol", "moderator").await;
    alice.join("r", None).await.unwrap();
    let id = said(&alice).await;
    let (new, mine) = (unique_id, unique_id());
    assert_eq!(code(edit(&bob, "r", (&id, &new()), "x").await), "not_joined");
    for client in [&bob, &carol] {
        client.join("r", None).await.unwrap();
        client.join("other", None).await.unwrap();
        assert_eq!(code(edit(client, "other", (&id, &new()), "x").await), "not_found");
        assert_eq!(code(delete(client, "other", (&id, &new())).await), "not_found");
    }
    assert_eq!(code(edit(&bob, "r", (&id, &new()), "x").await), "forbidden");
    assert_eq!(code(delete(&bob, "r", (&id, &new())).await), "forbidden");
    edit(&carol, "r", (&id, &mine), "moderated").await.unwrap();
    // The database's word makes a moderator too.
    let moderate = "INSERT INTO room_members (room_id, user_id, role, added_at)
                    VALUES ('r', 'bob', 'moderator', 0)";
    database(fleet.gateway()).execute(moderate, []).unwrap();
    edit(&bob, "r", (&id, &new()), "moderated again").await.unwrap();
    delete(&bob, "r", (&id, &new())).await.unwrap();
    // What was made is answered, whoever may no more.
    carol.command("room:leave", json!({ "roomId": "r" })).await.unwrap();
    assert!(edit(&carol, "r", (&id, &mine), "moderated").await.unwrap().duplicate);
    assert_eq!(code(edit(&carol, "r", (&id, &new()), "x").await), "not_joined");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_database_has_is_edited_and_a_cursor_at_the_change_goes_on() {
    let mut fleet = gateway().await;
    let alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let id = said(&alice).await;
    fleet.gateway_mut().terminate(SOON).await.unwrap();
    fleet.gateway_mut().restart(SOON).await.unwrap();
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let change_id = unique_id();
    let changed = edit(&alice, "r", (&id, &change_id), "second").await.unwrap();
    // The answer and the event come in any order.
    alice.wait_for("message:update", SOON).await.unwrap();
    let joined = alice.join("r", None).await.unwrap();
    assert_eq!(joined.messages.len(), 1);
    assert_eq!(joined.messages[0].content, "second");
    assert_eq!(joined.messages[0].changed_position, Some(changed.position));
    for key in [&id, &change_id] {
        let since = Since { position: changed.position, message_id: key.clone() };
        let joined = alice.join("r", Some(&since)).await.unwrap();
        assert!(joined.recovered && joined.messages.is_empty(), "{joined:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_of_a_change_are_checked() {
    let fleet = gateway().await;
    let alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let id = said(&alice).await;
    let ahead = uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 32_503_680_000, 0));
    let ahead = ahead.to_string();
    assert_eq!(code(edit(&alice, "r", (&id, &ahead), "x").await), "bad_id");
    assert_eq!(code(delete(&alice, "r", (&id, &ahead)).await), "bad_id");
    let long = "x".repeat(256 * 1024 + 1);
    assert_eq!(code(edit(&alice, "r", (&id, &unique_id()), &long).await), "too_large");
    assert_eq!(code(edit(&alice, "r", (&unique_id(), &unique_id()), "x").await), "not_found");
    // The server names a change that the client does not name.
    let data = json!({ "roomId": "r", "id": id, "content": "x", "metadata": {"a": 1} });
    let answer: Value = alice.command("message:edit", data).await.unwrap();
    assert!(answer["changeId"].is_string());
    let stored = || async {
        let page = alice.history("r", json!({})).await.map_err(|error| error.to_string())?;
        let metadata = page.messages[0].metadata.clone();
        if metadata == json!({"a": 1}) { Ok(()) } else { Err(metadata.to_string()) }
    };
    eventually(SOON, "the metadata are the new ones", stored).await;
}
