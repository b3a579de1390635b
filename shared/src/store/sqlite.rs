//! The store of the embedded mode: one `SQLite` file in a locked folder.
//!
//! One thread writes. It takes every request that waits and does them in one transaction, so that
//! they share one fsync; each has a savepoint of its own, so that one request's faulty row undoes
//! only that request. Nobody is answered before the commit. A few threads read, each request in a
//! transaction of its own, which sees everything that was committed before it began.
//!
//! A transaction that cannot be finished fails all requests in it, and the next one gets a new
//! connection.

pub mod journal;
mod reader;
mod writer;
mod request;
mod commit;
mod receipts;
mod query;
mod change;
mod ledger;
mod members;
mod erasure;
mod additions;
mod place;
mod stored;
mod shards;
mod connection;
mod schema;
mod failure;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use parking_lot::RwLock;
use rusqlite::Connection;
use uuid::Uuid;

use self::connection::{Access, ReopeningConnection};
use self::request::{Closed, Queue};
use super::{Batch, Committed, Cursor, Epoch, Lease, RoundCommitted, Row, Store, StoreError};
use crate::contract::id::Shard;
use crate::process::clock::Clock;
use crate::store::{Batches, ForeignTables, Shards};

/// The database's file in its folder.
const FILE: &str = "roomcast.db";

/// The file in the folder that the one process holds locked.
const LOCK: &str = "lock";

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made, or not written.
    #[error("cannot use the folder {folder}")]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("the folder {folder} is in use by another process")]
    Locked {
        /// Which folder.
        folder: PathBuf,
    },
    /// It is not of this program's making.
    #[error(transparent)]
    Foreign(#[from] ForeignTables),
    /// The file is none, or cannot be read or written.
    #[error("cannot open the database {file}")]
    Database {
        /// Which file.
        file: PathBuf,
        /// What `SQLite` said.
        source: rusqlite::Error,
    },
    /// The system gives no more threads.
    #[error("cannot start a thread of the database")]
    Thread(#[source] std::io::Error),
}

/// The threads, and the ways to them.
#[derive(Debug)]
struct Threads {
    reads: Queue,
    writes: Queue,
    readers: Vec<JoinHandle<()>>,
    writer: JoinHandle<()>,
}

impl Threads {
    /// Waits until everything that was asked is done and the file is closed. The writer is last:
    /// it moves the WAL into the file, which no reader may then be using, and unlocks the folder.
    fn stop(self) {
        drop(self.reads);
        for reader in self.readers {
            join(reader);
        }
        drop(self.writes);
        join(self.writer);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the database panicked");
    }
}

/// The database of the embedded mode; dropping it does what [`SqliteStore::close`] does.
#[derive(Debug)]
pub struct SqliteStore {
    /// `None` once closed.
    threads: RwLock<Option<Threads>>,
    clock: Clock,
}

impl SqliteStore {
    /// Makes the folder, locks it, opens the database in it and brings its schema up to date.
    ///
    /// Blocks for as long as that takes; belongs to the start of a process.
    ///
    /// # Errors
    /// When another process has the folder, when the database is from a later version or has
    /// another number of shards, or when the system refuses.
    pub fn open(folder: &Path, clock: Clock) -> Result<SqliteStore, OpenError> {
        let lock = lock(folder)?;
        let file = folder.join(FILE);
        let database = |source| OpenError::Database { file: file.clone(), source };
        let mut link = ReopeningConnection::open(&file, Access::Write).map_err(database)?;
        schema::migrate(link.connection().map_err(database)?, &file)?;

        let links = (0..reader::READERS).map(|_| ReopeningConnection::open(&file, Access::Read));
        let links = links.collect::<Result<Vec<_>, _>>().map_err(database)?;
        // The writer keeps the lock until it has closed the file.
        let (writes, writer) = writer::start(link, lock).map_err(OpenError::Thread)?;
        let (reads, readers) = reader::start(links).map_err(OpenError::Thread)?;
        let threads = Threads { reads, writes, readers, writer };
        Ok(SqliteStore { threads: RwLock::new(Some(threads)), clock })
    }

    /// Finishes everything that was asked, moves the WAL into the database's file, closes it and
    /// unlocks the folder. Later calls of any method answer [`StoreError::Unavailable`].
    pub async fn close(&self) {
        if let Some(threads) = self.take() {
            // An error here is a panic in `stop`, which has none, or a runtime that ends anyway.
            let _ended = tokio::task::spawn_blocking(|| threads.stop()).await;
        }
    }

    /// Writes something, to see whether the file can be written: one on a disk that is full can
    /// still be read.
    ///
    /// # Errors
    /// Says why not.
    pub async fn beat(&self) -> Result<(), StoreError> {
        let now_ms = self.clock.now_ms();
        self.write(move |connection| schema::beat(connection, now_ms)).await
    }

    fn take(&self) -> Option<Threads> {
        self.threads.write().take()
    }

    /// The way to the threads; not to be kept beyond one request, or [`SqliteStore::close`] waits.
    fn queue(&self, which: impl FnOnce(&Threads) -> &Queue) -> Result<Queue, StoreError> {
        let threads = self.threads.read();
        Ok(threads.as_ref().map(which).ok_or(Closed)?.clone())
    }

    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        request::ask(self.queue(|threads| &threads.writes)?, work).await
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        request::ask(self.queue(|threads| &threads.reads)?, work).await
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // Blocks as long as what waits takes, so that the folder is free when this returns.
        if let Some(threads) = self.take() {
            threads.stop();
        }
    }
}

