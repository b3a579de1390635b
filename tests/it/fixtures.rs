//! What several scenarios need: talks of many people, floods of one, the rows, the file itself.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on these")]

pub(crate) mod one_gateway;

use std::collections::BTreeSet;
use std::time::Duration;

use fleet::{Fleet, GatewayNode, GatewayOptions};
use harness::client::Pending;
use harness::rows::read_sqlite;
use harness::wire::{Accepted, Incoming, Since};
use harness::{Client, Position, Proof, Row, SimClient, SimClientOptions, eventually, unique_id};
use rusqlite::Connection;
use serde::Deserialize;
use serde_json::json;

/// Longer than anything takes on a machine that does other things as well.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The database refuses every row that says `poison`.
pub(crate) const POISON: &str = "CREATE TRIGGER poison BEFORE INSERT ON team_chat_messages
    WHEN NEW.content LIKE '%poison%' BEGIN SELECT RAISE(ABORT, 'poison is refused'); END";

/// One gateway with `--dev`, ready.
pub(crate) async fn gateway() -> Fleet {
    Fleet::embedded(GatewayOptions::default()).await.unwrap()
}

/// A connection of `user`, welcomed.
pub(crate) async fn client(gateway: &GatewayNode, user: &str) -> Client {
    Client::connect(&gateway.ws_url(), &Proof::user(user)).await.unwrap()
}

/// Every message in the gateway's database, which may be running or not.
pub(crate) fn rows(gateway: &GatewayNode) -> rusqlite::Result<Vec<Row>> {
    read_sqlite(gateway.data_dir())
}

/// The messages of one room in the database's order.
pub(crate) fn rows_of(gateway: &GatewayNode, room: &str) -> Vec<Row> {
    let all = rows(gateway).unwrap();
    all.into_iter().filter(|row| row.room == room).collect()
}

/// The file of a gateway that may be running, to do to it what an operator's shell could do.
pub(crate) fn database(gateway: &GatewayNode) -> Connection {
    let database = Connection::open(gateway.data_dir().join("roomcast.db")).unwrap();
    database.busy_timeout(SOON).unwrap();
    database
}

/// People in rooms, each in one, who all say what they have to say as fast as they can.
pub(crate) struct Crowd {
    pub(crate) chatters: Vec<SimClient>,
    rooms: Vec<String>,
}

impl Crowd {
    /// `people` in each of `rooms` rooms of a gateway, all of them in.
    pub(crate) async fn begin(gateway: &GatewayNode, rooms: usize, people: usize) -> Crowd {
        let rooms: Vec<String> = (0..rooms).map(|room| format!("room-{room}")).collect();
        let chatters = (0..people * rooms.len()).map(|number| {
            let room = &rooms[number % rooms.len()];
            let user = format!("user-{number}");
            let options = SimClientOptions::new(&user, &gateway.ws_url(), &[room]);
            SimClient::start(SimClientOptions { whole_history: true, ..options })
        });
        let chatters: Vec<SimClient> = chatters.collect();
        for chatter in &chatters {
            chatter.settled_in(SOON).await;
        }
        Crowd { chatters, rooms }
    }

    /// The room of a chatter.
    pub(crate) fn room(&self, chatter: usize) -> &str {
        &self.rooms[chatter % self.rooms.len()]
    }

    /// Each says `count` things.
    pub(crate) fn say(&self, count: usize) {
        for (number, chatter) in self.chatters.iter().enumerate() {
            for text in 0..count {
                chatter.say(self.room(number), &format!("text {text} of {number}"));
            }
        }
    }

    /// How many messages are acked, each counted once.
    pub(crate) fn acked(&self) -> usize {
        self.chatters.iter().map(|chatter| chatter.look(|record| record.acked.len())).sum()
    }

    /// How many messages their senders know to be in the database. A message may be among them
    /// whose ack was lost with the connection: its sender found it in the room afterwards.
    pub(crate) fn persisted(&self) -> usize {
        self.chatters.iter().map(|chatter| chatter.look(|record| record.persisted.len())).sum()
    }

    /// Waits until so many messages are known to be in the database.
    pub(crate) async fn until_persisted(&self, count: usize) {
        let enough = || async {
            let persisted = self.persisted();
            if persisted >= count {
                return Ok(());
            }
            let late = self.chatters.iter().filter(|chatter| chatter.unpersisted() > 0);
            let late: Vec<String> = late.map(SimClient::summary).collect();
            Err(format!("{persisted} of {count} are persisted:\n  {}", late.join("\n  ")))
        };
        eventually(SOON, "the talk goes on", enough).await;
    }

    /// Waits until everything is persisted and every promise holds.
    pub(crate) async fn ends_well(&self, gateway: &GatewayNode, expect: harness::Expect) {
        for chatter in &self.chatters {
            chatter.all_persisted(SOON).await;
        }
        let read = || rows(gateway);
        harness::checker::assert_kept(SOON, &self.chatters, expect, read).await;
    }

    /// How often somebody was told to read a room anew.
    pub(crate) fn resets(&self) -> u64 {
        self.chatters.iter().map(|chatter| chatter.look(|record| record.resets())).sum()
    }
}

