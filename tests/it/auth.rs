//! Tokens: who is let in, for how long, and to which rooms.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

mod addresses;
mod bad_tokens;
mod permission_matrix;
mod expiry;
mod issuer;
mod minted;
mod forged;
mod permissions;
mod public_keys;
mod refreshed;
mod revoked;
mod signers;
mod tickets;

use crate::fixtures::one_gateway::{SOON, gateway_with};
use fleet::{ClusterOptions, Fleet, GatewayOptions};
use harness::client::ClientError;
use harness::http::Api;
use harness::wire::{Incoming, Refused, Wire};
use harness::{Client, Proof, token};
use serde_json::{Value, json};

/// What the gateway's tokens are signed with.
pub(crate) const SECRET: &str = "canary-the-secret-of-these-tests";

/// A gateway that asks for tokens and logs all it can.
async fn asking_gateway() -> Fleet {
    let options = GatewayOptions::default().with_jwt_secret(SECRET);
    gateway_with(options.with_env("ROOMCAST_LOG", "trace")).await
}

/// Options of gateways that ask for tokens, and their API with the key that opens it.
pub(crate) fn with_api() -> (GatewayOptions, String) {
    let (key, digest) = gateway::auth::api_keys::mint();
    let options = GatewayOptions::default().with_jwt_secret(SECRET);
    let options = options.with_env("ROOMCAST_API_KEYS", digest).with_env("ROOMCAST_LOG", "trace");
    (options, key)
}

/// A gateway with both.
pub(crate) async fn gateway_with_api() -> (Fleet, Api) {
    let (options, key) = with_api();
    let fleet = gateway_with(options).await;
    let api = Api::new(fleet.gateway().port()).with_key(&key);
    (fleet, api)
}

/// A cluster of two gateways with both, and the API of each.
async fn cluster_with_api() -> (Fleet, [Api; 2]) {
    let (gateway, key) = with_api();
    let options = ClusterOptions { gateways: 2, workers: 1, gateway, ..ClusterOptions::default() };
    let fleet = Fleet::cluster(options).await.unwrap();
    let api = |number: usize| Api::new(fleet.gateways()[number].port()).with_key(&key);
    let apis = [api(0), api(1)];
    (fleet, apis)
}

/// A token for all rooms.
pub(crate) fn good_token(user: &str, expires_in_s: i64) -> String {
    token(SECRET, user, expires_in_s, &json!({ "rooms": ["*"] }))
}

async fn client(fleet: &Fleet, token: String) -> Client {
    Client::connect(&fleet.gateway().ws_url(), &Proof::Bearer(token)).await.unwrap()
}

/// Why a command was refused.
pub(crate) fn refusal(outcome: Result<Value, ClientError>) -> Refused {
    match outcome {
        Err(ClientError::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

/// The next thing from the server.
async fn next(wire: &mut Wire) -> Incoming {
    tokio::time::timeout(SOON, wire.recv()).await.unwrap()
}
