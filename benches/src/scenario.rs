//! The scenarios, and what all of them do: gather a crowd, measure, and see that nothing was lost.

mod closed_loop;
mod idle;
mod connect;
mod storm;
mod chain;
mod drain;
mod chat;
mod lat;
mod persistence;
mod gather;
mod measure;

use crate::error::LoadError;
use crate::options::Options;
use crate::report::Report;
use crate::server::Server;

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// One room of a thousand, in a closed loop.
    Big,
    /// A hundred rooms of ten, in a closed loop.
    Rooms,
    /// One room of a thousand, at a rate.
    Lat,
    /// Connections that say nothing.
    Idle,
    /// Clients that come.
    Connect,
    /// All of them at once, again.
    Storm,
    /// A steady rate, from socket to database.
    Chain,
    /// A backlog, and how fast it drains.
    Drain,
    /// Small rooms as they are.
    Chat,
}

impl Scenario {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The options that it has a use for, of those that not all have.
    fn takes(self) -> &'static [&'static str] {
        match self {
            Scenario::Big | Scenario::Rooms => {
                &["--connections", "--rooms", "--outstanding", "--rate"]
            }
            Scenario::Lat | Scenario::Chain | Scenario::Chat => {
                &["--connections", "--rooms", "--rate"]
            }
            Scenario::Idle | Scenario::Storm => &["--connections", "--rooms"],
            Scenario::Connect => &["--connections", "--rooms", "--outstanding"],
            Scenario::Drain => &["--connections", "--rooms", "--messages"],
        }
    }

    /// Refuses what would be ignored, and what cannot be together.
    pub fn check(self, options: &Options) -> Result<(), LoadError> {
        let given = [
            ("--connections", options.connections),
            ("--rooms", options.rooms),
            ("--outstanding", options.outstanding),
            ("--rate", options.rate),
            ("--messages", options.messages),
        ];
        let scenario = self.name();
        for (option, value) in given {
            if let Some(value) = value
                && !self.takes().contains(&option)
            {
                let text = format!("{option} {value}: {scenario} has no use for it");
                return Err(LoadError::Option(text));
            }
        }
        if let (Some(rate), Some(_)) = (options.rate, options.outstanding) {
            let text = format!("--rate {rate}: with --outstanding there is no rate");
            return Err(LoadError::Option(text));
        }
        Ok(())
    }
}

/// Plays a scenario against a server.
pub fn run(
    scenario: Scenario,
    options: &Options,
    server: &mut Server,
) -> Result<Report, LoadError> {
    let mut report = match scenario {
        Scenario::Big if options.rate.is_some() => lat::run(options, server, lat::BIG)?,
        Scenario::Rooms if options.rate.is_some() => lat::run(options, server, lat::ROOMS)?,
        Scenario::Big => closed_loop::run(options, server, closed_loop::BIG)?,
        Scenario::Rooms => closed_loop::run(options, server, closed_loop::ROOMS)?,
        Scenario::Lat => lat::run(options, server, lat::BIG)?,
        Scenario::Idle => idle::run(options, server)?,
        Scenario::Connect => connect::run(options, server)?,
        Scenario::Storm => storm::run(options, server)?,
        Scenario::Chain => chain::run(options, server)?,
        Scenario::Drain => drain::run(options, server)?,
        Scenario::Chat => chat::run(options, server)?,
    };
    report.scenario = scenario.name();
    report.server.clone_from(&server.name);
    report.processes = server.watched.iter().map(|watched| watched.name.clone()).collect();
    Ok(report)
}
