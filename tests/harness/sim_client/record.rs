//! What a chatter did and saw: the evidence the checker judges.

use crate::position::Position;
use crate::wire::{ChatMessage, Closed, Refused};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// More faults than this say nothing new.
const FAULTS_MAX: usize = 100;

/// Everything one chatter did and saw, over all its connections.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Who it is.
    pub user: String,
    /// Every message it was told to say, in that order.
    pub sent: Vec<Sent>,
    /// Every acknowledgement, in the order they came, by message id.
    pub acked: BTreeMap<String, Vec<Ack>>,
    /// Its messages that it was told are in the database.
    pub persisted: BTreeSet<String>,
    /// Its messages that were refused for good, with the refusal.
    pub refused: BTreeMap<String, Refused>,
    /// Messages of anybody that it was told the database refused: (room, id) and the error.
    pub rejected: BTreeMap<(String, String), Refused>,
    /// `room:error` events: the room where there is one, and the code.
    pub room_errors: Vec<(Option<String>, String)>,
    /// What its screen shows, by room.
    pub views: BTreeMap<String, View>,
    /// Every position it ever got, with the id that stood there, by room.
    pub positions: BTreeMap<String, BTreeMap<Position, String>>,
    /// Messages that came again though they were on the screen.
    pub raw_duplicates: u64,
    /// Refusals that it waited out and tried again, by code.
    pub retried: BTreeMap<String, u64>,
    /// How its connections ended, in order.
    pub closes: Vec<Closed>,
    /// How many connections were welcomed.
    pub connections: u64,
    /// When each of them was, in order.
    pub welcomed_at: Vec<Instant>,
    /// How long it was in none of its rooms, each time that a connection ended: until it had joined
    /// one again.
    pub pauses: Vec<Duration>,
    /// Whom it was shown as offline.
    pub shown_offline: BTreeSet<String>,
    /// What no server should do, in sentences; the checker passes them on.
    pub faults: Vec<String>,
}

/// A message it was told to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Where.
    pub room: String,
    /// The id it chose.
    pub id: String,
    /// What.
    pub content: String,
}

/// One acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The room, for convenience.
    pub room: String,
    /// The place; none while the message is only in a journal.
    pub position: Option<Position>,
    /// The server knew it already.
    pub duplicate: bool,
    /// The ordinal of the connection it came on.
    pub connection: u64,
    /// The ordinal of the offer it answers: one offer is before another on the same connection
    /// exactly if its ordinal is lower.
    pub offer: u64,
}

/// A room as a user interface shows it.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The messages in the order they are on the screen.
    pub entries: Vec<Entry>,
    /// The first entry is the first message of the room (true also for an empty room).
    pub from_start: bool,
    /// It has been joined, and nothing has taken it out of the room since.
    pub in_room: bool,
    /// How often the server said `reset`.
    pub resets: u64,
    /// How often a join went on where the last connection ended.
    pub resumes: u64,
    /// The highest position the server called persisted, by epoch.
    pub persisted: BTreeMap<u64, u64>,
}

/// A message on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the room's order.
    pub position: Position,
    /// Its id.
    pub id: String,
    /// Its sender.
    pub user: String,
    /// What it says now.
    pub content: String,
}

impl From<ChatMessage> for Entry {
    fn from(message: ChatMessage) -> Self {
        let ChatMessage { position, id, user_id, content, .. } = message;
        Entry { position, id, user: user_id, content }
    }
}

impl Record {
    /// How often any room was reset.
    pub fn resets(&self) -> u64 {
        self.views.values().map(|view| view.resets).sum()
    }

    /// How many messages are on the screen of a room.
    pub fn seen(&self, room: &str) -> usize {
        self.views.get(room).map_or(0, |view| view.entries.len())
    }

    pub(super) fn fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    /// Remembers what stands at a position; no position is ever used twice.
    pub(crate) fn note_position(&mut self, room: &str, position: Position, id: &str) {
        let known = self.positions.entry(room.to_owned()).or_default();
        let before = known.entry(position).or_insert_with(|| id.to_owned());
        if before != id {
            let fault = format!("position {position} of {room} was given to {before} and to {id}");
            self.fault(fault);
        }
    }
}
