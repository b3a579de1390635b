//! The subcommand `reconcile`: compares ledger, balances and messages.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use shared::store::postgres::PostgresStore;
use shared::store::{Ledger, Reconciliation, StoreError};

/// Looks at a difference before it counts: a message and its cost may be stored by two batches.
const LOOKS: usize = 3;
/// Longer than a batch takes.
const PAUSE: Duration = Duration::from_secs(2);

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody listens.
    #[error("the answer could not be written")]
    Output(#[from] io::Error),
}

/// Compares, says what was looked at and each difference, and gives the exit code: 0 only where
/// there is none.
///
/// # Errors
/// Says why nothing was compared.
pub async fn run(store: &PostgresStore) -> Result<ExitCode, ReconcileError> {
    let Reconciliation { ledger_rows, users, messages, differences } = settled(store).await?;
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
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
