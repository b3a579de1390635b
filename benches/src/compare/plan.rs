//! What is compared, and in which figures.

use crate::error::LoadError;
use std::path::{Path, PathBuf};

/// A column: one figure of one scenario.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) scenario: &'static str,
    /// The figure's name in a report; `{}` stands for the process that it is about.
    pub(super) figure: &'static str,
    pub(super) title: &'static str,
    /// Whether a larger value is the better one.
    pub(super) more_is_better: bool,
}

const fn cell(
    scenario: &'static str,
    figure: &'static str,
    title: &'static str,
    more_is_better: bool,
) -> Cell {
    Cell { scenario, figure, title, more_is_better }
}

/// The columns.
pub(super) const CELLS: [Cell; 6] = [
    cell("big", "deliveries per CPU-second", "big, deliveries per CPU-second", true),
    cell("rooms", "deliveries per CPU-second", "rooms, deliveries per CPU-second", true),
    cell("lat", "delivery p50", "lat p50, ms", false),
    cell("lat", "delivery p99", "lat p99, ms", false),
    cell("idle", "{} memory per connection", "idle, KiB per connection", false),
    cell("idle", "{} CPU per connect and join", "connect and join, CPU µs", false),
];

/// Everything that can be compared, as `--start` names it.
const SERVERS: [&str; 7] = [
    "limit-direct",
    "limit-coalesce",
    "cluster",
    "embedded",
    "ws",
    "socket-io",
    "socket-io-streams",
];
const SCENARIOS: [&str; 4] = ["big", "rooms", "lat", "idle"];

/// What is compared.
#[derive(Debug, Clone, clap::Args)]
pub struct Comparison {
    /// How often each server plays each scenario
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// For how long each run is measured
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Which servers, as --start names them; by default all, the limits among them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    servers: Vec<String>,
    /// Which scenarios: big, rooms, lat, idle
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Gateway to start; by default that of this workspace, built if need be
    #[arg(long, value_name = "FILE")]
    gateway_program: Option<PathBuf>,
    /// Worker to start; by default that of this workspace, built if need be
    #[arg(long, value_name = "FILE")]
    worker_program: Option<PathBuf>,
    /// A variable for the gateways
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// The result is written to NAME.md, NAME.json and NAME.svg in benches/results; a path with a
    /// slash says where else
    #[arg(long, value_name = "NAME", default_value = "latest")]
    name: String,
}

/// The same, checked.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rounds: usize,
    pub(super) seconds: u32,
    pub(super) servers: Vec<String>,
    pub(super) scenarios: Vec<String>,
    /// What each run is told beside its scenario and its server.
    pub(super) arguments: Vec<String>,
    /// Where the result goes, without an extension.
    pub(super) out: PathBuf,
}

impl Plan {
    pub(super) fn new(comparison: &Comparison) -> Result<Plan, LoadError> {
        let servers = known("--servers", &comparison.servers, &SERVERS)?;
        let scenarios = known("--scenarios", &comparison.scenarios, &SCENARIOS)?;
        let mut arguments = vec!["--seconds".to_owned(), comparison.seconds.to_string()];
        let programs = [
            ("--gateway-program", &comparison.gateway_program),
            ("--worker-program", &comparison.worker_program),
        ];
        for (option, program) in programs {
            if let Some(program) = program {
                arguments.extend([option.to_owned(), program.display().to_string()]);
            }
        }
        for variable in &comparison.set {
            arguments.extend(["--set".to_owned(), variable.clone()]);
        }
        let out = match comparison.name.contains('/') {
            true => PathBuf::from(&comparison.name),
            false => Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(&comparison.name),
        };
        let rounds = comparison.rounds as usize;
        Ok(Plan { rounds, seconds: comparison.seconds, servers, scenarios, arguments, out })
    }
}

/// What was named, all of it by default.
fn known(option: &str, named: &[String], all: &[&str]) -> Result<Vec<String>, LoadError> {
    if let Some(other) = named.iter().find(|name| !all.contains(&name.as_str())) {
        let all = all.join(", ");
        return Err(LoadError::Option(format!("{option} {other}: there are only {all}")));
    }
    match named.is_empty() {
        true => Ok(all.iter().map(|name| (*name).to_owned()).collect()),
        false => Ok(named.to_vec()),
    }
}
