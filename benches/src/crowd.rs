//! Clients in rooms: they connect, join, say what a scenario has them say, and keep the ledger.

mod member;
mod tally;

use crate::clock;
use crate::dialect::{Aside, Cursor, Dialect, Incoming, cursor, messages};
use crate::error::LoadError;
use crate::ledger::Ledger;
use crate::server::Server;
use crate::stop;
use crate::swarm::{self, Happening, Listener, Swarm, Traffic};
use crate::token::Signer;
use member::{Phase, Room, Sent};
use std::net::SocketAddr;

pub use member::Member;
pub use tally::Tally;

/// How often the loop wakes at least, to see whether it was stopped.
const WAKE_EVERY: u64 = clock::SECOND / 4;

/// So many messages of a room are looked at for what was not answered yet.
const LATELY: usize = 64;

/// What a scenario does when something happens.
pub trait Play {
    /// A member is in its room; whether the server found where it stood.
    fn joined(&mut self, _crowd: &mut Crowd, _member: usize, _is_recovered: bool) {}
    /// A message came to a member.
    fn delivered(&mut self, _crowd: &mut Crowd, _member: usize, _text: &[u8]) {}
    /// A message is answered, and at all members of its room.
    fn through(&mut self, _crowd: &mut Crowd, _room: u32, _sender: usize) {}
    /// A message is answered.
    fn acked(&mut self, _crowd: &mut Crowd, _sender: usize, _seq: u64, _is_persisted: bool) {}
    /// All of the member's room up to a place is in the database.
    fn persisted(&mut self, _crowd: &mut Crowd, _member: usize, _seq: u64) {}
    /// The time that [`due`](Play::due) named has come.
    fn tick(&mut self, _crowd: &mut Crowd, _now: u64) {}
    /// When it wants to be woken next.
    fn due(&self) -> u64 {
        u64::MAX
    }
    /// Whether it is over before its time.
    fn is_over(&self, _crowd: &Crowd) -> bool {
        false
    }
}

/// Clients in rooms.
#[derive(Debug)]
pub struct Crowd {
    swarm: Swarm,
    /// Who got what.
    pub ledger: Ledger,
    /// What was counted since the last reset.
    pub tally: Tally,
    members: Vec<Member>,
    rooms: Vec<Room>,
    dialect: Dialect,
    signer: Option<Signer>,
    addresses: Vec<SocketAddr>,
    path: String,
    /// The beginning of all names of this run.
    run: String,
    content_bytes: usize,
    joined_count: usize,
    /// The command that is being written.
    text: String,
}

impl Crowd {
    /// Nobody yet, but it is known where to go.
    pub fn new(server: &Server, content_bytes: usize) -> Result<Crowd, LoadError> {
        Ok(Crowd {
            swarm: Swarm::new()?,
            ledger: Ledger::default(),
            tally: Tally::default(),
            members: Vec::new(),
            rooms: Vec::new(),
            dialect: server.dialect,
            signer: server.secret.as_deref().map(Signer::new),
            addresses: server.addresses.clone(),
            path: server.path.clone(),
            run: format!("{:x}", clock::run_ms() & 0xffff_ffff),
            content_bytes,
            joined_count: 0,
            text: String::new(),
        })
    }

    /// One more room, with nobody in it.
    pub fn add_room(&mut self) -> u32 {
        let room = self.ledger.add_room();
        let name = format!("{}{room}", self.room_prefix());
        self.rooms.push(Room { name, members: Vec::new(), sent: Vec::new() });
        room
    }

    /// One more client, who is not connected yet.
    pub fn add_member(&mut self, room: u32) -> usize {
        let id = self.ledger.add_member(room);
        self.rooms[room as usize].members.push(id);
        let phase = Phase::Away;
        self.members.push(Member { room, phase, began: 0, cursor: None, is_assistant: false });
        id
    }

    /// The member's token says that it is an assistant.
    pub fn make_assistant(&mut self, member: usize) {
        self.members[member].is_assistant = true;
    }

    /// The members of a room, by their numbers.
    pub fn members_of(&self, room: u32) -> &[usize] {
        &self.rooms[room as usize].members
    }

    /// How many rooms there are.
    pub fn room_count(&self) -> u32 {
        u32::try_from(self.rooms.len()).unwrap_or(u32::MAX)
    }

    /// How many members there are, here or not.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// How many are in their rooms.
    pub fn joined_count(&self) -> usize {
        self.joined_count
    }

    /// A member.
    pub fn member(&self, id: usize) -> &Member {
        &self.members[id]
    }

    /// Whether the member is in its room.
    pub fn is_here(&self, id: usize) -> bool {
        self.members[id].phase == Phase::Joined
    }

    /// What went through the connections.
    pub fn traffic(&self) -> Traffic {
        self.swarm.traffic
    }

