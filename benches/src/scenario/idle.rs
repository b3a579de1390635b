//! `idle`: connections that say nothing, and what each costs.

use super::gather::{self, Silence};
use super::measure::{Measure, close, float};
use crate::crowd::Crowd;
use crate::error::LoadError;
use crate::options::Options;
use crate::report::Report;
use crate::server::Server;

pub(super) fn run(options: &Options, server: &mut Server) -> Result<Report, LoadError> {
    let members = options.connections.unwrap_or(10_000);
    let rooms = options.rooms.unwrap_or(1_000).min(members);
    let mut crowd = Crowd::new(server, options.bytes as usize)?;
    let empty = server.sample();
    gather::gather(&mut crowd, rooms, members)?;
    let before = server.sample();
    let mut measure = Measure::begin(server, &mut crowd);
    measure.play(options, (server, &mut crowd), &mut Silence, options.seconds.into())?;
    let after = server.sample();

    let mut report = measure.end(server, &crowd);
    let each = f64::from(members);
    for (place, watched) in server.watched.iter().enumerate() {
        let (empty, before, after) = (empty[place], before[place], after[place]);
        let name = &watched.name;
        let memory = |usage: u64| (float(usage) - float(empty.pss_kib)) / each;
        report.add(format!("{name} memory per connection"), memory(after.pss_kib), "KiB");
        let gathering = (before.cpu_ns - empty.cpu_ns) / 1000;
        report.add(format!("{name} CPU per connect and join"), float(gathering) / each, "µs");
        let seconds = crate::clock::seconds(after.at - before.at);
        let idle = float((after.cpu_ns - before.cpu_ns) / 1000) / each / seconds;
        report.add(format!("{name} CPU per connection and second"), idle, "µs");
    }
    close(&mut crowd, &mut report, &mut Silence)?;
    Ok(report)
}
