//! The subcommand `deployment rename`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use shared::store::StoreError;
use shared::store::postgres::{PostgresStore, Renamed};

/// Why the deployment keeps its name.
#[derive(Debug, thiserror::Error)]
pub enum RenamingError {
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What their log still has would never reach the database.
    #[error("processes of this deployment are at work, or were 10 seconds ago: end them first")]
    AtWork,
    /// Nobody listens.
    #[error("the answer could not be written")]
    Output(#[from] io::Error),
}

/// Renames, says both names, and gives the exit code.
///
/// # Errors
/// Says why nothing was renamed, or that nobody was told.
pub async fn run(store: &PostgresStore) -> Result<ExitCode, RenamingError> {
    let renamed = store.rename_deployment().await?;
    let Renamed { before, now } = renamed.ok_or(RenamingError::AtWork)?;
    writeln!(
        io::stdout(),
        "the deployment {before} is called {now} now; a redis that {before} has used is refused"
    )?;
    Ok(ExitCode::SUCCESS)
}
