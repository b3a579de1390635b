//! A proof that ends, and one that takes its place.

use super::{asking_gateway, client, good_token, next, refusal};
use crate::fixtures::one_gateway::{SOON, assert_closed_for, assert_no_panic, closed_for};
use harness::client::ClientError;
use harness::raw::{RawSocket, text, upgrade_request};
use harness::wire::{Incoming, Wire, command};
use harness::{Client, Proof, eventually};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn a_token_in_the_first_frame_is_answered_and_then_comes_the_welcome() {
    let fleet = asking_gateway().await;
    let proof = Proof::AuthFrame(good_token("ann", 600));
    let mut wire = Wire::connect(&fleet.gateway().ws_url(), &proof).await.unwrap();
    let Incoming::Reply { reference: 0, outcome: Ok(reply) } = next(&mut wire).await else {
        panic!("no reply to auth");
    };
    assert!(reply["expiresAt"].as_str().unwrap().ends_with(".000Z"), "{reply}");
    let Incoming::Event { name, data } = next(&mut wire).await else { panic!("no welcome") };
    assert_eq!((name.as_str(), &data["userId"]), ("welcome", &json!("ann")));
}

#[tokio::test]
async fn the_user_of_the_query_is_ignored_where_tokens_are_asked_for() {
    let fleet = asking_gateway().await;
    let url = fleet.gateway().ws_url();
    let named = format!("{url}?user=mallory");
    let ann = Client::connect(&named, &Proof::Bearer(good_token("ann", 600))).await.unwrap();
    assert_eq!(ann.welcome()["userId"], "ann");
    // Alone it proves nothing: the connection waits for `auth` until its time is over.
    let began = Instant::now();
    let unproven = Client::connect(&url, &Proof::user("mallory")).await.unwrap_err();
    assert_eq!(unproven.close_code(), Some(4401));
    assert!((4..9).contains(&began.elapsed().as_secs()));
}

#[tokio::test]
async fn a_connection_ends_with_4401_when_its_proof_does() {
    let fleet = asking_gateway().await;
    let began = Instant::now();
    let mut bearer = client(&fleet, good_token("ann", 2)).await;
    let frame = Proof::AuthFrame(good_token("bob", 2));
    let mut frame = Client::connect(&fleet.gateway().ws_url(), &frame).await.unwrap();
    for client in [&bearer, &frame] {
        client.join("room", None).await.unwrap();
    }
    for client in [&mut bearer, &mut frame] {
        assert_eq!(client.closed(SOON).await.unwrap().code, Some(4401));
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
    assert_closed_for(&fleet, "unauthenticated", 2).await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_fresh_token_of_the_same_user_carries_the_connection_on() {
    let fleet = asking_gateway().await;
    let mut ann = client(&fleet, good_token("ann", 2)).await;
    ann.join("room", None).await.unwrap();
    let refreshed = ann.command("auth", json!({ "token": good_token("ann", 600) })).await.unwrap();
    assert!(refreshed["expiresAt"].is_string(), "{refreshed}");
    let ended = ann.closed(Duration::from_millis(3_500)).await;
    assert!(matches!(ended, Err(ClientError::TooSlow { .. })), "{ended:?}");
    ann.send("room", &harness::unique_id(), "still here").await.unwrap();
}

#[tokio::test]
async fn a_token_that_refreshes_nothing_is_refused_and_the_old_one_holds_until_its_end() {
    let fleet = asking_gateway().await;
    let mut ann = client(&fleet, good_token("ann", 3)).await;
    let cases = [
        ("another user's", good_token("bob", 600), "forbidden"),
        ("an expired one", good_token("ann", -1), "unauthenticated"),
        ("none at all", "x".to_owned(), "unauthenticated"),
    ];
    for (name, token, code) in cases {
        let refused = refusal(ann.command("auth", json!({ "token": token })).await);
        assert_eq!(
            (refused.code.as_str(), refused.field.as_deref()),
            (code, Some("token")),
            "{name}"
        );
    }
    ann.join("room", None).await.unwrap();
    assert_eq!(ann.closed(SOON).await.unwrap().code, Some(4401));
}

#[tokio::test]
async fn a_token_that_expires_sooner_shortens_the_connection() {
    let fleet = asking_gateway().await;
    let mut ann = client(&fleet, good_token("ann", 600)).await;
    ann.command("auth", json!({ "token": good_token("ann", 2) })).await.unwrap();
    assert_eq!(ann.closed(SOON).await.unwrap().code, Some(4401));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_spared_the_end_of_its_proof() {
    let fleet = asking_gateway().await;
    let port = fleet.gateway().port();
    let ann = client(&fleet, good_token("ann", 600)).await;
    ann.join("room", None).await.unwrap();
    for _ in 0..4 {
        ann.send("room", &harness::unique_id(), &"x".repeat(200_000)).await.unwrap();
    }
    let mut deaf = RawSocket::open(port).await.unwrap();
    let line = format!("\r\nAuthorization: Bearer {}\r\n\r\n", good_token("bob", 3));
    let request = upgrade_request(port, "/ws").replace("\r\n\r\n", &line);
    deaf.send(request.as_bytes()).await.unwrap();
    assert_eq!(deaf.answer(SOON).await.unwrap().status, 101);
    // Far more than the kernel and the queue take, so that the gateway reads no further.
    let history = text(&command("history:get", 1, &json!({ "roomId": "room" })));
    deaf.send(&history.repeat(60)).await.unwrap();
    let ended = || async { closed_for(&fleet, "unauthenticated").await >= 1.0 };
    eventually(2 * SOON, "its proof ends, and then its last write", ended).await;
    drop(deaf);
}
