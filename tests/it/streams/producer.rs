//! Somebody who writes an answer, and what somebody else sees of it.

use fleet::Fleet;
use harness::client::{ClientError, Pending};
use harness::{Client, Proof, eventually, unique_id};
use serde_json::{Value, json};

use super::events;
use crate::fixtures::SOON;

/// Appends that are under way at a time.
const UNDER_WAY_MAX: usize = 200;

/// A producer in one room, who is `bot`.
pub(crate) struct Producer {
    pub(crate) client: Client,
    pub(crate) room: String,
    pub(crate) id: String,
    /// What was appended.
    pub(crate) text: String,
    under_way: Vec<Pending>,
}

impl Producer {
    /// Joins and begins.
    pub(crate) async fn begin(fleet: &Fleet, room: &str) -> Producer {
        Producer::at(&fleet.gateway().ws_url(), room).await
    }

    pub(crate) async fn at(url: &str, room: &str) -> Producer {
        let client = connected(url, room).await;
        let (room, id) = (room.to_owned(), unique_id());
        let producer = Producer { client, room, id, text: String::new(), under_way: Vec::new() };
        assert_eq!(producer.start().await.unwrap(), 0);
        producer
    }

    /// Another connection in place of the one before.
    pub(crate) async fn reconnect(&mut self, url: &str) {
        self.client = connected(url, &self.room).await;
    }

    /// Where to go on.
    pub(crate) async fn start(&self) -> Result<u64, ClientError> {
        let data = json!({ "roomId": self.room, "id": self.id, "metadata": { "model": "small" } });
        let started = self.client.command("message:stream:start", data).await?;
        Ok(started["offset"].as_u64().unwrap())
    }

    /// Goes on, and waits for the answer.
    pub(crate) async fn append(&mut self, delta: &str) {
        let offset = units(&self.text);
        let appended = self.append_at(offset, delta).await.unwrap();
        self.text.push_str(delta);
        assert_eq!(appended, units(&self.text));
    }

    /// Offers a delta for some place.
    pub(crate) async fn append_at(&self, offset: u64, delta: &str) -> Result<u64, ClientError> {
        let data = self.delta(offset, delta);
        let appended = self.client.command("message:stream:append", data).await?;
        Ok(appended["offset"].as_u64().unwrap())
    }

    /// Goes on without waiting.
    pub(crate) async fn append_nowait(&mut self, delta: &str) {
        let data = self.delta(units(&self.text), delta);
        self.under_way.push(self.client.send_nowait("message:stream:append", data).await);
        self.text.push_str(delta);
        if self.under_way.len() >= UNDER_WAY_MAX {
            self.settled().await;
        }
    }

    /// Waits for the answers to all that was not waited for.
    pub(crate) async fn settled(&mut self) {
        for pending in self.under_way.drain(..) {
            pending.reply(SOON).await.unwrap();
        }
    }

    pub(crate) async fn end(&self, mut data: Value) -> Result<Value, ClientError> {
        data["roomId"] = json!(self.room);
        data["id"] = json!(self.id);
        self.client.command("message:stream:end", data).await
    }

    fn delta(&self, offset: u64, delta: &str) -> Value {
        json!({ "roomId": self.room, "id": self.id, "delta": delta, "offset": offset })
    }
}

async fn connected(url: &str, room: &str) -> Client {
    let client = Client::connect(url, &Proof::user("bot")).await.unwrap();
    client.join(room, None).await.unwrap();
    client
}

/// A text's length as JavaScript counts it.
pub(crate) fn units(text: &str) -> u64 {
    text.encode_utf16().count() as u64
}

/// What a client was told of one answer while it was written.
pub(crate) struct Parts<'a> {
    client: &'a Client,
    id: &'a str,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(client: &'a Client, id: &'a str) -> Parts<'a> {
        Parts { client, id }
    }

    /// The data of every part so far.
    pub(crate) fn all(&self) -> Vec<Value> {
        let parts = events(self.client, "message:stream").into_iter();
        parts.filter(|data| data["id"] == self.id).collect()
    }

    /// The text, put together as the protocol says, and the last state. A hole is an error; the
    /// whole text at offset 0 would mend it.
    fn joined(&self) -> Result<(String, String), String> {
        let mut text: Vec<u16> = Vec::new();
        let mut state = "none".to_owned();
        let mut hole = None;
        for part in self.all() {
            let offset = usize::try_from(part["offset"].as_u64().unwrap()).unwrap();
            let delta: Vec<u16> = part["delta"].as_str().unwrap().encode_utf16().collect();
            state = part["state"].as_str().unwrap().to_owned();
            if offset > text.len() {
                hole = Some(format!("a hole from {} to {offset}", text.len()));
            } else if offset + delta.len() > text.len() {
                text.truncate(offset);
                text.extend(delta);
                hole = hole.filter(|_| offset > 0);
            }
        }
        match hole {
            Some(hole) => Err(hole),
            None => Ok((String::from_utf16(&text).unwrap(), state)),
        }
    }

    /// Waits for the whole of a text; gives the state then.
    pub(crate) async fn until(&self, wanted: &str) -> String {
        let there = || async {
            let (text, state) = self.joined()?;
            if text == wanted { Ok(state) } else { Err(format!("{:?} so far", tail(&text))) }
        };
        eventually(SOON, "the text has come", there).await
    }

    /// Waits for a state.
    pub(crate) async fn until_state(&self, wanted: &str) {
        let there = || async {
            let (_, state) = self.joined()?;
            if state == wanted { Ok(()) } else { Err(state) }
        };
        eventually(SOON, "the state is told", there).await;
    }

    /// How many parts there were, and how many bytes of JSON.
    pub(crate) fn cost(&self) -> (usize, usize) {
        let parts = self.all();
        let frame = |data: &Value| json!({ "event": "message:stream", "data": data }).to_string();
        (parts.len(), parts.iter().map(|data| frame(data).len()).sum())
    }
}

fn tail(text: &str) -> &str {
    &text[text.floor_char_boundary(text.len().saturating_sub(40))..]
}

/// Waits for the message that an answer became.
pub(crate) async fn message_of(client: &mut Client, id: &str) -> Value {
    loop {
        let message = client.wait_for("message:new", SOON).await.unwrap();
        if message["id"] == id {
            return message;
        }
    }
}
