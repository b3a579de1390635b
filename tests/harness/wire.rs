//! One WebSocket to a gateway, by an implementation that is not the gateway's own, and the
//! objects of the protocol as an outsider reads them.

use crate::position::Position;
use futures_util::stream::SplitStream;
use futures_util::{Sink, SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// The subprotocol every connection asks for.
pub const SUBPROTOCOL: &str = "roomcast.v1";
/// How many frames may wait to be written. Whoever sends keeps fewer in flight.
pub const OUTGOING_MAX: usize = 4_096;
/// How long TCP and the upgrade may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// How many frames are written before the socket is flushed.
const WRITE_BATCH_MAX: usize = 64;

/// How a client says who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It does not.
    Nobody,
    /// `?user=…`, which a gateway with `--dev` believes.
    User(String),
    /// A token in `Authorization: Bearer`.
    Bearer(String),
    /// A token in the first frame.
    AuthFrame(String),
}

impl Proof {
    /// The user of a gateway with `--dev`.
    pub fn user(name: &str) -> Proof {
        Proof::User(name.to_owned())
    }
}

/// Why a command was not done.
#[derive(Debug, Clone, PartialEq, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refused {
    /// One of the protocol's error codes.
    pub code: String,
    /// For people.
    pub message: String,
    /// When to try again, where that may help.
    pub retry_after_ms: Option<u64>,
    /// The field that was wrong.
    pub field: Option<String>,
    /// The limit that was passed.
    pub limit: Option<Value>,
    /// What time it is at the server, where a clock is at fault.
    pub server_time: Option<String>,
}

impl Refused {
    /// What somebody is told whose business the reason is not.
    pub(crate) fn unexplained() -> Refused {
        Refused {
            code: "rejected".to_owned(),
            message: String::new(),
            retry_after_ms: None,
            field: None,
            limit: None,
            server_time: None,
        }
    }

    /// Waits until the moment from which the server said it may help to try again, for at most
    /// `most`. For whoever asks before that, asking is what makes it worse, so that there is no
    /// condition to be looked at meanwhile.
    ///
    /// # Panics
    /// Where no such moment was named, or a later one.
    pub async fn obey(&self, most: Duration) {
        let rest = self.retry_after_ms.map(Duration::from_millis);
        let rest = rest.filter(|rest| (Duration::from_millis(1)..=most).contains(rest));
        let rest = rest.unwrap_or_else(|| panic!("{self}: again in {:?}", self.retry_after_ms));
        tokio::time::sleep_until(Instant::now() + rest).await;
    }
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The close code; none where the socket just ended.
    pub code: Option<u16>,
    /// The reason of the close frame, or the error of the socket.
    pub reason: String,
}

impl Closed {
    /// Whether a client must not come back by itself.
    pub fn is_final(&self) -> bool {
        self.code.is_some_and(|code| (4400..4500).contains(&code))
    }
}

/// What came from the server.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// The one answer to a command.
    Reply {
        /// The command's `ref`.
        reference: u64,
        /// Its `data` or its `error`.
        outcome: Result<Value, Refused>,
    },
    /// Something unasked.
    Event {
        /// Its name.
        name: String,
        /// Its data.
        data: Value,
    },
    /// A frame that is none of the protocol.
    Faulty(String),
    /// The end; nothing follows.
    Closed(Closed),
}

/// A message, the same object everywhere.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChatMessage {
    /// The room.
    pub room_id: String,
    /// The id its sender chose.
    pub id: String,
    /// The sender.
    pub user_id: String,
    /// `user`, `assistant` or `system`.
    pub r#type: String,
    /// What it says; empty once deleted.
    pub content: String,
    /// What else it carries.
    pub metadata: Value,
    /// When it was accepted.
    pub created_at: String,
    /// Its place in the room's order.
    pub position: Position,
    /// The place of its last change, in replay and history.
    pub changed_position: Option<Position>,
    /// The id of its last change, in replay and history.
    pub change_id: Option<String>,
    /// When it was edited last.
    pub edited_at: Option<String>,
    /// When it was deleted.
    pub deleted_at: Option<String>,
    /// What it cost.
    pub credits: Option<u64>,
}

