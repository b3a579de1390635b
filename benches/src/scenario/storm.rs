//! `storm`: everybody loses the connection at once, and comes back at once with `since`.

use super::gather::{self, Silence};
use super::measure::{Measure, close, float};
use crate::clock;
use crate::crowd::{Crowd, Play};
use crate::error::LoadError;
use crate::options::Options;
use crate::report::Report;
use crate::server::Server;

/// Within that, everybody has to be back.
const BACK_WITHIN: u64 = 120 * clock::SECOND;
/// Within that, everybody has what a room was told.
const TOLD_WITHIN: u64 = 30 * clock::SECOND;

/// Notes where each member stands.
#[derive(Debug)]
struct Noting;

impl Play for Noting {
    fn delivered(&mut self, crowd: &mut Crowd, member: usize, text: &[u8]) {
        crowd.note_cursor(member, text);
    }
}

/// Counts who is back.
#[derive(Debug, Default)]
struct Returning {
    resets: u64,
}

impl Play for Returning {
    fn joined(&mut self, _crowd: &mut Crowd, _member: usize, is_recovered: bool) {
        self.resets += u64::from(!is_recovered);
    }

    fn is_over(&self, crowd: &Crowd) -> bool {
        crowd.joined_count() == crowd.member_count()
    }
}

pub(super) fn run(options: &Options, server: &mut Server) -> Result<Report, LoadError> {
    let members = options.connections.unwrap_or(5_000);
    let rooms = options.rooms.unwrap_or(500).min(members);
    let mut crowd = Crowd::new(server, options.bytes as usize)?;
    gather::gather(&mut crowd, rooms, members)?;
    tell_every_room(&mut crowd)?;
    gather::settle(&mut crowd)?;

    let mut measure = Measure::begin(server, &mut crowd);
    let before = server.sample();
    let start = clock::now();
    (0..members as usize).for_each(|member| crowd.cut(member));
    for member in 0..members as usize {
        crowd.connect_since(member, start)?;
    }
    let mut play = Returning::default();
    let seconds = BACK_WITHIN / clock::SECOND;
    measure.play(options, (server, &mut crowd), &mut play, seconds)?;
    let took = clock::seconds(clock::now() - start);
    let after = server.sample();
    let back = u64::try_from(crowd.joined_count()).unwrap_or(u64::MAX);
    let joined = crowd.tally.join.percentiles();
    let mut report = measure.end(server, &crowd);
    report.add("all are back after", took, "s");
    report.latency("back", joined);
    report.count("reset instead of recovered", play.resets);
    for (place, watched) in server.watched.iter().enumerate() {
        let used = after[place].cpu_ns.saturating_sub(before[place].cpu_ns) / 1000;
        let each = float(used) / float(back.max(1));
        report.add(format!("{} CPU per member", watched.name), each, "µs");
    }
    if back < u64::from(members) {
        let text = format!("only {back} of {members} came back within {seconds} s");
        crowd.ledger.fault(text);
    }
    // Who is back has to hear what is said now, and nothing may have been lost in between.
    tell_every_room(&mut crowd)?;
    close(&mut crowd, &mut report, &mut Silence)?;
    Ok(report)
}

/// One message in each room, and every member notes that it stands there.
fn tell_every_room(crowd: &mut Crowd) -> Result<(), LoadError> {
    for room in 0..crowd.room_count() {
        let sender = crowd.members_of(room)[0];
        crowd.send(sender, clock::now());
    }
    let until = clock::now() + TOLD_WITHIN;
    while !(crowd.ledger.is_complete() && crowd.is_answered()) && clock::now() < until {
        crowd.run(clock::now() + clock::SECOND / 20, &mut Noting)?;
    }
    Ok(())
}
