//! The journal of a gateway: what it has accepted and the log has not, or might lose.
//!
//! One `SQLite` file that one process holds locked, written by group commit like the store's. An
//! entry stays until the database has it. The files of processes that are gone are taken over by
//! whoever opens the folder next, so that several gateways of one machine may share it.

mod salvage;
mod pages;
mod table;
mod row;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, OptionalExtension};
use tracing::{error, info};

use self::row::Row;
use self::table::{Gone, count, note, oldest, refuse};
use super::connection::{Access, ReopeningConnection};
use super::request::{self, Closed, Queue};
use super::writer;
use crate::contract::id::{MessageKey, RoomId, Shard};
use crate::log::Append;
use crate::process::clock::Clock;
use crate::process::error_chain::error_chain;
use crate::store::StoreError;

/// The tables; an older or newer file is taken over through `salvage`.
const TABLES: &str = include_str!("../migrations/sqlite/journal.sql");

/// Files that a folder may hold: one for each process that uses it.
const SLOTS: usize = 256;

/// Why an entry is not taken, or nothing is read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk is full or broken, say.
    #[error("the journal cannot be written")]
    Store(#[from] StoreError),
    /// It holds as much as it may.
    #[error("the journal holds {max} bytes (ROOMCAST_JOURNAL_BYTES_MAX)")]
    Full {
        /// The bound, in bytes.
        max: u64,
    },
    /// What it holds has waited for too long.
    #[error("the journal has waited for the log for {max_ms} ms (ROOMCAST_JOURNAL_AGE_MAX_MS)")]
    Old {
        /// The bound, in milliseconds.
        max_ms: u64,
    },
}

/// Why no journal could be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalOpenError {
    /// The folder cannot be made, or not written.
    #[error("cannot use the folder {folder}")]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// So many processes use it already.
    #[error("the folder {folder} has {SLOTS} journals in use")]
    InUse {
        /// Which folder.
        folder: PathBuf,
    },
    /// The file cannot be made or read.
    #[error("cannot open the journal {file}")]
    Database {
        /// Which file.
        file: PathBuf,
        /// What `SQLite` said.
        source: rusqlite::Error,
    },
    /// The system gives no more threads.
    #[error("cannot start the thread of the journal")]
    Thread(#[source] std::io::Error),
}

/// How much a journal may hold.
#[derive(Clone, Copy, Debug)]
pub struct JournalBounds {
    /// Bytes of what it holds.
    pub bytes_max: u64,
    /// Age of its oldest entry at which nothing more is taken, in milliseconds.
    pub age_max_ms: u64,
}

/// What became of an entry that was to be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It has this row.
    New(u64),
    /// It stood already.
    Known(u64),
    /// Its id stands with other content.
    Conflict,
}

/// What a journal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalFigures {
    /// Entries.
    pub entries: u64,
    /// Bytes of them, about.
    pub bytes: u64,
    /// When the oldest came, in Unix milliseconds.
    pub oldest_ms: Option<i64>,
}

/// The journal of one process; dropping it finishes what was asked and unlocks its file.
#[derive(Debug)]
pub struct Journal {
    /// `None` once closed.
    writer: RwLock<Option<(Queue, JoinHandle<()>)>>,
    figures: Arc<Mutex<JournalFigures>>,
    bounds: JournalBounds,
    clock: Clock,
    file: PathBuf,
}

