//! How many connections there may be from one address, and who is believed about it.

use crate::fixtures::one_gateway::{SOON, assert_no_panic, gateway_with, log_of};
use fleet::{Fleet, GatewayOptions};
use harness::eventually;
use harness::raw::{HttpAnswer, RawSocket, upgrade_request};

/// A gateway that takes two connections from each address.
async fn two_each(trusted: &str) -> Fleet {
    let options = GatewayOptions::default()
        .with_env("ROOMCAST_CONNECTIONS_PER_ADDRESS", "2")
        .with_env("ROOMCAST_TRUSTED_PROXIES", trusted)
        .with_env("ROOMCAST_LOG", "trace");
    gateway_with(options).await
}

/// Opens a connection through proxies that wrote this.
async fn opened(port: u16, forwarded_for: &str) -> (HttpAnswer, RawSocket) {
    let mut socket = RawSocket::open(port).await.unwrap();
    let line = format!("\r\nX-Forwarded-For: {forwarded_for}\r\n\r\n");
    let request = upgrade_request(port, "/ws?user=ann").replace("\r\n\r\n", &line);
    socket.send(request.as_bytes()).await.unwrap();
    let answer = socket.answer(SOON).await.unwrap();
    (answer, socket)
}

#[tokio::test]
async fn an_address_has_its_own_connections_and_gets_them_back() {
    let fleet = two_each("127.0.0.1").await;
    let port = fleet.gateway().port();
    let mut open = Vec::new();
    for forwarded_for in ["203.0.113.5", "6.6.6.6, 203.0.113.5"] {
        let (answer, socket) = opened(port, forwarded_for).await;
        assert_eq!(answer.status, 101);
        open.push(socket);
    }
    // Whatever a client claims stands left of where it is.
    for spoofed in
        ["203.0.113.5", "1.1.1.1, 203.0.113.5", "127.0.0.1,203.0.113.5", "x, 203.0.113.5"]
    {
        let (answer, _) = opened(port, spoofed).await;
        assert_eq!(answer.status, 429, "{spoofed}");
        assert!(answer.header("retry-after").is_some());
    }
    let (elsewhere, _socket) = opened(port, "203.0.113.5, 203.0.113.6").await;
    assert_eq!(elsewhere.status, 101);
    open.clear();
    let again = || async { opened(port, "203.0.113.5").await.0.status == 101 };
    eventually(SOON, "the address has its connections back", again).await;
    assert!(!log_of(&fleet).contains("203.0.113."), "{}", log_of(&fleet));
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn nobody_is_believed_who_is_no_proxy_of_ours() {
    for trusted in ["", "10.0.0.0/8", "127.0.0.2"] {
        let fleet = two_each(trusted).await;
        let port = fleet.gateway().port();
        let _one = opened(port, "203.0.113.1").await;
        let _two = opened(port, "203.0.113.2").await;
        let (third, _) = opened(port, "203.0.113.3").await;
        assert_eq!(third.status, 429, "{trusted:?}: all three come from 127.0.0.1");
    }
}