    /// How the names of all rooms of this run begin.
    pub fn room_prefix(&self) -> String {
        format!("load-{}-", self.run)
    }

    /// Begins to connect; the join follows by itself.
    pub fn connect(&mut self, id: usize) -> Result<(), LoadError> {
        self.connect_since(id, clock::now())
    }

    /// The same for a member who was without a connection since a moment.
    pub fn connect_since(&mut self, id: usize, began: u64) -> Result<(), LoadError> {
        let to = self.addresses[id % self.addresses.len()];
        let token = self.token(id);
        let request = self.dialect.request(&self.path, &to.to_string(), token.as_deref());
        self.swarm.connect(id, to, request)?;
        let member = &mut self.members[id];
        (member.phase, member.began) = (Phase::Connecting, began);
        Ok(())
    }

    fn token(&self, id: usize) -> Option<String> {
        let signer = self.signer.as_ref()?;
        let user = format!("u{}-{id}", self.run);
        Some(signer.token(&user, self.members[id].is_assistant))
    }

    /// Cuts a member's connection without a word.
    pub fn cut(&mut self, id: usize) {
        self.swarm.cut(id);
        self.gone(id);
    }

    fn gone(&mut self, id: usize) {
        if std::mem::replace(&mut self.members[id].phase, Phase::Away) == Phase::Joined {
            self.joined_count -= 1;
        }
        self.ledger.leave(id);
    }

    /// Where the member stands from now on, for when it comes back.
    pub fn note_cursor(&mut self, id: usize, text: &[u8]) {
        self.members[id].cursor = cursor(text);
    }

    /// Where the member stood when that was noted.
    pub fn cursor(&self, id: usize) -> Option<&Cursor> {
        self.members[id].cursor.as_ref()
    }

    /// Sends a message, which should have been sent when it was `due`.
    pub fn send(&mut self, id: usize, due: u64) {
        let number = self.members[id].room;
        let message = self.ledger.send(number);
        let room = &mut self.rooms[number as usize];
        room.sent.push(Sent { due, sender: id, is_acked: false, is_delivered: false });
        self.tally.sent += 1;
        self.text.clear();
        self.dialect.send(&mut self.text, &room.name, (number, message), self.content_bytes);
        self.swarm.send(id, self.text.as_bytes());
    }

    /// Says something that is no message.
    pub fn aside(&mut self, id: usize, aside: Aside) {
        let room = &self.rooms[self.members[id].room as usize];
        self.text.clear();
        self.dialect.aside(&mut self.text, &room.name, aside);
        self.swarm.send(id, self.text.as_bytes());
    }

    /// Begins an answer that is written bit by bit; its number, for what follows.
    pub fn begin_stream(&mut self, id: usize, due: u64) -> u32 {
        let number = self.members[id].room;
        let message = self.ledger.send(number);
        let room = &mut self.rooms[number as usize];
        room.sent.push(Sent { due, sender: id, is_acked: false, is_delivered: false });
        self.tally.sent += 1;
        self.text.clear();
        self.dialect.stream(&mut self.text, &room.name, (number, message), None);
        self.swarm.send(id, self.text.as_bytes());
        message
    }

    /// Goes on with an answer: so many deltas, from an offset on, or its end.
    pub fn go_on(&mut self, id: usize, message: u32, offset: Option<usize>) {
        let number = self.members[id].room;
        let room = &mut self.rooms[number as usize];
        self.text.clear();
        match offset {
            Some(_) => self.dialect.stream(&mut self.text, &room.name, (number, message), offset),
            None => {
                room.sent[message as usize].due = clock::now();
                self.dialect.end_stream(&mut self.text, &room.name, (number, message));
            }
        }
        self.swarm.send(id, self.text.as_bytes());
    }

    /// Whether all that a member sent lately was answered.
    pub fn owes_nothing(&self, id: usize) -> bool {
        let sent = &self.rooms[self.members[id].room as usize].sent;
        sent.iter().rev().take(LATELY).all(|sent| sent.is_acked || sent.sender != id)
    }

    /// Whether every message was answered.
    pub fn is_answered(&self) -> bool {
        self.rooms.iter().all(|room| room.sent.iter().all(|sent| sent.is_acked))
    }

    /// What was never answered is a fault.
    pub fn check_answers(&mut self) {
        for (number, room) in self.rooms.iter().enumerate() {
            let open = room.sent.iter().filter(|sent| !sent.is_acked).count();
            if open > 0 {
                self.ledger.fault(format!("room {number}: {open} messages were never answered"));
            }
        }
    }

    /// Lets things happen until a time, or until the play is over. True if it was over.
    pub fn run(&mut self, until: u64, play: &mut impl Play) -> Result<bool, LoadError> {
        loop {
            let now = clock::now();
            if play.is_over(self) {
                return Ok(true);
            }
            if now >= until {
                return Ok(false);
            }
            if stop::is_stopped() {
                return Err(LoadError::Stopped);
            }
            if now >= play.due() {
                play.tick(self, now);
            }
            // On a grid, so that the alarm is not set anew each time.
            let wake = (now / WAKE_EVERY + 1) * WAKE_EVERY;
            let next = until.min(play.due()).min(wake);
            swarm::turn(&mut Playing { crowd: self, play }, next)?;
        }
    }