impl Journal {
    /// Takes a free file of the folder, and what others of it hold whose processes are gone.
    ///
    /// Blocks for as long as that takes; belongs to the start of a process.
    ///
    /// # Errors
    /// When the system refuses. A file that is damaged is no error: what of it is readable is kept,
    /// and the rest is reported.
    pub fn open(
        folder: &Path,
        bounds: JournalBounds,
        clock: Clock,
    ) -> Result<Journal, JournalOpenError> {
        let refused = |source| JournalOpenError::Folder { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(refused)?;
        let mut own = None;
        for slot in 0..SLOTS {
            let file = folder.join(format!("{slot}.db"));
            // An own file is found before there is need to look at all others.
            let is_there = file.exists() || !salvage::unread(&file).map_err(refused)?.is_empty();
            if own.is_some() && !is_there {
                continue;
            }
            let Some(lock) = lock(&folder.join(format!("{slot}.lock"))).map_err(refused)? else {
                info!(file = %file.display(), "this journal is in use by another process");
                continue;
            };
            match &mut own {
                None => own = Some((open(&file, &clock)?, lock, file)),
                Some((link, _, _)) => {
                    let database =
                        |source| JournalOpenError::Database { file: file.clone(), source };
                    let own = link.connection().map_err(database)?;
                    salvage::take_over(own, &file, &clock).map_err(refused)?;
                }
            }
        }
        let Some((mut link, lock, file)) = own else {
            return Err(JournalOpenError::InUse { folder: folder.to_owned() });
        };
        let database = |source| JournalOpenError::Database { file: file.clone(), source };
        let figures = link.connection().and_then(|connection| count(connection));
        let figures = figures.map_err(database)?;
        if figures.entries > 0 {
            info!(entries = figures.entries, bytes = figures.bytes, file = %file.display(),
                "the journal holds entries; they are offered to the log");
        }
        let writer = writer::start(link, lock).map_err(JournalOpenError::Thread)?;
        let (writer, figures) = (RwLock::new(Some(writer)), Arc::new(Mutex::new(figures)));
        Ok(Journal { writer, figures, bounds, clock, file })
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What it holds.
    #[must_use]
    pub fn figures(&self) -> JournalFigures {
        *self.figures.lock()
    }

    /// Notes entries, in their order, which the log has already or not; they are on the disk when
    /// this returns.
    ///
    /// # Errors
    /// When it holds as much as it may, or cannot be written: none of them is noted then.
    pub async fn note(
        &self,
        entries: Vec<Append>,
        placed: bool,
    ) -> Result<Vec<Noted>, JournalError> {
        let now_ms = self.clock.now_ms();
        let rows: Vec<Row> = entries.iter().map(Row::of).collect();
        let coming = rows.iter().map(Row::bytes).sum();
        self.reserve(coming, now_ms)?;
        let work = move |connection: &Connection| -> Result<(Vec<Noted>, u64), StoreError> {
            let (mut noted, mut bytes) = (Vec::with_capacity(rows.len()), 0);
            for row in &rows {
                let one = note(connection, row, (now_ms, placed))?;
                if matches!(one, Noted::New(_)) {
                    bytes += row.bytes();
                }
                noted.push(one);
            }
            Ok((noted, bytes))
        };
        let outcome = self.ask(work).await;
        let mut figures = self.figures.lock();
        figures.bytes -= coming;
        let (noted, bytes) = outcome?;
        let new = noted.iter().filter(|noted| matches!(noted, Noted::New(_))).count() as u64;
        figures.entries += new;
        figures.bytes += bytes;
        if new > 0 {
            figures.oldest_ms.get_or_insert(now_ms);
        }
        drop(figures);
        Ok(noted)
    }

    /// Counts what is about to come, where there is room for it.
    fn reserve(&self, coming: u64, now_ms: i64) -> Result<(), JournalError> {
        let JournalBounds { bytes_max, age_max_ms } = self.bounds;
        let mut figures = self.figures.lock();
        let bytes = figures.bytes.saturating_add(coming);
        if bytes > bytes_max {
            return Err(JournalError::Full { max: bytes_max });
        }
        let age_ms = figures.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest));
        if u64::try_from(age_ms).unwrap_or(0) > age_max_ms {
            return Err(JournalError::Old { max_ms: age_max_ms });
        }
        figures.bytes = bytes;
        Ok(())
    }

    /// The rows of a shard that are to be offered to the log, in their order: what it had before
    /// goes first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn waiting(&self, shard: Shard) -> Result<Vec<u64>, JournalError> {
        let work = move |connection: &Connection| {
            let sql = "SELECT n FROM entries WHERE shard = ?1 AND refused IS NULL
                       ORDER BY placed DESC, n";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([shard.number()], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        Ok(self.ask(work).await?)
    }

