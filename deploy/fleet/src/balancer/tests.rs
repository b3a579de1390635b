use super::*;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const SOON: Duration = Duration::from_secs(10);
/// How long nothing has to arrive to have been held back.
const NOTHING: Duration = Duration::from_millis(100);

/// A server that says its name and repeats what it hears.
async fn echo(name: &'static str) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                stream.write_all(name.as_bytes()).await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    (port, serving)
}

async fn hear(stream: &mut TcpStream, length: usize) -> std::io::Result<String> {
    let mut bytes = vec![0; length];
    tokio::time::timeout(SOON, stream.read_exact(&mut bytes)).await.unwrap()?;
    Ok(String::from_utf8(bytes).unwrap())
}

async fn connect(port: u16) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap()
}

async fn names(balancer: &Balancer, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(hear(&mut connect(balancer.port()).await, 1).await.unwrap());
    }
    names
}

async fn assert_reset(stream: &mut TcpStream) {
    let mut bytes = [0; 64];
    let end = tokio::time::timeout(SOON, stream.read(&mut bytes)).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

async fn assert_silent(stream: &mut TcpStream) {
    let mut bytes = [0; 64];
    assert!(tokio::time::timeout(NOTHING, stream.read(&mut bytes)).await.is_err());
}

/// A connection through a proxy that works.
async fn through_proxy() -> (Proxy, TcpStream, JoinHandle<()>) {
    let (port, server) = echo("a").await;
    let proxy = Proxy::start(port).await.unwrap();
    let mut stream = connect(proxy.port()).await;
    assert_eq!(hear(&mut stream, 1).await.unwrap(), "a");
    (proxy, stream, server)
}

#[tokio::test]
async fn connections_go_round_and_skip_who_refuses_or_is_off() {
    let ((a, server_a), (b, _server_b), (c, _server_c)) =
        (echo("a").await, echo("b").await, echo("c").await);
    let balancer = Balancer::start(&[a, b, c]).await.unwrap();
    assert_eq!(names(&balancer, 4).await, ["a", "b", "c", "a"]);
    balancer.links()[1].set_on(false);
    assert_eq!(names(&balancer, 3).await, ["c", "c", "a"]);
    server_a.abort();
    server_a.await.unwrap_err();
    assert_eq!(names(&balancer, 2).await, ["c", "c"]);
    balancer.links()[2].set_on(false);
    assert_reset(&mut connect(balancer.port()).await).await;
}

#[tokio::test]
async fn bytes_and_the_end_of_a_stream_pass_in_both_directions() {
    let (_proxy, mut stream, _server) = through_proxy().await;
    let text = "0123456789".repeat(100_000);
    let (mut from, mut to) = stream.split();
    let sent = async {
        to.write_all(text.as_bytes()).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut heard = String::new();
    let (_, read) = tokio::join!(sent, from.read_to_string(&mut heard));
    read.unwrap();
    assert!(heard == text);
}

#[tokio::test]
async fn cut_connections_are_reset_and_new_ones_work() {
    let (proxy, mut stream, _server) = through_proxy().await;
    assert_eq!(proxy.link().connections(), 1);
    proxy.link().cut();
    assert_reset(&mut stream).await;
    let mut stream = connect(proxy.port()).await;
    assert_eq!(hear(&mut stream, 1).await.unwrap(), "a");
}

#[tokio::test]
async fn held_bytes_arrive_later_and_swallowed_ones_never() {
    let (proxy, mut stream, _server) = through_proxy().await;
    let fault = |traffic| Faults { traffic, ..Faults::default() };
    proxy.link().set_faults(fault(Traffic::Held));
    stream.write_all(b"held").await.unwrap();
    assert_silent(&mut stream).await;
    proxy.link().heal();
    assert_eq!(hear(&mut stream, 4).await.unwrap(), "held");

    proxy.link().set_faults(fault(Traffic::Swallowed));
    stream.write_all(b"lost").await.unwrap();
    let mut new = connect(proxy.port()).await;
    tokio::join!(assert_silent(&mut stream), assert_silent(&mut new));
    proxy.link().heal();
    assert_reset(&mut stream).await;
}

#[tokio::test]
async fn latency_delays_each_direction_and_keeps_the_order() {
    let (proxy, mut stream, _server) = through_proxy().await;
    let latency = Duration::from_millis(40);
    proxy.link().set_faults(Faults { latency, ..Faults::default() });
    let start = Instant::now();
    for word in ["one ", "two ", "three"] {
        stream.write_all(word.as_bytes()).await.unwrap();
    }
    assert_eq!(hear(&mut stream, 13).await.unwrap(), "one two three");
    assert!(start.elapsed() >= 2 * latency);
}

#[tokio::test]
async fn a_connection_is_reset_behind_the_byte_that_was_named() {
    let (proxy, mut stream, _server) = through_proxy().await;
    let faults = Faults { reset_to_client_after: Some(3), ..Faults::default() };
    proxy.link().set_faults(faults);
    stream.write_all(b"answer").await.unwrap();
    assert_eq!(hear(&mut stream, 3).await.unwrap(), "ans");
    assert_reset(&mut stream).await;

    proxy.link().set_faults(Faults { reset_to_target_after: Some(2), ..Faults::default() });
    let mut stream = connect(proxy.port()).await;
    assert_eq!(hear(&mut stream, 1).await.unwrap(), "a");
    stream.write_all(b"request").await.unwrap();
    // Whether the echo of the two bytes is ahead of the reset is open.
    let mut heard = Vec::new();
    let end = tokio::time::timeout(SOON, stream.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(b"re".starts_with(&heard));
}
