//! The subcommand `reconcile`: compares ledger, balances and messages.

use std::io::{self, Write as _};
use std::time::Duration;

use shared::process::settings::Secret;
use shared::store::postgres::{self, PostgresStore, UrlError};
use shared::store::{Ledger, Reconciliation, StoreError};

/// Something does not agree, or could not be read.
const DIFFERS: u8 = 1;
/// `EX_USAGE`.
const USAGE: u8 = 64;

/// Looks at a difference before it counts: a message and its cost may be stored by two batches.
const LOOKS: usize = 3;
/// Longer than a batch takes.
const PAUSE: Duration = Duration::from_secs(2);

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// No such subcommand.
    #[error("expected: reconcile")]
    Usage,
    /// The database's address is of no use.
    #[error("DATABASE_URL is of no use")]
    Url(#[from] UrlError),
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody listens.
    #[error("the answer could not be written")]
    Output(#[from] io::Error),
}

impl ReconcileError {
    /// The exit code: 64 for a wrong subcommand, else 1.
    #[must_use]
    pub fn code(&self) -> u8 {
        if matches!(self, ReconcileError::Usage) { USAGE } else { DIFFERS }
    }
}

/// Compares, says what was looked at and each difference, and gives the exit code: 0 only where
/// there is none.
///
/// # Errors
/// Says why nothing was compared.
pub async fn run(
    database_url: Option<&Secret>,
    subcommand: &[String],
) -> Result<u8, ReconcileError> {
    if subcommand.len() != 1 {
        return Err(ReconcileError::Usage);
    }
    let url = database_url.cloned().unwrap_or_default();
    let store = PostgresStore::connect(&url, postgres::Settings::default())?;
    let Reconciliation { ledger_rows, users, messages, differences } = settled(&store).await?;
    let mut out = io::stdout();
    for difference in &differences {
        writeln!(out, "{}", printable(difference))?;
    }
    writeln!(
        out,
        "{ledger_rows} rows of the ledger, {users} balances, {messages} messages that cost \
         something: {}",
        match differences.len() {
            0 => "no differences".to_owned(),
            1 => "1 difference".to_owned(),
            many => format!("{many} differences"),
        }
    )?;
    Ok(if differences.is_empty() { 0 } else { DIFFERS })
}

/// What is still found when it has been looked at several times.
async fn settled(store: &PostgresStore) -> Result<Reconciliation, StoreError> {
    let mut found = store.reconcile().await?;
    for _ in 1..LOOKS {
        if found.differences.is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        let before = found.differences;
        found = store.reconcile().await?;
        // What has moved on meanwhile is looked at again.
        if found.differences == before {
            break;
        }
    }
    Ok(found)
}

/// In one line, and nothing that would steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
