//! The API of the application's backend, by the eyes of a program that only knows its description.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

mod keys;
mod publishing;
mod following;
mod money;
mod letting_in;
mod malformed;
mod exchanges;
mod description;
mod nodes;

use fleet::{Fleet, GatewayNode};
use harness::Api;
use serde_json::{Value, json};

/// The API of a gateway in the development mode, where it is open.
fn api(fleet: &Fleet) -> Api {
    api_of(fleet.gateway())
}

fn api_of(gateway: &GatewayNode) -> Api {
    Api::new(gateway.port())
}

/// Publishes one message of a user; its reply.
async fn publish(api: &Api, room: &str, user: &str, content: &str) -> Value {
    let body = json!({ "userId": user, "content": content });
    api.post(&format!("/api/rooms/{room}/messages"), &body).await.expect(201)
}

/// As a query spells a position.
fn position(value: &Value) -> String {
    format!("{}-{}", value["epoch"], value["seq"])
}

/// The contents of a page's messages.
fn contents(page: &Value) -> Vec<String> {
    let messages = page["messages"].as_array().unwrap();
    messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}
