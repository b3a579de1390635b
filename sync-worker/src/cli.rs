//! The subcommands of an operator: which of them needs which server, and running it.

use std::process::ExitCode;

use shared::process::error_chain::error_chain;
use shared::process::settings::Problem;
use shared::process::telemetry;

use crate::config::Settings;
use crate::dead_letters;
use crate::erase;
use crate::reconcile;
use crate::rename;

/// The subcommands, as the program's help has them.
pub const SUBCOMMAND: &str = "[dead-letters list|show N|redrive N|redrive all] [reconcile] [erase user ID|room ID] \
     [deployment rename]";

/// `EX_USAGE`.
const USAGE: u8 = 64;

/// Which settings a subcommand needs.
#[must_use]
pub fn check(subcommand: &[String]) -> fn(&Settings) -> Vec<Problem> {
    match subcommand.first().map(String::as_str) {
        Some("dead-letters" | "reconcile" | "deployment") => Settings::database_problems,
        Some("erase") => Settings::both_problems,
        Some(_) => |_| Vec::new(),
        None => Settings::problems,
    }
}

/// Runs the subcommand; what cannot be done is said on the standard error.
pub async fn run(settings: &Settings, subcommand: &[String]) -> ExitCode {
    let database_url = settings.database_url.as_ref();
    let done = match subcommand.first().map(String::as_str) {
        Some("reconcile") => reconcile::run(database_url, subcommand)
            .await
            .map_err(|error| (error_chain(&error), error.code())),
        Some("erase") => erase::run(settings, subcommand)
            .await
            .map_err(|error| (error_chain(&error), error.code())),
        Some("dead-letters") => dead_letters::run(database_url, subcommand)
            .await
            .map_err(|error| (error_chain(&error), error.code())),
        Some("deployment") => rename::run(database_url, subcommand)
            .await
            .map_err(|error| (error_chain(&error), error.code())),
        Some(_) | None => Err((format!("expected: {SUBCOMMAND}"), USAGE)),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err((text, code)) => {
            telemetry::last_words(&format!("sync-worker: {text}\n"));
            ExitCode::from(code)
        }
    }
}
