//! Saying things over HTTP: alone, again, and many at once.

use super::{api, contents, publish};
use crate::fixtures::one_gateway::assert_no_panic;
use crate::fixtures::{client, gateway, rows_of, until_heard};
use harness::{Api, unique_id};
use serde_json::{Value, json};

#[tokio::test]
async fn what_is_published_reaches_the_members_and_the_database_as_it_was_said() {
    let fleet = gateway().await;
    let mut bob = client(fleet.gateway(), "bob").await;
    bob.join("r", None).await.unwrap();
    let body = json!({
        "userId": "helper", "content": "It is noon.", "type": "assistant",
        "metadata": { "model": "small" },
    });
    let answer = api(&fleet).post("/api/rooms/r/messages", &body).await;
    let published = answer.expect(201);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(published["duplicate"], false);
    assert_eq!(
        (&published["persisted"], &published["durability"]),
        (&json!(true), &json!("store"))
    );
    let heard = bob.wait_for("message:new", crate::fixtures::SOON).await.unwrap();
    assert_eq!(heard["id"], published["id"]);
    assert_eq!(heard["position"], published["position"]);
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&heard[field], value, "{field}");
    }
    let page = api(&fleet).get("/api/rooms/r/messages").await.expect(200);
    assert_eq!(page, json!({ "messages": [heard], "hasMore": false }));
    assert_eq!(rows_of(fleet.gateway(), "r").len(), 1);
    for kind in ["user", "system"] {
        let body = json!({ "userId": "x", "content": "x", "type": kind });
        api(&fleet).post("/api/rooms/r/messages", &body).await.expect(201);
    }
}

