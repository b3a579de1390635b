//! Tokens: who is let in, for how long, and to which rooms.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

mod bad_tokens;
mod expiry;
mod forged;
mod permissions;

use crate::one_gateway::{SOON, gateway_with};
use fleet::{Fleet, GatewayOptions};
use harness::client::ClientError;
use harness::wire::{Incoming, Refused, Wire};
use harness::{Client, Proof, token};
use serde_json::{Value, json};

/// What the gateway's tokens are signed with.
const SECRET: &str = "canary-the-secret-of-these-tests";

/// A gateway that asks for tokens and logs all it can.
async fn asking_gateway() -> Fleet {
    let options = GatewayOptions::default().with_jwt_secret(SECRET);
    gateway_with(options.with_env("ROOMCAST_LOG", "trace")).await
}

/// A token for all rooms.
fn good_token(user: &str, expires_in_s: i64) -> String {
    token(SECRET, user, expires_in_s, &json!({ "rooms": ["*"] }))
}

async fn client(fleet: &Fleet, token: String) -> Client {
    Client::connect(&fleet.gateway().ws_url(), &Proof::Bearer(token)).await.unwrap()
}

/// Why a command was refused.
fn refusal(outcome: Result<Value, ClientError>) -> Refused {
    match outcome {
        Err(ClientError::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

/// The next thing from the server.
async fn next(wire: &mut Wire) -> Incoming {
    tokio::time::timeout(SOON, wire.recv()).await.unwrap()
}
