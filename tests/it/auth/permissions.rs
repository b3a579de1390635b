//! What a token lets its bearer do.

use super::{SECRET, asking_gateway, client, good_token, refusal};
use crate::fixtures::one_gateway::assert_no_panic;
use harness::token;
use serde_json::{Value, json};

#[tokio::test]
async fn a_room_is_entered_and_read_only_where_a_pattern_lists_it() {
    let fleet = asking_gateway().await;
    let patterns = json!({ "rooms": ["team-*", "exact", "*-open", "a*b*c"] });
    let ann = client(&fleet, token(SECRET, "ann", 600, &patterns)).await;
    let nobody = client(&fleet, token(SECRET, "nobody", 600, &json!({}))).await;
    let root = client(&fleet, good_token("root", 600)).await;
    let allowed = ["team-1", "team-", "team-a/b", "exact", "x-open", "abc", "aXbXc"];
    let denied = ["team", "Team-1", "xteam-1", "exact1", "exac", "open", "ab", "acb", "other"];
    // One of them exists: that must make no difference.
    root.join("other", None).await.unwrap();
    root.send("other", &harness::unique_id(), "hello").await.unwrap();
    for room in allowed {
        ann.command("room:join", json!({ "roomId": room })).await.unwrap();
        ann.command("history:get", json!({ "roomId": room })).await.unwrap();
        ann.command("room:leave", json!({ "roomId": room })).await.unwrap();
    }
    let mut told = Vec::new();
    for room in denied.iter().chain(&allowed) {
        for event in ["room:join", "history:get"] {
            let asking = if denied.contains(room) { &ann } else { &nobody };
            let refused = refusal(asking.command(event, json!({ "roomId": room })).await);
            assert_eq!(refused.code, "forbidden", "{event} {room}");
            told.push(refused);
        }
        let message = json!({ "roomId": room, "content": "x" });
        let refused = refusal(ann.command("message:send", message).await);
        assert_eq!(refused.code, "not_joined", "{room}");
    }
    assert!(told.iter().all(|refused| *refused == told[0]), "{told:?}");
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn only_some_roles_speak_for_the_assistant_or_the_system() {
    let fleet = asking_gateway().await;
    let table = [
        (json!({}), [true, false, false]),
        (json!({ "role": "member" }), [true, false, false]),
        (json!({ "role": "moderator" }), [true, false, false]),
        (json!({ "role": "assistant" }), [true, true, false]),
        (json!({ "role": "service" }), [true, true, true]),
    ];
    for (number, (role, allowed)) in table.into_iter().enumerate() {
        let mut claims = json!({ "rooms": ["room"] });
        claims.as_object_mut().unwrap().extend(role.as_object().unwrap().clone());
        let client = client(&fleet, token(SECRET, &format!("user-{number}"), 600, &claims)).await;
        client.join("room", None).await.unwrap();
        for (kind, allowed) in ["user", "assistant", "system"].iter().zip(allowed) {
            let data = json!({ "roomId": "room", "content": "x", "type": kind });
            let sent = client.command("message:send", data).await;
            assert_eq!(sent.is_ok(), allowed, "{role} {kind}: {sent:?}");
            if !allowed {
                let refused = refusal(sent);
                let named = (refused.code.as_str(), refused.field.as_deref());
                assert_eq!(named, ("forbidden", Some("type")), "{role} {kind}");
            }
        }
    }
}

#[tokio::test]
async fn a_refreshed_token_brings_its_own_rooms_and_role() {
    let fleet = asking_gateway().await;
    let claims = |claims: Value| json!({ "token": token(SECRET, "ann", 600, &claims) });
    let ann = client(&fleet, token(SECRET, "ann", 600, &json!({ "rooms": ["one"] }))).await;
    ann.join("one", None).await.unwrap();
    assert_eq!(ann.join("two", None).await.unwrap_err().code(), Some("forbidden"));
    let wider = claims(json!({ "rooms": ["two"], "role": "assistant" }));
    ann.command("auth", wider).await.unwrap();
    ann.join("two", None).await.unwrap();
    let data = json!({ "roomId": "two", "content": "x", "type": "assistant" });
    ann.command("message:send", data).await.unwrap();
    let refused = refusal(ann.command("history:get", json!({ "roomId": "one" })).await);
    assert_eq!(refused.code, "forbidden");
}

#[tokio::test]
async fn the_sender_is_who_the_token_says_whatever_the_message_claims() {
    let fleet = asking_gateway().await;
    let ann = client(&fleet, good_token("ann", 600)).await;
    ann.join("room", None).await.unwrap();
    for claimed in [json!({ "userId": "bob" }), json!({ "position": { "epoch": 1, "seq": 1 } })] {
        let mut data = json!({ "roomId": "room", "content": "x" });
        data.as_object_mut().unwrap().extend(claimed.as_object().unwrap().clone());
        let refused = refusal(ann.command("message:send", data).await);
        assert_eq!(refused.code, "invalid_field");
    }
    ann.send("room", &harness::unique_id(), "x").await.unwrap();
    let page = ann.history("room", json!({})).await.unwrap();
    assert_eq!(page.messages[0].user_id, "ann");
}
