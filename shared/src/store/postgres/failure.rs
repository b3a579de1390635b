//! Classifies errors of the database: whether the data are at fault.

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::store::StoreError;

/// Why a call was not done, besides a connection that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The server said no. Its detail is left out: it may quote a row.
    #[error("{message} (SQLSTATE {code})")]
    Refused { code: String, message: String },
    /// The call took longer than it may.
    #[error("no answer within {ms} ms")]
    Timeout { ms: u128 },
    /// A standby, or a server set to read only.
    #[error("the database cannot be written")]
    ReadOnly,
    /// Others wrote the same rows at the same time, every time.
    #[error("other writers were faster every time")]
    Contended,
    /// The tables are not there, or not whole.
    #[error("the database has not been migrated")]
    Unmigrated,
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> StoreError {
        StoreError::Unavailable(Box::new(trouble))
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> StoreError {
        match error.as_db_error() {
            Some(refusal) => refused(refusal),
            None => StoreError::Unavailable(Box::new(error)),
        }
    }
}

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> StoreError {
        match error {
            PoolError::Backend(error) => match error.as_db_error() {
                // Of no call's data: there was none yet.
                Some(refusal) => trouble(refusal).into(),
                None => StoreError::Unavailable(Box::new(error)),
            },
            error => StoreError::Unavailable(Box::new(error)),
        }
    }
}

/// See [`PostgresStore::refusal`](super::PostgresStore::refusal).
pub(super) fn refusal(error: &StoreError) -> Option<String> {
    match error {
        StoreError::Unavailable(source) => match source.downcast_ref::<Trouble>()? {
            Trouble::Refused { code, .. } => Some(code.clone()),
            Trouble::ReadOnly => Some("25006".to_owned()),
            Trouble::Timeout { .. } | Trouble::Contended | Trouble::Unmigrated => None,
        },
        StoreError::Data { code, .. } => Some(code.clone()),
        StoreError::Fenced { .. } => None,
    }
}

/// Of what others hold, or of a statement that took longer than it may: `lock_not_available`,
/// `query_canceled`, `deadlock_detected`, `serialization_failure`.
const OF_HELD_ROWS: [&str; 4] = ["55P03", "57014", "40P01", "40001"];

/// See [`StoreError::may_pass_in_parts`].
pub(in crate::store) fn is_held(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    match source.downcast_ref::<Trouble>() {
        Some(Trouble::Refused { code, .. }) => OF_HELD_ROWS.contains(&code.as_str()),
        Some(Trouble::Contended) => true,
        Some(Trouble::Timeout { .. } | Trouble::ReadOnly | Trouble::Unmigrated) | None => false,
    }
}

/// Codes of the data's errors beside classes 22 and 23: a program limit (an index entry that is too
/// long), and what a trigger raises.
const OF_DATA: [&str; 2] = ["54000", "P0001"];

/// An error of the data: classes 22 (data exception) and 23 (integrity constraint violation), and
/// [`OF_DATA`].
fn refused(refusal: &DbError) -> StoreError {
    let code = refusal.code().code();
    let is_of_data = code.starts_with("22") || code.starts_with("23") || OF_DATA.contains(&code);
    if !is_of_data {
        return trouble(refusal).into();
    }
    let mut detail = refusal.message().to_owned();
    if let Some(constraint) = refusal.constraint().filter(|name| !detail.contains(name)) {
        detail = format!("{detail} (constraint {constraint})");
    }
    StoreError::Data { code: code.to_owned(), detail }
}

fn trouble(refusal: &DbError) -> Trouble {
    Trouble::Refused {
        code: refusal.code().code().to_owned(),
        message: refusal.message().to_owned(),
    }
}

/// A number that the database's integers do not reach.
pub(super) fn out_of_range(what: &str) -> StoreError {
    StoreError::Data { code: "22003".to_owned(), detail: format!("{what} is out of range") }
}