/// The reply to `room:join`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// The room.
    pub room_id: String,
    /// Oldest first.
    pub messages: Vec<ChatMessage>,
    /// The last position of the room.
    pub head: Position,
    /// Up to where the room is in the database.
    pub persisted: Position,
    /// The messages follow `since` without a hole.
    pub recovered: bool,
    /// `since` was not found: the messages are the latest, and the client starts anew.
    pub reset: bool,
    /// More follow by themselves (`recovered`), or older ones exist.
    pub has_more: bool,
}

/// The reply to `history:get`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Page {
    /// Oldest first.
    pub messages: Vec<ChatMessage>,
    /// Whether there are more in the direction that was asked for.
    pub has_more: bool,
}

/// The reply to `message:send`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Accepted {
    /// The message's id.
    pub id: String,
    /// Its place; none while it is only in a journal.
    pub position: Option<Position>,
    /// It stood there before.
    pub duplicate: bool,
    /// It is in the database.
    pub persisted: bool,
    /// `log`, `journal` or `store`.
    pub durability: String,
}

/// A client's cursor in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// The last position it got from any logged event.
    pub position: Position,
    /// The `changeId` or `id` that event carried.
    pub message_id: String,
}

impl Since {
    /// As `room:join` takes it.
    pub fn to_json(&self) -> Value {
        let Position { epoch, seq } = self.position;
        json!({ "epoch": epoch, "seq": seq, "messageId": self.message_id })
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The address is none.
    #[error("{url} is no address of a WebSocket")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        source: Box<tungstenite::Error>,
    },
    /// The server answered the upgrade with something else.
    #[error("the upgrade was answered with {status}: {body}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The body.
        body: String,
    },
    /// There was no answer, or a wrong one.
    #[error("the upgrade failed")]
    Failed(#[source] Box<tungstenite::Error>),
    /// It took too long.
    #[error("the upgrade took longer than {0:?}")]
    TooSlow(Duration),
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connection: frames out through a bounded queue, frames in one at a time.
#[derive(Debug)]
pub struct Wire {
    outgoing: mpsc::Sender<Message>,
    incoming: SplitStream<Socket>,
    writer: JoinHandle<()>,
    ended: Option<Closed>,
}

impl Wire {
    /// Connects and upgrades; `welcome` has not been read yet.
    pub async fn connect(ws_url: &str, proof: &Proof) -> Result<Wire, WireError> {
        let request = request(ws_url, proof)?;
        let connecting = connect_async_with_config(request, None, true);
        let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
        let (socket, _response) = match connected {
            Err(_elapsed) => return Err(WireError::TooSlow(CONNECT_WITHIN)),
            Ok(Err(tungstenite::Error::Http(response))) => {
                let body = response.body().as_deref().unwrap_or_default();
                let body = String::from_utf8_lossy(body).into_owned();
                return Err(WireError::Refused { status: response.status().as_u16(), body });
            }
            Ok(Err(error)) => return Err(WireError::Failed(Box::new(error))),
            Ok(Ok(connected)) => connected,
        };
        let (sink, incoming) = socket.split();
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        let writer = tokio::spawn(write(sink, queue));
        let wire = Wire { outgoing, incoming, writer, ended: None };
        if let Proof::AuthFrame(token) = proof {
            // The queue is new and empty.
            let _sent = wire.try_send(command("auth", 0, &json!({ "token": token })));
        }
        Ok(wire)
    }

    /// The queue, for whoever sends from another task.
    pub fn sender(&self) -> mpsc::Sender<Message> {
        self.outgoing.clone()
    }

    /// Queues a text frame. False where the queue is full or the connection gone.
    pub fn try_send(&self, text: String) -> bool {
        self.outgoing.try_send(Message::text(text)).is_ok()
    }

    /// The next thing from the server. Cancel safe. After the end it is the end again.
    pub async fn recv(&mut self) -> Incoming {
        if let Some(closed) = &self.ended {
            return Incoming::Closed(closed.clone());
        }
        loop {
            let closed = match self.incoming.next().await {
                Some(Ok(Message::Text(text))) => return parse(text.as_str()),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Binary(bytes))) => {
                    return Incoming::Faulty(format!("a binary frame of {} bytes", bytes.len()));
                }
                Some(Ok(Message::Close(frame))) => closed_by(frame),
                Some(Err(error)) => Closed { code: None, reason: error.to_string() },
                None => Closed { code: None, reason: "the socket ended".to_owned() },
            };
            self.ended = Some(closed.clone());
            return Incoming::Closed(closed);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// The text of a command.
pub fn command(event: &str, reference: u64, data: &Value) -> String {
    json!({ "event": event, "ref": reference, "data": data }).to_string()
}

/// A close frame as a client sends it.
pub fn close_frame(code: u16) -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: "".into() }))
}

