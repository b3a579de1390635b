//! How many connections there may be, and how many rooms.

use super::client;
use crate::one_gateway::{SOON, assert_no_panic, gateway, gateway_with, metric};
use fleet::GatewayOptions;
use futures_util::future::join_all;
use harness::client::ClientError;
use harness::raw::{RawSocket, upgrade_request};
use harness::wire::WireError;
use harness::{Client, Proof, eventually};
use serde_json::json;

#[tokio::test]
async fn a_user_is_in_ten_rooms_at_most_over_all_connections() {
    let fleet = gateway().await;
    let first = client(&fleet, "ann").await;
    let second = client(&fleet, "ann").await;
    let other = client(&fleet, "bob").await;
    assert_eq!(first.welcome()["limits"]["roomsPerUser"], 10);
    for n in 0..10 {
        first.join(&format!("room-{n}"), None).await.unwrap();
    }
    for client in [&first, &second] {
        let Err(ClientError::Refused(refused)) = client.join("room-10", None).await else {
            panic!("an eleventh room");
        };
        assert_eq!((refused.code.as_str(), refused.limit), ("too_many_rooms", Some(json!(10))));
    }
    // Rooms are counted once, however many tabs show them; and for each user.
    second.join("room-9", None).await.unwrap();
    first.join("room-9", None).await.unwrap();
    other.join("room-10", None).await.unwrap();

    first.command("room:leave", json!({ "roomId": "room-9" })).await.unwrap();
    let refused = second.join("room-10", None).await.unwrap_err();
    assert_eq!(refused.code(), Some("too_many_rooms"), "the other tab is still in it");
    second.command("room:leave", json!({ "roomId": "room-9" })).await.unwrap();
    second.join("room-10", None).await.unwrap();

    drop(first);
    let joined = || async { second.join("room-11", None).await };
    eventually(SOON, "what a closed connection had is given back", joined).await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn connections_over_the_limit_are_answered_503_until_one_ends() {
    let options = GatewayOptions::default().with_env("ROOMCAST_CONNECTIONS_MAX", "3");
    let fleet = gateway_with(options).await;
    let port = fleet.gateway().port();
    let mut clients = Vec::new();
    for n in 0..3 {
        clients.push(client(&fleet, &format!("user-{n}")).await);
    }
    let mut fourth = RawSocket::open(port).await.unwrap();
    fourth.send(upgrade_request(port, "/ws?user=late").as_bytes()).await.unwrap();
    let answer = fourth.answer(SOON).await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()));
    assert_eq!(fleet.gateway().get("/").await.unwrap().status, 200, "the page is still served");
    assert!(metric(&fleet, "roomcast_handshakes_refused_total").await >= 1.0);
    let full = || async { !fleet.gateway().is_ready().await };
    eventually(SOON, "a node that is full wants no more traffic", full).await;

    clients.pop();
    let free = || async { fleet.gateway().is_ready().await };
    eventually(SOON, "it wants traffic again", free).await;
    let url = fleet.gateway().ws_url();
    let connected = || async {
        match Client::connect(&url, &Proof::user("late")).await {
            Err(ClientError::Connect(WireError::Refused { status: 503, .. })) => None,
            other => Some(other.unwrap()),
        }
    };
    eventually(SOON, "a place is free", connected).await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_rush_gets_no_more_connections_than_there_are() {
    let options = GatewayOptions::default().with_env("ROOMCAST_CONNECTIONS_MAX", "3");
    let fleet = gateway_with(options).await;
    let port = fleet.gateway().port();
    let sockets = join_all((0..40).map(|_| RawSocket::open(port))).await;
    let mut sockets: Vec<RawSocket> = sockets.into_iter().map(Result::unwrap).collect();
    let request = upgrade_request(port, "/ws?user=early");
    join_all(sockets.iter_mut().map(|socket| socket.send(request.as_bytes()))).await;
    let answers = join_all(sockets.iter_mut().map(|socket| socket.answer(SOON))).await;
    let statuses: Vec<u16> = answers.into_iter().map(|answer| answer.unwrap().status).collect();
    let of = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((of(101), of(503)), (3, 37), "{statuses:?}");
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn the_seeds_rate_limits_are_accepted() {
    let options = GatewayOptions::default()
        .with_env("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "10")
        .with_env("WEBSOCKET_RATE_LIMIT_TYPING_EVENTS", "30")
        .with_env("WEBSOCKET_RATE_LIMIT_ROOM_JOIN", "5")
        .with_env("WEBSOCKET_RATE_LIMIT_PRESENCE_UPDATE", "20");
    let fleet = gateway_with(options).await;
    let ann = client(&fleet, "ann").await;
    ann.join("room", None).await.unwrap();
    ann.send("room", &harness::unique_id(), "hello").await.unwrap();
}