    /// Reads rows in the order asked, until they have so many bytes, and says how many of those
    /// asked it went through. One that cannot be read any more is left out and reported.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn read(
        &self,
        rows: Vec<u64>,
        bytes_max: usize,
    ) -> Result<(Vec<(u64, Append)>, usize), JournalError> {
        let work = move |connection: &Connection| {
            let (mut read, mut count, mut bytes) = (Vec::with_capacity(rows.len()), 0, 0);
            let mut gone = Gone::default();
            for n in rows {
                if bytes >= bytes_max {
                    break;
                }
                count += 1;
                let sql = row::select("n = ?1");
                let row = connection.prepare_cached(&sql)?.query_row([n], Row::read).optional()?;
                match row.map(Row::append) {
                    Some(Ok(append)) => {
                        bytes += append.envelope.body.len();
                        read.push((n, append));
                    }
                    Some(Err(fault)) => {
                        error!(
                            row = n,
                            error = error_chain(&fault),
                            "an entry of the journal is damaged and is left out"
                        );
                        gone.add(refuse(connection, n, "damaged")?);
                    }
                    // It was taken out meanwhile.
                    None => {}
                }
            }
            gone.oldest_ms = oldest(connection)?;
            Ok((read, count, gone))
        };
        let (read, count, gone) = self.ask(work).await?;
        self.let_go(&gone);
        Ok((read, count))
    }

    /// What is noted under an identity and was not refused.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn find(&self, key: &MessageKey) -> Result<Option<Append>, JournalError> {
        let name = row::name(false, key);
        let work = move |connection: &Connection| {
            let sql = row::select("name = ?1 AND refused IS NULL");
            let row = connection.prepare_cached(&sql)?.query_row([name], Row::read).optional()?;
            Ok(row.and_then(|row| row.append().ok()))
        };
        Ok(self.ask(work).await?)
    }

    /// What of a room the log has not, in its order: the first `limit` of it, or as much as has so
    /// many bytes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn of_room(
        &self,
        room: &RoomId,
        limit: u32,
        bytes_max: usize,
    ) -> Result<Vec<Append>, JournalError> {
        let room = room.clone();
        let work = move |connection: &Connection| {
            let sql = row::select("room = ?1 AND placed = 0 AND refused IS NULL")
                + " ORDER BY n LIMIT ?2";
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query((room.as_str(), limit))?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let Ok(append) = Row::read(row)?.append() else { continue };
                bytes += append.envelope.body.len();
                if bytes > bytes_max {
                    break;
                }
                found.push(append);
            }
            Ok(found)
        };
        Ok(self.ask(work).await?)
    }

    /// The log has these rows; the database is not known to.
    ///
    /// # Errors
    /// When the file cannot be written: they are offered once more after a restart, which is known.
    pub async fn placed(&self, rows: Vec<u64>) -> Result<(), JournalError> {
        let work = move |connection: &Connection| {
            let mut statement =
                connection.prepare_cached("UPDATE entries SET placed = 1 WHERE n = ?1")?;
            rows.iter().try_for_each(|n| statement.execute([n]).map(drop))?;
            Ok(())
        };
        Ok(self.ask(work).await?)
    }

    /// The log takes this row never; it is offered no more, and kept for whoever looks as one of
    /// the last thousand.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn refused(&self, row: u64, why: String) -> Result<(), JournalError> {
        let work = move |connection: &Connection| {
            let mut gone = Gone::default();
            gone.add(refuse(connection, row, &why)?);
            gone.oldest_ms = oldest(connection)?;
            Ok(gone)
        };
        self.let_go(&self.ask(work).await?);
        Ok(())
    }

    /// The database has these rows: they are taken out.
    ///
    /// # Errors
    /// When the file cannot be written: they are offered once more after a restart, which is known.
    pub async fn remove(&self, rows: Vec<u64>) -> Result<(), JournalError> {
        let work = move |connection: &Connection| {
            let sql = "DELETE FROM entries WHERE n = ?1 AND refused IS NULL RETURNING bytes";
            let mut statement = connection.prepare_cached(sql)?;
            let mut gone = Gone::default();
            for n in rows {
                gone.add(statement.query_row([n], |row| row.get(0)).optional()?);
            }
            gone.oldest_ms = oldest(connection)?;
            Ok(gone)
        };
        self.let_go(&self.ask(work).await?);
        Ok(())
    }

    fn let_go(&self, gone: &Gone) {
        if gone.entries > 0 {
            let mut figures = self.figures.lock();
            figures.entries = figures.entries.saturating_sub(gone.entries);
            figures.bytes = figures.bytes.saturating_sub(gone.bytes);
            figures.oldest_ms = gone.oldest_ms;
        }
    }

    async fn ask<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let queue = self.writer.read().as_ref().map(|(queue, _)| queue.clone());
        request::ask(queue.ok_or(Closed)?, work).await
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Blocks as long as what waits takes, so that the file is free when this returns.
        if let Some((queue, thread)) = self.writer.write().take() {
            drop(queue);
            if thread.join().is_err() {
                error!("the thread of the journal panicked");
            }
        }
    }
}

/// The lock, where no other process has it.
fn lock(file: &Path) -> std::io::Result<Option<File>> {
    let lock = File::options().create(true).truncate(false).write(true).open(file)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Opens a file that is sound, or begins it anew with what of it is readable.
fn open(file: &Path, clock: &Clock) -> Result<ReopeningConnection, JournalOpenError> {
    let database = |source| JournalOpenError::Database { file: file.to_owned(), source };
    let unusable = |source| {
        let folder = file.parent().unwrap_or(file).to_owned();
        JournalOpenError::Folder { folder, source }
    };
    let unread = match salvage::check(file) {
        Ok(unread) => unread,
        Err(fault) => {
            salvage::put_aside(file, clock, &fault).map_err(unusable)?;
            None
        }
    };
    let mut link = ReopeningConnection::open(file, Access::Write).map_err(database)?;
    let connection = link.connection().map_err(database)?;
    // It is written and read once: mapped, it would count as the process's memory.
    connection.execute_batch("PRAGMA mmap_size = 0").map_err(database)?;
    let is_new = !connection.table_exists(None, "entries").map_err(database)?;
    if is_new {
        connection.execute_batch(TABLES).map_err(database)?;
    }
    salvage::rescue(connection, file).map_err(unusable)?;
    if let Some(unread) = unread {
        salvage::rescue_unread(connection, file, unread).map_err(unusable)?;
    }
    Ok(link)
}

#[cfg(test)]
mod tests;
