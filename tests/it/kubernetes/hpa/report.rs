//! The day as a page and as a picture: docs/autoscaling.md and docs/autoscaling.svg.

use std::fmt::Write as _;

use super::day::{DAY_S, Day, Sample, TROUBLES};

const BEGIN: &str = "<!-- the day: written by a test, see tests/it/kubernetes/hpa.rs -->\n";
const END: &str = "<!-- end of the day -->";

/// Where the picture's lines are.
const LEFT: u64 = 60;
const TOP: u64 = 30;
const WIDTH: u64 = 960;
const HEIGHT: u64 = 300;
/// The most pods that the picture has room for.
const PODS: u64 = 40;

/// A number with a point after each thousand's, as people read it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn clock(at_s: u64) -> String {
    format!("{:02}:{:02}", at_s / 3600, at_s / 60 % 60)
}

/// The page with the day between its markers.
pub(crate) fn with_tables(page: &str, day: &Day, connections_max: u64) -> String {
    let (before, rest) = page.split_once(BEGIN).expect("it has the first marker");
    let (_, after) = rest.split_once(END).expect("it has the second marker");
    let hours = hours(day, connections_max);
    let summary = summary(day);
    let troubles = troubles();
    format!("{before}{BEGIN}\n{summary}\n{hours}\n{troubles}\n{END}{after}")
}

fn summary(day: &Day) -> String {
    let moved: u64 = day.samples.iter().map(|sample| sample.moved).sum();
    let rebalanced = day.samples.last().map_or(0, |sample| sample.rebalanced);
    let most = day.moved_within(600).into_iter().max_by_key(|(_, moved, ..)| *moved);
    let (at_s, most, clients, pods) = most.unwrap_or_default();
    let pods_max = day.samples.iter().map(|sample| sample.pods).max().unwrap_or(0);
    let left: u64 = day.departures.iter().map(|one| one.left).sum();
    format!(
        "From {} to {pods_max} pods and back: {left} pods were taken away, one at a time, which \
         moved {} clients.\nMost of them in ten minutes: {} of {} clients ({}), on {pods} pods, \
         from {}.\n{} more were moved so that pods have alike many. {} clients found no place.\n",
        day.fewest_pods,
        grouped(moved),
        grouped(most),
        grouped(clients),
        percent(most, clients),
        clock(at_s),
        grouped(rebalanced),
        day.turned_away,
    )
}

/// A part in hundredths, rounded to a tenth of one.
fn percent(part: u64, whole: u64) -> String {
    let tenths = (2000 * part + whole) / (2 * whole).max(1);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn hours(day: &Day, connections_max: u64) -> String {
    let mut table = "| Hour | Clients | Pods | Pods taken away | Clients moved by that | \
                     Fullest pod, of its places |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for hour in 0..24 {
        let is_in = |at_s: u64| at_s / 3600 == hour;
        let samples: Vec<&Sample> =
            day.samples.iter().filter(|sample| is_in(sample.at_s)).collect();
        let range = |figure: fn(&Sample) -> u64| {
            let figures = samples.iter().map(|sample| figure(sample));
            let (least, most) = (figures.clone().min().unwrap_or(0), figures.max().unwrap_or(0));
            if least == most {
                grouped(least)
            } else {
                format!("{} to {}", grouped(least), grouped(most))
            }
        };
        let left: u64 =
            day.departures.iter().filter(|one| is_in(one.at_s)).map(|one| one.left).sum();
        let moved: u64 = samples.iter().map(|sample| sample.moved).sum();
        let fullest = samples.iter().map(|sample| sample.fullest).max().unwrap_or(0);
        let _ = writeln!(
            table,
            "| {hour:02} | {} | {} | {left} | {} | {} |",
            range(|sample| sample.clients),
            range(|sample| sample.pods),
            grouped(moved),
            percent(fullest, connections_max),
        );
    }
    table
}

fn troubles() -> String {
    let mut table = "| At | What went wrong |\n|---|---|\n".to_owned();
    for (minute, _, what) in TROUBLES {
        let _ = writeln!(table, "| {} | {what} |", clock(minute * 60));
    }
    table
}

