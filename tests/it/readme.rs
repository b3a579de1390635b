//! The README's tables of settings are the programs' own.

use std::path::Path;

use gateway::config::Settings as GatewaySettings;
use sync_worker::config::Settings as WorkerSettings;

const GATEWAY: &str = "<!-- settings: written by a test, see tests/it/readme.rs -->\n";
const WORKER: &str = "<!-- settings of the sync-worker: written by the same test -->\n";
const END: &str = "<!-- end of settings -->";

/// The text with another table between a marker and the next end.
fn with_table(text: &str, begin: &str, table: &str) -> String {
    let (before, rest) = text.split_once(begin).expect("the README has both first markers");
    let (_, after) = rest.split_once(END).expect("the README has both second markers");
    format!("{before}{begin}\n{table}\n{END}{after}")
}

#[test]
fn the_tables_of_settings_are_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let wanted = with_table(&readme, GATEWAY, &GatewaySettings::markdown_table());
    let wanted = with_table(&wanted, WORKER, &WorkerSettings::markdown_table());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    } else {
        assert!(
            readme == wanted,
            "the README's tables of settings are not what the programs have; write them anew with\n\
             UPDATE_README=1 cargo test -p tests --test it readme"
        );
    }
}
