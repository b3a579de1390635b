//! The API of one node and the people on another.

use super::{api_of, contents};
use crate::fixtures::{SOON, until_heard};
use fleet::{ClusterOptions, Fleet, GatewayNode, GatewayOptions, WorkerOptions};
use harness::{Api, Client, Proof, eventually, unique_id};
use serde_json::{Value, json};

/// Two gateways that ask for proofs and one worker; the APIs of both with a key.
async fn cluster() -> (Fleet, [Api; 2]) {
    let (key, digest) = super::keys::minted().await;
    let options = ClusterOptions {
        gateways: 2,
        workers: 1,
        gateway: GatewayOptions::default()
            .with_jwt_secret("a secret of the tests that is long enough")
            .with_env("ROOMCAST_API_KEYS", digest),
        worker: WorkerOptions::default(),
        ..ClusterOptions::default()
    };
    let fleet = Fleet::cluster(options).await.expect("a cluster");
    let api = |node: usize| api_of(&fleet.gateways()[node]).with_key(&key);
    let apis = [api(0), api(1)];
    (fleet, apis)
}

/// A connection to a node with a ticket that another node gave out.
async fn connect(api: &Api, node: &GatewayNode, user: &str) -> Client {
    let grant = json!({ "userId": user, "rooms": ["r"] });
    let minted = api.post("/api/sessions", &grant).await.expect(201);
    let token = minted["token"].as_str().unwrap().to_owned();
    let (url, proof) = (node.ws_url(), Proof::Bearer(token));
    // The other node may still be reading what was revoked before it lets anybody in.
    let connected =
        || async { Client::connect(&url, &proof).await.map_err(|error| error.to_string()) };
    eventually(SOON, "the node lets them in", connected).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_does_for_the_backend_the_other_nodes_people_see() {
    let (fleet, [one, other]) = cluster().await;
    let far = &fleet.gateways()[1];
    let mut ann = connect(&one, far, "ann").await;
    ann.join("r", None).await.unwrap();

    let body = json!({ "userId": "bob", "content": "from afar" });
    let keyed = [&one, &other].map(|api| api.with_header("idempotency-key", "once"));
    let first = keyed[0].post("/api/rooms/r/messages", &body).await.expect(201);
    until_heard(&mut ann, first["id"].as_str().unwrap()).await;
    let again = keyed[1].post("/api/rooms/r/messages", &body).await.expect(200);
    assert_eq!((&again["id"], &again["position"]), (&first["id"], &first["position"]));

    let id = first["id"].as_str().unwrap();
    let edit = json!({ "content": "from near" });
    other.ask("PATCH", &format!("/api/rooms/r/messages/{id}"), Some(&edit)).await.expect(200);
    let update = ann.wait_for("message:update", SOON).await.unwrap();
    assert_eq!((&update["id"], &update["content"]), (&json!(id), &json!("from near")));

    one.ask("DELETE", "/api/rooms/r/members/ann", None).await.expect(200);
    assert_eq!(ann.wait_for("room:error", SOON).await.unwrap()["code"], "kicked");
    one.post("/api/revoke", &json!({ "userId": "ann" })).await.expect(200);
    assert_eq!(ann.closed(SOON).await.unwrap().code, Some(4401));

    let mut bob = connect(&other, &fleet.gateways()[0], "bob").await;
    other.post("/api/disconnect", &json!({ "userId": "bob" })).await.expect(200);
    bob.closed(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_of_one_node_opens_one_connection_to_the_other() {
    let (fleet, [one, _]) = cluster().await;
    let far = &fleet.gateways()[1];
    // Whoever was let in once is let in by a node that knows what was revoked.
    drop(connect(&one, far, "eve").await);
    let grant = json!({ "userId": "ann", "rooms": ["r"] });
    let minted = one.post("/api/tickets", &grant).await.expect(201);
    let ticket = minted["ticket"].as_str().unwrap();
    let url = format!("{}?ticket={ticket}", far.ws_url());
    let ann = Client::connect(&url, &Proof::Nobody).await.unwrap();
    assert_eq!(ann.welcome()["userId"], "ann");
    ann.join("r", None).await.unwrap();
    assert!(Client::connect(&url, &Proof::Nobody).await.is_err());
}

/// Follows a room to its end by `next`, and gives the contents by message id as last seen.
async fn followed(api: &Api, from: &mut String, seen: &mut Vec<(String, String)>) {
    loop {
        let path = format!("/api/rooms/r/stream?limit=7&after={from}");
        let page = api.get(&path).await.expect(200);
        let messages = page["messages"].as_array().unwrap();
        for (message, content) in messages.iter().zip(contents(&page)) {
            let id = message["id"].as_str().unwrap().to_owned();
            seen.retain(|(known, _)| *known != id);
            seen.push((id, content));
        }
        *from = page["next"].as_str().unwrap().to_owned();
        if page["hasMore"] == false {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_is_followed_without_a_hole_while_the_database_is_behind() {
    let (mut fleet, [one, other]) = cluster().await;
    let mut ids: Vec<String> = Vec::new();
    let mut seen = Vec::new();
    let mut from = "0-0".to_owned();
    for round in 0..4 {
        // Every other round nothing goes into the database while the room is read.
        let worker = &mut fleet.workers_mut()[0];
        if round % 2 == 1 {
            worker.stop().await.unwrap();
        }
        for number in 0..10 {
            let id = unique_id();
            let body = json!({ "userId": "ann", "id": id, "content": format!("{round}-{number}") });
            one.post("/api/rooms/r/messages", &body).await.expect(201);
            ids.push(id);
        }
        // One from before and one of now.
        for id in [ids[round * 3].clone(), ids[ids.len() - 2].clone()] {
            let edit = json!({ "content": format!("edited in {round}") });
            let path = format!("/api/rooms/r/messages/{id}");
            other.ask("PATCH", &path, Some(&edit)).await.expect(200);
        }
        followed(&other, &mut from, &mut seen).await;
        fleet.workers_mut()[0].cont().unwrap();
        let page = one.get("/api/rooms/r/messages?limit=200").await.expect(200);
        let mut expected: Vec<(String, String)> = page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| (text(&message["id"]), text(&message["content"])))
            .collect();
        let mut followed = seen.clone();
        expected.sort();
        followed.sort();
        assert_eq!(followed, expected, "round {round}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
