//! Numbers that are limits: at them all is well, over them there is a refusal or a close.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

mod connections;
mod floods;
mod heartbeats;
mod http;
mod sizes;

use fleet::Fleet;
use harness::{Client, Proof};

/// A welcomed client.
async fn client(fleet: &Fleet, user: &str) -> Client {
    Client::connect(&fleet.gateway().ws_url(), &Proof::user(user)).await.unwrap()
}
