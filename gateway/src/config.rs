//! Gateway settings.

mod checks;
pub(crate) mod shares;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use shared::contract::limits::{
    RATE_WINDOW_MS, RECEIPT_LOG_INTERVAL_MS, STREAM_TIMEOUT_MS_MAX, UNPROVEN_SPARE,
};
use shared::process::memory::MemoryBound;
use shared::process::settings::{Millis, Secret, SettingArg};
use shared::process::telemetry::metrics::Label;
use shared::process::telemetry::{LogFilter, LogFormat};
use shared::store::sqlite::journal::JournalBounds;

use self::shares::MemoryShares;
use crate::auth::Trust;

/// The settings of one gateway.
#[derive(Debug, Clone, Args, Serialize)]
pub struct GatewaySettings {
    /// Port of the page, the WebSocket and the API; 0 takes a free one.
    #[arg(long, env = "PORT", default_value = "3001", help_heading = "Network")]
    pub port: u16,
    /// Address they listen on; by default all of IPv4 and IPv6, or in the development mode the
    /// loopback.
    #[arg(long, env = "ROOMCAST_BIND")]
    pub bind: Option<IpAddr>,
    /// Port of health, metrics and stats; 0 takes a free one.
    #[arg(long, env = "ROOMCAST_OPERATOR_PORT", default_value = "9464")]
    pub operator_port: u16,
    /// Address of that port.
    #[arg(long, env = "ROOMCAST_OPERATOR_BIND", default_value = "127.0.0.1")]
    pub operator_bind: IpAddr,
    /// Folder of the embedded mode's database, locked by the process that uses it.
    #[arg(
        long,
        env = "ROOMCAST_DATA_DIR",
        default_value = "./roomcast-data",
        help_heading = "Storage"
    )]
    pub data_dir: PathBuf,
    /// What is written into this node's journal, in the folder `journal` there: nothing (off), what
    /// is accepted while Redis takes nothing (outage), or everything until the database has it
    /// (always). Only in a cluster.
    #[arg(long, env = "ROOMCAST_JOURNAL", default_value = "outage")]
    pub journal: JournalMode,
    /// Bytes that the journal may hold; beyond it senders are told `backpressure`.
    #[arg(long, env = "ROOMCAST_JOURNAL_BYTES_MAX", default_value = "1073741824",
          range = 65536..=1099511627776)]
    pub journal_bytes_max: u64,
    /// Age of the journal's oldest entry from which on nothing more is taken, in milliseconds.
    #[arg(long, env = "ROOMCAST_JOURNAL_AGE_MAX_MS", default_value = "86400000",
          range = 1000..=2592000000)]
    pub journal_age_max_ms: Millis,
    /// Secret that HS256 tokens are signed with, of at least 32 bytes; without it the embedded
    /// mode is the development mode.
    #[arg(long, env = "ROOMCAST_JWT_SECRET", help_heading = "Authentication")]
    pub jwt_secret: Option<Secret>,
    /// Public key that RS256, ES256, ES384 or EdDSA tokens are signed for: PEM, or a file
    /// with it; several keys may follow one another.
    #[arg(long, env = "ROOMCAST_JWT_PUBLIC_KEY")]
    pub jwt_public_key: Option<String>,
    /// JSON Web Key Set of whoever signs tokens: a file, or an http or https URL.
    #[arg(long, env = "ROOMCAST_JWKS")]
    pub jwks: Option<String>,
    /// What the `iss` of a token has to be; without it any will do.
    #[arg(long, env = "ROOMCAST_JWT_ISSUER")]
    pub jwt_issuer: Option<String>,
    /// What the `aud` of a token has to be or to contain; without it any will do.
    #[arg(long, env = "ROOMCAST_JWT_AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// Development mode: believes `?user=`, allows everything, listens on the loopback only.
    #[arg(long, env = "ROOMCAST_DEV")]
    pub dev: bool,
    /// Redis of the cluster mode; set it together with `DATABASE_URL`.
    #[arg(long, env = "REDIS_URL", help_heading = "Cluster mode")]
    pub redis_url: Option<Secret>,
    /// Password of that Redis, where the URL has none.
    #[arg(long, env = "REDIS_TOKEN")]
    pub redis_token: Option<Secret>,
    /// Postgres of the cluster mode; set it together with `REDIS_URL`.
    #[arg(long, env = "DATABASE_URL")]
    pub database_url: Option<Secret>,
    /// URL of the application, whose origin may open connections.
    #[arg(long, env = "NEXT_PUBLIC_APP_URL", help_heading = "Origins and API keys")]
    pub app_url: Option<String>,
    /// Further origins that may open connections, with commas between; of any scheme, such as
    /// `tauri://localhost`.
    #[arg(long, env = "ROOMCAST_ALLOWED_ORIGINS")]
    pub allowed_origins: Vec<String>,
    /// SHA-256 digests of the keys that open the API, in hexadecimal, with commas between;
    /// without any the API is closed, except in the development mode.
    #[arg(long, env = "ROOMCAST_API_KEYS")]
    pub api_keys: Vec<String>,
    /// Most connections at a time; more are answered 503.
    #[arg(long, env = "ROOMCAST_CONNECTIONS_MAX", default_value = "20000", range = 1..=1000000,
          help_heading = "Limits")]
    pub connections_max: usize,
    /// Most handshakes within a second of clients that say who they are, and as many of others;
    /// more are answered 503 with `Retry-After`, so that a whole fleet's people come one after
    /// another.
    #[arg(long, env = "ROOMCAST_CONNECTS_PER_SECOND", default_value = "10000", range = 1..=1000000)]
    pub connects_per_second: u32,
    /// How many percent of the fleet's mean a node's connections may be before it sends at most a
    /// hundredth of its people a second elsewhere; 0 is never, and so is a fleet of fewer than
    /// three nodes.
    #[arg(long, env = "ROOMCAST_REBALANCE_PERCENT", default_value = "120", range = 0..=1000)]
    pub rebalance_percent: u32,
    /// Most connections from one address (of IPv6, one /64 network); more are answered 429, and
    /// 0 is no limit.
    #[arg(long, env = "ROOMCAST_CONNECTIONS_PER_ADDRESS", default_value = "0", range = 0..=1000000)]
    pub connections_per_address: usize,
    /// Most sockets at a time whose clients have not said who they are: those that speak HTTP,
    /// kept-alive ones among them, and WebSockets before `auth`; more are answered 503, and
    /// there are never more than 64 above `ROOMCAST_CONNECTIONS_MAX`.
    #[arg(long, env = "ROOMCAST_UNAUTHENTICATED_MAX", default_value = "6000", range = 1..=1000000)]
    pub unauthenticated_max: usize,
    /// Most such sockets from one address (of IPv6, one /64 network); more are answered 429,
    /// and 0 is no limit. Behind trusted proxies, of one client's WebSockets.
    #[arg(long, env = "ROOMCAST_UNAUTHENTICATED_PER_ADDRESS", default_value = "2000",
          range = 0..=1000000)]
    pub unauthenticated_per_address: usize,
    /// How long an HTTP connection may wait for its next request, in milliseconds; longer than
    /// what a balancer in front keeps one for.
    #[arg(long, env = "ROOMCAST_HTTP_IDLE_TIMEOUT_MS", default_value = "75000",
          range = 100..=3600000, help_heading = "Timeouts")]
    pub http_idle_timeout_ms: Millis,
    /// Addresses or networks of the proxies in front, whose `X-Forwarded-For` is believed, with
    /// commas between.
    #[arg(long, env = "ROOMCAST_TRUSTED_PROXIES", help_heading = "Network")]
    pub trusted_proxies: Vec<String>,
    /// Most rooms that one user may be in on a node.
    #[arg(long, env = "ROOMCAST_ROOMS_PER_USER", default_value = "10", range = 1..=10000,
          help_heading = "Limits")]
    pub rooms_per_user: usize,
    /// Largest frame or fragmented message of a client, in bytes.
    #[arg(long, env = "ROOMCAST_MESSAGE_BYTES_MAX", default_value = "1048576",
          range = 1024..=2097152)]
    pub message_bytes_max: usize,
    /// How often each client is pinged, in milliseconds.
    #[arg(long, env = "ROOMCAST_HEARTBEAT_INTERVAL_MS", default_value = "30000",
          range = 100..=600000, help_heading = "Timeouts")]
    pub heartbeat_interval_ms: Millis,
    /// After how long without a sign of life a client is gone, in milliseconds.
    #[arg(long, env = "ROOMCAST_CONNECTION_TIMEOUT_MS", default_value = "60000",
          range = 200..=1200000)]
    pub connection_timeout_ms: Millis,
    /// After how long without taking a byte a client that has something to read is cut, in
    /// milliseconds.
    #[arg(long, env = "ROOMCAST_WRITE_TIMEOUT_MS", default_value = "90000", range = 100..=1200000)]
    pub write_timeout_ms: Millis,
    /// How long the producer of an AI answer may say nothing before what there is of it is
    /// closed, in milliseconds.
    #[arg(long, env = "ROOMCAST_STREAM_TIMEOUT_MS", default_value = "30000",
          range = 100..=STREAM_TIMEOUT_MS_MAX)]
    pub stream_timeout_ms: Millis,
    /// How long leaving may take before the process ends anyhow, in milliseconds.
    #[arg(long, env = "ROOMCAST_DRAIN_TIMEOUT_MS", default_value = "25000", range = 1000..=600000)]
    pub drain_timeout_ms: Millis,
    /// How long at least, once `/readyz` says that the node leaves, newcomers are answered 503
    /// before the port closes, in milliseconds, so that balancers see it; by default 5000 in a
    /// cluster, else and in the development mode 0.
    #[arg(long, env = "ROOMCAST_DRAIN_NOTICE_MS", range = 0..=600000)]
    pub drain_notice_ms: Option<Millis>,
    /// Over how long a leaving node sends its clients elsewhere, evenly and in no particular order,
    /// in milliseconds; they are served until then. By default 20 for each, at most 10000, in a
    /// cluster; alone 0.
    #[arg(long, env = "ROOMCAST_DRAIN_SPREAD_MS", range = 0..=600000)]
    pub drain_spread_ms: Option<Millis>,
    /// Messages, edits and deletions of a user per 60 seconds, on all nodes together; the
    /// development mode multiplies this and the other limits by 20.
    #[arg(long, env = "WEBSOCKET_RATE_LIMIT_MESSAGE_SEND", default_value = "10",
          range = 1..=1000000, help_heading = "Rate limits")]
    pub rate_limit_message_send: u32,
    /// How long that window is instead of 60 seconds, in milliseconds.
    #[arg(long, env = "ROOMCAST_RATE_WINDOW_MESSAGE_SEND_MS", default_value = "60000",
          range = 1000..=3600000)]
    pub rate_window_message_send_ms: Millis,
    /// Typing events of a user per 60 seconds.
    #[arg(long, env = "WEBSOCKET_RATE_LIMIT_TYPING_EVENTS", default_value = "30",
          range = 1..=1000000)]
    pub rate_limit_typing_events: u32,
    /// How long that window is instead, in milliseconds.
    #[arg(long, env = "ROOMCAST_RATE_WINDOW_TYPING_EVENTS_MS", default_value = "60000",
          range = 1000..=3600000)]
    pub rate_window_typing_events_ms: Millis,
    /// Rooms that a user may enter per 60 seconds, without `since`, which are none of their
    /// usual ones: in which they were lately, of which they are members, or where they have
    /// read.
    #[arg(long, env = "WEBSOCKET_RATE_LIMIT_ROOM_JOIN", default_value = "5", range = 1..=1000000)]
    pub rate_limit_room_join: u32,
    /// How long that window is instead, in milliseconds.
    #[arg(long, env = "ROOMCAST_RATE_WINDOW_ROOM_JOIN_MS", default_value = "60000",
          range = 1000..=3600000)]
    pub rate_window_room_join_ms: Millis,
    /// Joins of a user with `since`, after a reconnect, or of a usual room, per 60 seconds.
    #[arg(long, env = "ROOMCAST_RATE_LIMIT_RESUME", default_value = "60", range = 1..=1000000)]
    pub rate_limit_resume: u32,
    /// Presence updates of a user per 60 seconds.
    #[arg(long, env = "WEBSOCKET_RATE_LIMIT_PRESENCE_UPDATE", default_value = "20",
          range = 1..=1000000)]
    pub rate_limit_presence_update: u32,
    /// How long that window is instead, in milliseconds.
    #[arg(long, env = "ROOMCAST_RATE_WINDOW_PRESENCE_UPDATE_MS", default_value = "60000",
          range = 1000..=3600000)]
    pub rate_window_presence_update_ms: Millis,
    /// Answers that a user may begin to stream per 60 seconds.
    #[arg(long, env = "ROOMCAST_RATE_LIMIT_STREAM", default_value = "20", range = 1..=1000000)]
    pub rate_limit_stream: u32,
    /// Pages of history and balances that a user may read per 60 seconds, on each node.
    #[arg(long, env = "ROOMCAST_RATE_LIMIT_HISTORY", default_value = "600", range = 1..=1000000)]
    pub rate_limit_history: u32,
    /// What a user may have looked up that changes nothing, such as a message offered again, a
    /// receipt of a message by its id, or anything in a room that they are not in, per 60
    /// seconds, on each node; never less than messages.
    #[arg(long, env = "ROOMCAST_RATE_LIMIT_LOOKUP", default_value = "3000", range = 1..=1000000)]
    pub rate_limit_lookup: u32,
    /// Commands of a user per 60 seconds, on each node, but for typing, presence, deltas of
    /// answers and signs of life; never less than twice what the other limits allow together.
    #[arg(long, env = "ROOMCAST_RATE_LIMIT_COMMAND", default_value = "6000", range = 1..=1000000)]
    pub rate_limit_command: u32,
    /// Refusals for asking too often, within 60 seconds, after which a user is blocked on all
    /// nodes; 0 blocks nobody.
    #[arg(long, env = "ROOMCAST_BLOCK_AFTER", default_value = "30", range = 0..=1000000)]
    pub block_after: u32,
    /// How long a user is blocked, in milliseconds.
    #[arg(long, env = "ROOMCAST_BLOCK_MS", default_value = "300000", range = 100..=86400000)]
    pub block_ms: Millis,
    /// Whether messages of assistants and streams wait for credits that cover them.
    #[arg(long, env = "ROOMCAST_CREDITS_BUDGET", help_heading = "Limits")]
    pub credits_budget: bool,
    /// How many entries of a shard may wait before senders are told `backpressure`.
    #[arg(long, env = "ROOMCAST_LOG_ENTRIES_MAX", default_value = "200000", range = 100..=10000000)]
    pub log_entries_max: usize,
    /// Bytes of memory that the process keeps within: what comes in and finds no room is told
    /// `backpressure`, who does not read is cut. 0 is half of what its container, or else the
    /// machine, has.
    #[arg(long, env = "ROOMCAST_MEMORY_BYTES_MAX", default_value = "0", help_heading = "Limits")]
    pub memory_bytes_max: u64,
    /// Most entries that go into the database in one transaction.
    #[arg(long, env = "ROOMCAST_SYNC_BATCH_SIZE", default_value = "1000", range = 1..=5000,
          help_heading = "Storage")]
    pub sync_batch_size: usize,
    /// Least time from one transaction to the next, in milliseconds.
    #[arg(long, env = "ROOMCAST_SYNC_INTERVAL_MS", default_value = "2", range = 0..=60000)]
    pub sync_interval_ms: Millis,
    /// First pause after the database failed, in milliseconds; each further one is longer.
    #[arg(long, env = "ROOMCAST_SYNC_RETRY_DELAY_MS", default_value = "100", range = 1..=60000)]
    pub sync_retry_delay_ms: Millis,
    /// Longest pause after the database failed, in milliseconds; tries never end.
    #[arg(long, env = "ROOMCAST_SYNC_RETRY_DELAY_MAX_MS", default_value = "5000",
          range = 1..=600000)]
    pub sync_retry_delay_max_ms: Millis,
    /// For how many days messages stay in the embedded database; 0 keeps them for ever.
    #[arg(long, env = "ROOMCAST_RETENTION_DAYS", default_value = "0", range = 0..=36500)]
    pub retention_days: u32,
    /// How log lines are written: text or json.
    #[arg(long, env = "ROOMCAST_LOG_FORMAT", default_value = "text", help_heading = "Logging")]
    pub log_format: LogFormat,
    /// Which log lines are written, such as `info` or `info,gateway=debug`.
    #[arg(long, env = "ROOMCAST_LOG", default_value = "info")]
    pub log: LogFilter,
}

