use super::*;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

const SOON: Duration = Duration::from_secs(10);

/// Echoes text until the client closes; returns its port.
async fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _peer) = listener.accept().await.unwrap();
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = message {
                socket.send(Message::Text(text)).await.unwrap();
            }
        }
    });
    port
}

#[test]
fn frames_come_back_as_they_were_made() {
    for length in [0, 1, 125, 126, 65_535, 65_536] {
        for masked in [false, true] {
            let payload: Vec<u8> = (0..=255).cycle().take(length).collect();
            let bytes = frame(false, 0b101, opcode::BINARY, masked, &payload);
            let parsed = parse_frame(&bytes).unwrap();
            let made =
                ServerFrame { fin: false, rsv: 0b101, opcode: opcode::BINARY, masked, payload };
            assert_eq!(parsed, (made, bytes.len()));
            assert_eq!(parse_frame(&bytes[..bytes.len() - 1]), None);
        }
    }
}

#[tokio::test]
async fn a_hand_written_upgrade_speaks_with_a_library() {
    let mut socket = RawSocket::upgraded(echo_server().await, "/ws", SOON).await.unwrap();
    socket.send(&frame(false, 0, opcode::TEXT, true, b"hel")).await.unwrap();
    socket.send(&frame(true, 0, opcode::CONTINUATION, true, b"lo")).await.unwrap();
    let echoed = socket.next_frame(SOON).await.unwrap();
    assert_eq!((echoed.text().as_str(), echoed.fin, echoed.masked), ("hello", true, false));

    socket.send(&text("more")).await.unwrap();
    socket.send(&close(1000)).await.unwrap();
    assert_eq!(socket.close_code(SOON).await.unwrap(), Some(1000));
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_headers() {
    let mut socket = RawSocket::open(echo_server().await).await.unwrap();
    let request = upgrade_request(1, "/ws");
    socket.send(request.as_bytes()).await.unwrap();
    let answer = socket.answer(SOON).await.unwrap();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[tokio::test]
async fn an_end_without_a_close_frame_is_told_from_silence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut socket = RawSocket::open(listener.local_addr().unwrap().port()).await.unwrap();
    let (server, _peer) = listener.accept().await.unwrap();
    let silence = socket.ending(Duration::from_millis(20)).await;
    assert!(matches!(silence, Err(RawError::TooSlow(_))));
    drop(server);
    assert_eq!(socket.ending(SOON).await.unwrap(), Ending::Eof);
}
