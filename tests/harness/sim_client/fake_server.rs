//! A small server with the protocol of a gateway, and faults on demand: it shows that chatter and
//! checker work before, and without, the real one.

use crate::rows::Row;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// Each happens every so many times; 0 is never.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// A command ends its connection instead of being answered, after it took effect.
    pub(super) cut: usize,
    /// A send is refused for now.
    pub(super) refuse: usize,
    /// A resume is answered with `reset`.
    pub(super) reset: usize,
    /// A publication is lost for one member.
    pub(super) lose: usize,
    /// A send forgets that the id is known.
    pub(super) double: usize,
}

#[derive(Debug, Default)]
pub(super) struct StandIn {
    rooms: Mutex<BTreeMap<String, Room>>,
    faults: Faults,
    count: [AtomicUsize; 5],
}

#[derive(Debug, Default)]
struct Room {
    rows: Vec<Row>,
    members: Vec<mpsc::Sender<String>>,
}

/// Starts one; returns it and its address.
pub(super) async fn start(faults: Faults) -> (Arc<StandIn>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let server = Arc::new(StandIn { faults, ..StandIn::default() });
    let accepting = Arc::clone(&server);
    tokio::spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            tokio::spawn(Arc::clone(&accepting).serve(stream));
        }
    });
    (server, url)
}

impl StandIn {
    pub(super) fn rows(&self) -> Vec<Row> {
        self.rooms.lock().unwrap().values().flat_map(|room| room.rows.clone()).collect()
    }

    fn is_due(&self, which: usize, every: usize) -> bool {
        every > 0 && self.count[which].fetch_add(1, Ordering::Relaxed) % every == every - 1
    }

    #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut user = String::new();
        let accept = |request: &Request, mut response: Response| {
            user = request.uri().query().unwrap().trim_start_matches("user=").to_owned();
            let protocol = request.headers()["sec-websocket-protocol"].clone();
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            Ok(response)
        };
        let mut socket = accept_hdr_async(stream, accept).await.unwrap();
        let (outgoing, mut queue) = mpsc::channel::<String>(100_000);
        let welcome = json!({ "event": "welcome", "data": { "userId": user } });
        outgoing.try_send(welcome.to_string()).unwrap();
        loop {
            tokio::select! {
                Some(text) = queue.recv() => {
                    if socket.send(Message::text(text)).await.is_err() { return }
                }
                frame = socket.next() => {
                    let Some(Ok(Message::Text(text))) = frame else { return };
                    let command: Value = serde_json::from_str(text.as_str()).unwrap();
                    self.answer(&user, &command, &outgoing);
                    if self.is_due(0, self.faults.cut) { return }
                }
            }
        }
    }

    fn answer(&self, user: &str, command: &Value, outgoing: &mpsc::Sender<String>) {
        let data = &command["data"];
        let mut rooms = self.rooms.lock().unwrap();
        let name = data["roomId"].as_str().unwrap_or_default();
        let room = rooms.entry(name.to_owned()).or_default();
        let answer = match command["event"].as_str().unwrap() {
            "room:join" => self.join(room, name, data, outgoing),
            "room:leave" => {
                room.members.retain(|member| !member.same_channel(outgoing));
                json!({ "data": {} })
            }
            "message:send" => self.send(room, user, data, outgoing),
            "history:get" => {
                let before = data["before"]["seq"].as_u64().unwrap();
                let older: Vec<&Row> = room.rows.iter().filter(|row| row.seq < before).collect();
                let page = &older[older.len().saturating_sub(10)..];
                let messages: Vec<Value> = page.iter().map(|row| message(row)).collect();
                json!({ "data": { "messages": messages, "hasMore": older.len() > page.len() } })
            }
            _ => json!({ "data": {} }),
        };
        let mut reply = json!({ "event": "reply", "ref": command["ref"] });
        reply.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        let _gone = outgoing.try_send(reply.to_string());
    }

    fn join(
        &self,
        room: &mut Room,
        name: &str,
        data: &Value,
        outgoing: &mpsc::Sender<String>,
    ) -> Value {
        room.members.retain(|member| !member.is_closed() && !member.same_channel(outgoing));
        room.members.push(outgoing.clone());
        let since = data["since"]["seq"].as_u64();
        let reset = since.is_some() && self.is_due(2, self.faults.reset);
        let from = match since {
            Some(seq) if !reset => usize::try_from(seq).unwrap(),
            _ => room.rows.len().saturating_sub(20),
        };
        let head = json!({ "epoch": 1, "seq": room.rows.len() });
        let messages: Vec<Value> = room.rows[from..].iter().map(message).collect();
        let recovered = since.is_some() && !reset;
        // Nothing is called persisted here, so that everything not yet answered is offered again.
        let persisted = json!({ "epoch": 1, "seq": 0 });
        let has_more = !recovered && from > 0;
        json!({ "data": { "roomId": name, "messages": messages, "head": head,
                          "persisted": persisted, "recovered": recovered, "reset": reset,
                          "hasMore": has_more } })
    }

    fn send(
        &self,
        room: &mut Room,
        user: &str,
        data: &Value,
        outgoing: &mpsc::Sender<String>,
    ) -> Value {
        if self.is_due(1, self.faults.refuse) {
            return json!({ "error": { "code": "backpressure", "message": "", "retryAfterMs": 5 } });
        }
        let known = room.rows.iter().find(|row| row.id == data["id"]);
        let known = known.filter(|_| !self.is_due(4, self.faults.double));
        let (position, duplicate) = match known {
            Some(row) => (row.position(), true),
            None => {
                let field = |name: &str| data[name].as_str().unwrap().to_owned();
                let (room_id, id, content) = (field("roomId"), field("id"), field("content"));
                let (user, seq) = (user.to_owned(), room.rows.len() as u64 + 1);
                let row = Row { room: room_id, epoch: 1, seq, id, user, content };
                self.publish(room, &json!({ "event": "message:new", "data": message(&row) }));
                let position = row.position();
                room.rows.push(row);
                (position, false)
            }
        };
        let up_to = json!({ "roomId": data["roomId"], "upTo": position, "ids": [data["id"]] });
        let told = json!({ "event": "message:persisted", "data": up_to }).to_string();
        let _gone = outgoing.try_send(told);
        json!({ "data": { "id": data["id"], "position": position, "duplicate": duplicate,
                          "persisted": false, "durability": "log" } })
    }

    fn publish(&self, room: &mut Room, event: &Value) {
        for member in &room.members {
            if !self.is_due(3, self.faults.lose) {
                let _gone = member.try_send(event.to_string());
            }
        }
    }
}

fn message(row: &Row) -> Value {
    json!({ "roomId": row.room, "id": row.id, "userId": row.user, "type": "user",
            "content": row.content, "metadata": {}, "createdAt": "2026-11-22T17:04:05.123Z",
            "position": row.position() })
}
