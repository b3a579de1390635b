//! Tokens that `gateway token` mints.

use super::bad_tokens::status_with;
use crate::fixtures::one_gateway::gateway_with;
use fleet::GatewayOptions;
use std::path::PathBuf;
use std::process::Output;
use tokio::process::Command;

const MINTING: &str = "canary-a-secret-to-mint-with-of-many-bytes";

/// Runs the program with these words, and with nothing of this process's environment.
async fn gateway(secret: Option<&str>, words: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.env_clear().args(words);
    if let Some(secret) = secret {
        command.env("ROOMCAST_JWT_SECRET", secret).env("ROOMCAST_JWT_ISSUER", "us");
    }
    command.output().await.unwrap()
}

/// The program that the other scenarios run.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("gateway")
}

#[tokio::test]
async fn a_minted_token_opens_a_connection_to_a_gateway_with_the_same_settings() {
    let words = ["token", "--user", "ann", "--room", "team-*", "--role", "assistant", "--ttl=60"];
    let minted = gateway(Some(MINTING), &words).await;
    assert!(minted.status.success(), "{minted:?}");
    let token = String::from_utf8(minted.stdout).unwrap().trim_end().to_owned();
    let options = GatewayOptions::default().with_jwt_secret(MINTING);
    let fleet = gateway_with(options.with_env("ROOMCAST_JWT_ISSUER", "us")).await;
    let line = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(status_with(fleet.gateway().port(), &line).await, 101);
    let other = gateway(Some("another secret that is long enough"), &words).await;
    let line =
        format!("Authorization: Bearer {}\r\n", String::from_utf8_lossy(&other.stdout).trim());
    assert_eq!(status_with(fleet.gateway().port(), &line).await, 401);
}

#[tokio::test]
async fn the_address_to_open_has_the_token_where_no_server_sees_it() {
    let words = ["token", "--user", "ann", "--room", "team-*", "--room", "a/b", "--open"];
    let minted = gateway(Some(MINTING), &words).await;
    assert!(minted.status.success(), "{minted:?}");
    let address = String::from_utf8(minted.stdout).unwrap();
    let (page, fragment) = address.trim_end().split_once('#').unwrap();
    assert_eq!(page, "http://127.0.0.1:3001/");
    assert!(fragment.starts_with("token=ey") && fragment.ends_with("&room=a%2Fb"), "{fragment}");
}

#[tokio::test]
async fn what_is_missing_is_said_and_ends_with_64() {
    /// The secret, what is asked, and what is said.
    type Case = (Option<&'static str>, &'static [&'static str], &'static str);
    let table: [Case; 6] = [
        (
            Some("a-secret-of-thirty-one-bytes-ok"),
            &["token", "--user", "ann"],
            "ROOMCAST_JWT_SECRET: it has less than 32 bytes",
        ),
        (None, &["token", "--user", "ann"], "ROOMCAST_JWT_SECRET: missing"),
        (Some(MINTING), &["token"], "--user: missing"),
        (Some(MINTING), &["token", "--user", "a b"], "--user: "),
        (
            Some(MINTING),
            &["token", "--user", "ann", "--role", "king"],
            "--role: expected member or moderator or assistant or service, not \"king\"",
        ),
        (Some(MINTING), &["token", "ann"], "ann: not expected here"),
    ];
    for (secret, words, said) in table {
        let refused = gateway(secret, words).await;
        let text = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(64), "{words:?}: {text}");
        assert!(text.contains(said), "{words:?}: {text}");
        assert!(refused.stdout.is_empty() && !text.contains(MINTING));
    }
}
