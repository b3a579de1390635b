//! Tickets, session tokens and members made over HTTP let people in, and out.

use super::{api, publish};
use crate::fixtures::SOON;
use crate::fixtures::one_gateway::gateway_with;
use fleet::{Fleet, GatewayOptions};
use harness::client::ClientError;
use harness::{Api, Client, Proof, eventually};
use serde_json::{Value, json};

/// A gateway that asks for proofs, and its API with a key.
async fn asking() -> (Fleet, Api) {
    let (key, digest) = super::keys::minted().await;
    let options = GatewayOptions::default()
        .with_jwt_secret(crate::auth::SECRET)
        .with_env("ROOMCAST_API_KEYS", digest);
    let fleet = gateway_with(options).await;
    let api = api(&fleet).with_key(&key);
    (fleet, api)
}

async fn session(api: &Api, user: &str, rooms: Value) -> String {
    let body = json!({ "userId": user, "rooms": rooms });
    let minted = api.post("/api/sessions", &body).await.expect(201);
    minted["token"].as_str().unwrap().to_owned()
}

async fn connect(fleet: &Fleet, token: &str) -> Result<Client, ClientError> {
    Client::connect(&fleet.gateway().ws_url(), &Proof::Bearer(token.to_owned())).await
}

#[tokio::test]
async fn a_session_token_opens_connections_until_it_is_revoked() {
    let (fleet, api) = asking().await;
    let token = session(&api, "ann", json!(["team-*"])).await;
    let mut ann = connect(&fleet, &token).await.unwrap();
    assert_eq!(ann.welcome()["userId"], "ann");
    ann.join("team-1", None).await.unwrap();
    assert_eq!(ann.join("other", None).await.unwrap_err().code(), Some("forbidden"));
    api.post("/api/revoke", &json!({ "token": token })).await.expect(200);
    assert_eq!(ann.closed(SOON).await.unwrap().code, Some(4401));
    assert!(connect(&fleet, &token).await.is_err());
}

#[tokio::test]
async fn a_revoked_user_needs_a_new_proof_and_a_disconnected_one_does_not() {
    let (fleet, api) = asking().await;
    let token = session(&api, "ann", json!(["*"])).await;
    let mut ann = connect(&fleet, &token).await.unwrap();
    api.post("/api/disconnect", &json!({ "userId": "ann" })).await.expect(200);
    assert!(ann.closed(SOON).await.unwrap().code.is_some());
    let mut ann = connect(&fleet, &token).await.unwrap();
    api.post("/api/revoke", &json!({ "userId": "ann" })).await.expect(200);
    assert_eq!(ann.closed(SOON).await.unwrap().code, Some(4401));
    assert!(connect(&fleet, &token).await.is_err());
    let renewed = || async {
        let token = session(&api, "ann", json!(["*"])).await;
        connect(&fleet, &token).await
    };
    // A token of the same millisecond counts as one from before.
    eventually(SOON, "a new proof holds", renewed).await;
}

#[tokio::test]
async fn a_member_comes_in_without_a_claim_and_a_removed_one_is_cut_off() {
    let (fleet, api) = asking().await;
    let token = session(&api, "ann", json!([])).await;
    let mut ann = connect(&fleet, &token).await.unwrap();
    assert_eq!(ann.join("r", None).await.unwrap_err().code(), Some("forbidden"));
    let path = "/api/rooms/r/members/ann";
    let added = api.ask("PUT", path, None).await.expect(200);
    assert_eq!(added, json!({ "roomId": "r", "userId": "ann", "role": "member" }));
    ann.join("r", None).await.unwrap();
    let members = api.get("/api/rooms/r/members").await.expect(200);
    assert_eq!(members["members"][0]["userId"], "ann");
    let removed = api.ask("DELETE", path, None).await.expect(200);
    assert_eq!(removed["role"], "removed");
    let later = publish(&api, "r", "bob", "not for ann").await;
    let error = ann.wait_for("room:error", SOON).await.unwrap();
    assert_eq!((&error["code"], &error["roomId"]), (&json!("kicked"), &json!("r")));
    assert_eq!(ann.join("r", None).await.unwrap_err().code(), Some("forbidden"));
    let seen = format!("{:?}", ann.log());
    assert!(!seen.contains(later["id"].as_str().unwrap()), "{seen}");
    let members = api.get("/api/rooms/r/members").await.expect(200);
    assert_eq!(members, json!({ "members": [], "hasMore": false }));
    let moderator = json!({ "role": "moderator" });
    api.ask("PUT", path, Some(&moderator)).await.expect(200);
    ann.join("r", None).await.unwrap();
}

#[tokio::test]
async fn members_are_listed_in_pages() {
    let (_fleet, api) = asking().await;
    for number in 0..5 {
        api.ask("PUT", &format!("/api/rooms/r/members/user-{number}"), None).await.expect(200);
    }
    let mut after = String::new();
    let mut all = Vec::new();
    for more in [true, true, false] {
        let page = api.get(&format!("/api/rooms/r/members?limit=2{after}")).await.expect(200);
        assert_eq!(page["hasMore"], more, "{page}");
        for member in page["members"].as_array().unwrap() {
            all.push(member["userId"].as_str().unwrap().to_owned());
        }
        after = format!("&after={}", all.last().unwrap());
    }
    let wanted: Vec<String> = (0..5).map(|number| format!("user-{number}")).collect();
    assert_eq!(all, wanted);
}
