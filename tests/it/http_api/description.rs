//! The description and the gateway agree: every route is described, every answer is as described.

use super::keys::minted;
use super::{api, position};
use crate::fixtures::one_gateway::{assert_no_panic, gateway_with};
use fleet::GatewayOptions;
use harness::openapi::Description;
use harness::{Api, unique_id};
use serde_json::{Value, json};

/// An id from the far future, which nothing accepts.
const AHEAD: &str = "0fffffff-ffff-7abc-8def-0123456789ab";

/// A program that compares every exchange with the description.
struct Asking {
    api: Api,
    description: Description,
    wrong: Vec<String>,
}

impl Asking {
    /// Asks, and gives what was answered.
    async fn ask(&mut self, route: (&str, &str), path: &str, body: Option<Value>) -> Value {
        let (method, template) = route;
        let answer = self.api.ask(method, path, body.as_ref()).await;
        self.wrong.extend(self.description.check(route, body.as_ref(), &answer));
        assert!(answer.status != 404 || template.contains("stream"), "{method} {path}");
        answer.json()
    }

    /// The same in a room `r`, below which the rest of the template has no names.
    async fn room(&mut self, method: &str, rest: &str, query: &str, body: Option<Value>) -> Value {
        let template = format!("/api/rooms/{{room}}{rest}");
        self.ask((method, &template), &format!("/api/rooms/r{rest}{query}"), body).await
    }
}

async fn messages(asking: &mut Asking) {
    let body = json!({
        "userId": "ann", "id": unique_id(), "content": "hello", "type": "system",
        "metadata": { "a": [1] }, "credits": { "amount": 3, "userId": "bob", "metadata": {} },
    });
    let published = asking.room("POST", "/messages", "", Some(body.clone())).await;
    asking.room("POST", "/messages", "", Some(body.clone())).await;
    asking.room("POST", "/messages", "", Some(json!({}))).await;
    let batch = json!({ "messages": [body, { "userId": "ann", "content": "x", "credits": 1 }] });
    asking.room("POST", "/messages/batch", "", Some(batch)).await;
    let ahead = json!({ "userId": "ann", "id": AHEAD, "content": "x" });
    let batch = json!({ "messages": [ahead] });
    asking.room("POST", "/messages/batch", "", Some(batch)).await;
    asking.room("POST", "/messages/batch", "", Some(json!({ "messages": [] }))).await;

    let template = "/api/rooms/{room}/messages/{id}";
    let path = format!("/api/rooms/r/messages/{}", published["id"].as_str().unwrap());
    let edit = json!({
        "content": "hi", "metadata": {}, "changeId": unique_id(), "userId": "x", "authorId": "ann",
    });
    asking.ask(("PATCH", template), &path, Some(edit)).await;
    asking.ask(("PATCH", template), &path, Some(json!({}))).await;
    let after = position(&published["position"]);
    asking.room("GET", "/messages", &format!("?after={after}&limit=1"), None).await;
    asking.room("GET", "/messages", "?limit=0", None).await;
    asking.room("GET", "/stream", "?limit=1", None).await;
    asking.room("GET", "/stream", "?after=no-such-id", None).await;
    let named = format!("{path}?changeId={}&userId=x&authorId=ann", unique_id());
    asking.ask(("DELETE", template), &named, None).await;
    asking.ask(("DELETE", template), &format!("{path}?colour=red"), None).await;
    // Once more, with a message that was changed and one that was deleted.
    asking.room("GET", "/messages", "", None).await;
    asking.room("GET", "/stream", "", None).await;
}

async fn people(asking: &mut Asking) {
    let updates = json!({ "updates": [
        { "userId": "ann", "status": "active" }, { "userId": "bob", "status": "idle" },
        { "userId": "eve", "status": "offline" },
    ]});
    asking.room("POST", "/presence", "", Some(updates)).await;
    asking.room("POST", "/presence", "", Some(json!({ "updates": [] }))).await;
    let presence = asking.room("GET", "/presence", "", None).await;
    assert_eq!(presence["presenceCount"], 2, "{presence}");
    asking.room("GET", "/presence", "?colour=red", None).await;
    let template = "/api/rooms/{room}/members/{user}";
    let path = "/api/rooms/r/members/ann";
    asking.ask(("PUT", template), path, None).await;
    asking.ask(("PUT", template), path, Some(json!({ "role": "moderator" }))).await;
    asking.ask(("PUT", template), path, Some(json!({ "role": "king" }))).await;
    asking.room("GET", "/members", "?limit=1", None).await;
    asking.room("GET", "/members", "?limit=0", None).await;
    asking.ask(("DELETE", template), path, None).await;
    asking.ask(("DELETE", template), "/api/rooms/r/members/a%20b", None).await;
}

