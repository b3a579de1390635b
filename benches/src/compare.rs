//! `compare`: several servers beside one another, in rounds, and what came of it as a table.
//!
//! Each run is a process of its own, `load SCENARIO --start SERVER --pin`, so that none inherits
//! anything of the one before. Rounds alternate between the servers, each time beginning with
//! another one: what the machine does meanwhile meets all of them alike.

mod chart;
mod table;
mod machine;
mod plan;

use crate::error::LoadError;
use crate::report::OTHERS_CPU;
use crate::stop;
use machine::Machine;
use plan::{CELLS, Plan};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub use plan::Comparison;

/// What was measured: for each server and each cell, one value each round.
#[derive(Debug)]
struct Values {
    servers: Vec<String>,
    /// By server, then by cell.
    found: Vec<Vec<Vec<f64>>>,
    /// What other processes used in each run, in percent of a core.
    others: Vec<f64>,
    remarks: Vec<String>,
}

impl Values {
    fn new(servers: &[String]) -> Values {
        let found = servers.iter().map(|_| vec![Vec::new(); CELLS.len()]).collect();
        Values { servers: servers.to_vec(), found, others: Vec::new(), remarks: Vec::new() }
    }

    /// Takes the figures of one run.
    fn take(&mut self, server: usize, scenario: &str, report: &Value) {
        self.others.extend(report["figures"][OTHERS_CPU]["value"].as_f64());
        let process = report["processes"][0].as_str().unwrap_or_default();
        for (place, cell) in CELLS.iter().enumerate().filter(|(_, cell)| cell.scenario == scenario)
        {
            let name = cell.figure.replace("{}", process);
            if let Some(value) = report["figures"][name]["value"].as_f64() {
                self.found[server][place].push(value);
            }
        }
    }

    /// Median, least and most, where there is anything.
    fn spread(&self, server: usize, cell: usize) -> Option<(f64, f64, f64)> {
        spread(&self.found[server][cell])
    }

    /// The columns that something was measured for.
    fn cells(&self) -> impl Iterator<Item = usize> {
        let is_measured = |cell: &usize| self.found.iter().any(|found| !found[*cell].is_empty());
        (0..CELLS.len()).filter(is_measured)
    }

    fn json(&self, machine: &Machine) -> Value {
        let servers = self.servers.iter().enumerate().map(|(server, name)| {
            let cells = CELLS.iter().enumerate();
            let cells = cells.map(|(at, cell)| (cell.title, json!(self.found[server][at])));
            (name.clone(), cells.map(|(title, values)| (title.to_owned(), values)).collect())
        });
        let servers: serde_json::Map<String, Value> = servers.collect();
        json!({
            "machine": machine.json(),
            "servers": servers,
            "others": self.others,
            "remarks": self.remarks,
        })
    }
}

/// Median, least and most.
fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    };
    Some((median, least, most))
}

/// Runs all of it. False if something was lost, doubled or in two orders.
pub fn run(comparison: &Comparison) -> Result<bool, LoadError> {
    let plan = Plan::new(comparison)?;
    let machine = Machine::look();
    if let Some(folder) = plan.out.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|source| LoadError::io(format!("making {}", folder.display()), source))?;
    }
    let mut values = Values::new(&plan.servers);
    let mut is_clean = true;
    for round in 0..plan.rounds {
        for scenario in &plan.scenarios {
            for turn in 0..plan.servers.len() {
                let server = (turn + round) % plan.servers.len();
                let name = &plan.servers[server];
                say(&format!("round {} of {}: {scenario} against {name}", round + 1, plan.rounds));
                match one(&plan, scenario, name)? {
                    Ok(report) => values.take(server, scenario, &report),
                    Err(why) => {
                        is_clean = false;
                        say(&why);
                        values.remarks.push(format!("{scenario} against {name}: {why}"));
                    }
                }
            }
        }
    }
    write(&plan.out, "md", &table::markdown(&values, &machine, &plan))?;
    write(&plan.out, "json", &format!("{:#}\n", values.json(&machine)))?;
    write(&plan.out, "svg", &chart::svg(&values))?;
    say(&table::markdown(&values, &machine, &plan));
    Ok(is_clean)
}

/// One run: its report, or why there is none.
fn one(plan: &Plan, scenario: &str, server: &str) -> Result<Result<Value, String>, LoadError> {
    let failed = |source| LoadError::io("running load", source);
    let json = plan.out.with_extension("run.json");
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args([scenario, "--start", server, "--pin", "--quiet", "--json"]).arg(&json);
    command.args(&plan.arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(failed)?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if stop::is_stopped() {
            // It ends what it started, and then itself.
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let _ = child.wait();
            let _ = std::fs::remove_file(&json);
            return Err(LoadError::Stopped);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let text = std::fs::read_to_string(&json).unwrap_or_default();
    let _ = std::fs::remove_file(&json);
    if status.success() {
        return Ok(serde_json::from_str(&text).map_err(|error| error.to_string()));
    }
    let report: Value = serde_json::from_str(&text).unwrap_or_default();
    if let Some(fault) = report["faults"][0].as_str() {
        return Ok(Err(format!("{} faults, the first: {fault}", report["faultCount"])));
    }
    let mut errors = String::new();
    if let Some(mut output) = child.stderr.take() {
        let _ = std::io::Read::read_to_string(&mut output, &mut errors);
    }
    Ok(Err(format!("{status}: {}", errors.trim())))
}

fn say(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{text}\n").as_bytes());
}

fn write(out: &Path, extension: &str, text: &str) -> Result<(), LoadError> {
    let path: PathBuf = out.with_extension(extension);
    let written = std::fs::write(&path, text);
    written.map_err(|source| LoadError::io(format!("writing {}", path.display()), source))
}

#[cfg(test)]
mod tests;
