//! Files of journals that are damaged, or whose processes are gone: what of them is readable goes
//! into a sound one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};
use tracing::{error, info, warn};

use super::pages::{FRAME_HEADER, Found, Pages, Place, WAL_HEADER};
use super::row::{self, Row};
use crate::process::clock::Clock;
use crate::process::error_chain::error_chain;

/// What lies beside a file of `SQLite`.
const BESIDE: [&str; 3] = ["", "-wal", "-shm"];

/// Begins the extension of a damaged file until what is readable of it was taken over.
const UNREAD: &str = "unread-";

/// Why a file is not used as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it cannot be read")]
    Database(#[from] rusqlite::Error),
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// Whether the file is sound, or not there; gives what of its write-ahead log is left unread.
pub(super) fn check(file: &Path) -> Result<Option<Unread>, Fault> {
    if !file.exists() {
        return Ok(None);
    }
    // Before anybody takes it in.
    let wal = Wal::open(file);
    if wal.as_ref().is_some_and(|wal| !wal.is_sound()) {
        return Err(Fault::Damaged("its write-ahead log has no head".to_owned()));
    }
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
    let unread = wal.and_then(|wal| wal.unread(read.max(0).unsigned_abs()));
    if let Some(Unread { wal, from }) = &unread {
        // What was acknowledged had reached the disk whole. Either this was not, or it is damaged.
        let bytes = wal.metadata().map_or(0, |found| found.len()).saturating_sub(*from);
        warn!(file = %file.display(), bytes,
            "the end of the journal is torn: a write was under way when the process or its \
             machine ended, or the disk is at fault; what of it is readable is taken");
    }
    Ok(unread)
}

/// A write-ahead log as it was found.
struct Wal {
    header: [u8; WAL_HEADER as usize],
    file: fs::File,
}

/// What of a write-ahead log `SQLite` does not take, from some byte on.
pub(super) struct Unread {
    wal: fs::File,
    from: u64,
}

impl Wal {
    fn open(of: &Path) -> Option<Wal> {
        let file = fs::File::open(beside(of, "-wal")).ok()?;
        let mut header = [0; WAL_HEADER as usize];
        file.read_exact_at(&mut header, 0).ok()?;
        Some(Wal { header, file })
    }

    /// What lies behind so many whole frames, where it is of the same run of it: what was written
    /// before it was begun anew has other salts.
    fn unread(self, frames: u64) -> Option<Unread> {
        let page = u32::from_be_bytes(self.header[8..12].try_into().ok()?);
        let from = WAL_HEADER + frames * (FRAME_HEADER + u64::from(page));
        let bytes = self.file.metadata().ok()?.len();
        let mut salts = [0; 8];
        let read = self.file.read_exact_at(&mut salts, from + 8);
        let is_of_it = read.is_err() || salts == self.header[16..24];
        (bytes > from && is_of_it).then_some(Unread { wal: self.file, from })
    }

    /// Whether the header's checksum is that of the header.
    fn is_sound(&self) -> bool {
        let big_endian = self.header[3] & 1 == 1;
        let word = |bytes: &[u8]| {
            let bytes = bytes.try_into().unwrap_or([0; 4]);
            if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        let (mut first, mut second) = (0_u32, 0_u32);
        for pair in self.header[..24].chunks_exact(8) {
            first = first.wrapping_add(word(&pair[..4])).wrapping_add(second);
            second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
        }
        self.header[24..] == [first.to_be_bytes(), second.to_be_bytes()].concat()
    }
}

fn beside(file: &Path, what: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(what);
    name.into()
}

/// Gives a damaged file another name, under which it waits to be read.
pub(super) fn put_aside(file: &Path, clock: &Clock, fault: &Fault) -> io::Result<()> {
    let aside = file.with_extension(format!("{UNREAD}{}", clock.now_ms()));
    error!(file = %file.display(), kept = %aside.display(), error = error_chain(fault),
        "the journal is damaged; what of it is readable is taken over");
    rename(file, &aside)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    for what in BESIDE {
        match fs::rename(beside(from, what), beside(to, what)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// What was put aside of this file and is not read to its end: somebody was killed over it.
pub(super) fn unread(file: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(stem)) = (file.parent(), file.file_stem()) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for other in fs::read_dir(folder)? {
        let other = other?.path();
        let extension = other.extension().unwrap_or_default().to_string_lossy();
        let at = extension.strip_prefix(UNREAD).map(str::parse::<i64>);
        if other.file_stem() == Some(stem) && at.is_some_and(|at| at.is_ok()) {
            found.push(other);
        }
    }
    found.sort();
    Ok(found)
}

/// Takes every row that is whole of what was put aside of a file, which is kept as damaged then.
pub(super) fn rescue(to: &Connection, file: &Path) -> io::Result<()> {
    for aside in unread(file)? {
        let wal = fs::File::open(beside(&aside, "-wal")).ok();
        let pages = Pages::new(fs::File::open(&aside)?, wal.map(|wal| (wal, WAL_HEADER)))?;
        let (read, lost) = take(to, &pages, &pages.places())?;
        let name = aside.to_string_lossy().replace(UNREAD, "damaged-");
        rename(&aside, Path::new(&name))?;
        error!(file = name, read, lost, "what was readable of a damaged journal was taken over");
    }
    Ok(())
}

/// Takes every row that is whole of what was left unread of a file.
pub(super) fn rescue_unread(to: &Connection, file: &Path, unread: Unread) -> io::Result<()> {
    let pages = Pages::new(fs::File::open(file)?, Some((unread.wal, unread.from)))?;
    take(to, &pages, &pages.places_in_log()).map(drop)
}

/// Takes rows that are not there yet, in their order; says how many were, and how many could not
/// be read.
fn take(to: &Connection, pages: &Pages, places: &[Place]) -> io::Result<(u64, u64)> {
    let (mut read, mut lost) = (0, 0);
    to.execute_batch("BEGIN IMMEDIATE").map_err(io::Error::other)?;
    for place in places {
        match pages.row(*place) {
            Found::Row(row, noting) => {
                read += u64::from(row.insert(to, noting).map_err(io::Error::other)?);
            }
            Found::Damaged => lost += 1,
            Found::Other => {}
        }
    }
    to.execute_batch("COMMIT").map_err(io::Error::other)?;
    Ok((read, lost))
}

/// Takes everything of a file whose process is gone, and removes it; one that is damaged is kept
/// under another name.
pub(super) fn take_over(to: &Connection, file: &Path, clock: &Clock) -> io::Result<()> {
    let unread = match check(file) {
        Ok(unread) => unread,
        Err(fault) => {
            put_aside(file, clock, &fault)?;
            None
        }
    };
    rescue(to, file)?;
    if !file.exists() {
        return Ok(());
    }
    let taken = || {
        to.execute_batch("BEGIN IMMEDIATE")?;
        let (read, lost) = copy(&Connection::open(file)?, to);
        to.execute_batch("COMMIT")?;
        Ok::<_, rusqlite::Error>((read, lost))
    };
    let (read, lost) = taken().map_err(io::Error::other)?;
    if let Some(unread) = unread {
        rescue_unread(to, file, unread)?;
    }
    if read > 0 || lost > 0 {
        info!(file = %file.display(), read, lost,
            "took over the journal of a process that is gone");
    }
    if lost > 0 {
        let fault = Fault::Damaged(format!("{lost} entries are"));
        put_aside(file, clock, &fault)?;
        return rescue(to, file);
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
