//! How many connections there may be, and how many rooms.

use std::sync::atomic::{AtomicU32, Ordering};

use super::client;
use crate::fixtures::one_gateway::{SOON, assert_no_panic, gateway, gateway_with, metric};
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
async fn a_storm_is_told_to_come_back_and_all_of_it_comes_in() {
    let options = GatewayOptions::default().with_env("ROOMCAST_CONNECTS_PER_SECOND", "5");
    let fleet = gateway_with(options).await;
    let port = fleet.gateway().port();
    let deferred = AtomicU32::new(0);
    let counted = &deferred;
    let come = |number: usize| {
        let come = move || async move {
            let mut socket = RawSocket::open(port).await.unwrap();
            let request = upgrade_request(port, &format!("/ws?user=user-{number}"));
            socket.send(request.as_bytes()).await.unwrap();
            let answer = socket.answer(SOON).await.unwrap();
            if answer.status == 101 {
                return Ok(());
            }
            assert_eq!(answer.status, 503);
            let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=5).contains(&after), "{after}");
            counted.fetch_add(1, Ordering::Relaxed);
            Err(format!("{number} is deferred"))
        };
        eventually(SOON, "everybody comes in", come)
    };
    join_all((0..20).map(come)).await;
    let deferred = deferred.into_inner();
    assert!(deferred > 0, "twenty within a second are more than five");
    let refused = "roomcast_handshakes_refused_total{reason=\"unavailable\"}";
    assert_eq!(metric(&fleet, refused).await, f64::from(deferred));
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn whoever_says_nothing_takes_no_turn_of_whoever_says_who_they_are() {
    let options = GatewayOptions::default().with_env("ROOMCAST_CONNECTS_PER_SECOND", "3");
    let fleet = gateway_with(options).await;
    let port = fleet.gateway().port();
    let status = async |path: &str| {
        let mut socket = RawSocket::open(port).await.unwrap();
        socket.send(upgrade_request(port, path).as_bytes()).await.unwrap();
        let answer = socket.answer(SOON).await.unwrap();
        (answer.status, socket)
    };
    let mut silent = Vec::new();
    let deferred = loop {
        let (status, socket) = status("/ws").await;
        silent.push(socket);
        if status != 101 {
            break status;
        }
        assert!(silent.len() < 100, "a hundred came in within what should be some seconds");
    };
    assert_eq!(deferred, 503);
    assert_eq!(status("/ws?user=ann").await.0, 101);
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_node_wants_no_more_traffic_at_nine_tenths_of_its_connections() {
    let options = GatewayOptions::default().with_env("ROOMCAST_CONNECTIONS_MAX", "20");
    let fleet = gateway_with(options).await;
    let mut clients = Vec::new();
    for n in 0..17 {
        clients.push(client(&fleet, &format!("user-{n}")).await);
    }
    assert!(fleet.gateway().is_ready().await);
    clients.push(client(&fleet, "user-17").await);
    let full = || async { !fleet.gateway().is_ready().await };
    eventually(SOON, "a node that is nearly full wants no more traffic", full).await;
    // Whoever comes all the same is let in.
    clients.push(client(&fleet, "user-18").await);
    clients.truncate(16);
    let free = || async { fleet.gateway().is_ready().await };
    eventually(SOON, "it wants traffic again", free).await;
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

/// A gateway that may open so many files; it is ended with its guard.
struct Limited {
    process: std::process::Child,
    port: u16,
    operator_port: u16,
    folder: tempfile::TempDir,
}

impl Limited {
    async fn start(open_files_max: usize) -> Limited {
        // The program is the one that the fleet runs.
        let fleet = gateway().await;
        let program = std::fs::read_link(format!("/proc/{}/exe", fleet.gateway().pid().unwrap()));
        let folder = tempfile::tempdir().unwrap();
        let (port, operator_port) = (fleet::free_port().unwrap(), fleet::free_port().unwrap());
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = std::process::Command::new("sh")
            .args(["-c", &format!("ulimit -n {open_files_max}; exec \"$0\" --dev")])
            .arg(program.unwrap())
            .env("PORT", port.to_string())
            .env("ROOMCAST_OPERATOR_PORT", operator_port.to_string())
            .env("ROOMCAST_DATA_DIR", folder.path().join("data"))
            .stderr(log)
            .spawn()
            .unwrap();
        let limited = Limited { process, port, operator_port, folder };
        let ready = || async {
            let answer = fleet::get(operator_port, "/readyz", SOON).await;
            matches!(answer, Ok(answer) if answer.status == 200)
        };
        eventually(SOON, "it is ready", ready).await;
        limited
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn sockets_are_bounded_by_the_files_that_the_system_allows_and_probes_are_answered() {
    let limited = Limited::start(256).await;
    assert!(limited.log().contains("ROOMCAST_CONNECTIONS_MAX"), "{}", limited.log());
    let mut held = Vec::new();
    // Half of so few files are kept back.
    for _ in 0..128 {
        held.push(tokio::net::TcpStream::connect(("127.0.0.1", limited.port)).await.unwrap());
    }
    let turned_away = || async {
        let answer =
            fleet::get(limited.port, "/", SOON).await.map_err(|error| error.to_string())?;
        if answer.status == 503 { Ok(()) } else { Err(format!("{}", answer.status)) }
    };
    eventually(SOON, "a newcomer is told that there is no place", turned_away).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let probe = fleet::get(limited.operator_port, path, SOON).await.unwrap();
        assert_eq!(probe.status, 200, "{path}: {}", probe.body);
    }
    drop(held);
    let let_in = || async {
        let (url, ann) = (format!("ws://127.0.0.1:{}/ws", limited.port), Proof::user("ann"));
        Client::connect(&url, &ann).await.map_err(|error| error.to_string())
    };
    let ann = eventually(SOON, "places are given back", let_in).await;
    ann.join("r", None).await.unwrap();
    assert!(!limited.log().contains("cannot accept"), "{}", limited.log());
}
