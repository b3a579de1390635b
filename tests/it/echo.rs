//! The echo that public suites are run against is the gateway's own WebSocket.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

const LARGEST: usize = 1024 * 1024;

#[tokio::test]
async fn every_text_comes_back_and_a_close_ends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(gateway::connection::echo::serve(listener, LARGEST));
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, LARGEST] {
        let text = Message::text("x".repeat(length));
        socket.send(text.clone()).await.unwrap();
        socket.send(Message::Ping(Bytes::from_static(b"life"))).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), text);
        let pong = socket.next().await.unwrap().unwrap();
        assert_eq!(pong, Message::Pong(Bytes::from_static(b"life")));
    }
    socket.close(None).await.unwrap();
    let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else {
        panic!("no close");
    };
    assert_eq!(u16::from(frame.code), 1000);

    for (message, code) in
        [(Message::binary("bytes"), 1003), (Message::text("x".repeat(LARGEST + 1)), 1009)]
    {
        let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
        // It may be refused before it is sent to its end.
        let _ = socket.send(message).await;
        let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else {
            panic!("no close");
        };
        assert_eq!(u16::from(frame.code), code);
    }
    serving.abort();
}
