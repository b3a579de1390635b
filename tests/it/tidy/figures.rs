//! Figures that are kept: lines of production code, sizes of documents, a test for each invariant.

use std::path::Path;
use std::process::Command;

use super::source::Source;

/// Most lines of production code that each crate has, as `tests/lines` counts them. A feature that
/// wants in says its lines; whoever deletes lowers the figure.
const LINES_MAX: [(&str, usize); 4] =
    [("shared", 14_580), ("gateway", 19_630), ("sync-worker", 2_550), ("deploy/fleet", 2_900)];

/// Largest size of a document, in bytes: what is longer is not read.
const DOCUMENT_BYTES_MAX: [(&str, usize); 3] =
    [("README.md", 7_000), ("ARCHITECTURE.md", 13_000), ("CONTRIBUTING.md", 4_000)];

/// Crates that have grown over their figure.
pub(crate) fn check_lines(root: &Path) -> Vec<String> {
    let output = Command::new(root.join("tests/lines")).output().expect("tests/lines runs");
    let table = String::from_utf8(output.stdout).expect("its table is text");
    let grown = |&(name, most): &(&str, usize)| {
        let row = table.lines().find(|row| row.split_whitespace().next() == Some(name));
        let row = row.unwrap_or_else(|| panic!("tests/lines does not count {name}:\n{table}"));
        let figure = row.split_whitespace().nth(1).and_then(|text| text.parse::<usize>().ok());
        let lines = figure.expect("the second column is a number");
        (lines > most).then(|| format!("{name}: {lines} lines of production code, {most} at most"))
    };
    LINES_MAX.iter().filter_map(grown).collect()
}

/// Documents that are too long.
pub(crate) fn check_documents(root: &Path) -> Vec<String> {
    let grown = |&(name, most): &(&str, usize)| {
        let bytes = read(root, name).len();
        (bytes > most).then(|| format!("{name}: {bytes} bytes, {most} at most"))
    };
    DOCUMENT_BYTES_MAX.iter().filter_map(grown).collect()
}

/// Invariants of ARCHITECTURE.md that name no test, or one that is not there.
pub(crate) fn check_invariants(root: &Path, sources: &[Source]) -> Vec<String> {
    let text = read(root, "ARCHITECTURE.md");
    let (_, list) = text.split_once("## Invariants").expect("it has a list of invariants");
    let (list, _) = list.split_once("\n## ").expect("something follows");
    let invariants: Vec<&str> =
        list.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert!(invariants.len() >= 20, "only {} invariants were found", invariants.len());
    invariants.iter().filter_map(|invariant| complaint(invariant, sources)).collect()
}

fn complaint(invariant: &str, sources: &[Source]) -> Option<String> {
    let is_test = |text: &&str| text.rsplit_once("::").is_some_and(|(_, name)| name.len() > 15);
    let mut named = invariant.split('`').skip(1).step_by(2).filter(is_test).peekable();
    if named.peek().is_none() {
        return Some(format!("ARCHITECTURE.md names no test: {invariant}"));
    }
    let missing = named.find(|path| {
        let name = path.rsplit_once("::").map_or(*path, |(_, name)| name);
        let declared = format!("fn {name}(");
        !sources.iter().any(|source| source.is_test() && source.text.contains(&declared))
    })?;
    Some(format!("ARCHITECTURE.md names a test that is not there: {missing}"))
}

fn read(root: &Path, name: &str) -> String {
    std::fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invariant_without_its_test_is_found() {
        let source = Source::new("tests/it/a.rs", "fn a_message_stands_once_in_its_room() {}");
        let held = "1. Once. `a::a_message_stands_once_in_its_room`";
        assert_eq!(complaint(held, std::slice::from_ref(&source)), None);
        for broken in ["1. Once, in `contract`.", "1. Once. `a::a_message_stands_nowhere_at_all`"] {
            assert!(complaint(broken, std::slice::from_ref(&source)).is_some(), "{broken}");
        }
    }
}