/// What goes into a node's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalMode {
    /// Nothing: while Redis takes nothing, senders are told `unavailable`.
    Off,
    /// What is accepted while Redis takes nothing.
    Outage,
    /// Everything that is accepted, until the database has it.
    Always,
}

/// Longer than a balancer that looks every 2 s and asks twice needs to see that a node leaves.
const DRAIN_NOTICE: Duration = Duration::from_secs(5);

/// By default a leaving node takes so long for each client, and no longer for all of them.
const DRAIN_SPREAD_MS_EACH: u32 = 20;
const DRAIN_SPREAD_MS_MAX: u32 = 10_000;

/// By how much the development mode multiplies every limit.
const DEV_LIMIT_FACTOR: u32 = 20;

/// What a user may do so many times within a minute, each counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateClass {
    /// Messages, edits and deletions.
    Messages,
    /// Typing events.
    Typing,
    /// Joins.
    Joins,
    /// Joins that go on where the client was: ten rooms come back at once.
    Resumes,
    /// Presence updates.
    Presence,
    /// Answers that begin to be streamed.
    Streams,
    /// What is only read.
    History,
    /// What is looked up in vain, or offered again.
    Lookups,
    /// Everything that costs more than a glance.
    Commands,
}

impl RateClass {
    /// How many there are.
    pub(crate) const COUNT: usize = <RateClass as Label>::ALL.len();
}

