//! Sync-worker settings.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use shared::log::redis::connection::redis_problem;
use shared::process::memory::{self, MIB};
use shared::process::settings::{Millis, Problem, Secret, SettingArg};
use shared::process::telemetry::{LogFilter, LogFormat};
use shared::store::postgres::database_problem;

/// The settings of one sync-worker.
#[derive(Debug, Clone, Args, Serialize)]
pub struct WorkerSettings {
    /// Redis, where the log is.
    #[arg(long, env = "REDIS_URL", help_heading = "Redis and Postgres")]
    pub redis_url: Option<Secret>,
    /// Password of that Redis, where the URL has none.
    #[arg(long, env = "REDIS_TOKEN")]
    pub redis_token: Option<Secret>,
    /// Postgres, where the log goes.
    #[arg(long, env = "DATABASE_URL")]
    pub database_url: Option<Secret>,
    /// Port of health, metrics and stats; 0 takes a free one.
    #[arg(long, env = "ROOMCAST_OPERATOR_PORT", default_value = "9465", help_heading = "Network")]
    pub operator_port: u16,
    /// Address of that port.
    #[arg(long, env = "ROOMCAST_OPERATOR_BIND", default_value = "127.0.0.1")]
    pub operator_bind: IpAddr,
    /// Bytes of memory that the process keeps within, by smaller transactions. 0 is half of what
    /// its container, or else the machine, has.
    #[arg(long, env = "ROOMCAST_MEMORY_BYTES_MAX", default_value = "0", help_heading = "Limits")]
    pub memory_bytes_max: u64,
    /// Most entries that go into the database in one transaction.
    #[arg(long, env = "ROOMCAST_SYNC_BATCH_SIZE", default_value = "1000", range = 1..=5000,
          help_heading = "Storage")]
    pub sync_batch_size: usize,
    /// Least time from one transaction to the next, in milliseconds; up to 100 where much comes in.
    #[arg(long, env = "ROOMCAST_SYNC_INTERVAL_MS", default_value = "20", range = 0..=60000)]
    pub sync_interval_ms: Millis,
    /// First pause after the database failed, in milliseconds; each further one is longer.
    #[arg(long, env = "ROOMCAST_SYNC_RETRY_DELAY_MS", default_value = "100", range = 1..=60000)]
    pub sync_retry_delay_ms: Millis,
    /// Longest pause after the database failed, in milliseconds; tries never end.
    #[arg(long, env = "ROOMCAST_SYNC_RETRY_DELAY_MAX_MS", default_value = "5000",
          range = 1..=600000)]
    pub sync_retry_delay_max_ms: Millis,
    /// How long a worker that says nothing more keeps its shards, in milliseconds.
    #[arg(long, env = "ROOMCAST_LEASE_MS", default_value = "6000", range = 300..=600000)]
    pub lease_ms: Millis,
    /// How long the log keeps what is persisted, for a database that fails over and forgets,
    /// in milliseconds.
    #[arg(long, env = "ROOMCAST_LOG_KEEP_MS", default_value = "60000", range = 0..=600000)]
    pub log_keep_ms: Millis,
    /// For how many days messages stay in the database; 0 keeps them for ever.
    #[arg(long, env = "ROOMCAST_RETENTION_DAYS", default_value = "0", range = 0..=36500)]
    pub retention_days: u32,
    /// How long leaving may take before the process ends anyhow, in milliseconds.
    #[arg(long, env = "ROOMCAST_DRAIN_TIMEOUT_MS", default_value = "25000", range = 1000..=600000,
          help_heading = "Timeouts")]
    pub drain_timeout_ms: Millis,
    /// How log lines are written: text or json.
    #[arg(long, env = "ROOMCAST_LOG_FORMAT", default_value = "text", help_heading = "Logging")]
    pub log_format: LogFormat,
    /// Which log lines are written, such as `info` or `info,sync_worker=debug`.
    #[arg(long, env = "ROOMCAST_LOG", default_value = "info")]
    pub log: LogFilter,
}

/// The least that a worker works with, in bytes.
const MEMORY_BYTES_LEAST: u64 = 32 * MIB as u64;

/// Variables that only the gateway knows and that are often in the same environment, one a line; a
/// test compares them with its settings, and writes them with `UPDATE_SETTINGS=1`.
pub const GATEWAY_VARIABLES: &str = include_str!("gateway_variables.txt");

impl WorkerSettings {
    /// How long messages stay in the database; `None` for ever.
    #[must_use]
    pub fn retention(&self) -> Option<Duration> {
        retention(self.retention_days)
    }

    /// What is missing for what is asked of Postgres alone.
    #[must_use]
    pub fn database_problems(&self) -> Vec<Problem> {
        let missing = || Problem::new("DATABASE_URL", "missing: what you ask for lies in Postgres");
        match &self.database_url {
            None => vec![missing()],
            Some(url) => database_problem(url).into_iter().collect(),
        }
    }

    /// What is missing to erase in both.
    #[must_use]
    pub fn both_problems(&self) -> Vec<Problem> {
        self.missing("missing: messages are erased in Redis and in Postgres")
    }

    /// What is missing.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.missing("missing: the worker moves Redis's log to Postgres")
    }

    fn missing(&self, text: &str) -> Vec<Problem> {
        let needed = [("REDIS_URL", &self.redis_url), ("DATABASE_URL", &self.database_url)];
        let missing = needed.into_iter().filter(|(_, value)| value.is_none());
        let missing = missing.map(|(name, _)| Problem::new(name, text));
        let redis = self.redis_url.as_ref().and_then(redis_problem);
        let database = self.database_url.as_ref().and_then(database_problem);
        let memory = memory::problem(self.memory_bytes_max, MEMORY_BYTES_LEAST);
        missing.chain(redis).chain(database).chain(memory).collect()
    }
}

/// So many days; `None`, for ever, for 0.
#[must_use]
pub fn retention(days: u32) -> Option<Duration> {
    (days > 0).then(|| Duration::from_secs(u64::from(days) * 24 * 60 * 60))
}