fn lock(folder: &Path) -> Result<File, OpenError> {
    let refused = |source| OpenError::Folder { folder: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(refused)?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(LOCK))
        .map_err(refused)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(refused(source)),
    }
}

#[async_trait]
impl Shards for SqliteStore {
    async fn mint(&self, shard: Shard, token: Uuid, at_least: u64) -> Result<Epoch, StoreError> {
        let now_ms = self.clock.now_ms();
        let claim = (shard, token, at_least);
        self.write(move |connection| shards::mint(connection, claim, now_ms)).await
    }

    async fn epoch(&self, shard: Shard, number: u64) -> Result<Option<Epoch>, StoreError> {
        self.read(move |connection| shards::epoch(connection, shard, number)).await
    }

    async fn foreign_epoch(&self, _shard: Shard, _number: u64) -> Result<bool, StoreError> {
        // The log is in this process's own memory: nobody else writes it.
        Ok(false)
    }

    async fn cursor(&self, shard: Shard) -> Result<Cursor, StoreError> {
        self.read(move |connection| shards::cursor(connection, shard)).await
    }

    async fn lease(&self, _lease: &Lease) -> Result<Vec<Shard>, StoreError> {
        // One process has the folder, and with it every shard.
        Ok(Shard::all().collect())
    }

    async fn release(&self, _owner: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Batches for SqliteStore {
    async fn commit_round(&self, round: &[Arc<Batch>]) -> Result<RoundCommitted, StoreError> {
        let (round, clock) = (round.to_vec(), self.clock.clone());
        self.write(move |connection| commit::commit_round(connection, &round, clock.now_ms())).await
    }

    async fn commit(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let (batch, clock) = (batch.clone(), self.clock.clone());
        self.write(move |connection| commit::commit(connection, &batch, clock.now_ms())).await
    }

    async fn probe(&self, rows: &[Row]) -> Result<(), StoreError> {
        let (rows, now_ms) = (rows.to_vec(), self.clock.now_ms());
        self.write(move |connection| commit::probe(connection, &rows, now_ms)).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn close(&self) {
        SqliteStore::close(self).await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // Both ways in: a database that can be read but not written is no help.
        self.read(shards::ping).await?;
        self.write(shards::ping).await
    }
}

#[cfg(test)]
mod tests;