impl Label for RateClass {
    const ALL: &'static [RateClass] = &[
        RateClass::Messages,
        RateClass::Typing,
        RateClass::Joins,
        RateClass::Resumes,
        RateClass::Presence,
        RateClass::Streams,
        RateClass::History,
        RateClass::Lookups,
        RateClass::Commands,
    ];

    fn label(&self) -> &'static str {
        match self {
            RateClass::Messages => "messages",
            RateClass::Typing => "typing",
            RateClass::Joins => "joins",
            RateClass::Resumes => "resumes",
            RateClass::Presence => "presence",
            RateClass::Streams => "streams",
            RateClass::History => "history",
            RateClass::Lookups => "lookups",
            RateClass::Commands => "commands",
        }
    }
}

impl GatewaySettings {
    /// What its parts may have of its memory.
    pub(crate) fn memory(&self) -> MemoryShares {
        MemoryShares::of(MemoryBound::new(self.memory_bytes_max))
    }

    /// How often a user may do it within its window.
    #[must_use]
    pub fn rate_limit(&self, class: RateClass) -> u32 {
        let limit = match class {
            RateClass::Messages => self.rate_limit_message_send,
            RateClass::Typing => self.rate_limit_typing_events,
            RateClass::Joins => self.rate_limit_room_join,
            RateClass::Resumes => self.rate_limit_resume,
            RateClass::Presence => self.rate_limit_presence_update,
            RateClass::Streams => self.rate_limit_stream,
            RateClass::History => self.rate_limit_history,
            // Whatever was sent may be offered again.
            RateClass::Lookups => self.rate_limit_lookup.max(self.rate_limit_message_send),
            RateClass::Commands => self.rate_limit_command.max(self.limits_together()),
        };
        if self.is_dev() { limit.saturating_mul(DEV_LIMIT_FACTOR) } else { limit }
    }

