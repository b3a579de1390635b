//! Every message is offered again: at once, twenty minutes later, after a restart. It stands once.
//!
//! The server runs in this process, so that its clock can be set forward.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use gateway::config::GatewaySettings;
use gateway::server::Server;
use harness::client::ClientError;
use harness::rows::read_sqlite;
use harness::wire::{Accepted, Page};
use harness::{Client, Position, Proof, unique_id};
use serde_json::json;
use shared::process::clock::Clock;
use shared::process::settings::{self, Sources};
use uuid::{NoContext, Timestamp, Uuid};

use crate::fixtures::{SOON, accepted, assert_once, heard, offer, until_heard};

const MINUTE: Duration = Duration::from_secs(60);

/// A server in this process, with its folder and its clock.
struct Running {
    server: Server,
    clock: Clock,
    folder: tempfile::TempDir,
}

impl Running {
    async fn start() -> Running {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let server = serve(folder.path(), &clock).await;
        Running { server, clock, folder }
    }

    async fn restart(self) -> Running {
        assert!(self.server.drain().await, "it leaves in order");
        let server = serve(self.folder.path(), &self.clock).await;
        Running { server, ..self }
    }

    async fn client(&self, user: &str) -> Client {
        let url = format!("ws://{}/ws", self.server.address());
        Client::connect(&url, &Proof::user(user)).await.unwrap()
    }

    /// A connection that is in these rooms.
    async fn member(&self, user: &str, rooms: &[&str]) -> Client {
        let client = self.client(user).await;
        for room in rooms {
            client.join(room, None).await.unwrap();
        }
        client
    }

    /// A `UUIDv7` of a moment so many milliseconds from now, by the server's clock.
    /// To the minute.
    fn assert_is_now(&self, time: &str) {
        let told_ms = shared::contract::timestamp::Timestamp::parse(time).unwrap().0;
        assert!((told_ms - self.clock.now_ms()).abs() < 60_000, "{time}");
    }

    fn id_at(&self, offset_ms: i64) -> String {
        let at_ms = u64::try_from(self.clock.now_ms() + offset_ms).unwrap();
        let nanos = u32::try_from(at_ms % 1000).unwrap() * 1_000_000;
        Uuid::new_v7(Timestamp::from_unix(NoContext, at_ms / 1000, nanos)).to_string()
    }
}

async fn serve(folder: &Path, clock: &Clock) -> Server {
    let sources = Sources::from_map(&[
        ("PORT", "0"),
        ("ROOMCAST_OPERATOR_PORT", "0"),
        ("ROOMCAST_DATA_DIR", folder.to_str().unwrap()),
        ("WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", "1000000"),
        ("WEBSOCKET_RATE_LIMIT_ROOM_JOIN", "1000000"),
    ]);
    let settings: GatewaySettings = settings::load(&sources).unwrap();
    Server::start(settings, clock.clone(), |_, _| ()).await.unwrap()
}

