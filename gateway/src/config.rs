//! What a gateway can be told.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use shared::contract::limits::STREAM_TIMEOUT_MS_MAX;
use shared::process::settings::{Millis, Problem, Secret};
use shared::process::telemetry::{LogFilter, LogFormat};

use crate::handshake::AllowedOrigins;

shared::settings! {
    /// The settings of one gateway.
    pub struct Settings {
        /// Port of the page, the WebSocket and the API; 0 takes a free one.
        port: u16 = "3001", env "PORT";
        /// Address they listen on; by default all, or in the development mode the loopback.
        bind: Option<IpAddr> = "", env "ROOMCAST_BIND";
        /// Port of health, metrics and stats; 0 takes a free one.
        operator_port: u16 = "9464", env "ROOMCAST_OPERATOR_PORT";
        /// Address of that port.
        operator_bind: IpAddr = "127.0.0.1", env "ROOMCAST_OPERATOR_BIND";
        /// Folder of the embedded mode's database, locked by the process that uses it.
        data_dir: PathBuf = "./roomcast-data", env "ROOMCAST_DATA_DIR";
        /// Secret that HS256 tokens are signed with; without it the embedded mode is the
        /// development mode.
        jwt_secret: Option<Secret> = "", env "ROOMCAST_JWT_SECRET", secret;
        /// Development mode: believes `?user=`, allows everything, listens on the loopback only.
        dev: bool = "false", env "ROOMCAST_DEV";
        /// Redis of the cluster mode; set it together with `DATABASE_URL`.
        redis_url: Option<Secret> = "", env "REDIS_URL", secret;
        /// Password of that Redis, where the URL has none.
        redis_token: Option<Secret> = "", env "REDIS_TOKEN", secret;
        /// Postgres of the cluster mode; set it together with `REDIS_URL`.
        database_url: Option<Secret> = "", env "DATABASE_URL", secret;
        /// URL of the application, whose origin may open connections.
        app_url: Option<String> = "", env "NEXT_PUBLIC_APP_URL";
        /// Further origins that may open connections, with commas between.
        allowed_origins: Vec<String> = "", env "ROOMCAST_ALLOWED_ORIGINS";
        /// Most connections at a time; more are answered 503.
        connections_max: usize = "20000" in 1..=1000000, env "ROOMCAST_CONNECTIONS_MAX";
        /// Most rooms that one user may be in on a node.
        rooms_per_user: usize = "10" in 1..=10000, env "ROOMCAST_ROOMS_PER_USER";
        /// Largest frame or fragmented message of a client, in bytes.
        message_bytes_max: usize = "1048576" in 1024..=1048576, env "ROOMCAST_MESSAGE_BYTES_MAX";
        /// How often each client is pinged, in milliseconds.
        heartbeat_interval_ms: Millis = "30000" in 100..=600000,
            env "ROOMCAST_HEARTBEAT_INTERVAL_MS";
        /// After how long without a sign of life a client is gone, in milliseconds.
        connection_timeout_ms: Millis = "60000" in 200..=1200000,
            env "ROOMCAST_CONNECTION_TIMEOUT_MS";
        /// How long the producer of an AI answer may say nothing before what there is of it is
        /// closed, in milliseconds.
        stream_timeout_ms: Millis = "30000" in 100..=STREAM_TIMEOUT_MS_MAX,
            env "ROOMCAST_STREAM_TIMEOUT_MS";
        /// How long leaving may take before the process ends anyhow, in milliseconds.
        drain_timeout_ms: Millis = "25000" in 1000..=600000, env "ROOMCAST_DRAIN_TIMEOUT_MS";
        /// Messages a user may send per 60 seconds; accepted, not enforced yet.
        rate_limit_message_send: u32 = "10" in 1..=1000000, env "WEBSOCKET_RATE_LIMIT_MESSAGE_SEND";
        /// Typing events of a user per 60 seconds; accepted, not enforced yet.
        rate_limit_typing_events: u32 = "30" in 1..=1000000,
            env "WEBSOCKET_RATE_LIMIT_TYPING_EVENTS";
        /// Joins of a user per 60 seconds; accepted, not enforced yet.
        rate_limit_room_join: u32 = "5" in 1..=1000000, env "WEBSOCKET_RATE_LIMIT_ROOM_JOIN";
        /// Presence updates of a user per 60 seconds; accepted, not enforced yet.
        rate_limit_presence_update: u32 = "20" in 1..=1000000,
            env "WEBSOCKET_RATE_LIMIT_PRESENCE_UPDATE";
        /// Entries that a shard's log may hold before senders are told `backpressure`.
        log_entries_max: usize = "200000" in 100..=10000000, env "ROOMCAST_LOG_ENTRIES_MAX";
        /// Most entries that go into the database in one transaction.
        sync_batch_size: usize = "1000" in 1..=5000, env "ROOMCAST_SYNC_BATCH_SIZE";
        /// How long entries gather before they go into the database, in milliseconds.
        sync_interval_ms: Millis = "2" in 0..=60000, env "ROOMCAST_SYNC_INTERVAL_MS";
        /// First pause after the database failed, in milliseconds; each further one is longer.
        sync_retry_delay_ms: Millis = "100" in 1..=60000, env "ROOMCAST_SYNC_RETRY_DELAY_MS";
        /// Longest pause after the database failed, in milliseconds; tries never end.
        sync_retry_delay_max_ms: Millis = "5000" in 1..=600000,
            env "ROOMCAST_SYNC_RETRY_DELAY_MAX_MS";
        /// How log lines are written: text or json.
        log_format: LogFormat = "text", env "ROOMCAST_LOG_FORMAT";
        /// Which log lines are written, such as `info` or `info,gateway=debug`.
        log: LogFilter = "info", env "ROOMCAST_LOG";
    }
}

