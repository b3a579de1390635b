//! The tables of docs/SETTINGS.md are the programs' own.

use std::path::Path;

use gateway::config::GatewaySettings;
use shared::process::settings::markdown_table;
use sync_worker::config::WorkerSettings;

const GATEWAY: &str = "<!-- settings: written by a test, see tests/it/settings_md.rs -->\n";
const WORKER: &str = "<!-- settings of the sync-worker: written by the same test -->\n";
const END: &str = "<!-- end of settings -->";

/// The text with another table between a marker and the next end.
fn with_table(text: &str, begin: &str, table: &str) -> String {
    let (before, rest) = text.split_once(begin).expect("it has both first markers");
    let (_, after) = rest.split_once(END).expect("it has both second markers");
    format!("{before}{begin}\n{table}\n{END}{after}")
}

#[test]
fn the_tables_of_settings_are_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SETTINGS.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let wanted = with_table(&text, GATEWAY, &markdown_table::<GatewaySettings>());
    let wanted = with_table(&wanted, WORKER, &markdown_table::<WorkerSettings>());
    if std::env::var_os("UPDATE_SETTINGS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    } else {
        assert!(
            text == wanted,
            "the tables of docs/SETTINGS.md are not what the programs have; write them anew with\n\
             UPDATE_SETTINGS=1 cargo test -p tests --test it settings_md"
        );
    }
}
