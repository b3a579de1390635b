//! `chain`: a steady rate over many rooms, and what a message costs from socket to database.

use super::gather;
use super::lat::OpenLoop;
use super::measure::{Measure, close, float};
use super::persistence::Persistence;
use crate::clock;
use crate::crowd::{Crowd, Play};
use crate::error::LoadError;
use crate::options::Options;
use crate::report::Report;
use crate::server::Server;

/// Messages a second of a room that talks alone.
const ALONE_RATE: u32 = 5;
/// How long what is answered may take into the database at the end.
const PERSIST_WITHIN: u64 = 30 * clock::SECOND;

/// An open loop that also waits for the database.
/// A server process of Postgres that has nothing to do tells within so long what it did before:
/// the transactions of those who joined are not to be counted as the messages'.
const COUNTED_WITHIN: u64 = 11 * clock::SECOND;

#[derive(Debug)]
struct Chain {
    messages: OpenLoop,
    persistence: Persistence,
}

impl Play for Chain {
    fn tick(&mut self, crowd: &mut Crowd, now: u64) {
        self.messages.send_due(crowd, now);
    }

    fn due(&self) -> u64 {
        self.messages.next()
    }

    fn acked(&mut self, _crowd: &mut Crowd, sender: usize, seq: u64, is_persisted: bool) {
        self.persistence.answered(sender, seq, is_persisted);
    }

    fn persisted(&mut self, _crowd: &mut Crowd, member: usize, seq: u64) {
        self.persistence.persisted(member, seq);
    }
}

pub(super) fn run(options: &Options, server: &mut Server) -> Result<Report, LoadError> {
    let rooms = options.rooms.unwrap_or(100);
    let members = options.connections.unwrap_or(1000).max(rooms);
    let mut crowd = Crowd::new(server, options.bytes as usize)?;
    gather::gather(&mut crowd, rooms, members)?;
    let messages = OpenLoop::new(options.rate.unwrap_or(500));
    let mut play = Chain { messages, persistence: Persistence::new(members as usize) };
    let warmup = (u64::from(options.warmup) * clock::SECOND).max(COUNTED_WITHIN);
    crowd.run(clock::now() + warmup, &mut play)?;

    play.persistence.latencies.clear();
    let transactions = server.transactions();
    let mut measure = Measure::begin(server, &mut crowd);
    measure.play(options, (server, &mut crowd), &mut play, options.seconds.into())?;
    let sent = crowd.tally.sent;
    let mut report = measure.end(server, &crowd);
    if let (Some(before), Some(after)) = (transactions, server.transactions()) {
        let each = float(after.saturating_sub(before)) / float(sent.max(1));
        report.add("transactions per message", each, "");
    }
    report.latency("from answer to persisted", play.persistence.latencies.percentiles());
    play.messages.end();
    all_persisted(&mut crowd, &mut play)?;

    play.messages = OpenLoop::of_one_room(ALONE_RATE);
    play.persistence.latencies.clear();
    crowd.tally.reset();
    crowd.run(clock::now() + u64::from(options.seconds) * clock::SECOND, &mut play)?;
    play.messages.end();
    all_persisted(&mut crowd, &mut play)?;
    report.latency("alone, delivery", crowd.tally.delivery.percentiles());
    report.latency("alone, answer", crowd.tally.ack.percentiles());
    report.latency("alone, from answer to persisted", play.persistence.latencies.percentiles());
    play.persistence.check(&mut crowd);
    close(&mut crowd, &mut report, &mut play)?;
    Ok(report)
}

/// Waits until the database has everything.
fn all_persisted(crowd: &mut Crowd, play: &mut Chain) -> Result<(), LoadError> {
    let until = clock::now() + PERSIST_WITHIN;
    while (play.persistence.open > 0 || !crowd.is_answered()) && clock::now() < until {
        crowd.run(clock::now() + clock::SECOND / 20, play)?;
    }
    Ok(())
}