fn x(at_s: u64) -> u64 {
    LEFT + at_s * WIDTH / DAY_S
}

/// Tenths of a pod to a height.
fn y(tenths: u64) -> u64 {
    TOP + HEIGHT - (tenths * HEIGHT / (10 * PODS)).min(HEIGHT)
}

/// The pods that there are as a line with steps, above those that the clients need.
pub(crate) fn picture(day: &Day, target: u64) -> String {
    let (right, bottom) = (LEFT + WIDTH, TOP + HEIGHT);
    let mut needed = format!("{LEFT},{bottom}");
    // One point for four minutes: finer than the picture.
    for sample in day.samples.iter().step_by(16) {
        let _ = write!(needed, " {},{}", x(sample.at_s), y(10 * sample.clients / target));
    }
    let mut line = String::new();
    let mut before = None;
    for sample in &day.samples {
        if before != Some(sample.pods) {
            if let Some(pods) = before {
                let _ = write!(line, " {},{}", x(sample.at_s), y(10 * pods));
            }
            let _ = write!(line, " {},{}", x(sample.at_s), y(10 * sample.pods));
            before = Some(sample.pods);
        }
    }
    let _ = write!(line, " {right},{}", y(10 * before.unwrap_or(0)));
    let axes = axes();
    let marks: String = TROUBLES
        .iter()
        .map(|(minute, _, what)| {
            let x = x(minute * 60);
            format!(
                "  <path class=\"trouble\" d=\"M{x} {TOP}V{bottom}\"><title>{} {what}</title>\
                 </path>\n",
                clock(minute * 60)
            )
        })
        .collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1040 400\" role=\"img\" \
         aria-label=\"Gateways over a simulated day\">\n\
         {STYLE}  <rect width=\"1040\" height=\"400\" class=\"paper\"/>\n{axes}\
         \x20 <polygon class=\"needed\" points=\"{needed} {right},{bottom}\"/>\n{marks}\
         \x20 <polyline class=\"pods\" points=\"{}\"/>\n{LEGEND}</svg>\n",
        line.trim_start(),
    )
}

const STYLE: &str = "  <style>
    text { font: 13px sans-serif; fill: #444 }
    .paper { fill: #fff }
    .grid { stroke: #ddd }
    .needed { fill: #9ecbe8 }
    .pods { fill: none; stroke: #c2410c; stroke-width: 2 }
    .trouble { stroke: #777; stroke-dasharray: 3 4 }
  </style>
";

const LEGEND: &str = "  <rect x=\"60\" y=\"372\" width=\"24\" height=\"10\" class=\"needed\"/>
  <text x=\"92\" y=\"382\">pods that the clients need at the target</text>
  <path class=\"pods\" d=\"M380 377h24\"/>
  <text x=\"412\" y=\"382\">pods there are</text>
  <path class=\"trouble\" d=\"M540 370v14\"/>
  <text x=\"552\" y=\"382\">something goes wrong</text>
";

fn axes() -> String {
    let mut text = String::new();
    for pods in (0..=PODS).step_by(10) {
        let at = y(10 * pods);
        let _ = writeln!(text, "  <path class=\"grid\" d=\"M{LEFT} {at}h{WIDTH}\"/>");
        let _ = writeln!(text, "  <text x=\"28\" y=\"{}\">{pods}</text>", at + 4);
    }
    for hour in (0..=24).step_by(3) {
        let at = x(hour * 3600);
        let label = format!("{hour:02}:00");
        let (left, base) = (at - 16, TOP + HEIGHT + 20);
        let _ = writeln!(text, "  <text x=\"{left}\" y=\"{base}\">{label}</text>");
    }
    text
}

#[test]
fn figures_are_written_as_people_read_them() {
    assert_eq!([7, 7000, 1_234_567].map(grouped), ["7", "7 000", "1 234 567"]);
    assert_eq!(clock(14 * 3600 + 5 * 60), "14:05");
    assert_eq!([percent(1, 8), percent(0, 0), percent(2, 3)], ["12.5 %", "0.0 %", "66.7 %"]);
}
