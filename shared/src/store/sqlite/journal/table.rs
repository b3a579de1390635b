//! What is asked of the journal's table.

use rusqlite::{Connection, OptionalExtension};

use super::row::Row;
use super::{JournalFigures, Noted};

/// Refused entries that are kept for whoever looks.
pub(super) const REFUSED_MAX: u64 = 1000;

pub(super) fn note(
    connection: &Connection,
    row: &Row,
    (now_ms, placed): (i64, bool),
) -> Result<Noted, rusqlite::Error> {
    let found: Option<(u64, Vec<u8>)> = connection
        .prepare_cached("SELECT n, digest FROM entries WHERE name = ?1 AND refused IS NULL")?
        .query_row([&row.name], |found| Ok((found.get(0)?, found.get(1)?)))
        .optional()?;
    match found {
        Some((n, digest)) if digest == row.digest => Ok(Noted::Known(n)),
        Some(_) => Ok(Noted::Conflict),
        None => {
            connection
                .prepare_cached("DELETE FROM entries WHERE name = ?1")?
                .execute([&row.name])?;
            row.insert(connection, (now_ms, placed, None))?;
            Ok(Noted::New(u64::try_from(connection.last_insert_rowid()).unwrap_or(0)))
        }
    }
}

/// What waits no more.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// When the first came that is still here.
    pub(super) oldest_ms: Option<i64>,
}

impl Gone {
    /// One more of so many bytes, if there was one.
    pub(super) fn add(&mut self, bytes: Option<u64>) {
        self.entries += u64::from(bytes.is_some());
        self.bytes += bytes.unwrap_or(0);
    }
}

/// Marks a row, if it waited still, and gives its bytes; of those that were marked before the
/// oldest goes.
pub(super) fn refuse(
    connection: &Connection,
    row: u64,
    why: &str,
) -> Result<Option<u64>, rusqlite::Error> {
    let mark = "UPDATE entries SET refused = ?2 WHERE n = ?1 AND refused IS NULL RETURNING bytes";
    let marked = connection.prepare_cached(mark)?.query_row((row, why), |row| row.get(0));
    let drop = "DELETE FROM entries WHERE n IN (SELECT n FROM entries WHERE refused IS NOT NULL
                ORDER BY n DESC LIMIT -1 OFFSET ?1)";
    connection.prepare_cached(drop)?.execute([REFUSED_MAX])?;
    marked.optional()
}

/// When the first came that is still here.
pub(super) fn oldest(connection: &Connection) -> Result<Option<i64>, rusqlite::Error> {
    let sql = "SELECT noted_at FROM entries WHERE refused IS NULL ORDER BY n LIMIT 1";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()
}

pub(super) fn count(connection: &Connection) -> Result<JournalFigures, rusqlite::Error> {
    let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM entries WHERE refused IS NULL";
    let (entries, bytes) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(JournalFigures { entries, bytes, oldest_ms: oldest(connection)? })
}
