//! The result as Markdown.

use super::machine::Machine;
use super::plan::{CELLS, Plan};
use super::{Values, spread};
use std::fmt::Write;

/// What ratios are of.
const LIMITS: [&str; 2] = ["limit-direct", "limit-coalesce"];

pub(super) fn markdown(values: &Values, machine: &Machine, plan: &Plan) -> String {
    let mut text = String::from("# Roomcast beside its limits and its peers\n\n");
    let _ = writeln!(
        text,
        "Medians of {} rounds of {} s each, with the least and the most; the server on core 0, \
         everything else on core 1.\nWhat each scenario is: [README](../README.md).\n",
        plan.rounds, plan.seconds
    );
    for (name, value) in &machine.lines {
        let _ = writeln!(text, "- {name}: {value}");
    }
    if let Some((median, _, most)) = spread(&values.others) {
        let _ = writeln!(
            text,
            "- CPU that other processes took meanwhile: {median:.0} % of a core (at most {most:.0})"
        );
    }
    text.push_str("\n## Figures\n\n");
    head(&mut text, values);
    for (server, name) in values.servers.iter().enumerate() {
        let _ = write!(text, "| {name} |");
        for cell in values.cells() {
            let shown = values.spread(server, cell).map(|(median, least, most)| {
                format!("{} ({}–{})", short(median), short(least), short(most))
            });
            let _ = write!(text, " {} |", shown.unwrap_or_else(|| "–".to_owned()));
        }
        text.push('\n');
    }
    text.push_str("\n## The same, in percent of the better limit\n\n");
    text.push_str("Of what is better when it is less, 200 is twice as much as the limit.\n\n");
    head(&mut text, values);
    for (server, name) in values.servers.iter().enumerate() {
        let _ = write!(text, "| {name} |");
        for cell in values.cells() {
            let ratio = values.spread(server, cell).zip(best_limit(values, cell));
            let shown = ratio.map(|((median, ..), limit)| format!("{:.0}", 100.0 * median / limit));
            let _ = write!(text, " {} |", shown.unwrap_or_else(|| "–".to_owned()));
        }
        text.push('\n');
    }
    if !values.remarks.is_empty() {
        text.push_str("\n## Runs without a result\n\n");
        for remark in &values.remarks {
            let _ = writeln!(text, "- {remark}");
        }
    }
    text
}

fn head(text: &mut String, values: &Values) {
    text.push_str("| server |");
    for cell in values.cells() {
        let _ = write!(text, " {} |", CELLS[cell].title);
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(values.cells().count()));
}

/// The better of the two limits, where one was measured.
pub(super) fn best_limit(values: &Values, cell: usize) -> Option<f64> {
    let is_limit = |(_, name): &(usize, &String)| LIMITS.contains(&name.as_str());
    let limits = values.servers.iter().enumerate().filter(is_limit);
    let medians = limits.filter_map(|(server, _)| Some(values.spread(server, cell)?.0));
    let better = if CELLS[cell].more_is_better { f64::max } else { f64::min };
    medians.reduce(better).filter(|limit| *limit > 0.0)
}

/// Three digits, and thousands as k.
pub(super) fn short(value: f64) -> String {
    match value {
        large if large >= 10_000.0 => format!("{:.0}k", large / 1000.0),
        large if large >= 1000.0 => format!("{:.1}k", large / 1000.0),
        middle if middle >= 100.0 => format!("{middle:.0}"),
        middle if middle >= 10.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}
