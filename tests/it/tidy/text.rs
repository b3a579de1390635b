//! Lengths, leftovers, and wire names that are written twice.

use super::source::{Source, Without};

const FILE_LINES_MAX: usize = 500;
const LINE_CHARS_MAX: usize = 100;

/// A text of so many characters cannot be expected to be broken up.
const LONG_TEXT_CHARS: usize = 60;

/// Where wire names are written.
const PROTOCOL: &str = "shared/src/contract/protocol";

/// How the names of events begin; written apart, so that this file does not break its own rule.
const FAMILIES: [&str; 8] =
    ["message", "room", "typing", "presence", "receipt", "history", "user", "credits"];

pub(crate) fn check_length(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        complaints.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path));
    }
    for (number, line) in source.text.lines().enumerate() {
        let chars = line.chars().count();
        if chars > LINE_CHARS_MAX && !has_long_text(line) {
            let place = format!("{}:{}", source.path, number + 1);
            complaints.push(format!("{place}: {chars} characters, at most {LINE_CHARS_MAX}"));
        }
    }
    complaints
}

/// rustfmt breaks no text, and a long one is often read best in one piece.
fn has_long_text(line: &str) -> bool {
    let whole = line.replace("\\\"", "  ");
    whole.split('"').skip(1).step_by(2).any(|text| text.chars().count() > LONG_TEXT_CHARS)
}

pub(crate) fn check_leftovers(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let markers = [concat!("TO", "DO"), concat!("FIX", "ME")];
    for (number, line) in source.text.lines().enumerate() {
        for marker in markers.iter().filter(|marker| line.contains(**marker)) {
            let place = format!("{}:{}", source.path, number + 1);
            complaints.push(format!("{place}: {marker} belongs into an issue"));
        }
    }
    let code = source.production(Without::CommentsAndTexts);
    for opening in ["#[allow(", "#![allow("] {
        for (at, _) in code.match_indices(opening) {
            let attribute = code[at..].split(")]").next().unwrap_or_default();
            if !attribute.contains("reason") {
                let line = code[..at].lines().count().max(1);
                let advice = "expect it with a reason";
                complaints.push(format!("{}:{line}: {attribute}: {advice}", source.path));
            }
        }
    }
    complaints
}

/// Event names stand in the protocol's enums; elsewhere only tests spell them out, as outsiders.
pub(crate) fn check_event_names(source: &Source) -> Vec<String> {
    if source.path.starts_with(PROTOCOL) || source.is_test() {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (number, line) in source.production(Without::Comments).lines().enumerate() {
        for family in FAMILIES {
            let name = format!("\"{family}:");
            // What follows is a word; a space would make it prose.
            let is_name = |at: usize| line[at + name.len()..].starts_with(char::is_alphabetic);
            if line.match_indices(&name).any(|(at, _)| is_name(at)) {
                let place = format!("{}:{}", source.path, number + 1);
                complaints.push(format!("{place}: wire names are written in {PROTOCOL} only"));
            }
        }
    }
    complaints
}

#[test]
fn long_files_and_lines_are_found_and_long_texts_are_not() {
    let found = |text: &str| check_length(&Source::new("a/src/b.rs", text)).len();
    assert_eq!(found(&"x\n".repeat(FILE_LINES_MAX)), 0);
    assert_eq!(found(&"x\n".repeat(FILE_LINES_MAX + 1)), 1);
    assert_eq!(found(&"é".repeat(LINE_CHARS_MAX)), 0);
    assert_eq!(found(&"x".repeat(LINE_CHARS_MAX + 1)), 1);
    assert_eq!(found(&format!("let a = \"{}\";", "x".repeat(LINE_CHARS_MAX))), 0);
    assert_eq!(found(&format!("let a = ({}\"\");", "\"x\", ".repeat(LINE_CHARS_MAX / 5))), 1);
}

#[test]
fn leftovers_are_found() {
    let found = |text: &str| check_leftovers(&Source::new("a/src/b.rs", text)).len();
    assert_eq!(found("#[expect(dead_code, reason = \"soon\")]\nlet s = \"#[allow(x)]\";"), 0);
    assert_eq!(found("#[allow(dead_code, reason = \"soon\")]\nfn a() {}"), 0);
    assert_eq!(found("fn a() {}\n#[allow(dead_code)]\nfn b() {}"), 1);
    assert_eq!(found(concat!("// TO", "DO: more\n// FIX", "ME")), 2);
}

#[test]
fn wire_names_outside_the_protocol_are_found() {
    let literal = concat!("let e = \"mess", "age:new\";");
    let found = |path: &str, text: &str| check_event_names(&Source::new(path, text)).len();
    assert_eq!(found("gateway/src/hub.rs", literal), 1);
    assert_eq!(found("gateway/src/hub/tests.rs", literal), 0);
    assert_eq!(found("tests/it/a.rs", literal), 0);
    assert_eq!(found(PROTOCOL, literal), 0);
    assert_eq!(found("gateway/src/hub.rs", &format!("// {literal}")), 0);
    assert_eq!(found("gateway/src/hub.rs", "panic!(\"user: {name}\")"), 0);
}
