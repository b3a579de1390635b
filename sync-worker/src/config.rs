//! What a sync-worker can be told.

use std::net::IpAddr;
use std::time::Duration;

use shared::log::redis::connection::redis_problem;
use shared::process::settings::{Millis, Problem, Secret};
use shared::process::telemetry::{LogFilter, LogFormat};
use shared::store::postgres::database_problem;

shared::settings! {
    /// The settings of one sync-worker.
    pub struct Settings {
        /// Redis, where the log is.
        redis_url: Option<Secret> = "", env "REDIS_URL", secret;
        /// Password of that Redis, where the URL has none.
        redis_token: Option<Secret> = "", env "REDIS_TOKEN", secret;
        /// Postgres, where the log goes.
        database_url: Option<Secret> = "", env "DATABASE_URL", secret;
        /// Port of health, metrics and stats; 0 takes a free one.
        operator_port: u16 = "9465", env "ROOMCAST_OPERATOR_PORT";
        /// Address of that port.
        operator_bind: IpAddr = "127.0.0.1", env "ROOMCAST_OPERATOR_BIND";
        /// Most entries that go into the database in one transaction.
        sync_batch_size: usize = "1000" in 1..=5000, env "ROOMCAST_SYNC_BATCH_SIZE";
        /// How long entries gather before they go into the database, in milliseconds.
        sync_interval_ms: Millis = "20" in 0..=60000, env "ROOMCAST_SYNC_INTERVAL_MS";
        /// First pause after the database failed, in milliseconds; each further one is longer.
        sync_retry_delay_ms: Millis = "100" in 1..=60000, env "ROOMCAST_SYNC_RETRY_DELAY_MS";
        /// Longest pause after the database failed, in milliseconds; tries never end.
        sync_retry_delay_max_ms: Millis = "5000" in 1..=600000,
            env "ROOMCAST_SYNC_RETRY_DELAY_MAX_MS";
        /// How long a worker that says nothing more keeps its shards, in milliseconds.
        lease_ms: Millis = "6000" in 300..=600000, env "ROOMCAST_LEASE_MS";
        /// How long the log keeps what is persisted, for a database that fails over and forgets,
        /// in milliseconds.
        log_keep_ms: Millis = "60000" in 0..=600000, env "ROOMCAST_LOG_KEEP_MS";
        /// For how many days messages stay in the database; 0 keeps them for ever.
        retention_days: u32 = "0" in 0..=36500, env "ROOMCAST_RETENTION_DAYS";
        /// How long leaving may take before the process ends anyhow, in milliseconds.
        drain_timeout_ms: Millis = "25000" in 1000..=600000, env "ROOMCAST_DRAIN_TIMEOUT_MS";
        /// How log lines are written: text or json.
        log_format: LogFormat = "text", env "ROOMCAST_LOG_FORMAT";
        /// Which log lines are written, such as `info` or `info,sync_worker=debug`.
        log: LogFilter = "info", env "ROOMCAST_LOG";
    }
}

/// Variables of the gateway, which are often in the same environment.
pub const GATEWAY_VARIABLES: &[&str] = &[
    "ROOMCAST_BIND",
    "ROOMCAST_DATA_DIR",
    "ROOMCAST_JWT_SECRET",
    "ROOMCAST_JWT_PUBLIC_KEY",
    "ROOMCAST_JWKS",
    "ROOMCAST_JWT_ISSUER",
    "ROOMCAST_JWT_AUDIENCE",
    "ROOMCAST_DEV",
    "ROOMCAST_ALLOWED_ORIGINS",
    "ROOMCAST_API_KEYS",
    "ROOMCAST_CONNECTIONS_MAX",
    "ROOMCAST_CONNECTIONS_PER_ADDRESS",
    "ROOMCAST_UNAUTHENTICATED_MAX",
    "ROOMCAST_UNAUTHENTICATED_PER_ADDRESS",
    "ROOMCAST_HTTP_IDLE_TIMEOUT_MS",
    "ROOMCAST_TRUSTED_PROXIES",
    "ROOMCAST_ROOMS_PER_USER",
    "ROOMCAST_MESSAGE_BYTES_MAX",
    "ROOMCAST_HEARTBEAT_INTERVAL_MS",
    "ROOMCAST_CONNECTION_TIMEOUT_MS",
    "ROOMCAST_WRITE_TIMEOUT_MS",
    "ROOMCAST_STREAM_TIMEOUT_MS",
    "ROOMCAST_DRAIN_NOTICE_MS",
    "ROOMCAST_RATE_WINDOW_MESSAGE_SEND_MS",
    "ROOMCAST_RATE_WINDOW_TYPING_EVENTS_MS",
    "ROOMCAST_RATE_WINDOW_ROOM_JOIN_MS",
    "ROOMCAST_RATE_LIMIT_RESUME",
    "ROOMCAST_RATE_WINDOW_PRESENCE_UPDATE_MS",
    "ROOMCAST_RATE_LIMIT_STREAM",
    "ROOMCAST_RATE_LIMIT_HISTORY",
    "ROOMCAST_RATE_LIMIT_LOOKUP",
    "ROOMCAST_RATE_LIMIT_COMMAND",
    "ROOMCAST_BLOCK_AFTER",
    "ROOMCAST_BLOCK_MS",
    "ROOMCAST_CREDITS_BUDGET",
    "ROOMCAST_LOG_ENTRIES_MAX",
];

/// Those of them that the seed has.
pub const SEED_VARIABLES: &[&str] = &[
    "WEBSOCKET_RATE_LIMIT_MESSAGE_SEND",
    "WEBSOCKET_RATE_LIMIT_TYPING_EVENTS",
    "WEBSOCKET_RATE_LIMIT_ROOM_JOIN",
    "WEBSOCKET_RATE_LIMIT_PRESENCE_UPDATE",
];

impl Settings {
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
        missing.chain(redis).chain(database).collect()
    }
}

/// So many days; `None`, for ever, for 0.
#[must_use]
pub fn retention(days: u32) -> Option<Duration> {
    (days > 0).then(|| Duration::from_secs(u64::from(days) * 24 * 60 * 60))
}