/// Offers every id once more; each is answered as a duplicate at the place it has.
async fn offer_again(client: &Client, room: &str, places: &BTreeMap<String, Position>) {
    let ids: Vec<String> = places.keys().cloned().collect();
    for (id, reply) in ids.iter().zip(offer(client, room, &ids).await) {
        let Accepted { position, duplicate, persisted, .. } = accepted(reply).await;
        assert_eq!((position, duplicate, persisted), (Some(places[id]), true, true), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_offered_at_once_much_later_and_after_a_restart_stands_once() {
    let running = Running::start().await;
    let first = running.member("alice", &["r"]).await;
    let second = running.member("alice", &["r"]).await;
    let mut bob = running.member("bob", &["r"]).await;
    let ids: Vec<String> = (0..200).map(|_| unique_id()).collect();

    // At once: twice on one connection, once on another of the same user.
    let mut offers = Vec::new();
    for id in &ids {
        let one = std::slice::from_ref(id);
        let mut three = offer(&first, "r", one).await;
        three.extend(offer(&second, "r", one).await);
        three.extend(offer(&first, "r", one).await);
        offers.push(three);
    }
    let mut places = BTreeMap::new();
    for (id, three) in ids.iter().zip(offers) {
        let mut fresh = 0;
        for reply in three {
            let reply = accepted(reply).await;
            fresh += usize::from(!reply.duplicate);
            let place = *places.entry(id.clone()).or_insert(reply.position.unwrap());
            assert_eq!(reply.position, Some(place), "{id}");
        }
        assert_eq!(fresh, 1, "{id} is new exactly once");
    }

    running.clock.advance(20 * MINUTE);
    offer_again(&first, "r", &places).await;
    // A fresh message goes on in the room's order, though the log has forgotten the room.
    let end = unique_id();
    let at = first.send("r", &end, "end").await.unwrap().position.unwrap();
    assert_eq!(at, Position { seq: 201, ..places[&ids[0]] });
    until_heard(&mut bob, &end).await;
    let seen = heard(&bob, "r");
    assert_eq!(seen.len(), 201);
    assert_once("bob's view", seen.iter().map(|(_, id)| id.as_str()));

    let running = running.restart().await;
    let alice = running.member("alice", &["r"]).await;
    let mut bob = running.member("bob", &["r"]).await;
    offer_again(&alice, "r", &places).await;
    running.clock.advance(20 * MINUTE);
    offer_again(&alice, "r", &places).await;
    let last = unique_id();
    alice.send("r", &last, "last").await.unwrap();
    until_heard(&mut bob, &last).await;
    assert_eq!(heard(&bob, "r").len(), 1, "nothing old is shown again");
    let rows = read_sqlite(running.folder.path()).unwrap();
    assert_eq!(rows.len(), 202);
    for (id, place) in &places {
        assert!(rows.iter().any(|row| row.id == *id && row.position() == *place), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_with_other_content_is_a_conflict_as_long_as_the_log_remembers_it() {
    let running = Running::start().await;
    let alice = running.member("alice", &["r"]).await;
    let id = unique_id();
    let place = alice.send("r", &id, "one thing").await.unwrap().position;
    let other = alice.send("r", &id, "another").await.unwrap_err();
    assert_eq!(other.code(), Some("conflict"));
    let typed = json!({ "roomId": "r", "id": id, "content": "one thing", "metadata": { "a": 1 } });
    let other = alice.command("message:send", typed).await.unwrap_err();
    assert_eq!(other.code(), Some("conflict"));

    // Later only room and sender are compared: the first content stands.
    running.clock.advance(20 * MINUTE);
    let later = alice.send("r", &id, "another").await.unwrap();
    assert_eq!((later.position, later.duplicate), (place, true));
    let page = alice.history("r", json!({})).await.unwrap();
    assert_eq!(page.messages.len(), 1);
    assert_eq!(page.messages[0].content, "one thing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_of_another_user_or_in_another_room_is_another_message() {
    let running = Running::start().await;
    let id = unique_id();
    let mut alice = running.member("alice", &["r", "s"]).await;
    let bob = running.member("bob", &["r"]).await;
    let mine = alice.send("r", &id, "alice in r").await.unwrap();
    let elsewhere = alice.send("s", &id, "alice in s").await.unwrap();
    let bobs = bob.send("r", &id, "bob in r").await.unwrap();
    let all = [&mine, &elsewhere, &bobs];
    assert!(all.iter().all(|accepted| !accepted.duplicate && accepted.id == id));
    until_heard(&mut alice, &id).await;

    let running = running.restart().await;
    let alice = running.member("alice", &["r", "s"]).await;
    let bob = running.member("bob", &["r"]).await;
    let again = [
        alice.send("r", &id, "alice in r").await.unwrap(),
        alice.send("s", &id, "alice in s").await.unwrap(),
        bob.send("r", &id, "bob in r").await.unwrap(),
    ];
    for (again, before) in again.iter().zip(all) {
        assert_eq!((again.duplicate, again.position), (true, before.position));
    }
    let said = |page: Page| -> Vec<(String, String)> {
        page.messages.into_iter().map(|message| (message.id, message.content)).collect()
    };
    let in_r = said(alice.history("r", json!({})).await.unwrap());
    assert_eq!(in_r, [(id.clone(), "alice in r".into()), (id.clone(), "bob in r".into())]);
    let in_s = said(alice.history("s", json!({})).await.unwrap());
    assert_eq!(in_s, [(id.clone(), "alice in s".into())]);
    // In the table an id stands once; the two that came later have one derived from it.
    let rows = read_sqlite(running.folder.path()).unwrap();
    assert_eq!(rows.len(), 3);
    assert_once("the table", rows.iter().map(|row| row.id.as_str()));
    let own = rows.iter().find(|row| row.id == id).unwrap();
    assert_eq!(own.content, "alice in r");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_from_the_future_is_refused_and_one_just_ahead_is_never_forgotten() {
    let running = Running::start().await;
    let alice = running.member("alice", &["r"]).await;
    let far = alice.send("r", &running.id_at(5 * 60_000 + 2000), "too early").await.unwrap_err();
    assert_eq!(far.code(), Some("bad_id"));
    let ClientError::Refused(far) = far else { unreachable!("it has a code") };
    running.assert_is_now(&far.server_time.unwrap());
    // A client whose clock is wrong learns the time before it makes its first id.
    running.assert_is_now(alice.welcome()["serverTime"].as_str().unwrap());

    let ahead = running.id_at(5 * 60_000 - 1000);
    let place = alice.send("r", &ahead, "a little early").await.unwrap().position;
    // At no moment may both the log have forgotten it and the database not be asked.
    for _ in 0..32 {
        running.clock.advance(MINUTE / 2);
        let again = alice.send("r", &ahead, "a little early").await.unwrap();
        assert_eq!((again.position, again.duplicate), (place, true));
    }
    // An id that tells no time is looked up, whatever its age.
    let named = alice.send("r", "a-name", "named").await.unwrap().position;
    running.clock.advance(20 * MINUTE);
    let again = alice.send("r", "a-name", "named").await.unwrap();
    assert_eq!((again.position, again.duplicate), (named, true));
    assert_eq!(read_sqlite(running.folder.path()).unwrap().len(), 2);
    assert!(tokio::time::timeout(SOON, running.server.drain()).await.unwrap());
}