    fn heard(&mut self, id: usize, happening: Happening<'_>, play: &mut impl Play) {
        match happening {
            Happening::Text(text) => match self.dialect.read(text) {
                Incoming::Message { room, message } => {
                    self.delivered(id, (room, message), play);
                    play.delivered(self, id, text);
                }
                Incoming::Joined { is_recovered } => self.joined(id, is_recovered, text, play),
                other => self.understood(id, other, play),
            },
            Happening::Open => {}
            Happening::Gone(why) => {
                self.tally.lost += 1;
                self.ledger.fault(format!("member {id}: {why}"));
                self.gone(id);
            }
        }
    }

    #[inline]
    fn delivered(&mut self, id: usize, (room, message): (u32, u32), play: &mut impl Play) {
        self.tally.delivered += 1;
        let is_last = self.ledger.deliver(id, room, message);
        let Some(room_state) = self.rooms.get_mut(room as usize) else { return };
        let Some(sent) = room_state.sent.get_mut(message as usize) else { return };
        if sent.due >= self.tally.since {
            self.tally.delivery.record(self.swarm.read_at.saturating_sub(sent.due));
        }
        if is_last {
            sent.is_delivered = true;
            if sent.is_acked {
                let sender = sent.sender;
                play.through(self, room, sender);
            }
        }
    }

    fn understood(&mut self, id: usize, incoming: Incoming, play: &mut impl Play) {
        match incoming {
            Incoming::Welcome => self.join(id),
            Incoming::Opened => {
                let packet = Dialect::open(self.token(id).as_deref());
                self.swarm.send(id, packet.as_bytes());
            }
            Incoming::Acked { room, message, seq, is_persisted } => {
                self.acked(id, (room, message));
                play.acked(self, id, seq, is_persisted);
                let sent = self.rooms.get(room as usize);
                let sent = sent.and_then(|room| room.sent.get(message as usize));
                if sent.is_some_and(|sent| sent.is_delivered) {
                    play.through(self, room, id);
                }
            }
            Incoming::Persisted { seq } => play.persisted(self, id, seq),
            Incoming::Refused => {
                self.tally.refused += 1;
                self.ledger.fault(format!("member {id} was refused something"));
            }
            Incoming::Probe => self.swarm.send(id, b"3"),
            Incoming::Joined { .. } | Incoming::Message { .. } | Incoming::Other => {}
        }
    }

    fn join(&mut self, id: usize) {
        let member = &mut self.members[id];
        member.phase = Phase::Joining;
        self.text.clear();
        let room = &self.rooms[member.room as usize];
        self.dialect.join(&mut self.text, &room.name, member.cursor.as_ref());
        self.swarm.send(id, self.text.as_bytes());
    }

    /// In the room; what was missed stands in the reply, in order.
    fn joined(&mut self, id: usize, is_recovered: bool, text: &[u8], play: &mut impl Play) {
        let member = &mut self.members[id];
        if std::mem::replace(&mut member.phase, Phase::Joined) == Phase::Joined {
            return;
        }
        self.joined_count += 1;
        self.tally.join.record(self.swarm.read_at.saturating_sub(member.began));
        let goes_on = is_recovered && member.cursor.is_some();
        self.ledger.come_back(id, goes_on);
        if goes_on {
            for (room, message) in messages(text) {
                self.tally.replayed += 1;
                self.ledger.deliver(id, room, message);
            }
        }
        play.joined(self, id, is_recovered);
    }

    fn acked(&mut self, id: usize, (room, message): (u32, u32)) {
        let sent = self.rooms.get_mut(room as usize);
        let sent = sent.and_then(|room| room.sent.get_mut(message as usize));
        let Some(sent) = sent.filter(|sent| sent.sender == id && !sent.is_acked) else {
            self.ledger.fault(format!("member {id} was answered what it did not ask"));
            return;
        };
        sent.is_acked = true;
        self.tally.acked += 1;
        if sent.due >= self.tally.since {
            self.tally.ack.record(self.swarm.read_at.saturating_sub(sent.due));
        }
    }
}

/// A crowd and what it plays.
struct Playing<'a, P> {
    crowd: &'a mut Crowd,
    play: &'a mut P,
}

impl<P: Play> Listener for Playing<'_, P> {
    fn swarm(&mut self) -> &mut Swarm {
        &mut self.crowd.swarm
    }

    #[inline]
    fn heard(&mut self, connection: usize, happening: Happening<'_>) {
        self.crowd.heard(connection, happening, self.play);
    }
}
