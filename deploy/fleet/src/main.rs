//! The `fleet` program; see `fleet --help`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    fleet::cli::run().await
}
