//! Classifies errors of `SQLite`: whether the data are at fault.

use rusqlite::Error;
use rusqlite::ffi;

use crate::store::StoreError;

/// The name for a number that the database's integers do not reach.
pub(super) const MISMATCH: &str = "SQLITE_MISMATCH";

impl From<Error> for StoreError {
    fn from(error: Error) -> StoreError {
        match data_code(&error) {
            Some(code) => StoreError::Data { code: code.to_owned(), detail: error.to_string() },
            None => StoreError::Unavailable(Box::new(error)),
        }
    }
}

/// `SQLite`'s name of an error that will come again with the same data; `None` for any other.
fn data_code(error: &Error) -> Option<&'static str> {
    let extended = match error {
        Error::SqliteFailure(failure, _) => failure.extended_code,
        // A number that the database's integers do not reach.
        Error::ToSqlConversionFailure(_) => ffi::SQLITE_MISMATCH,
        _ => return None,
    };
    let name = match extended {
        ffi::SQLITE_CONSTRAINT_CHECK => "SQLITE_CONSTRAINT_CHECK",
        ffi::SQLITE_CONSTRAINT_DATATYPE => "SQLITE_CONSTRAINT_DATATYPE",
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "SQLITE_CONSTRAINT_FOREIGNKEY",
        ffi::SQLITE_CONSTRAINT_NOTNULL => "SQLITE_CONSTRAINT_NOTNULL",
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY => "SQLITE_CONSTRAINT_PRIMARYKEY",
        ffi::SQLITE_CONSTRAINT_ROWID => "SQLITE_CONSTRAINT_ROWID",
        ffi::SQLITE_CONSTRAINT_TRIGGER => "SQLITE_CONSTRAINT_TRIGGER",
        ffi::SQLITE_CONSTRAINT_UNIQUE => "SQLITE_CONSTRAINT_UNIQUE",
        _ => match extended & 0xff {
            ffi::SQLITE_CONSTRAINT => "SQLITE_CONSTRAINT",
            ffi::SQLITE_TOOBIG => "SQLITE_TOOBIG",
            ffi::SQLITE_MISMATCH => MISMATCH,
            _ => return None,
        },
    };
    Some(name)
}
