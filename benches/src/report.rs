//! What a run found, as a table for people and as JSON for programs.

use crate::latency::Percentiles;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The figure that says what else ran.
pub const OTHERS_CPU: &str = "other processes CPU";

/// What a run found.
#[derive(Debug, Default)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// What was under load.
    pub server: String,
    /// Its processes, by the names in the figures; the one that they are about first.
    pub processes: Vec<String>,
    figures: Vec<Figure>,
    /// What was lost, doubled or in two orders; the first of them.
    pub faults: Vec<String>,
    /// How much was.
    pub fault_count: u64,
    /// What the reader has to know to judge the figures.
    pub remarks: Vec<String>,
}

#[derive(Debug)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

impl Report {
    /// Adds a figure.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit });
    }

    /// Adds a count.
    #[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
    pub fn count(&mut self, name: impl Into<String>, value: u64) {
        self.add(name, value as f64, "");
    }

    /// Adds the percentiles of something that took time.
    pub fn latency(&mut self, name: &str, found: Percentiles) {
        if found.count == 0 {
            return;
        }
        let parts = [
            ("p50", found.p50),
            ("p90", found.p90),
            ("p99", found.p99),
            ("p99.9", found.p999),
            ("max", found.max),
        ];
        for (part, value) in parts {
            self.add(format!("{name} {part}"), value, "ms");
        }
    }

    /// The value of a figure.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// Whether nothing was lost, doubled or in two orders.
    pub fn is_clean(&self) -> bool {
        self.fault_count == 0
    }

    /// A table.
    pub fn text(&self) -> String {
        let mut text = format!("\n{} against {}\n", self.scenario, self.server);
        let width = self.figures.iter().map(|figure| figure.name.chars().count()).max();
        let width = width.unwrap_or(0);
        for Figure { name, value, unit } in &self.figures {
            let _ = writeln!(text, "  {name:width$}  {:>13} {unit}", shown(*value));
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "  note: {remark}");
        }
        if self.is_clean() {
            text.push_str("  nothing lost, nothing doubled, one order in every room\n");
        } else {
            let _ = writeln!(text, "  FAULTS: {}", self.fault_count);
            for fault in &self.faults {
                let _ = writeln!(text, "    {fault}");
            }
        }
        text
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let figures = self.figures.iter().map(|figure| {
            (figure.name.clone(), json!({"value": figure.value, "unit": figure.unit}))
        });
        json!({
            "scenario": self.scenario,
            "server": self.server,
            "processes": self.processes,
            "figures": figures.collect::<Map<_, _>>(),
            "remarks": self.remarks,
            "faults": self.faults,
            "faultCount": self.fault_count,
        })
    }
}

/// Thousands apart, and as many digits as say something.
fn shown(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 1000.0 || large.fract() == 0.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 3,
    };
    let plain = format!("{value:.digits$}");
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        let left = whole.len() - place;
        if place > 0 && left % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_the_digits_that_say_something() {
        let cases = [
            (0.0, "0"),
            (3.0, "3"),
            (0.1234, "0.123"),
            (45.67, "45.7"),
            (999.0, "999"),
            (1234.5, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-1234.0, "-1,234"),
        ];
        for (value, expected) in cases {
            assert_eq!(shown(value), expected);
        }
    }

    #[test]
    fn a_report_with_faults_says_so_in_both_forms() {
        let mut report = Report { scenario: "big".to_owned(), ..Report::default() };
        report.add("deliveries per CPU-second", 700_000.0, "");
        assert!(report.text().contains("nothing lost"));
        report.fault_count = 1;
        report.faults.push("room 0: member 1 got message 2 twice, or late".to_owned());
        assert!(!report.is_clean() && report.text().contains("FAULTS: 1"));
        let json = report.json();
        assert_eq!(json["faultCount"], 1);
        assert_eq!(json["figures"]["deliveries per CPU-second"]["value"], 700_000.0);
    }
}
