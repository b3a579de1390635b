//! What a scenario's load cost: counts, CPU and memory between two moments.

use crate::clock;
use crate::crowd::{Crowd, Play};
use crate::error::LoadError;
use crate::options::Options;
use crate::report::{OTHERS_CPU, Report};
use crate::server::Server;
use crate::swarm::Traffic;
use crate::usage::{self, Usage, Watched};
use std::io::{IsTerminal, Write};

/// How long is waited at the end for what is still under way.
const DRAIN_WITHIN: u64 = 20 * clock::SECOND;
/// Above this share of its core the generator may have been the limit.
const BUSY: f64 = 0.95;
/// Above this share of a core, what else ran is remarked upon.
const DISTURBED: f64 = 0.2;

/// Moments and what was used until then.
#[derive(Debug)]
pub(super) struct Measure {
    own: Watched,
    own_before: Usage,
    before: Vec<Usage>,
    traffic_before: Traffic,
    machine_before: u64,
}

impl Measure {
    pub(super) fn begin(server: &mut Server, crowd: &mut Crowd) -> Measure {
        let mut own = Watched::alone("generator", std::process::id());
        crowd.tally.reset();
        Measure {
            own_before: own.sample(),
            own,
            before: server.sample(),
            traffic_before: crowd.traffic(),
            machine_before: usage::machine_cpu_ns(),
        }
    }

    /// Plays for so many seconds, with a line of progress each.
    pub(super) fn play(
        &mut self,
        options: &Options,
        (server, crowd): (&mut Server, &mut Crowd),
        play: &mut impl Play,
        seconds: u64,
    ) -> Result<(), LoadError> {
        let start = clock::now();
        let mut seen = (crowd.tally.delivered, crowd.tally.acked);
        for second in 1..=seconds {
            let is_over = crowd.run(start + second * clock::SECOND, play)?;
            for watched in &mut server.watched {
                watched.cpu_ns();
            }
            let now = (crowd.tally.delivered, crowd.tally.acked);
            progress(options, || {
                let (delivered, acked) = (now.0 - seen.0, now.1 - seen.1);
                format!("{second:>4} s  {delivered:>9} deliveries  {acked:>7} answers")
            });
            seen = now;
            if is_over {
                break;
            }
        }
        Ok(())
    }

    /// What was used since the beginning, by the server in the first place.
    pub(super) fn end(mut self, server: &mut Server, crowd: &Crowd) -> Report {
        let mut report = Report::default();
        let after = server.sample();
        let own = self.own.sample();
        let machine = usage::machine_cpu_ns() - self.machine_before;
        let seconds = clock::seconds(own.at - self.own_before.at);
        let tally = &crowd.tally;
        report.add("measured", seconds, "s");
        report.count("messages sent", tally.sent);
        report.count("deliveries", tally.delivered);
        report.add("deliveries per second", per(tally.delivered, seconds), "");
        let mut known = own.cpu_ns - self.own_before.cpu_ns;
        let own_share = clock::seconds(known) / seconds;
        for (place, watched) in server.watched.iter().enumerate() {
            let (before, after) = (self.before[place], after[place]);
            let nanos = after.cpu_ns.saturating_sub(before.cpu_ns);
            known += nanos;
            let cpu = clock::seconds(nanos);
            let name = &watched.name;
            if place == 0 && tally.delivered > 0 {
                report.add("deliveries per CPU-second", per(tally.delivered, cpu), "");
            }
            report.add(format!("{name} CPU"), 100.0 * cpu / seconds, "% of a core");
            if tally.sent > 0 {
                report.add(format!("{name} CPU per message"), 1e6 * cpu / float(tally.sent), "µs");
            }
            report.add(format!("{name} resident"), float(after.pss_kib) / 1024.0, "MiB");
        }
        report.add("generator CPU", 100.0 * own_share, "% of a core");
        let others = clock::seconds(machine.saturating_sub(known)) / seconds;
        report.add(OTHERS_CPU, 100.0 * others, "% of a core");
        self.add_traffic(&mut report, crowd);
        report.latency("delivery", tally.delivery.percentiles());
        report.latency("answer", tally.ack.percentiles());
        if own_share > BUSY {
            let text = "the generator's core was full: rates are what it can do, not the server";
            report.remarks.push(text.to_owned());
        }
        if others > DISTURBED {
            let text =
                "something else ran meanwhile: rates and latencies are not the server's alone";
            report.remarks.push(text.to_owned());
        }
        report
    }

    fn add_traffic(&self, report: &mut Report, crowd: &Crowd) {
        let (before, traffic) = (self.traffic_before, crowd.traffic());
        let reads = traffic.reads - before.reads;
        let frames = traffic.frames - before.frames;
        if reads > 0 && frames > 0 {
            report.add("frames per read", float(frames) / float(reads), "");
            let bytes = traffic.bytes - before.bytes;
            report.add("bytes per frame", float(bytes) / float(frames), "");
        }
    }
}

/// Waits for what is under way, then says what never came.
pub(super) fn close(
    crowd: &mut Crowd,
    report: &mut Report,
    play: &mut impl Play,
) -> Result<(), LoadError> {
    let until = clock::now() + DRAIN_WITHIN;
    while clock::now() < until && !(crowd.ledger.is_complete() && crowd.is_answered()) {
        crowd.run(clock::now() + clock::SECOND / 20, play)?;
    }
    // A double would come now.
    crowd.run(clock::now() + clock::SECOND / 2, play)?;
    crowd.check_answers();
    (report.faults, report.fault_count) = crowd.ledger.close();
    Ok(())
}

/// One line: over the last one on a terminal, else below it.
pub(super) fn progress(options: &Options, line: impl FnOnce() -> String) {
    if options.quiet {
        return;
    }
    let mut errors = std::io::stderr();
    let line = line();
    let _ = match errors.is_terminal() {
        true => write!(errors, "\r{line}\x1b[K"),
        false => writeln!(errors, "{line}"),
    };
}

/// A count by seconds.
pub(super) fn per(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { float(count) / seconds } else { 0.0 }
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}
