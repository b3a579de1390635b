//! The scenarios, and what all of them do: gather a crowd, measure, and see that nothing was lost.

mod closed_loop;
mod lat;
mod idle;
mod connect;
mod gather;
mod measure;

use crate::cli::Options;
use crate::error::LoadError;
use crate::report::Report;
use crate::target::Target;

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
}

/// Plays a scenario against a target.
pub fn run(
    scenario: Scenario,
    options: &Options,
    target: &mut Target,
) -> Result<Report, LoadError> {
    let mut report = match scenario {
        Scenario::Big => closed_loop::run(options, target, closed_loop::BIG)?,
        Scenario::Rooms => closed_loop::run(options, target, closed_loop::ROOMS)?,
        Scenario::Lat => lat::run(options, target)?,
        Scenario::Idle => idle::run(options, target)?,
        Scenario::Connect => connect::run(options, target)?,
    };
    report.scenario = format!("{scenario:?}").to_lowercase();
    report.server.clone_from(&target.name);
    Ok(report)
}