    /// Within how long.
    #[must_use]
    pub fn window_ms(&self, class: RateClass) -> Millis {
        match class {
            RateClass::Messages => self.rate_window_message_send_ms,
            RateClass::Typing => self.rate_window_typing_events_ms,
            RateClass::Joins => self.rate_window_room_join_ms,
            RateClass::Presence => self.rate_window_presence_update_ms,
            RateClass::Resumes
            | RateClass::Streams
            | RateClass::History
            | RateClass::Lookups
            | RateClass::Commands => Millis(RATE_WINDOW_MS.unsigned_abs()),
        }
    }

    /// Twice what the limits of single commands allow: what is refused by them was asked, too.
    fn limits_together(&self) -> u32 {
        let limits = [
            self.rate_limit_message_send.max(self.rate_limit_lookup),
            self.rate_limit_room_join,
            self.rate_limit_resume,
            self.rate_limit_stream,
            self.rate_limit_history,
        ];
        limits.into_iter().fold(0, u32::saturating_add).saturating_mul(2)
    }

    /// How often one user's receipts go into the log at most, on this node.
    #[must_use]
    pub fn receipt_interval(&self) -> Duration {
        let factor = if self.is_dev() { DEV_LIMIT_FACTOR } else { 1 };
        Duration::from_millis(RECEIPT_LOG_INTERVAL_MS) / factor
    }

