//! A connection driven by hand: every command is the test's own, every frame is kept.

use crate::wire::{
    Accepted, Closed, Incoming, Joined, Page, Proof, Refused, Since, Wire, WireError, close_frame,
    command,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

/// How long `welcome` and replies may take.
const REPLY_WITHIN: Duration = Duration::from_secs(60);

/// Something unasked from the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: Value,
}

/// Why a client did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection.
    #[error("no connection")]
    Connect(#[from] WireError),
    /// The connection ended first.
    #[error("the connection ended with {code:?}: {reason}", code = .0.code, reason = .0.reason)]
    Closed(Closed),
    /// The server refused the command.
    #[error("refused: {0}")]
    Refused(Refused),
    /// Nothing came in time.
    #[error("no {what} within {within:?}")]
    TooSlow {
        /// What was waited for.
        what: String,
        /// The deadline.
        within: Duration,
    },
    /// A reply does not have the form the protocol gives it.
    #[error("the reply to {event} is malformed ({error}): {data}")]
    Malformed {
        /// The command.
        event: String,
        /// What is wrong.
        error: String,
        /// The reply.
        data: Value,
    },
}

impl ClientError {
    /// The refusal's code, where it is one.
    pub fn code(&self) -> Option<&str> {
        match self {
            ClientError::Refused(refused) => Some(&refused.code),
            ClientError::Connect(_)
            | ClientError::Closed(_)
            | ClientError::TooSlow { .. }
            | ClientError::Malformed { .. } => None,
        }
    }

    /// The close code, where the connection ended with one.
    pub fn close_code(&self) -> Option<u16> {
        match self {
            ClientError::Closed(closed) => closed.code,
            ClientError::Connect(_)
            | ClientError::Refused(_)
            | ClientError::TooSlow { .. }
            | ClientError::Malformed { .. } => None,
        }
    }
}

/// A connection that has been welcomed. Dropping it drops the socket without a close frame.
#[derive(Debug)]
pub struct Client {
    outgoing: mpsc::Sender<Message>,
    received: Arc<Received>,
    length: watch::Receiver<usize>,
    reader: JoinHandle<()>,
    next_ref: AtomicU64,
    /// How much of the log `next_event` has handed out.
    seen: usize,
    welcome: Value,
}

/// What the reader and the test share.
#[derive(Debug, Default)]
struct Received(Mutex<Inbox>);

#[derive(Debug, Default)]
struct Inbox {
    log: Vec<Incoming>,
    waiting: HashMap<u64, oneshot::Sender<Result<Value, Refused>>>,
    closed: Option<Closed>,
}

/// A command on its way.
#[derive(Debug)]
pub struct Pending {
    event: String,
    reply: oneshot::Receiver<Result<Value, Refused>>,
    received: Arc<Received>,
}

impl Client {
    /// Connects and waits for `welcome`.
    pub async fn connect(ws_url: &str, proof: &Proof) -> Result<Client, ClientError> {
        let wire = Wire::connect(ws_url, proof).await?;
        let outgoing = wire.sender();
        let received = Arc::new(Received::default());
        let (growing, length) = watch::channel(0);
        let reader = tokio::spawn(read(wire, Arc::clone(&received), growing));
        let mut client = Client {
            outgoing,
            received,
            length,
            reader,
            next_ref: AtomicU64::new(1),
            seen: 0,
            welcome: Value::Null,
        };
        client.welcome = client.wait_for("welcome", REPLY_WITHIN).await?;
        Ok(client)
    }

    /// What the server said first.
    pub fn welcome(&self) -> &Value {
        &self.welcome
    }

    /// Sends a command without waiting for its reply. Waits only for room in the send queue.
    pub async fn send_nowait(&self, event: &str, data: Value) -> Pending {
        let reference = self.next_ref.fetch_add(1, Ordering::Relaxed);
        let (reply_to, reply) = oneshot::channel();
        {
            let mut inbox = self.received.lock();
            // Of a connection that has ended nobody answers any more: the reply is an error.
            if inbox.closed.is_none() {
                inbox.waiting.insert(reference, reply_to);
            }
        }
        if self.send_text(command(event, reference, &data)).await.is_err() {
            // The connection has ended: taking the sender back makes the reply an error.
            self.received.lock().waiting.remove(&reference);
        }
        Pending { event: event.to_owned(), reply, received: Arc::clone(&self.received) }
    }

    /// Sends a command and waits for its one reply. Several may be under way at once.
    pub async fn command(&self, event: &str, data: Value) -> Result<Value, ClientError> {
        self.send_nowait(event, data).await.reply(REPLY_WITHIN).await
    }

    /// Sends any text as one frame.
    pub async fn send_text(&self, text: String) -> Result<(), ClientError> {
        let sent = self.outgoing.send(Message::text(text)).await;
        sent.map_err(|_gone| ClientError::Closed(self.received.ending()))
    }

