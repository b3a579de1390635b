//! A client that does everything a good client library does, and keeps a record for the checker.
//!
//! A chatter stays connected (to one address after the other), joins its rooms from its cursor,
//! starts anew when it is told `reset`, keeps every message until it is persisted and offers it
//! again under the same id after a reconnect. What it shows is what a user would see: events are
//! put on the screen as they come, so that a fault of the server stays visible.

mod life;
mod rooms;
mod outbox;
mod record;

pub use record::{Ack, Entry, Record, Sent, View};

use crate::eventually::eventually;
use crate::identity::unique_id;
use crate::wire::{Accepted, Proof, Refused};
use life::Life;
use outbox::Outbox;
use rooms::{Desk, Room, Stage};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// How a chatter behaves.
#[derive(Debug, Clone)]
pub struct SimClientOptions {
    /// Who it is; the server must agree.
    pub user: String,
    /// How it says so.
    pub proof: Proof,
    /// Addresses of `/ws`, tried in turn.
    pub urls: Vec<String>,
    /// The rooms it joins at once.
    pub rooms: Vec<String>,
    /// How many messages may be without a reply at a time.
    pub in_flight_max: usize,
    /// How many messages a join asks for.
    pub join_limit: u64,
    /// Whether the first join reads a room back to its start. After a reset it always does.
    pub whole_history: bool,
    /// A connection on which nothing comes for so long is given up; after half of it, a
    /// heartbeat asks for a sign of life.
    pub silence_max: Duration,
    /// How long a reply may take on a connection that lives otherwise.
    pub reply_within: Duration,
    /// A message accepted so long ago and not called persisted is offered again.
    pub offer_again_after: Duration,
}

impl SimClientOptions {
    /// A user of a gateway with `--dev`.
    pub fn new(user: &str, url: &str, rooms: &[&str]) -> SimClientOptions {
        SimClientOptions {
            user: user.to_owned(),
            proof: Proof::user(user),
            urls: vec![url.to_owned()],
            rooms: rooms.iter().map(|room| (*room).to_owned()).collect(),
            in_flight_max: 64,
            join_limit: 200,
            whole_history: false,
            silence_max: Duration::from_secs(10),
            reply_within: Duration::from_secs(30),
            offer_again_after: Duration::from_secs(10),
        }
    }
}

/// A running chatter. Dropping it drops its socket without a close frame.
#[derive(Debug)]
pub struct SimClient {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What the task and the test share. Both look at states, so no order can be missed.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    record: Record,
    outbox: Outbox,
    rooms: BTreeMap<String, Room>,
    wanted: BTreeSet<String>,
    urls: Urls,
    cut: bool,
}

#[derive(Debug, Default)]
struct Urls(Vec<String>);

impl SimClient {
    /// Starts one on the current runtime.
    pub fn start(options: SimClientOptions) -> SimClient {
        let mut state = State { urls: Urls(options.urls.clone()), ..State::default() };
        state.record.user.clone_from(&options.user);
        state.wanted.extend(options.rooms.iter().cloned());
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Notify::new(),
            version: watch::Sender::new(0),
        });
        let task = tokio::spawn(Life::new(options, Arc::clone(&shared)).run());
        SimClient { shared, task }
    }

    /// Says something in a room, now or when it can; returns the id.
    pub fn say(&self, room: &str, content: &str) -> String {
        let id = unique_id();
        self.say_as(room, &id, content);
        id
    }

    /// Says something under an id of the caller's choice.
    pub fn say_as(&self, room: &str, id: &str, content: &str) {
        let mut state = self.shared.lock();
        let State { record, outbox, .. } = &mut *state;
        let (room, id, content) = (room.to_owned(), id.to_owned(), content.to_owned());
        outbox.say(record, Sent { room, id, content });
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Joins one more room.
    pub fn join(&self, room: &str) {
        self.shared.lock().wanted.insert(room.to_owned());
        self.shared.wake.notify_one();
    }

    /// Leaves a room; its view stays as it is.
    pub fn leave(&self, room: &str) {
        self.shared.lock().wanted.remove(room);
        self.shared.wake.notify_one();
    }

    /// Drops the connection without a word; the chatter comes back by itself.
    pub fn cut(&self) {
        self.shared.lock().cut = true;
        self.shared.wake.notify_one();
    }

    /// Other addresses, from the next connection on.
    pub fn set_urls(&self, urls: Vec<String>) {
        self.shared.lock().urls = Urls(urls);
    }

    /// Looks at the record in place.
    pub fn look<T>(&self, at: impl FnOnce(&Record) -> T) -> T {
        at(&self.shared.lock().record)
    }

    /// A copy of the record.
    pub fn record(&self) -> Record {
        self.look(Record::clone)
    }

    /// How many of its messages are not known to be persisted, refused or rejected.
    pub fn unpersisted(&self) -> usize {
        self.shared.lock().outbox.kept()
    }

    /// Whether it is in all its rooms on a living connection, with nothing older left to be read.
    pub fn is_settled_in(&self) -> bool {
        let state = self.shared.lock();
        state.wanted.iter().all(|name| {
            let room = state.rooms.get(name);
            room.is_some_and(|room| room.stage == Stage::Live && room.unread_before.is_none())
        })
    }

    /// Waits until it is in all its rooms.
    pub async fn settled_in(&self, within: Duration) {
        let what = format!("{} is in its rooms", self.look(|record| record.user.clone()));
        eventually(within, &what, || async { self.is_settled_in() }).await;
    }

    /// Waits until everything it was told to say is in the database.
    pub async fn all_persisted(&self, within: Duration) {
        let what = format!("{} is persisted", self.look(|record| record.user.clone()));
        let left = || async {
            match self.unpersisted() {
                0 => Ok(()),
                left => Err(format!("{left} messages are not; {}", self.summary())),
            }
        };
        eventually(within, &what, left).await;
    }

    /// Told whenever the record may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// One line about where it stands, for messages of failed tests.
    pub fn summary(&self) -> String {
        self.look(|record| {
            let seen: usize = record.views.values().map(|view| view.entries.len()).sum();
            format!(
                "{}: {} said, {} acked, {} persisted, {} refused, {seen} seen, {} connections, \
                 {} resets, retried {:?}, closes {:?}, faults {:?}",
                record.user,
                record.sent.len(),
                record.acked.len(),
                record.persisted.len(),
                record.refused.len(),
                record.connections,
                record.resets(),
                record.retried,
                record.closes.iter().map(|closed| closed.code).collect::<Vec<_>>(),
                record.faults,
            )
        })
    }

    /// Ends it, and hands over its record.
    pub async fn stop(mut self) -> Record {
        self.task.abort();
        // Whether it was cancelled or had ended makes no difference.
        let _ended = (&mut self.task).await;
        self.record()
    }
}

