//! Connections to the file, and their settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Error, OpenFlags};

/// How long a statement waits for another process that writes: an operator's shell, say.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements a connection keeps prepared; all of this module's.
const STATEMENTS_MAX: usize = 64;

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything.
    Write,
    /// Look.
    Read,
}

/// A connection that is made anew after it failed.
#[derive(Debug)]
pub(super) struct ReopeningConnection {
    file: PathBuf,
    access: Access,
    /// `None` after a failure, until the next use.
    connection: Option<Connection>,
}

impl ReopeningConnection {
    /// Connects; the first to do so must be able to write.
    pub(super) fn open(file: &Path, access: Access) -> Result<ReopeningConnection, Error> {
        let connection = Some(connect(file, access)?);
        Ok(ReopeningConnection { file: file.to_owned(), access, connection })
    }

    /// The connection, made anew if it was cut.
    pub(super) fn connection(&mut self) -> Result<&mut Connection, Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.file, self.access)?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Closes a connection that has failed, which undoes whatever it had begun.
    pub(super) fn cut(&mut self) {
        self.connection = None;
    }
}

fn connect(file: &Path, access: Access) -> Result<Connection, Error> {
    // No shared cache and no mutex: each connection belongs to one thread.
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX
        | match access {
            Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
            Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    if access == Access::Write {
        // FULL: a commit has reached the disk when it returns, and so has what was acked for it.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA journal_size_limit = 67108864;",
        )?;
    }
    connection.execute_batch("PRAGMA mmap_size = 67108864; PRAGMA temp_store = MEMORY;")?;
    Ok(connection)
}