impl Settings {
    /// Whether Redis and Postgres lie behind this node, instead of its own memory and file.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.redis_url.is_some() && self.database_url.is_some()
    }

    /// Whether anybody may say who they are.
    #[must_use]
    pub fn is_dev(&self) -> bool {
        self.dev || (self.jwt_secret.is_none() && !self.is_cluster())
    }

    /// Where the page and the WebSocket listen.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let default = if self.is_dev() { Ipv4Addr::LOCALHOST.into() } else { everywhere };
        self.bind.unwrap_or(default)
    }

    /// What is wrong between settings that are right one by one.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.is_dev() && !self.address().is_loopback() {
            let text = "the development mode, where anybody may be anyone, is for the loopback only; \
                        set ROOMCAST_JWT_SECRET, or leave this at 127.0.0.1";
            problems.push(Problem::new("ROOMCAST_BIND", text));
        }
        match (self.redis_url.is_some(), self.database_url.is_some()) {
            (false, false) => {}
            (true, false) => problems.push(Problem::new(
                "DATABASE_URL",
                "missing: REDIS_URL is set, and the cluster mode needs both",
            )),
            (false, true) => problems.push(Problem::new(
                "REDIS_URL",
                "missing: DATABASE_URL is set, and the cluster mode needs both",
            )),
            (true, true) if self.jwt_secret.is_none() && !self.dev => problems.push(Problem::new(
                "ROOMCAST_JWT_SECRET",
                "missing: a cluster needs it, or --dev to try things out on the loopback",
            )),
            (true, true) => {}
        }
        if self.connection_timeout_ms.0 <= self.heartbeat_interval_ms.0 {
            let text = "has to be longer than ROOMCAST_HEARTBEAT_INTERVAL_MS";
            problems.push(Problem::new("ROOMCAST_CONNECTION_TIMEOUT_MS", text));
        }
        let named = |name| move |entry| (name, entry);
        let app_url = self.app_url.iter().map(named("NEXT_PUBLIC_APP_URL"));
        let listed = self.allowed_origins.iter().map(named("ROOMCAST_ALLOWED_ORIGINS"));
        for (name, entry) in app_url.chain(listed) {
            if let Err(error) = AllowedOrigins::parse([entry]) {
                problems.push(Problem::new(name, error.to_string()));
            }
        }
        problems
    }

    /// Every origin that may open connections besides the node's own.
    #[must_use]
    pub fn origins(&self) -> Vec<String> {
        self.app_url.iter().chain(&self.allowed_origins).cloned().collect()
    }
}