impl Drop for SimClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

impl Urls {
    fn get(&self, turn: usize) -> String {
        self.0[turn % self.0.len()].clone()
    }
}

impl State {
    fn offer_answered(&mut self, reference: u64, outcome: Result<Value, Refused>) {
        let State { record, outbox, .. } = self;
        match outcome.map(|data| (Accepted::deserialize(&data), data)) {
            Ok((Ok(accepted), _)) => outbox.accepted(record, reference, accepted),
            Ok((Err(error), data)) => {
                record.fault(format!("a reply to a message is malformed: {error}: {data}"));
            }
            Err(refused) => outbox.refused(record, reference, refused),
        }
    }

    fn event(&mut self, event: &str, data: &Value) {
        let State { record, outbox, rooms, wanted, .. } = self;
        let name = data["roomId"].as_str();
        match (event, name) {
            ("message:new" | "message:update" | "message:delete", Some(name)) => {
                let room = rooms.entry(name.to_owned()).or_default();
                room.event(&mut Desk { record, outbox, name }, event, data);
            }
            ("message:persisted", Some(_)) => match <Vec<String>>::deserialize(&data["ids"]) {
                Ok(ids) => ids.iter().for_each(|id| outbox.persisted(record, id)),
                Err(error) => record.fault(format!("{event} is malformed: {error}: {data}")),
            },
            ("message:rejected", Some(name)) => {
                // The reason is for the sender alone.
                let error = match data.get("error") {
                    Some(error) => Refused::deserialize(error).ok(),
                    None => Some(Refused::unexplained()),
                };
                let (Some(id), Some(error)) = (data["id"].as_str(), error) else {
                    record.fault(format!("{event} is malformed: {data}"));
                    return;
                };
                if data.get("changeId").is_some() {
                    return;
                }
                record.rejected.insert((name.to_owned(), id.to_owned()), error);
                if data["userId"] == record.user.as_str() {
                    outbox.rejected(record, id);
                }
            }
            ("presence:update", Some(_)) if data["status"] == "offline" => {
                record.shown_offline.extend(data["userId"].as_str().map(str::to_owned));
            }
            ("room:error", name) => {
                let code = data["code"].as_str().unwrap_or_default();
                record.room_errors.push((name.map(str::to_owned), code.to_owned()));
                let Some(name) = name else { return };
                let room = rooms.entry(name.to_owned()).or_default();
                if code == "reset" {
                    room.reset(&mut Desk { record, outbox, name });
                } else if code == "kicked" {
                    room.disconnected();
                    wanted.remove(name);
                    record.views.entry(name.to_owned()).or_default().in_room = false;
                }
            }
            (_, None) if event.starts_with("message:") => {
                record.fault(format!("{event} names no room: {data}"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod fake_server;
#[cfg(test)]
mod tests;
