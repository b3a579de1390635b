//! Looking after what a process of a cluster depends on: waiting for it, and saying so once in a
//! while; refusing what would lose data.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::log::redis::connection::RedisConnection;
use crate::process::backoff::Backoff;
use crate::process::error_chain::error_chain;
use crate::process::readiness::Condition;
use crate::store::Store;
use crate::store::postgres::{MigrateError, PostgresStore};

const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often what is there is asked whether it still is.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How often the log says that something is still away.
const SAY_INTERVAL: Duration = Duration::from_secs(10);

/// A dependency that this process must not work with.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The database is of another make.
    #[error(transparent)]
    Database(#[from] MigrateError),
    /// Redis drops keys when it is full, and with them accepted messages.
    #[error("redis evicts keys when it is full (maxmemory-policy {policy}); set it to noeviction")]
    Evicts {
        /// What it is set to.
        policy: String,
    },
}

/// Says now and then that something is away.
#[derive(Debug, Default)]
struct Complaint {
    said: Option<Instant>,
}

impl Complaint {
    fn say(&mut self, what: &'static str, error: &dyn std::error::Error) {
        if self.said.is_none_or(|at| at.elapsed() >= SAY_INTERVAL) {
            self.said = Some(Instant::now());
            warn!(error = error_chain(error), "{what} does not answer, trying on");
        }
    }

    fn over(&mut self, what: &'static str) {
        if self.said.take().is_some() {
            info!("{what} answers again");
        }
    }
}

/// Migrates the database as soon as it is there.
///
/// # Errors
/// When this process must not work with it.
pub async fn migrated(store: &PostgresStore) -> Result<(), Unfit> {
    let (mut pauses, mut complaint) = (Backoff::new(PAUSE, PAUSE_MAX), Complaint::default());
    loop {
        match store.migrate().await {
            Ok(()) => {
                complaint.over("database");
                return Ok(());
            }
            Err(
                error @ (MigrateError::Newer { .. }
                | MigrateError::Shards { .. }
                | MigrateError::Encoding { .. }),
            ) => return Err(error.into()),
            Err(error @ MigrateError::Unavailable(_)) => {
                complaint.say("database", &error);
                tokio::time::sleep(pauses.next_delay()).await;
            }
        }
    }
}

/// Tells `ready` whether a migrated database answers; never returns.
pub async fn database(store: Arc<PostgresStore>, ready: Condition) -> Unfit {
    let mut complaint = Complaint::default();
    loop {
        match store.ping().await {
            Ok(()) => {
                complaint.over("database");
                ready.ready();
            }
            Err(error) => {
                complaint.say("database", &error);
                ready.not_ready("the database does not answer");
            }
        }
        tokio::time::sleep(PING_INTERVAL).await;
    }
}

/// Looks at Redis's settings whenever it is there, and tells `ready`, where given, whether it
/// answers. Returns only when this process must not work with it.
pub async fn redis(connection: RedisConnection, ready: Option<Condition>) -> Unfit {
    let mut complaint = Complaint::default();
    loop {
        match connection.eviction_policy().await {
            Ok(Some(policy)) if policy != "noeviction" => return Unfit::Evicts { policy },
            // Where CONFIG is forbidden, the operator's word has to do.
            Ok(_) => {
                complaint.over("redis");
                if let Some(ready) = &ready {
                    ready.ready();
                }
            }
            Err(error) => {
                complaint.say("redis", &error);
                if let Some(ready) = &ready {
                    ready.not_ready("redis does not answer");
                }
            }
        }
        tokio::time::sleep(PING_INTERVAL).await;
    }
}
