//! The command line.

use crate::compare::{self, Comparison};
use crate::error::LoadError;
use crate::limits::{self, Mode};
use crate::options::Options;
use crate::plan::Plan;
use crate::report::Report;
use crate::scenario::{self, Scenario};
use crate::server::Server;
use crate::stop;
use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Puts a realtime server under load and says what that cost.
///
/// Each scenario checks that no message was lost or doubled and that all members of a room saw the
/// same order; it exits with 1 if not, with 2 if an option is wrong, with 3 if the run failed.
#[derive(Debug, Parser)]
#[command(name = "load", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

const EXAMPLES: &str = "Examples:
  load big --start cluster --pin
  load rooms --start limit-coalesce --pin --json rooms.json
  load plan --people 1000000 --messages 12
  load lat --url ws://127.0.0.1:3001/ws --secret \"$ROOMCAST_JWT_SECRET\" --pids gateway=4711";

#[derive(Debug, Subcommand)]
enum Task {
    /// One room of 1,000 with 8 messages outstanding
    ///
    /// Eight members have one message under way each, and send the next when the last was answered
    /// and is at all members. With --rate they are sent when they are due instead.
    Big(Options),
    /// 100 rooms of 10 with 1 message outstanding each
    Rooms(Options),
    /// 20 messages a second into a room of 1,000: how long a delivery takes
    ///
    /// Measured from the time at which a message should have been sent, so that a server that
    /// stalls does not hide it by stalling the clients.
    Lat(Options),
    /// 10,000 connections in 1,000 rooms that say nothing: memory and CPU of each
    Idle(Options),
    /// 5,000 clients that connect, prove who they are, and join, 16 at a time
    Connect(Options),
    /// 5,000 clients in 500 rooms lose their connections at once and come back with `since`
    Storm(Options),
    /// 500 messages a second over 100 rooms of 10: what each costs from socket to database
    ///
    /// Also how long a message takes from its answer until its sender hears that the database has
    /// it, in that crowd and then in one room that talks alone, 5 messages a second.
    Chain(Options),
    /// 50,000 messages wait in the log while the worker stands still; how fast it writes them
    Drain(Options),
    /// 200 rooms of 5: messages (100 a second), typing, receipts, presence, answers that are
    /// written bit by bit, people who lose their connections and come back
    Chat(Options),
    /// The limits, Roomcast and the peers beside one another, as a table, figures and a chart
    ///
    /// Five rounds of all servers and scenarios take about 45 minutes. Peers have to be installed:
    /// `npm ci` in benches/peers; `benches/compare` does both.
    Compare(Comparison),
    /// How many processes a number of people needs: docs/CAPACITY.md as a command
    Plan(Plan),
    /// Serve the limit with one send for each recipient of each message
    LimitDirect(Serve),
    /// Serve the limit with one send for each connection and turn of the loop
    LimitCoalesce(Serve),
}

/// Where a limit is served.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Serve {
    /// Port of 127.0.0.1; 0 takes a free one, and the first line of output says which
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// Runs what the arguments say.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()) * 2);
        }
    };
    match task(arguments.task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let mut text = format!("load: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(next) = cause {
                text.push_str(&format!(": {next}"));
                cause = next.source();
            }
            let _ = writeln!(std::io::stderr(), "{text}");
            let is_option = matches!(error, LoadError::Option(_));
            ExitCode::from(if is_option { 2 } else { 3 })
        }
    }
}

/// Whether all was well.
fn task(task: Task) -> Result<bool, LoadError> {
    let (scenario, options) = match task {
        Task::Big(options) => (Scenario::Big, options),
        Task::Rooms(options) => (Scenario::Rooms, options),
        Task::Lat(options) => (Scenario::Lat, options),
        Task::Idle(options) => (Scenario::Idle, options),
        Task::Connect(options) => (Scenario::Connect, options),
        Task::Storm(options) => (Scenario::Storm, options),
        Task::Chain(options) => (Scenario::Chain, options),
        Task::Drain(options) => (Scenario::Drain, options),
        Task::Chat(options) => (Scenario::Chat, options),
        Task::Plan(plan) => {
            let _ = std::io::stdout().write_all(plan.text().as_bytes());
            return Ok(true);
        }
        Task::Compare(comparison) => {
            listen()?;
            return compare::run(&comparison);
        }
        Task::LimitDirect(serve) => return limits::serve(serve.port, Mode::Direct).map(|()| true),
        Task::LimitCoalesce(serve) => {
            return limits::serve(serve.port, Mode::Coalesce).map(|()| true);
        }
    };
    scenario.check(&options)?;
    listen()?;
    let mut server = Server::new(&options)?;
    let report = scenario::run(scenario, &options, &mut server);
    server.end();
    let report = report?;
    show(&report, &options)?;
    Ok(report.is_clean())
}

fn listen() -> Result<(), LoadError> {
    stop::listen().map_err(|source| LoadError::io("listening for signals", source))
}

fn show(report: &Report, options: &Options) -> Result<(), LoadError> {
    let _ = std::io::stdout().write_all(report.text().as_bytes());
    let Some(path) = &options.json else { return Ok(()) };
    let mut text = format!("{:#}", report.json());
    text.push('\n');
    std::fs::write(path, text)
        .map_err(|source| LoadError::io(format!("writing {}", path.display()), source))
}

#[cfg(test)]
mod tests;
