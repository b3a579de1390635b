//! `connect`: clients come one after another, so many at a time.

use super::gather;
use super::gather::Silence;
use super::measure::{Measure, close, float, per};
use crate::clock;
use crate::crowd::Crowd;
use crate::error::LoadError;
use crate::options::Options;
use crate::report::Report;
use crate::server::Server;

pub(super) fn run(options: &Options, server: &mut Server) -> Result<Report, LoadError> {
    let members = options.connections.unwrap_or(5_000);
    let rooms = options.rooms.unwrap_or(500).min(members);
    let mut crowd = Crowd::new(server, options.bytes as usize)?;
    for _ in 0..rooms {
        crowd.add_room();
    }
    for member in 0..members {
        crowd.add_member(member % rooms);
    }
    let before = server.sample();
    let measure = Measure::begin(server, &mut crowd);
    gather::enter(&mut crowd, options.outstanding.unwrap_or(16) as usize)?;
    let after = server.sample();
    let mut report = measure.end(server, &crowd);
    let joined = crowd.tally.join.percentiles();
    for (place, watched) in server.watched.iter().enumerate() {
        let used = (after[place].cpu_ns - before[place].cpu_ns) / 1000;
        let each = float(used) / f64::from(members) / 1000.0;
        report.add(format!("{} CPU per connection", watched.name), each, "ms");
    }
    if let (Some(after), Some(before)) = (after.first(), before.first()) {
        let seconds = clock::seconds(after.at - before.at);
        report.add("connections per second", per(members.into(), seconds), "");
    }
    report.latency("connect and join", joined);
    close(&mut crowd, &mut report, &mut Silence)?;
    Ok(report)
}
