//! Another token on the same connection, and the rooms that it takes away.

use super::{SECRET, asking_gateway, client};
use crate::fixtures::one_gateway::{SOON, assert_no_panic};
use crate::fixtures::{database, new_message};
use fleet::Fleet;
use harness::wire::Incoming;
use harness::{Client, token, unique_id};
use serde_json::{Value, json};

fn claims(user: &str, claims: &Value) -> String {
    token(SECRET, user, 600, claims)
}

/// What the database says of somebody and a room.
fn set_member(fleet: &Fleet, room: &str, user: &str, role: &str) {
    let database = database(fleet.gateway());
    let insert = "INSERT OR REPLACE INTO room_members (room_id, user_id, role, added_at)
                  VALUES (?1, ?2, ?3, 0)";
    database.execute(insert, [room, user, role]).unwrap();
}

/// The rooms that the client was told it is out of, in the order it was told.
fn kicked(client: &Client) -> Vec<String> {
    let log = client.log();
    let kicked = log.iter().filter_map(|incoming| match incoming {
        Incoming::Event { name, data } if name == "room:error" && data["code"] == "kicked" => {
            data["roomId"].as_str().map(str::to_owned)
        }
        _ => None,
    });
    kicked.collect()
}

#[tokio::test]
async fn a_token_with_fewer_rooms_ends_the_memberships_that_it_does_not_allow() {
    let fleet = asking_gateway().await;
    set_member(&fleet, "by-row", "ann", "member");
    let ann = client(&fleet, claims("ann", &json!({ "rooms": ["*"] }))).await;
    let mut bob = client(&fleet, claims("bob", &json!({ "rooms": ["*"] }))).await;
    for room in ["stays", "goes", "by-row"] {
        ann.join(room, None).await.unwrap();
        bob.join(room, None).await.unwrap();
    }
    let narrower = claims("ann", &json!({ "rooms": ["stays"] }));
    ann.command("auth", json!({ "token": narrower })).await.unwrap();
    assert_eq!(kicked(&ann), ["goes"], "told before the answer");
    let unheard = bob.send("goes", &unique_id(), "not for ann").await.unwrap();
    for room in ["stays", "by-row"] {
        ann.send(room, &unique_id(), "still here").await.unwrap();
    }
    let refused = ann.send("goes", &unique_id(), "x").await.unwrap_err();
    assert_eq!(refused.code(), Some("not_joined"));
    assert_eq!(ann.join("goes", None).await.unwrap_err().code(), Some("forbidden"));
    // What was sent to the others came after whatever was sent to this one.
    bob.wait_for("message:new", SOON).await.unwrap();
    let heard = ann.log();
    assert!(heard.iter().filter_map(|event| new_message(event, "goes")).next().is_none());
    assert!(unheard.position.is_some());
    // And with more rooms again it may come back.
    ann.command("auth", json!({ "token": claims("ann", &json!({ "rooms": ["*"] })) }))
        .await
        .unwrap();
    ann.join("goes", None).await.unwrap();
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_row_of_the_database_opens_a_room_and_another_closes_it() {
    let fleet = asking_gateway().await;
    let ann = client(&fleet, claims("ann", &json!({ "rooms": ["claimed"] }))).await;
    assert_eq!(ann.join("by-row", None).await.unwrap_err().code(), Some("forbidden"));
    set_member(&fleet, "by-row", "ann", "member");
    ann.history("by-row", json!({})).await.unwrap();
    ann.join("by-row", None).await.unwrap();
    ann.command("room:leave", json!({ "roomId": "by-row" })).await.unwrap();
    set_member(&fleet, "by-row", "ann", "removed");
    assert_eq!(ann.join("by-row", None).await.unwrap_err().code(), Some("forbidden"));
    // Claims do not help whoever was removed.
    ann.history("claimed", json!({})).await.unwrap();
    set_member(&fleet, "claimed", "ann", "removed");
    let refused = ann.history("claimed", json!({})).await.unwrap_err();
    assert_eq!(refused.code(), Some("forbidden"));
}
