//! The sources keep the house rules that neither rustc, nor clippy, nor rustfmt can see.
//!
//! Each rule is a function from sources to complaints, tried on a good and a bad snippet in its own
//! file; the tests here apply all of them to the workspace.

mod figures;
mod modules;
mod names;
mod purity;
mod retired;
mod text;
mod source;

use std::path::{Path, PathBuf};

use source::Source;

/// Where the workspace's own sources lie.
const FOLDERS: [&str; 6] = ["shared", "gateway", "sync-worker", "deploy", "tests", "benches"];

/// The crates whose modules are declared outermost first, by the file that declares them.
const ROOTS: [&str; 6] = [
    "shared/src/lib.rs",
    "gateway/src/lib.rs",
    "sync-worker/src/lib.rs",
    "deploy/fleet/src/lib.rs",
    "benches/src/lib.rs",
    "tests/harness/lib.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn workspace() -> Vec<Source> {
    let root = root();
    let mut sources = Vec::new();
    for folder in FOLDERS {
        source::read_folder(&root, Path::new(folder), &mut sources);
    }
    assert!(sources.len() > 100, "only {} sources were found", sources.len());
    sources
}

fn expect_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "the house rules are broken:\n{}\n", complaints.join("\n"));
}

fn each(check: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    workspace().iter().flat_map(check).collect()
}

#[test]
fn modules_import_only_what_is_declared_below_them() {
    let sources = workspace();
    let complaints = ROOTS.iter().flat_map(|root| modules::check(root, &sources));
    expect_none(&complaints.collect::<Vec<_>>());
}

#[test]
fn files_and_types_have_names_that_say_something() {
    expect_none(&each(names::check));
}

#[test]
fn names_that_were_given_up_stay_away() {
    expect_none(&each(retired::check));
}

#[test]
fn files_and_lines_are_short() {
    expect_none(&each(text::check_length));
}

#[test]
fn nothing_is_left_undone_or_allowed_without_a_reason() {
    expect_none(&each(text::check_leftovers));
}

#[test]
fn wire_names_are_written_once() {
    expect_none(&each(text::check_event_names));
}

#[test]
fn sockets_sql_bincode_and_output_stay_where_they_belong_and_the_contract_is_pure() {
    expect_none(&each(purity::check));
}

#[test]
fn crates_and_documents_stay_as_small_as_they_were() {
    expect_none(&figures::check_lines(&root()));
    expect_none(&figures::check_documents(&root()));
}

#[test]
fn every_invariant_names_a_test() {
    expect_none(&figures::check_invariants(&root(), &workspace()));
}