/// What a client was told is in the database, in the order in which it was told.
pub(crate) fn told_persisted(client: &Client) -> Vec<String> {
    let told = client.log().into_iter().filter_map(|incoming| match incoming {
        Incoming::Event { name, data } if name == "message:persisted" => {
            Some(Vec::<String>::deserialize(&data["ids"]).unwrap())
        }
        Incoming::Event { .. } | Incoming::Reply { .. } => None,
        Incoming::Faulty(_) | Incoming::Closed(_) => None,
    });
    told.flatten().collect()
}

/// Waits until a client was told that all of this is in the database.
pub(crate) async fn until_told_persisted(client: &Client, ids: &[&str]) {
    let told = || async {
        let told = told_persisted(client);
        let late = ids.iter().find(|id| !told.iter().any(|told| told == *id));
        late.map_or(Ok(()), |late| Err(format!("{late} is not among {told:?}")))
    };
    eventually(SOON, "the client is told that it is persisted", told).await;
}

/// Sends something, and waits for nothing.
pub(crate) async fn say(client: &Client, room: &str, content: &str) -> (String, Pending) {
    let id = unique_id();
    let data = json!({ "roomId": room, "id": id, "content": content });
    (id, client.send_nowait("message:send", data).await)
}

/// Waits until something, or nothing, waits for the database.
async fn lag_is(gateway: &GatewayNode, wanted: bool) {
    let lag = || async {
        let metrics = gateway.metrics().await.map_err(|error| error.to_string())?;
        let entries = metrics.sum("roomcast_sync_log_lag_entries");
        if (entries > 0.0) == wanted { Ok(()) } else { Err(format!("{entries} entries wait")) }
    };
    eventually(SOON, "the log is as it should be", lag).await;
}

/// Sends all of this while the database is held up, so that it arrives there in one batch.
///
/// One message goes ahead and waits for the database; what is said behind it gathers. A heartbeat
/// that is answered proves that everything before it on the connection is in line.
pub(crate) async fn in_one_batch(
    gateway: &GatewayNode,
    client: &Client,
    room: &str,
    contents: &[&str],
) -> Vec<(String, Pending)> {
    // The gauge is measured now and then: what it says must be about this message.
    lag_is(gateway, false).await;
    let held = database(gateway);
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (_, plug) = say(client, room, "ahead").await;
    lag_is(gateway, true).await;
    let mut said = Vec::new();
    for content in contents {
        said.push(say(client, room, content).await);
    }
    client.command("heartbeat", json!({})).await.unwrap();
    held.execute_batch("COMMIT").unwrap();
    accepted(plug).await;
    said
}

/// Sends a message under each of these ids, without waiting in between; the content is the id.
pub(crate) async fn offer(client: &Client, room: &str, ids: &[String]) -> Vec<Pending> {
    let mut pending = Vec::with_capacity(ids.len());
    for id in ids {
        let data = json!({ "roomId": room, "id": id, "content": id });
        pending.push(client.send_nowait("message:send", data).await);
    }
    pending
}

/// The reply to a message that has to be accepted.
pub(crate) async fn accepted(reply: Pending) -> Accepted {
    Accepted::deserialize(reply.reply(SOON).await.unwrap()).unwrap()
}

/// Sends `count` messages without waiting in between, and gives their replies in that order.
pub(crate) async fn flood(client: &Client, room: &str, count: usize) -> Vec<Accepted> {
    let ids: Vec<String> = (0..count).map(|_| unique_id()).collect();
    let mut all = Vec::with_capacity(count);
    for reply in offer(client, room, &ids).await {
        all.push(accepted(reply).await);
    }
    all
}

/// The cursor of somebody who got this last.
pub(crate) fn since(accepted: &Accepted) -> Since {
    Since { position: accepted.position.unwrap(), message_id: accepted.id.clone() }
}

/// What of a room's new messages came as events, in the order they came.
pub(crate) fn heard(client: &Client, room: &str) -> Vec<(Position, String)> {
    client.log().iter().filter_map(|incoming| new_message(incoming, room)).collect()
}

/// The place and the id of a `message:new` of that room.
pub(crate) fn new_message(incoming: &Incoming, room: &str) -> Option<(Position, String)> {
    let Incoming::Event { name, data } = incoming else { return None };
    if name != "message:new" || data["roomId"] != room {
        return None;
    }
    let position = Position::deserialize(&data["position"]).unwrap();
    Some((position, data["id"].as_str().unwrap().to_owned()))
}

/// Whether this is an event of that name.
pub(crate) fn is_event(incoming: &Incoming, wanted: &str) -> bool {
    matches!(incoming, Incoming::Event { name, .. } if name == wanted)
}

/// Waits until a client has heard of an id in a room.
pub(crate) async fn until_heard(client: &mut Client, id: &str) {
    loop {
        let message = client.wait_for("message:new", SOON).await.unwrap();
        if message["id"] == id {
            return;
        }
    }
}

/// Panics where something comes twice.
pub(crate) fn assert_once<'a>(what: &str, ids: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    for id in ids {
        assert!(seen.insert(id), "{what}: {id} comes twice");
    }
}