#[tokio::test]
async fn a_room_whose_name_has_to_be_encoded_is_the_room_of_the_sockets() {
    let fleet = gateway().await;
    let mut bob = client(fleet.gateway(), "bob").await;
    bob.join("team/42:général", None).await.unwrap();
    let published = publish(&api(&fleet), "team%2F42%3Ag%C3%A9n%C3%A9ral", "ann", "hello").await;
    until_heard(&mut bob, published["id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn what_is_published_again_under_its_id_or_its_key_stands_once() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let path = "/api/rooms/r/messages";
    let id = unique_id();
    let body = json!({ "userId": "ann", "id": id, "content": "by id" });
    let first = api.post(path, &body).await.expect(201);
    let again = api.post(path, &body).await.expect(200);
    assert_eq!((&first["id"], &first["position"]), (&json!(id), &again["position"]));
    assert_eq!(again["duplicate"], true);
    let other = json!({ "userId": "ann", "id": id, "content": "other" });
    assert_eq!(api.post(path, &other).await.expect(409)["code"], "conflict");

    let keyed = api.with_header("idempotency-key", "order 17");
    let body = json!({ "userId": "ann", "content": "by key" });
    let first = keyed.post(path, &body).await.expect(201);
    let again = keyed.post(path, &body).await.expect(200);
    assert_eq!((&first["id"], &first["position"]), (&again["id"], &again["position"]));
    // The key is the user's and the room's, and another key is another message.
    let bob = json!({ "userId": "bob", "content": "by key" });
    let others = [
        keyed.post(path, &bob).await.expect(201),
        keyed.post("/api/rooms/other/messages", &body).await.expect(201),
        api.with_header("idempotency-key", "order 18").post(path, &body).await.expect(201),
        api.post(path, &body).await.expect(201),
    ];
    assert!(others.iter().all(|other| other["id"] != first["id"]), "{others:?}");
    // An id names the message, whatever the key says.
    let named = json!({ "userId": "ann", "id": unique_id(), "content": "by both" });
    assert_eq!(keyed.post(path, &named).await.expect(201)["id"], named["id"]);
    assert_eq!(rows_of(fleet.gateway(), "r").len(), 6);
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_tells_of_each_what_became_of_it() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let path = "/api/rooms/r/messages/batch";
    let known = publish(&api, "r", "ann", "known").await["id"].clone();
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    let messages = json!([
        { "userId": "ann", "content": "first" },
        { "userId": "ann", "id": known, "content": "known" },
        { "userId": "ann", "content": "x", "colour": "red" },
        { "content": "of nobody" },
        { "userId": "ann", "content": "x", "metadata": { "deep": deep } },
        { "userId": "ann", "id": "a b", "content": "x" },
        "no object",
        { "userId": "bob", "content": "last", "type": "system" },
    ]);
    let answer = api.post(path, &json!({ "messages": messages })).await.expect(200);
    let results = answer["results"].as_array().unwrap();
    let code = |place: usize| results[place]["error"]["code"].as_str();
    let field = |place: usize| results[place]["error"]["field"].as_str();
    assert_eq!(results.len(), 8, "{answer}");
    assert_eq!(
        (&results[0]["duplicate"], &results[7]["duplicate"]),
        (&json!(false), &json!(false))
    );
    assert_eq!((&results[1]["duplicate"], &results[1]["id"]), (&json!(true), &known));
    assert_eq!((code(2), field(2)), (Some("invalid_field"), Some("colour")));
    assert_eq!((code(3), field(3)), (Some("invalid_field"), Some("userId")));
    assert_eq!((code(4), field(4)), (Some("too_large"), Some("metadata")));
    assert_eq!((code(5), field(5)), (Some("bad_id"), Some("id")));
    assert_eq!(code(6), Some("bad_request"));
    let page = api.get("/api/rooms/r/messages").await.expect(200);
    assert_eq!(contents(&page), ["known", "first", "last"]);
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn five_hundred_messages_are_one_batch_and_one_more_is_not() {
    let fleet = gateway().await;
    let keyed = api(&fleet).with_header("idempotency-key", "import-1");
    let path = "/api/rooms/r/messages/batch";
    let batch = |count: usize| {
        let message = |number| json!({ "userId": "ann", "content": format!("{number}") });
        json!({ "messages": (0..count).map(message).collect::<Vec<Value>>() })
    };
    for count in [0, 501] {
        let problem = keyed.post(path, &batch(count)).await.expect(400);
        assert_eq!((&problem["field"], &problem["limit"]), (&json!("messages"), &json!(500)));
    }
    let first = keyed.post(path, &batch(500)).await.expect(200);
    let again = keyed.post(path, &batch(500)).await.expect(200);
    let seqs = |answer: &Value, duplicate: bool| -> Vec<u64> {
        let results = answer["results"].as_array().unwrap().iter();
        let seq = |result: &Value| {
            assert_eq!(result["duplicate"], duplicate, "{result}");
            result["position"]["seq"].as_u64().unwrap()
        };
        results.map(seq).collect()
    };
    let placed = seqs(&first, false);
    assert_eq!(placed, (placed[0]..placed[0] + 500).collect::<Vec<u64>>());
    assert_eq!(seqs(&again, true), placed);
    let rows = rows_of(fleet.gateway(), "r");
    let said: Vec<String> = rows.into_iter().map(|row| row.content).collect();
    assert_eq!(said, (0..500).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// Asked first, each under a key of its own, and then again with something else.
async fn ask_again_with_other_content(api: &Api, id: &str, first: bool) {
    let (room, track) = ("/api/rooms/r/messages", "/api/credits/track");
    let (batch, message) = (format!("{room}/batch"), format!("{room}/{id}"));
    let keyed = |key: &str| api.with_header("idempotency-key", key);
    let fresh = if first { 201 } else { 200 };
    let is_conflict = |answer: &harness::ApiAnswer, what: &str| {
        assert_eq!((answer.status, &answer.json()["code"]), (409, &json!("conflict")), "{what}");
    };
    let said = json!({ "userId": "ann", "content": "one", "metadata": { "n": 1.50 } });
    keyed("post").post(room, &said).await.expect(fresh);
    assert_eq!(keyed("post").post(room, &said).await.expect(200)["duplicate"], true);
    for (field, value) in [
        ("content", json!("two")),
        ("metadata", json!({ "n": 2 })),
        ("type", json!("system")),
        ("credits", json!({ "amount": 3 })),
    ] {
        let mut other = said.clone();
        other[field] = value;
        is_conflict(&keyed("post").post(room, &other).await, field);
        let of_batch =
            keyed(&format!("batch {field}")).post(&batch, &json!({ "messages": [other] })).await;
        // A batch names its messages by their places: this one is another.
        assert!(of_batch.expect(200)["results"][0]["position"].is_object(), "{of_batch:?}");
        return_if_stored(&keyed(field), &batch).await;
    }
    let edit = json!({ "content": "edited" });
    keyed("patch").ask("PATCH", &message, Some(&edit)).await.expect(200);
    keyed("patch").ask("PATCH", &message, Some(&edit)).await.expect(200);
    let other = json!({ "content": "edited otherwise" });
    is_conflict(&keyed("patch").ask("PATCH", &message, Some(&other)).await, "PATCH");
    is_conflict(&keyed("patch").ask("DELETE", &message, None).await, "DELETE");
    let used = json!({ "userId": "ann", "amount": 5 });
    keyed("track").post(track, &used).await.expect(fresh);
    keyed("track").post(track, &used).await.expect(200);
    is_conflict(
        &keyed("track").post(track, &json!({ "userId": "ann", "amount": 6 })).await,
        "track",
    );
}

/// Two messages in a batch stand once under its key; another content of one is a conflict of it.
async fn return_if_stored(keyed: &Api, batch: &str) {
    let said = |text: &str| json!({ "userId": "bob", "content": text });
    let two = json!({ "messages": [said("first"), said("second")] });
    keyed.post(batch, &two).await.expect(200);
    let other = json!({ "messages": [said("first"), said("another")] });
    let results = keyed.post(batch, &other).await.expect(200)["results"].clone();
    assert_eq!(results[0]["duplicate"], true, "{results}");
    assert_eq!(results[1]["error"]["code"], "conflict", "{results}");
}

#[tokio::test]
async fn a_key_used_again_with_other_content_is_a_conflict_for_as_long_as_it_is_known() {
    let mut fleet = gateway().await;
    let here = api(&fleet);
    let id = publish(&here, "r", "bob", "to be edited").await["id"].clone();
    let id = id.as_str().unwrap();
    ask_again_with_other_content(&here, id, true).await;
    // Where the log remembers nothing, and only the database knows.
    fleet.gateway_mut().restart(crate::fixtures::SOON).await.unwrap();
    ask_again_with_other_content(&api(&fleet), id, false).await;
    assert_eq!(rows_of(fleet.gateway(), "r").len(), 1 + 1 + 4 + 4 * 2);
    // A key that changed one message changes no other.
    let api = api(&fleet).with_header("idempotency-key", "patch");
    let other = publish(&api, "r", "bob", "another").await["id"].clone();
    let path = format!("/api/rooms/r/messages/{}", other.as_str().unwrap());
    let answer = api.ask("PATCH", &path, Some(&json!({ "content": "edited" }))).await;
    assert_eq!(answer.expect(409)["code"], "conflict");
}

#[tokio::test]
async fn an_id_said_again_is_compared_by_content_only_while_the_log_remembers_it() {
    let mut fleet = gateway().await;
    let id = unique_id();
    for round in 0..2 {
        let ann = client(fleet.gateway(), "ann").await;
        ann.join("r", None).await.unwrap();
        let accepted = ann.send("r", &id, "one").await.unwrap();
        assert_eq!(accepted.duplicate, round > 0);
        let other = ann.send("r", &id, "two").await;
        if round == 0 {
            assert_eq!(other.unwrap_err().code(), Some("conflict"));
            fleet.gateway_mut().restart(crate::fixtures::SOON).await.unwrap();
        } else {
            assert!(other.unwrap().duplicate, "the first content stands");
        }
    }
    let rows = rows_of(fleet.gateway(), "r");
    assert!(rows.len() == 1 && rows[0].content == "one", "{rows:?}");
}
