//! `lat`, and `big` and `rooms` with `--rate`: messages at a rate, and how long deliveries take.
//!
//! An open loop: a message is due at its time whatever became of those before it, and what is
//! measured begins at that time, not when it was sent.

use super::gather;
use super::measure::{Measure, close};
use crate::clock;
use crate::crowd::{Crowd, Play};
use crate::error::LoadError;
use crate::options::Options;
use crate::report::Report;
use crate::server::Server;

/// Sends at a rate: rooms in turn, and in each room its members in turn.
#[derive(Debug)]
pub(super) struct OpenLoop {
    start: u64,
    rate: u64,
    sent: u64,
    until: u64,
    rooms: Option<u32>,
}

impl OpenLoop {
    /// So many messages a second, from now on.
    pub(super) fn new(rate: u32) -> OpenLoop {
        OpenLoop { start: clock::now(), rate: rate.into(), sent: 0, until: u64::MAX, rooms: None }
    }

    /// The same, into the first room alone.
    pub(super) fn of_one_room(rate: u32) -> OpenLoop {
        OpenLoop { rooms: Some(1), ..OpenLoop::new(rate) }
    }

    /// Nothing is sent any more.
    pub(super) fn end(&mut self) {
        self.until = 0;
    }

    /// When the next message is due.
    pub(super) fn next(&self) -> u64 {
        let due = self.start + (self.sent + 1) * clock::SECOND / self.rate;
        if due < self.until { due } else { u64::MAX }
    }

    /// Sends what is due.
    pub(super) fn send_due(&mut self, crowd: &mut Crowd, now: u64) {
        while self.next() <= now {
            let rooms = u64::from(self.rooms.unwrap_or(crowd.room_count()));
            let room = u32::try_from(self.sent % rooms).unwrap_or(0);
            let turn = usize::try_from(self.sent / rooms).unwrap_or(0);
            let members = crowd.members_of(room);
            let sender = members[turn % members.len()];
            let due = self.next();
            crowd.send(sender, due);
            self.sent += 1;
        }
    }
}

impl Play for OpenLoop {
    fn tick(&mut self, crowd: &mut Crowd, now: u64) {
        self.send_due(crowd, now);
    }

    fn due(&self) -> u64 {
        self.next()
    }
}

/// One room; of how many rooms it is where the options do not say.
pub(super) const BIG: u32 = 1;
/// A hundred rooms.
pub(super) const ROOMS: u32 = 100;

pub(super) fn run(options: &Options, server: &mut Server, rooms: u32) -> Result<Report, LoadError> {
    let rooms = options.rooms.unwrap_or(rooms);
    let members = options.connections.unwrap_or(1000).max(rooms);
    let mut crowd = Crowd::new(server, options.bytes as usize)?;
    gather::gather(&mut crowd, rooms, members)?;
    let mut play = OpenLoop::new(options.rate.unwrap_or(20));
    crowd.run(clock::now() + u64::from(options.warmup) * clock::SECOND, &mut play)?;
    let mut measure = Measure::begin(server, &mut crowd);
    measure.play(options, (server, &mut crowd), &mut play, options.seconds.into())?;
    play.end();
    let mut report = measure.end(server, &crowd);
    close(&mut crowd, &mut report, &mut play)?;
    Ok(report)
}
