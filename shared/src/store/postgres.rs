//! The store of a cluster: `PostgreSQL`, shared by gateways and workers.
//!
//! A batch is one transaction in four round trips: begin; lock the shard's row and read what
//! stands; write what the batch leaves behind, decided in memory ([`plan`]), and the ledger, which
//! the database decides; commit. Almost everything else is one round trip. Works behind
//! `PgBouncer` in transaction mode ([`pool`] says how).
//!
//! A shard's row is the lock of everything in its rooms: batches, epochs, and the places of rows
//! that another program wrote. Workers' leases are in it too, but nothing relies on them.

mod redrive;
mod commit;
mod write;
mod side_tables;
mod plan;
mod query;
mod heads;
mod additions;
mod dead_letters;
mod closing;
mod applied_changes;
mod existing;
mod ledger;
mod members;
mod receipts;
mod erasure;
mod schema;
mod beat;
mod deployment;
mod shards;
mod stored;
mod columns;
mod pool;
mod url;
mod value;
mod failure;

use std::time::Duration;

use async_trait::async_trait;

use self::failure::Trouble;
pub(super) use self::failure::is_held;
use self::pool::{Pool, statement};
pub use self::redrive::DrivenAgain;
use self::stored::scalar;
pub use self::url::UrlError;
use super::{DeadLetter, Store, StoreError};
use crate::contract::timestamp::Timestamp;
use crate::process::error_chain::error_chain;
use crate::process::settings::{Problem, Secret};
use crate::store::ForeignTables;

/// What is wrong with `DATABASE_URL`, if it is none of Postgres's, before anything starts.
#[must_use]
pub fn database_problem(url: &Secret) -> Option<Problem> {
    let error = url::parse(url, Settings::default().connect_timeout).err()?;
    Some(Problem::new("DATABASE_URL", error_chain(&error)))
}

/// How much is asked of the database, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most connections of this process.
    pub connections_max: usize,
    /// How long a connection may take to be made, TLS and password included.
    pub connect_timeout: Duration,
    /// How long one statement may take, a wait for a lock included; the server ends it.
    pub statement_timeout: Duration,
    /// How long a whole call may take, a wait for a connection included. The connection of a call
    /// that takes longer is closed, for the server may have stopped.
    pub call_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            connections_max: 8,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(15),
            call_timeout: Duration::from_secs(20),
        }
    }
}

/// Why the database does not have our tables, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// It does not answer, or refuses for now: to be tried again, for as long as it takes.
    #[error("the database cannot be migrated now")]
    Unavailable(#[from] StoreError),
    /// It is not of this program's making.
    #[error(transparent)]
    Foreign(#[from] ForeignTables),
    /// Not every text can be stored in it.
    #[error("the database's encoding is {found}, it must be UTF8")]
    Encoding {
        /// What it has.
        found: String,
    },
}

/// A dead letter as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedLetter {
    /// Given once, ascending, never again.
    pub number: u64,
    /// When it was given up.
    pub first_seen: Timestamp,
    /// What was given up, and why.
    pub letter: DeadLetter,
}

/// Whose a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Minted with the tables: in every channel and every key of an epoch in Redis.
    pub name: String,
    /// The version of keys, channels and envelopes.
    pub speaks: u32,
    /// Why nobody may work under this name any more.
    pub refused: Option<String>,
}

/// What a process writes now and then.
#[derive(Clone, Copy, Debug)]
pub struct Beat<'a> {
    /// Under which name no other process writes.
    pub process: &'a str,
    /// How long ago Redis last did this process's work.
    pub redis_ok: Option<Duration>,
}

/// What the database answers to a [`Beat`].
#[derive(Clone, Debug)]
pub struct Heard {
    /// How long ago Redis last did another process's work.
    pub others_redis_ok: Option<Duration>,
    /// Whose the database is.
    pub deployment: Deployment,
    /// Tables that may not be read and written.
    pub forbidden: Option<String>,
    /// What time it is there, in Unix milliseconds.
    pub now_ms: i64,
}

/// A deployment's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// Under which its keys lie in Redis.
    pub before: String,
    /// Under which it begins anew.
    pub now: String,
}

/// What became of a dead letter that was driven again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// Its row was written.
    Stored,
    /// Nothing was left to write: what it says stood already, or has been overtaken.
    Stood,
    /// The ledger has a movement of that id with another user or amount; this one is put aside.
    Quarantined,
    /// The message that it edits does not stand; the letter stays.
    Orphaned,
    /// There is no such letter, or another has driven it meanwhile.
    Gone,
}

/// The database of the cluster mode.
#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool,
}

impl PostgresStore {
    /// Reads the URL, and connects when first asked: a database that is down only makes calls
    /// answer [`StoreError::Unavailable`].
    ///
    /// # Errors
    /// Says what is wrong with the URL, never quoting its password, or with the certificates.
    pub fn connect(url: &Secret, settings: Settings) -> Result<PostgresStore, UrlError> {
        let address = url::parse(url, settings.connect_timeout)?;
        Ok(PostgresStore { pool: Pool::new(address, settings) })
    }

    /// Makes the tables, or brings them up to date, under a lock; before that, calls answer
    /// [`StoreError::Unavailable`]. Every process does this at its start. Can be cancelled and
    /// repeated at will.
    ///
    /// # Errors
    /// [`MigrateError::Unavailable`] is to be tried again; the others stay.
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        schema::migrate(&self.pool).await
    }

    /// Whose this database is.
    ///
    /// # Errors
    /// When the database does not answer or is not migrated.
    pub async fn deployment(&self) -> Result<Deployment, StoreError> {
        deployment::read(&self.pool).await
    }

    /// Gives this database's deployment a fresh name, under which it may work again, on a Redis of
    /// its own. `None` while processes are at work under the old one: what their Redis has and the
    /// database has not would be lost.
    ///
    /// # Errors
    /// When the database does not answer or is not migrated.
    pub async fn rename_deployment(&self) -> Result<Option<Renamed>, StoreError> {
        deployment::rename(&self.pool).await
    }

    /// Writes that a process is there, and answers how the others are.
    ///
    /// # Errors
    /// When the database does not do its work.
    pub async fn beat(&self, beat: &Beat<'_>) -> Result<Heard, StoreError> {
        beat::beat(&self.pool, beat).await
    }

    /// The SQLSTATE with which the database refused something that was no fault of the data.
    #[must_use]
    pub fn refusal(error: &StoreError) -> Option<String> {
        failure::refusal(error)
    }

    /// Closes the connections; later calls answer [`StoreError::Unavailable`].
    pub fn close(&self) {
        self.pool.close();
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn ping(&self) -> Result<(), StoreError> {
        // A database that can be read but not written is no help.
        const PING: &str = "
            SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool
            FROM shards WHERE shard = 0";
        let answers = self.pool.read(&[statement!(PING)]).await?;
        if scalar(&answers[0])? { Err(Trouble::ReadOnly.into()) } else { Ok(()) }
    }

    async fn close(&self) {
        PostgresStore::close(self);
    }
}
