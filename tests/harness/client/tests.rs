use super::*;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

const SOON: Duration = Duration::from_secs(10);

/// Welcomes, then answers pairs of commands in the wrong order, then closes with 4401.
#[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
async fn backward_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _peer) = listener.accept().await.unwrap();
        let accept = |request: &Request, mut response: Response| {
            let protocol = request.headers()["sec-websocket-protocol"].clone();
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            Ok(response)
        };
        let mut socket = accept_hdr_async(stream, accept).await.unwrap();
        socket.send(Message::text(r#"{"event":"welcome","data":{"protocol":1}}"#)).await.unwrap();
        let (first, second) = (socket.next().await, socket.next().await);
        let reference = |frame: Option<Result<Message, _>>| -> Value {
            let frame = frame.unwrap().unwrap().into_text().unwrap();
            serde_json::from_str::<Value>(frame.as_str()).unwrap()["ref"].clone()
        };
        let error = json!({ "code": "not_joined", "message": "join first" });
        for frame in [
            json!({ "event": "reply", "ref": reference(second), "error": error }),
            json!({ "event": "room:error", "data": { "roomId": "r" } }),
            json!({ "event": "reply", "ref": reference(first), "data": { "first": true } }),
        ] {
            socket.send(Message::text(frame.to_string())).await.unwrap();
        }
        socket.send(close_frame(4401)).await.unwrap();
    });
    url
}

#[tokio::test]
async fn each_command_gets_its_own_reply_and_the_end_is_told() {
    let url = backward_server().await;
    let mut client = Client::connect(&url, &Proof::user("alice")).await.unwrap();
    assert_eq!(client.welcome()["protocol"], 1);

    let first = client.send_nowait("heartbeat", json!({})).await;
    let second = client.send("r", "id", "text").await;
    assert_eq!(second.unwrap_err().code(), Some("not_joined"));
    assert_eq!(first.reply(SOON).await.unwrap()["first"], true);

    let event = client.next_event(SOON).await.unwrap();
    assert_eq!((event.name.as_str(), &event.data["roomId"]), ("room:error", &json!("r")));
    assert_eq!(client.closed(SOON).await.unwrap().code, Some(4401));
    assert!(client.command("heartbeat", json!({})).await.is_err());
    assert_eq!(client.log().len(), 5);
}
