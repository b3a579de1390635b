//! The subcommand `erase`: a user's or a room's messages, everywhere.

use std::io::{self, Write as _};

use shared::contract::id::{IdError, RoomId, UserId};
use shared::erase::{self, EraseError, Progress, Total};
use shared::log::LogError;
use shared::log::redis::RedisLog;
use shared::log::redis::connection::{RedisConnection, RedisUrlError};
use shared::process::clock::Clock;
use shared::store::postgres::{self, PostgresStore, UrlError};
use shared::store::{Erased, StoreError};

use crate::config::Settings;

/// Not everything was erased.
const NOT_DONE: u8 = 1;
/// `EX_USAGE`.
const USAGE: u8 = 64;

/// Why not everything was erased.
#[derive(Debug, thiserror::Error)]
pub enum ErasingError {
    /// No such subcommand.
    #[error("expected: erase user ID | erase room ID")]
    Usage,
    /// No user or room can be named so.
    #[error("no name of a user or a room")]
    Name(#[from] IdError),
    /// The database's address is of no use.
    #[error("DATABASE_URL is of no use")]
    Database(#[from] UrlError),
    /// The database could not be asked whose it is.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Redis could not be asked whose it is.
    #[error("redis does not do its work")]
    Taken(#[from] LogError),
    /// The log is another's.
    #[error("this redis does not belong to the deployment {name}, as the database does")]
    Foreign {
        /// The database's.
        name: String,
    },
    /// Redis's address is of no use.
    #[error("REDIS_URL is of no use")]
    Redis(#[from] RedisUrlError),
    /// It ended early.
    #[error("not everything was erased; do it again")]
    Early(#[from] EraseError),
    /// Nobody listens.
    #[error("the answer could not be written")]
    Output(#[from] io::Error),
}

impl ErasingError {
    /// The exit code: 64 for a wrong subcommand, else 1.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            ErasingError::Usage | ErasingError::Name(_) => USAGE,
            ErasingError::Database(_)
            | ErasingError::Redis(_)
            | ErasingError::Store(_)
            | ErasingError::Taken(_)
            | ErasingError::Foreign { .. }
            | ErasingError::Early(_)
            | ErasingError::Output(_) => NOT_DONE,
        }
    }
}

/// Erases what the subcommand names, says how far it is, and gives the exit code.
///
/// # Errors
/// Says what ended it early.
pub async fn run(settings: &Settings, subcommand: &[String]) -> Result<u8, ErasingError> {
    let subcommand: Vec<&str> = subcommand.iter().map(String::as_str).collect();
    let whose = match subcommand[..] {
        ["erase", "user", id] => Erased::User(UserId::parse(id)?),
        ["erase", "room", id] => Erased::Room(RoomId::parse(id)?),
        _ => return Err(ErasingError::Usage),
    };
    let database_url = settings.database_url.clone().unwrap_or_default();
    let store = PostgresStore::connect(&database_url, postgres::Settings::default())?;
    let redis_url = settings.redis_url.clone().unwrap_or_default();
    let redis = RedisConnection::new(&redis_url, settings.redis_token.as_ref(), Clock::system())?;
    let name = store.deployment().await?.name;
    if !redis.take(&name).await.map_err(LogError::from)? {
        return Err(ErasingError::Foreign { name });
    }
    // It appends nothing; no cap applies.
    let log = RedisLog::new(redis, usize::MAX);
    let Total { messages, rooms } = erase::erase(&log, &store, &whose, &say).await?;
    let rooms = rooms.len();
    writeln!(io::stdout(), "{messages} messages erased; rooms that have forgotten them: {rooms}")?;
    Ok(0)
}

fn say(progress: Progress) {
    let text = match progress {
        Progress::Database { messages } => format!("database: {messages} messages erased"),
        Progress::Waiting { shards } => {
            format!("log: waiting for what is on its way in {shards} shards")
        }
        Progress::Forgetting { rooms } => format!("nodes: forgetting {rooms} rooms"),
    };
    // Going on is more important than being heard.
    let _ = writeln!(io::stdout(), "{text}");
}
