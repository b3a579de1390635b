//! The main refusals, to the letter.

use super::{ROOM, ask, in_the_room};
use crate::fixtures::one_gateway::{SOON, gateway};
use harness::wire::Incoming;
use harness::{Client, Proof};
use serde_json::{Value, json};

/// A command and its data, and the code, the field and the limit of its refusal.
type Case = (&'static str, Value, &'static str, &'static str, Option<u64>);

/// An id whose time is the year 10889: as far ahead as a `UUIDv7` can say.
const AHEAD: &str = "ffffffff-ffff-7fff-bfff-ffffffffffff";

#[tokio::test]
async fn each_refusal_has_its_code_its_field_and_its_limit() {
    let fleet = gateway().await;
    let mut wire = in_the_room(&fleet, "mallory").await;
    let send = |extra: Value| {
        let mut data = json!({ "roomId": ROOM, "content": "x" });
        data.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        data
    };
    let deep = (0..16).fold(json!(1), |inner, _| json!([inner]));
    let position = json!({ "epoch": 1, "seq": 1 });
    let cases: Vec<Case> = vec![
        ("message:shout", json!({}), "unknown_event", "event", None),
        ("room:join", json!({}), "invalid_field", "roomId", None),
        ("room:join", json!({ "roomId": "a b" }), "invalid_field", "roomId", None),
        ("room:join", json!({ "roomId": "a".repeat(129) }), "invalid_field", "roomId", None),
        ("room:join", json!({ "roomId": ROOM, "limit": 0 }), "invalid_field", "limit", Some(200)),
        ("room:join", json!({ "roomId": ROOM, "limit": 201 }), "invalid_field", "limit", Some(200)),
        ("room:join", json!({ "roomId": ROOM, "x": 1 }), "invalid_field", "x", None),
        (
            "history:get",
            json!({ "roomId": ROOM, "before": position, "after": position }),
            "invalid_field",
            "after",
            None,
        ),
        ("room:leave", json!(["a"]), "invalid_field", "data", None),
        ("message:send", send(json!({ "roomId": "other" })), "not_joined", "roomId", None),
        ("message:send", send(json!({ "id": "a b" })), "bad_id", "id", None),
        ("message:send", send(json!({ "id": AHEAD })), "bad_id", "id", None),
        ("message:send", send(json!({ "type": "robot" })), "invalid_field", "type", None),
        ("message:send", send(json!({ "content": "a\0b" })), "invalid_field", "content", None),
        (
            "message:send",
            send(json!({ "content": "x".repeat(262_145) })),
            "too_large",
            "content",
            Some(262_144),
        ),
        (
            "message:send",
            send(json!({ "metadata": { "k": "m".repeat(16_384) } })),
            "too_large",
            "metadata",
            Some(16_384),
        ),
        (
            "message:send",
            send(json!({ "metadata": { "k": deep } })),
            "too_large",
            "metadata",
            Some(16),
        ),
        ("auth", json!({ "token": "x" }), "unauthenticated", "token", None),
    ];
    let mut wrong = Vec::new();
    for (event, data, code, field, limit) in cases {
        let answer = ask(&mut wire, event, &data).await;
        let as_named = answer.as_ref().is_ok_and(|refused| {
            let given = refused.limit.as_ref().and_then(Value::as_u64);
            refused.code == code && refused.field.as_deref() == Some(field) && given == limit
        });
        if !as_named {
            wrong.push(format!("{event} {data:.80}: {answer:?} and not {code} {field} {limit:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn an_id_that_stands_already_with_other_content_is_a_conflict() {
    let fleet = gateway().await;
    let ann = Client::connect(&fleet.gateway().ws_url(), &Proof::user("ann")).await.unwrap();
    ann.join(ROOM, None).await.unwrap();
    let id = harness::unique_id();
    let first = ann.send(ROOM, &id, "one").await.unwrap();
    let again = ann.send(ROOM, &id, "one").await.unwrap();
    assert_eq!((first.duplicate, again.duplicate, first.position), (false, true, again.position));
    assert_eq!(ann.send(ROOM, &id, "two").await.unwrap_err().code(), Some("conflict"));
}

#[tokio::test]
async fn a_refusal_without_a_ref_is_a_room_error_that_names_the_room() {
    let fleet = gateway().await;
    let mut wire = in_the_room(&fleet, "mallory").await;
    let data = json!({ "roomId": "other", "content": "x" });
    let text = json!({ "event": "message:send", "data": data });
    assert!(wire.try_send(text.to_string()));
    let told = tokio::time::timeout(SOON, wire.recv()).await.unwrap();
    let Incoming::Event { name, data } = told else { panic!("{told:?}") };
    assert_eq!(
        (name.as_str(), &data["code"], &data["roomId"]),
        ("room:error", &json!("not_joined"), &json!("other"))
    );
}
