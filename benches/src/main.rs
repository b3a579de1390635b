//! The load generator. See `load --help` and `benches/README.md`.

use std::process::ExitCode;

fn main() -> ExitCode {
    benches::cli::run()
}
