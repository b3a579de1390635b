//! Operator subcommands.

use std::error::Error;
use std::process::ExitCode;

use clap::Command;
use shared::process::error_chain::error_chain;
use shared::process::settings::{self, Sources, Stop};
use shared::process::telemetry;
use shared::store::postgres::{self, PostgresStore};

use crate::config::WorkerSettings;
use crate::dead_letters::{self, DeadLetters};
use crate::erase::{self, Target};
use crate::reconcile;
use crate::rename;

/// What an operator can ask.
#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
    /// List, show or redrive what the database refused
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Compare ledger, balances and messages in Postgres, and end with 1 if they differ
    Reconcile,
    /// Erase the messages of a user or a room, in Redis and in Postgres
    #[command(subcommand)]
    Erase(Target),
    /// Change what the database says of its deployment
    #[command(subcommand)]
    Deployment(Deployment),
}

/// What can be done with a deployment.
#[derive(Debug, clap::Subcommand)]
pub enum Deployment {
    /// Give a copied database another name, so that it refuses the Redis of the original
    Rename,
}

/// The settings and the subcommand, or the reason to stop.
///
/// # Errors
/// The reason to stop.
pub fn start(sources: &Sources) -> Result<(WorkerSettings, Option<Subcommand>), Stop> {
    let program = Command::new("sync-worker")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Moves Roomcast's log from Redis into Postgres, each entry exactly once.");
    settings::start(sources, program, |settings: &WorkerSettings, asked: Option<&Subcommand>| {
        match asked {
            None => settings.problems(),
            Some(Subcommand::Erase(_)) => settings.both_problems(),
            Some(
                Subcommand::DeadLetters(_) | Subcommand::Reconcile | Subcommand::Deployment(_),
            ) => settings.database_problems(),
        }
    })
}

/// Runs the subcommand; what cannot be done is said on the standard error, and ends with 1.
pub async fn run(settings: &WorkerSettings, subcommand: Subcommand) -> ExitCode {
    match done(settings, subcommand).await {
        Ok(code) => code,
        Err(error) => {
            telemetry::last_words(&format!("sync-worker: {}\n", error_chain(&*error)));
            ExitCode::FAILURE
        }
    }
}

async fn done(
    settings: &WorkerSettings,
    subcommand: Subcommand,
) -> Result<ExitCode, Box<dyn Error>> {
    let database_url = settings.database_url.clone().unwrap_or_default();
    let store = PostgresStore::connect(&database_url, postgres::Settings::default())?;
    Ok(match subcommand {
        Subcommand::DeadLetters(asked) => dead_letters::run(&store, asked).await?,
        Subcommand::Reconcile => reconcile::run(&store).await?,
        Subcommand::Erase(target) => erase::run(&store, settings, target).await?,
        Subcommand::Deployment(Deployment::Rename) => rename::run(&store).await?,
    })
}
