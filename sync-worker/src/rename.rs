//! The subcommand `deployment rename`.

use std::io::{self, Write as _};

use shared::process::settings::Secret;
use shared::store::StoreError;
use shared::store::postgres::{self, PostgresStore, Renamed, UrlError};

/// Nothing was renamed.
const NOT_DONE: u8 = 1;
/// `EX_USAGE`.
const USAGE: u8 = 64;

/// Why the deployment keeps its name.
#[derive(Debug, thiserror::Error)]
pub enum RenamingError {
    /// No such subcommand.
    #[error("expected: deployment rename")]
    Usage,
    /// The database's address is of no use.
    #[error("DATABASE_URL is of no use")]
    Url(#[from] UrlError),
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

impl RenamingError {
    /// The exit code: 64 for a wrong subcommand, else 1.
    #[must_use]
    pub fn code(&self) -> u8 {
        if matches!(self, RenamingError::Usage) { USAGE } else { NOT_DONE }
    }
}

/// Renames, says both names, and gives the exit code.
///
/// # Errors
/// Says why nothing was renamed, or that nobody was told.
pub async fn run(
    database_url: Option<&Secret>,
    subcommand: &[String],
) -> Result<u8, RenamingError> {
    if subcommand.iter().map(String::as_str).ne(["deployment", "rename"]) {
        return Err(RenamingError::Usage);
    }
    let url = database_url.cloned().unwrap_or_default();
    let store = PostgresStore::connect(&url, postgres::Settings::default())?;
    let renamed = store.rename_deployment().await?;
    let Renamed { before, now } = renamed.ok_or(RenamingError::AtWork)?;
    writeln!(
        io::stdout(),
        "the deployment {before} is called {now} now; a redis that {before} has used is refused"
    )?;
    Ok(0)
}