fn closed_by(frame: Option<CloseFrame>) -> Closed {
    frame
        .map_or(Closed { code: None, reason: "a close frame without a code".to_owned() }, |frame| {
            Closed { code: Some(frame.code.into()), reason: frame.reason.to_string() }
        })
}

fn request(ws_url: &str, proof: &Proof) -> Result<Request, WireError> {
    let url = match proof {
        Proof::User(user) => format!("{ws_url}?user={user}"),
        Proof::Nobody | Proof::Bearer(_) | Proof::AuthFrame(_) => ws_url.to_owned(),
    };
    let bad = |source: tungstenite::Error| WireError::BadUrl {
        url: url.clone(),
        source: Box::new(source),
    };
    let mut request = url.as_str().into_client_request().map_err(bad)?;
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    if let Proof::Bearer(token) = proof {
        let value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|error| bad(tungstenite::Error::HttpFormat(error.into())))?;
        headers.insert("authorization", value);
    }
    Ok(request)
}

async fn write<S>(mut sink: S, mut queue: mpsc::Receiver<Message>)
where
    S: Sink<Message> + Unpin,
{
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, WRITE_BATCH_MAX).await > 0 {
        for message in batch.drain(..) {
            if sink.feed(message).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    event: String,
    #[serde(rename = "ref")]
    reference: Option<u64>,
    data: Option<Value>,
    error: Option<Refused>,
}

fn parse(text: &str) -> Incoming {
    let faulty = |why: &str| Incoming::Faulty(format!("{why}: {text:.300}"));
    let envelope: Envelope = match serde_json::from_str(text) {
        Ok(envelope) => envelope,
        Err(error) => return faulty(&error.to_string()),
    };
    let Envelope { event, reference, data, error } = envelope;
    match (event.as_str(), reference, data, error) {
        ("reply", Some(reference), Some(data), None) => {
            Incoming::Reply { reference, outcome: Ok(data) }
        }
        ("reply", Some(reference), None, Some(error)) => {
            Incoming::Reply { reference, outcome: Err(error) }
        }
        ("reply", ..) => faulty("a reply without a ref, or without exactly one of data and error"),
        (_, None, Some(data), None) => Incoming::Event { name: event, data },
        _ => faulty("an event with a ref or an error, or without data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_are_none_of_the_protocol_are_named() {
        for text in [
            "{}",
            "[]",
            r#"{"event":"reply","data":{}}"#,
            r#"{"event":"reply","ref":1}"#,
            r#"{"event":"reply","ref":1,"data":{},"error":{"code":"internal","message":""}}"#,
            r#"{"event":"message:new","ref":1,"data":{}}"#,
            r#"{"event":"message:new","data":{},"extra":1}"#,
        ] {
            assert!(matches!(parse(text), Incoming::Faulty(_)), "{text}");
        }
    }

    #[test]
    fn a_refusal_is_read_with_all_it_says() {
        let text = r#"{"event":"reply","ref":7,"error":{"code":"rate_limited",
                       "message":"slow down","retryAfterMs":800}}"#;
        let Incoming::Reply { reference: 7, outcome: Err(refused) } = parse(text) else {
            panic!("{:?}", parse(text));
        };
        assert_eq!((refused.code.as_str(), refused.retry_after_ms), ("rate_limited", Some(800)));
    }
}
