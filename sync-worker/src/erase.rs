//! The subcommand `erase`: a user's or a room's messages, everywhere.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Subcommand;
use shared::contract::id::{RoomId, UserId};
use shared::erase::{self, EraseError, Progress, Total};
use shared::log::LogError;
use shared::log::redis::RedisLog;
use shared::log::redis::connection::{RedisConnection, RedisUrlError};
use shared::process::clock::Clock;
use shared::store::postgres::PostgresStore;
use shared::store::{Erased, StoreError};

use crate::config::WorkerSettings;

/// Whose messages are erased.
#[derive(Debug, Subcommand)]
pub enum Target {
    /// Erase what a user has said, in every room
    User {
        /// The user's id
        #[arg(value_name = "ID", value_parser = UserId::parse)]
        user: UserId,
    },
    /// Erase what was said in a room
    Room {
        /// The room's id
        #[arg(value_name = "ID", value_parser = RoomId::parse)]
        room: RoomId,
    },
}

/// Why not everything was erased.
#[derive(Debug, thiserror::Error)]
pub enum ErasingError {
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

/// Erases what was said, says how far it is, and gives the exit code.
///
/// # Errors
/// Says what ended it early.
pub async fn run(
    store: &PostgresStore,
    settings: &WorkerSettings,
    target: Target,
) -> Result<ExitCode, ErasingError> {
    let whose = match target {
        Target::User { user } => Erased::User(user),
        Target::Room { room } => Erased::Room(room),
    };
    let redis_url = settings.redis_url.clone().unwrap_or_default();
    let redis = RedisConnection::new(&redis_url, settings.redis_token.as_ref(), Clock::system())?;
    let name = store.deployment().await?.name;
    if !redis.take(&name).await.map_err(LogError::from)? {
        return Err(ErasingError::Foreign { name });
    }
    // It appends nothing; no cap applies.
    let log = RedisLog::new(redis, usize::MAX);
    let Total { messages, rooms } = erase::erase(&log, store, &whose, &say).await?;
    let rooms = rooms.len();
    writeln!(io::stdout(), "{messages} messages erased; rooms that have forgotten them: {rooms}")?;
    Ok(ExitCode::SUCCESS)
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