    /// Joins a room, from a cursor where there is one.
    pub async fn join(&self, room: &str, since: Option<&Since>) -> Result<Joined, ClientError> {
        let mut data = json!({ "roomId": room });
        if let Some(since) = since {
            data["since"] = since.to_json();
        }
        self.typed("room:join", data).await
    }

    /// Sends a message.
    pub async fn send(&self, room: &str, id: &str, text: &str) -> Result<Accepted, ClientError> {
        let data = json!({ "roomId": room, "id": id, "content": text, "type": "user" });
        self.typed("message:send", data).await
    }

    /// Reads a page of history; `query` holds `before` or `after`, and `limit`.
    pub async fn history(&self, room: &str, mut query: Value) -> Result<Page, ClientError> {
        query["roomId"] = json!(room);
        self.typed("history:get", query).await
    }

    /// The next event after the ones handed out before.
    pub async fn next_event(&mut self, within: Duration) -> Result<Event, ClientError> {
        self.wait_until(within, "event", |_event| true).await
    }

    /// The data of the next event of that name; events before it are passed over.
    pub async fn wait_for(&mut self, name: &str, within: Duration) -> Result<Value, ClientError> {
        Ok(self.wait_until(within, name, |event| event.name == name).await?.data)
    }

    /// Waits for the end of the connection.
    pub async fn closed(&mut self, within: Duration) -> Result<Closed, ClientError> {
        match self.wait_until(within, "end of the connection", |_event| false).await {
            Err(ClientError::Closed(closed)) => Ok(closed),
            Err(other) => Err(other),
            Ok(_event) => unreachable!("no event was wanted"),
        }
    }

    /// Every frame so far, in the order it came.
    pub fn log(&self) -> Vec<Incoming> {
        self.received.lock().log.clone()
    }

    /// Sends a close frame; `closed` tells how the server answers.
    pub async fn close(&self, code: u16) {
        // A connection that is gone already needs no close frame.
        let _sent = self.outgoing.send(close_frame(code)).await;
    }

    async fn typed<T: DeserializeOwned>(&self, event: &str, data: Value) -> Result<T, ClientError> {
        let data = self.command(event, data).await?;
        T::deserialize(&data).map_err(|error| ClientError::Malformed {
            event: event.to_owned(),
            error: error.to_string(),
            data,
        })
    }

    async fn wait_until(
        &mut self,
        within: Duration,
        what: &str,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Event, ClientError> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let (event, closed) = self.received.event_after(&mut self.seen);
            match (event, closed) {
                (Some(event), _) if wanted(&event) => return Ok(event),
                (Some(_), _) => continue,
                (None, Some(closed)) => return Err(ClientError::Closed(closed)),
                (None, None) => {}
            }
            let seen = self.seen;
            let grown = self.length.wait_for(|length| *length > seen);
            if tokio::time::timeout_at(deadline, grown).await.is_err() {
                return Err(ClientError::TooSlow { what: what.to_owned(), within });
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Pending {
    /// Waits for the reply.
    pub async fn reply(self, within: Duration) -> Result<Value, ClientError> {
        match tokio::time::timeout(within, self.reply).await {
            Ok(Ok(outcome)) => outcome.map_err(ClientError::Refused),
            Ok(Err(_gone)) => Err(ClientError::Closed(self.received.ending())),
            Err(_elapsed) => {
                Err(ClientError::TooSlow { what: format!("reply to {}", self.event), within })
            }
        }
    }
}

impl Received {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ending(&self) -> Closed {
        let unknown = Closed { code: None, reason: "the writer ended".to_owned() };
        self.lock().closed.clone().unwrap_or(unknown)
    }

    /// The first event at or after `seen`, which moves past it.
    fn event_after(&self, seen: &mut usize) -> (Option<Event>, Option<Closed>) {
        let inbox = self.lock();
        while let Some(incoming) = inbox.log.get(*seen) {
            *seen += 1;
            if let Incoming::Event { name, data } = incoming {
                return (Some(Event { name: name.clone(), data: data.clone() }), None);
            }
        }
        (None, inbox.closed.clone())
    }

    /// Keeps a frame and answers whoever waits for it. True at the end of the connection.
    fn take(&self, incoming: Incoming) -> (usize, bool) {
        let mut inbox = self.lock();
        match &incoming {
            Incoming::Reply { reference, outcome } => {
                if let Some(waiting) = inbox.waiting.remove(reference) {
                    // Whoever no longer waits finds the reply in the log.
                    let _taken = waiting.send(outcome.clone());
                }
            }
            Incoming::Closed(closed) => {
                inbox.closed = Some(closed.clone());
                inbox.waiting.clear();
            }
            Incoming::Event { .. } | Incoming::Faulty(_) => {}
        }
        inbox.log.push(incoming);
        (inbox.log.len(), inbox.closed.is_some())
    }
}

async fn read(mut wire: Wire, received: Arc<Received>, growing: watch::Sender<usize>) {
    loop {
        let (length, ended) = received.take(wire.recv().await);
        growing.send_replace(length);
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
