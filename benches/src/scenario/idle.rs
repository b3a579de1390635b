//! `idle`: connections that say nothing, and what each costs.

use super::gather::{self, Silence};
use super::measure::{Measure, close, float};
use crate::cli::Options;
use crate::crowd::Crowd;
use crate::error::LoadError;
use crate::report::Report;
use crate::target::Target;

pub(super) fn run(options: &Options, target: &mut Target) -> Result<Report, LoadError> {
    let members = options.connections.unwrap_or(10_000);
    let rooms = options.rooms.unwrap_or(1_000).min(members);
    let mut crowd = Crowd::new(target, options.bytes as usize)?;
    let empty = target.sample();
    gather::gather(&mut crowd, rooms, members)?;
    let before = target.sample();
    let mut measure = Measure::begin(target, &mut crowd);
    measure.play(options, (target, &mut crowd), &mut Silence, options.seconds.into())?;
    let after = target.sample();

    let mut report = measure.end(target, &crowd);
    let each = f64::from(members);
    for (place, watched) in target.watched.iter().enumerate() {
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
