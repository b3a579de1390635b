//! `big` and `rooms`: the next message goes when the last one is through.
//!
//! A message is through when it was answered and every member of the room has it; then the same
//! member sends the next one. So each room always has as many messages under way.

use super::gather;
use super::measure::{Measure, close};
use crate::clock;
use crate::crowd::{Crowd, Play};
use crate::error::LoadError;
use crate::options::Options;
use crate::report::Report;
use crate::server::Server;

/// What the options leave open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    connections: u32,
    rooms: u32,
    outstanding: u32,
}

/// One room of a thousand, eight messages under way.
pub(super) const BIG: Shape = Shape { connections: 1000, rooms: 1, outstanding: 8 };
/// A hundred rooms of ten, one message under way in each.
pub(super) const ROOMS: Shape = Shape { connections: 1000, rooms: 100, outstanding: 1 };

#[derive(Debug)]
struct ClosedLoop {
    is_ending: bool,
}

impl Play for ClosedLoop {
    fn through(&mut self, crowd: &mut Crowd, _room: u32, sender: usize) {
        if !self.is_ending {
            crowd.send(sender, clock::now());
        }
    }
}

pub(super) fn run(
    options: &Options,
    server: &mut Server,
    shape: Shape,
) -> Result<Report, LoadError> {
    let rooms = options.rooms.unwrap_or(shape.rooms);
    let members = options.connections.unwrap_or(shape.connections);
    let outstanding = options.outstanding.unwrap_or(shape.outstanding);
    if members / rooms < outstanding {
        let text = format!(
            "--outstanding {outstanding}: a room has only {} members, and each has one under way",
            members / rooms
        );
        return Err(LoadError::Option(text));
    }
    let mut crowd = Crowd::new(server, options.bytes as usize)?;
    gather::gather(&mut crowd, rooms, members)?;

    let mut play = ClosedLoop { is_ending: false };
    for room in 0..rooms {
        for place in 0..outstanding as usize {
            let sender = crowd.members_of(room)[place];
            crowd.send(sender, clock::now());
        }
    }
    crowd.run(clock::now() + u64::from(options.warmup) * clock::SECOND, &mut play)?;
    let mut measure = Measure::begin(server, &mut crowd);
    measure.play(options, (server, &mut crowd), &mut play, options.seconds.into())?;
    let mut report = measure.end(server, &crowd);
    play.is_ending = true;
    close(&mut crowd, &mut report, &mut play)?;
    Ok(report)
}
