//! `drain`: messages gather while the worker stands still, and then it goes on.

use super::gather;
use super::measure::{Measure, close, float, per, progress};
use super::persistence::Persistence;
use crate::clock;
use crate::crowd::{Crowd, Play};
use crate::error::LoadError;
use crate::options::Options;
use crate::report::Report;
use crate::server::Server;

/// Within that, all of the backlog has to be in the database.
const DRAIN_WITHIN: u64 = 600 * clock::SECOND;

/// Fills the log, and then watches it drain.
#[derive(Debug)]
struct Backlog {
    left: u32,
    total: u64,
    persistence: Persistence,
    /// When a tenth was through, and when nine tenths were.
    marks: [u64; 2],
}

impl Play for Backlog {
    fn acked(&mut self, crowd: &mut Crowd, sender: usize, seq: u64, is_persisted: bool) {
        self.persistence.answered(sender, seq, is_persisted);
        if self.left > 0 {
            self.left -= 1;
            crowd.send(sender, clock::now());
        }
    }

    fn persisted(&mut self, _crowd: &mut Crowd, member: usize, seq: u64) {
        self.persistence.persisted(member, seq);
        let done = self.persistence.done;
        for (mark, share) in self.marks.iter_mut().zip([self.total / 10, self.total / 10 * 9]) {
            if *mark == 0 && done >= share {
                *mark = clock::now();
            }
        }
    }

    fn is_over(&self, crowd: &Crowd) -> bool {
        self.left == 0
            && crowd.is_answered()
            && (self.marks[0] == u64::MAX || self.persistence.open == 0)
    }
}

pub(super) fn run(options: &Options, server: &mut Server) -> Result<Report, LoadError> {
    let members = options.connections.unwrap_or(500);
    let rooms = options.rooms.unwrap_or(500).min(members);
    let messages = options.messages.unwrap_or(50_000).max(members);
    server.stop_workers(false)?;
    let mut crowd = Crowd::new(server, options.bytes as usize)?;
    gather::gather(&mut crowd, rooms, members)?;

    server.stop_workers(true)?;
    let mut play = Backlog {
        left: messages - members,
        total: messages.into(),
        persistence: Persistence::new(members as usize),
        marks: [u64::MAX; 2],
    };
    let mut measure = Measure::begin(server, &mut crowd);
    (0..members as usize).for_each(|member| crowd.send(member, clock::now()));
    measure.play(options, (server, &mut crowd), &mut play, DRAIN_WITHIN / clock::SECOND)?;
    let mut report = measure.end(server, &crowd);

    play.marks = [0; 2];
    play.persistence.latencies.clear();
    let transactions = server.transactions();
    let before = server.sample();
    let start = clock::now();
    server.stop_workers(false)?;
    while play.persistence.open > 0 && clock::now() < start + DRAIN_WITHIN {
        crowd.run(clock::now() + clock::SECOND, &mut play)?;
        progress(options, || format!("{:>8} rows to go", play.persistence.open));
    }
    let end = clock::now();
    let after = server.sample();
    let rows = play.persistence.done;
    report.count("rows", rows);
    report.add("drained after", clock::seconds(end - start), "s");
    let [tenth, nine_tenths] = play.marks;
    let middle = clock::seconds(nine_tenths.saturating_sub(tenth));
    let rate = per(rows / 10 * 8, middle);
    report.add("rows per second, the middle eight tenths", rate, "");
    for (place, watched) in server.watched.iter().enumerate() {
        let used = float(after[place].cpu_ns.saturating_sub(before[place].cpu_ns));
        let each = used / 1000.0 / float(rows.max(1));
        report.add(format!("{} CPU per row", watched.name), each, "µs");
    }
    if let (Some(before), Some(after)) = (transactions, server.transactions()) {
        let each = float(after.saturating_sub(before)) / float(rows.max(1));
        report.add("transactions per row", each, "");
    }
    if let Some(stored) = server.rows(&crowd.room_prefix())
        && stored != u64::from(messages)
    {
        crowd.ledger.fault(format!("{messages} were sent, and {stored} are in the database"));
    }
    if let Some(bare) = server.bare_inserts().filter(|bare| *bare > 0) {
        report.count("bare inserts per second", bare);
        report.add("of the rate of bare inserts", 100.0 * rate / float(bare), "%");
    }
    play.persistence.check(&mut crowd);
    close(&mut crowd, &mut report, &mut play)?;
    Ok(report)
}
