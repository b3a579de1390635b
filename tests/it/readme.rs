//! The README's table of settings is the gateway's own.

use std::path::Path;

use gateway::config::Settings;

const BEGIN: &str = "<!-- settings: written by a test, see tests/it/readme.rs -->\n";
const END: &str = "<!-- end of settings -->";

#[test]
fn the_table_of_settings_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the README has the first marker");
    let (_, after) = rest.split_once(END).expect("the README has the second marker");
    let wanted = format!("{before}{BEGIN}\n{}\n{END}{after}", Settings::markdown_table());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    } else {
        assert!(
            readme == wanted,
            "the README's table of settings is not what the gateway has; write it anew with\n\
             UPDATE_README=1 cargo test -p tests --test it readme"
        );
    }
}