    /// Where the journal lies, in a cluster that has one.
    #[must_use]
    pub fn journal_folder(&self) -> Option<PathBuf> {
        let has_one = self.is_cluster() && self.journal != JournalMode::Off;
        has_one.then(|| self.data_dir.join("journal"))
    }

    /// How much it may hold.
    #[must_use]
    pub fn journal_bounds(&self) -> JournalBounds {
        let (bytes_max, age_max_ms) = (self.journal_bytes_max, self.journal_age_max_ms.0);
        JournalBounds { bytes_max, age_max_ms }
    }

    /// Whether Redis and Postgres lie behind this node, instead of its own memory and file.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.redis_url.is_some() && self.database_url.is_some()
    }

    /// Whether anybody may say who they are.
    #[must_use]
    pub fn is_dev(&self) -> bool {
        self.dev || !(self.has_keys() || self.is_cluster())
    }

    /// Whether there is anything to check tokens with.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.jwt_secret.is_some() || self.jwt_public_key.is_some() || self.jwks.is_some()
    }

    /// What tokens are checked with.
    pub(crate) fn trust(&self) -> Trust<'_> {
        Trust {
            secret: self.jwt_secret.as_ref(),
            public_key: self.jwt_public_key.as_deref(),
            jwks: self.jwks.as_deref(),
            issuer: self.jwt_issuer.as_deref(),
            audience: self.jwt_audience.as_deref(),
        }
    }

    /// Most sockets whose clients have not said who they are.
    #[must_use]
    pub fn unproven_max(&self) -> usize {
        self.unauthenticated_max.min(self.connections_max + UNPROVEN_SPARE)
    }

    /// Where the page and the WebSocket listen: at the first of these that the machine has. `::` is
    /// IPv4 too.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self.bind {
            Some(address) => vec![address],
            None if self.is_dev() => vec![Ipv4Addr::LOCALHOST.into()],
            None => vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()],
        }
    }

    /// How long the port of a leaving node stays open at least.
    #[must_use]
    pub fn drain_notice(&self) -> Duration {
        let default =
            if self.is_cluster() && !self.is_dev() { DRAIN_NOTICE } else { Duration::ZERO };
        self.drain_notice_ms.map_or(default, Millis::duration)
    }

    /// Over how long so many clients are sent elsewhere when the node leaves.
    #[must_use]
    pub fn drain_spread(&self, clients: usize) -> Duration {
        let each = u32::try_from(clients).unwrap_or(u32::MAX).saturating_mul(DRAIN_SPREAD_MS_EACH);
        let default = if self.is_cluster() { each.min(DRAIN_SPREAD_MS_MAX) } else { 0 };
        let default = Duration::from_millis(default.into());
        let most = self.drain_timeout_ms.duration() / 2;
        self.drain_spread_ms.map_or(default.min(most), Millis::duration)
    }

    /// Every origin that may open connections besides the node's own.
    #[must_use]
    pub fn origins(&self) -> Vec<String> {
        self.app_url.iter().chain(&self.allowed_origins).cloned().collect()
    }
}
