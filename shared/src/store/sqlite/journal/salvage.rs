//! Files of journals that are damaged, or whose processes are gone: what of them is readable goes
//! into a sound one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};
use tracing::{error, info, warn};

use super::row::{self, Row};
use crate::process::clock::Clock;
use crate::process::error_chain::error_chain;

/// What lies beside a file of `SQLite`.
const BESIDE: [&str; 3] = ["", "-wal", "-shm"];

/// Sizes in a write-ahead log (<https://sqlite.org/fileformat2.html#walformat>).
const WAL_HEADER: usize = 32;
const FRAME_HEADER: u64 = 24;

/// Why a file is not used as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it cannot be read")]
    Database(#[from] rusqlite::Error),
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// Whether the file is sound, or not there.
pub(super) fn check(file: &Path) -> Result<(), Fault> {
    if !file.exists() {
        return Ok(());
    }
    // Before anybody takes it in.
    let wal = Wal::open(file);
    let connection = Connection::open(file)?;
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(Fault::Damaged(found));
    }
    if connection.table_exists(None, "entries")? {
        // Another version's table is read like a damaged one: by its names.
        connection.prepare(&row::select("n = 1"))?;
    }
    let (_, read, _): (i64, i64, i64) =
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    if let Some(wal) = wal
        && let Some(bytes) = wal.behind(read.max(0).unsigned_abs())
    {
        // What was acknowledged had reached the disk whole, so this was not.
        warn!(file = %file.display(), bytes,
            "the end of the journal is torn: a write was under way when the process or its \
             machine ended");
    }
    Ok(())
}

/// A write-ahead log as it was found.
struct Wal {
    header: [u8; WAL_HEADER],
    file: fs::File,
    bytes: u64,
}

impl Wal {
    fn open(of: &Path) -> Option<Wal> {
        let file = fs::File::open(beside(of, "-wal")).ok()?;
        let mut header = [0; WAL_HEADER];
        file.read_exact_at(&mut header, 0).ok()?;
        let bytes = file.metadata().ok()?.len();
        Some(Wal { header, file, bytes })
    }

    /// How many bytes lie behind so many whole frames, where they are of the same run of it: what
    /// was written before it was begun anew has other salts.
    fn behind(&self, frames: u64) -> Option<u64> {
        let page = u32::from_be_bytes(self.header[8..12].try_into().ok()?);
        let end = WAL_HEADER as u64 + frames * (FRAME_HEADER + u64::from(page));
        let rest = self.bytes.checked_sub(end).filter(|rest| *rest > 0)?;
        let mut salts = [0; 8];
        let read = self.file.read_exact_at(&mut salts, end + 8);
        (read.is_err() || salts == self.header[16..24]).then_some(rest)
    }
}

fn beside(file: &Path, what: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(what);
    name.into()
}

/// Gives a damaged file another name, under which it is kept, and says which.
pub(super) fn put_aside(file: &Path, clock: &Clock, fault: &Fault) -> io::Result<PathBuf> {
    let damaged = file.with_extension(format!("damaged-{}", clock.now_ms()));
    error!(file = %file.display(), kept = %damaged.display(), error = error_chain(fault),
        "the journal is damaged; what of it is readable is taken over");
    for what in BESIDE {
        match fs::rename(beside(file, what), beside(&damaged, what)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(damaged)
}

/// Takes what of a damaged file is readable, row by row.
pub(super) fn rescue(to: &Connection, damaged: &Path) -> Result<(), rusqlite::Error> {
    to.execute_batch("BEGIN IMMEDIATE")?;
    let (read, lost) = Connection::open(damaged).map_or((0, 0), |from| copy(&from, to));
    to.execute_batch("COMMIT")?;
    error!(file = %damaged.display(), read, lost,
        "what was readable of a damaged journal was taken over");
    Ok(())
}

/// Takes everything of a file whose process is gone, and removes it; one that is damaged is kept
/// under another name.
pub(super) fn take_over(to: &Connection, file: &Path, clock: &Clock) -> io::Result<()> {
    if let Err(fault) = check(file) {
        let damaged = put_aside(file, clock, &fault)?;
        return rescue(to, &damaged).map_err(io::Error::other);
    }
    let taken = || {
        to.execute_batch("BEGIN IMMEDIATE")?;
        let (read, lost) = copy(&Connection::open(file)?, to);
        to.execute_batch("COMMIT")?;
        Ok::<_, rusqlite::Error>((read, lost))
    };
    let (read, lost) = taken().map_err(io::Error::other)?;
    if read > 0 || lost > 0 {
        info!(file = %file.display(), read, lost,
            "took over the journal of a process that is gone");
    }
    if lost > 0 {
        let fault = Fault::Damaged(format!("{lost} entries are"));
        return put_aside(file, clock, &fault).map(drop);
    }
    for what in BESIDE {
        match fs::remove_file(beside(file, what)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Copies row by row, in their order, whatever of them can be read; says how many were and were
/// not.
fn copy(from: &Connection, to: &Connection) -> (u64, u64) {
    let bounds = "SELECT min(n), max(n) FROM entries";
    let bounds: Result<(Option<i64>, Option<i64>), _> =
        from.query_row(bounds, [], |row| Ok((row.get(0)?, row.get(1)?)));
    let last = "SELECT seq FROM sqlite_sequence WHERE name = 'entries'";
    let last = || from.query_row(last, [], |row| row.get::<_, i64>(0)).unwrap_or(0);
    let (first, last) = match bounds {
        Ok((Some(first), Some(last))) => (first, last),
        Ok(_) => return (0, 0),
        Err(_) => (1, last()),
    };
    let sql = row::select("n = ?1");
    let when = "SELECT noted_at, placed, refused FROM entries WHERE n = ?1";
    let (mut read, mut lost) = (0, 0);
    for n in first..=last {
        let row = from
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_row([n], Row::read).optional());
        let noted = from.query_row(when, [n], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        match row {
            Ok(None) => {}
            Ok(Some(row)) if row.is_whole() => {
                match row.insert(to, noted.unwrap_or((0, false, None))) {
                    Ok(_) => read += 1,
                    Err(_) => lost += 1,
                }
            }
            Ok(Some(_)) | Err(_) => lost += 1,
        }
    }
    (read, lost)
}