async fn proofs(asking: &mut Asking) {
    let grant = json!({ "userId": "ann", "rooms": ["*"], "role": "moderator" });
    let mut ticket = grant.clone();
    ticket["origin"] = json!("https://chat.example.com");
    let mut session = grant;
    session["expiresInMs"] = json!(60_000);
    asking.ask(("POST", "/api/tickets"), "/api/tickets", Some(ticket.clone())).await;
    ticket["origin"] = json!("nowhere");
    asking.ask(("POST", "/api/tickets"), "/api/tickets", Some(ticket)).await;
    let minted = asking.ask(("POST", "/api/sessions"), "/api/sessions", Some(session)).await;
    asking.ask(("POST", "/api/sessions"), "/api/sessions", Some(json!({}))).await;
    for subject in [
        json!({ "token": minted["token"] }),
        json!({ "tokenId": "jti-17" }),
        json!({ "userId": "ann" }),
        json!({}),
        json!({ "userId": "ann", "tokenId": "jti-17" }),
    ] {
        asking.ask(("POST", "/api/revoke"), "/api/revoke", Some(subject)).await;
    }
    for body in [json!({ "userId": "ann" }), json!({})] {
        asking.ask(("POST", "/api/disconnect"), "/api/disconnect", Some(body)).await;
    }
}

async fn credits(asking: &mut Asking) {
    let track = ("POST", "/api/credits/track");
    let one = json!({
        "userId": "ann", "amount": 7, "kind": "refund", "id": unique_id(), "messageId": "m",
        "metadata": { "why": "a mistake" },
    });
    asking.ask(track, track.1, Some(one.clone())).await;
    asking.ask(track, track.1, Some(one.clone())).await;
    let ahead = json!({ "userId": "ann", "id": AHEAD, "amount": 1 });
    asking.ask(track, track.1, Some(json!({ "items": [one, ahead] }))).await;
    asking.ask(track, track.1, Some(json!({ "userId": "ann" }))).await;
    let synced = ("POST", "/api/credits/synced");
    let ids = json!({ "userId": "ann", "ids": [unique_id()] });
    asking.ask(synced, synced.1, Some(ids)).await;
    asking.ask(synced, synced.1, Some(json!({ "userId": "ann", "ids": [] }))).await;
    let balance = ("GET", "/api/credits/{user}");
    let unsynced = ("GET", "/api/credits/{user}/unsynced");
    asking.ask(balance, "/api/credits/ann", None).await;
    asking.ask(balance, "/api/credits/a%20b", None).await;
    asking.ask(unsynced, "/api/credits/ann/unsynced", None).await;
    asking.ask(unsynced, "/api/credits/a%20b/unsynced", None).await;
}

async fn erasure(asking: &mut Asking) {
    let erase = ("POST", "/api/erase");
    for body in [json!({ "userId": "ann" }), json!({ "roomId": "r" }), json!({})] {
        asking.ask(erase, erase.1, Some(body)).await;
    }
}

#[tokio::test]
async fn every_route_answers_as_it_is_described() {
    let (key, digest) = minted().await;
    let options = GatewayOptions::default().with_env("ROOMCAST_API_KEYS", digest);
    let fleet = gateway_with(options).await;
    let api = api(&fleet);
    let document = api.get("/api/openapi.json").await.expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let (api, description) = (api.with_key(&key), Description::new(document));
    let mut asking = Asking { api, description, wrong: Vec::new() };
    messages(&mut asking).await;
    people(&mut asking).await;
    proofs(&mut asking).await;
    credits(&mut asking).await;
    erasure(&mut asking).await;
    let document = ("GET", "/api/openapi.json");
    asking.ask(document, document.1, None).await;
    let own = std::mem::replace(&mut asking.api, self::api(&fleet).with_header("host", "evil"));
    asking.ask(document, document.1, None).await;
    asking.api = own;
    let Asking { description, mut wrong, .. } = asking;
    wrong.extend(description.unseen().iter().map(|answer| format!("{answer} was not seen")));
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn without_a_key_every_route_but_the_description_answers_with_a_problem() {
    let (_, digest) = minted().await;
    let options = GatewayOptions::default().with_env("ROOMCAST_API_KEYS", digest);
    let fleet = gateway_with(options).await;
    let api = api(&fleet);
    let document = api.get("/api/openapi.json").await.expect(200);
    let mut description = Description::new(document);
    let mut wrong = Vec::new();
    let operations = description.operations();
    assert!(operations.len() > 20, "{operations:?}");
    for (method, template) in operations {
        if template.ends_with("openapi.json") {
            continue;
        }
        let path = template.replace(['{', '}'], "");
        let body = ["POST", "PUT", "PATCH"].contains(&method.as_str()).then(|| json!({}));
        let answer = api.ask(&method, &path, body.as_ref()).await;
        assert_eq!(answer.status, 401, "{method} {path}");
        wrong.extend(description.check((&method, &template), None, &answer));
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
