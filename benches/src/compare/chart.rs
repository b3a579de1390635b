//! The result as a picture: bars for each column that is better when it is more.

use super::Values;
use super::plan::CELLS;
use super::table::short;
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const LABEL: f64 = 150.0;
const BAR: f64 = 18.0;
const GAP: f64 = 6.0;
const TITLE: f64 = 34.0;

pub(super) fn svg(values: &Values) -> String {
    let mut body = String::new();
    let mut y = 0.0;
    for place in values.cells().filter(|place| CELLS[*place].more_is_better) {
        let cell = &CELLS[place];
        y += TITLE;
        let _ =
            writeln!(body, r#"<text class="title" x="0" y="{}">{}</text>"#, y - 10.0, cell.title);
        let medians: Vec<_> =
            (0..values.servers.len()).map(|server| values.spread(server, place)).collect();
        let most = medians.iter().flatten().map(|found| found.0).fold(1.0, f64::max);
        for (name, found) in values.servers.iter().zip(medians) {
            let Some((median, ..)) = found else { continue };
            let length = median / most * (WIDTH - LABEL - 60.0);
            let kind = kind(name);
            let middle = y + BAR - 5.0;
            let end = LABEL + length + 6.0;
            let _ = writeln!(body, r#"<text x="0" y="{middle}">{name}</text>"#);
            let _ = writeln!(
                body,
                r#"<rect class="{kind}" x="{LABEL}" y="{y}" width="{length:.1}" height="{BAR}"/>"#
            );
            let _ = writeln!(body, r#"<text x="{end:.1}" y="{middle}">{}</text>"#, short(median));
            y += BAR + GAP;
        }
    }
    let style = "text{font:13px system-ui,sans-serif;fill:#333}.title{font-weight:600}\
                 .limit{fill:#b8c0cc}.roomcast{fill:#2f6fde}.peer{fill:#d9a441}\
                 @media(prefers-color-scheme:dark){text{fill:#ddd}}";
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}">
<style>{style}</style>
{body}</svg>
"#
    )
}

fn kind(server: &str) -> &'static str {
    match server {
        "cluster" | "embedded" => "roomcast",
        limit if limit.starts_with("limit") => "limit",
        _ => "peer",
    }
}
