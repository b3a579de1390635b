//! What a gateway can be told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use shared::contract::limits::{
    APPEND_TIMEOUT_MS, JWT_SECRET_BYTES_MIN, RATE_WINDOW_MS, RECEIPT_LOG_INTERVAL_MS,
    STREAM_TIMEOUT_MS_MAX, UNPROVEN_SPARE,
};
use shared::log::redis::connection::redis_problem;
use shared::process::error_chain::error_chain;
use shared::process::settings::{Millis, Problem, Secret};
use shared::process::telemetry::metrics::Label;
use shared::process::telemetry::{LogFilter, LogFormat};
use shared::store::postgres::database_problem;

use crate::auth::api_keys::ApiKeys;
use crate::auth::client_address::{NetworkError, TrustedProxies};
use crate::auth::origin::AllowedOrigins;
use crate::auth::{Authenticator, Trust};

shared::settings! {
    /// The settings of one gateway.
    pub struct Settings {
        /// Port of the page, the WebSocket and the API; 0 takes a free one.
        port: u16 = "3001", env "PORT";
        /// Address they listen on; by default all of IPv4 and IPv6, or in the development mode the
        /// loopback.
        bind: Option<IpAddr> = "", env "ROOMCAST_BIND";
        /// Port of health, metrics and stats; 0 takes a free one.
        operator_port: u16 = "9464", env "ROOMCAST_OPERATOR_PORT";
        /// Address of that port.
        operator_bind: IpAddr = "127.0.0.1", env "ROOMCAST_OPERATOR_BIND";
        /// Folder of the embedded mode's database, locked by the process that uses it.
        data_dir: PathBuf = "./roomcast-data", env "ROOMCAST_DATA_DIR";
        /// Secret that HS256 tokens are signed with, of at least 32 bytes; without it the embedded
        /// mode is the development mode.
        jwt_secret: Option<Secret> = "", env "ROOMCAST_JWT_SECRET", secret;
        /// Public key that RS256, ES256, ES384 or EdDSA tokens are signed for: PEM, or a file
        /// with it; several keys may follow one another.
        jwt_public_key: Option<String> = "", env "ROOMCAST_JWT_PUBLIC_KEY";
        /// JSON Web Key Set of whoever signs tokens: a file, or an http or https URL.
        jwks: Option<String> = "", env "ROOMCAST_JWKS";
        /// What the `iss` of a token has to be; without it any will do.
        jwt_issuer: Option<String> = "", env "ROOMCAST_JWT_ISSUER";
        /// What the `aud` of a token has to be or to contain; without it any will do.
        jwt_audience: Option<String> = "", env "ROOMCAST_JWT_AUDIENCE";
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
        /// Further origins that may open connections, with commas between; of any scheme, such as
        /// `tauri://localhost`.
        allowed_origins: Vec<String> = "", env "ROOMCAST_ALLOWED_ORIGINS";
        /// SHA-256 digests of the keys that open the API, in hexadecimal, with commas between;
        /// without any the API is closed, except in the development mode.
        api_keys: Vec<String> = "", env "ROOMCAST_API_KEYS";
        /// Most connections at a time; more are answered 503.
        connections_max: usize = "20000" in 1..=1000000, env "ROOMCAST_CONNECTIONS_MAX";
        /// Most connections from one address (of IPv6, one /64 network); more are answered 429, and
        /// 0 is no limit.
        connections_per_address: usize = "0" in 0..=1000000,
            env "ROOMCAST_CONNECTIONS_PER_ADDRESS";
        /// Most sockets at a time whose clients have not said who they are: those that speak HTTP,
        /// kept-alive ones among them, and WebSockets before `auth`; more are answered 503, and
        /// there are never more than 64 above `ROOMCAST_CONNECTIONS_MAX`.
        unauthenticated_max: usize = "6000" in 1..=1000000, env "ROOMCAST_UNAUTHENTICATED_MAX";
        /// Most such sockets from one address (of IPv6, one /64 network); more are answered 429,
        /// and 0 is no limit. Behind trusted proxies, of one client's WebSockets.
        unauthenticated_per_address: usize = "2000" in 0..=1000000,
            env "ROOMCAST_UNAUTHENTICATED_PER_ADDRESS";
        /// How long an HTTP connection may wait for its next request, in milliseconds; longer than
        /// what a balancer in front keeps one for.
        http_idle_timeout_ms: Millis = "75000" in 100..=3600000,
            env "ROOMCAST_HTTP_IDLE_TIMEOUT_MS";
        /// Addresses or networks of the proxies in front, whose `X-Forwarded-For` is believed, with
        /// commas between.
        trusted_proxies: Vec<String> = "", env "ROOMCAST_TRUSTED_PROXIES";
        /// Most rooms that one user may be in on a node.
        rooms_per_user: usize = "10" in 1..=10000, env "ROOMCAST_ROOMS_PER_USER";
        /// Largest frame or fragmented message of a client, in bytes.
        message_bytes_max: usize = "1048576" in 1024..=2097152, env "ROOMCAST_MESSAGE_BYTES_MAX";
        /// How often each client is pinged, in milliseconds.
        heartbeat_interval_ms: Millis = "30000" in 100..=600000,
            env "ROOMCAST_HEARTBEAT_INTERVAL_MS";
        /// After how long without a sign of life a client is gone, in milliseconds.
        connection_timeout_ms: Millis = "60000" in 200..=1200000,
            env "ROOMCAST_CONNECTION_TIMEOUT_MS";
        /// After how long without taking a byte a client that has something to read is cut, in
        /// milliseconds.
        write_timeout_ms: Millis = "90000" in 100..=1200000, env "ROOMCAST_WRITE_TIMEOUT_MS";
        /// How long the producer of an AI answer may say nothing before what there is of it is
        /// closed, in milliseconds.
        stream_timeout_ms: Millis = "30000" in 100..=STREAM_TIMEOUT_MS_MAX,
            env "ROOMCAST_STREAM_TIMEOUT_MS";
        /// How long leaving may take before the process ends anyhow, in milliseconds.
        drain_timeout_ms: Millis = "25000" in 1000..=600000, env "ROOMCAST_DRAIN_TIMEOUT_MS";
        /// How long at least, once `/readyz` says that the node leaves, newcomers are answered 503
        /// before the port closes, in milliseconds, so that balancers see it; by default 5000 in a
        /// cluster, else and in the development mode 0.
        drain_notice_ms: Option<Millis> = "" in 0..=600000, env "ROOMCAST_DRAIN_NOTICE_MS";
        /// Messages, edits and deletions of a user per 60 seconds, on all nodes together; the
        /// development mode multiplies this and the other limits by 20.
        rate_limit_message_send: u32 = "10" in 1..=1000000, env "WEBSOCKET_RATE_LIMIT_MESSAGE_SEND";
        /// How long that window is instead of 60 seconds, in milliseconds.
        rate_window_message_send_ms: Millis = "60000" in 1000..=3600000,
            env "ROOMCAST_RATE_WINDOW_MESSAGE_SEND_MS";
        /// Typing events of a user per 60 seconds.
        rate_limit_typing_events: u32 = "30" in 1..=1000000,
            env "WEBSOCKET_RATE_LIMIT_TYPING_EVENTS";
        /// How long that window is instead, in milliseconds.
        rate_window_typing_events_ms: Millis = "60000" in 1000..=3600000,
            env "ROOMCAST_RATE_WINDOW_TYPING_EVENTS_MS";
        /// Rooms that a user may enter per 60 seconds, without `since`, which are none of their
        /// usual ones: in which they were lately, of which they are members, or where they have
        /// read.
        rate_limit_room_join: u32 = "5" in 1..=1000000, env "WEBSOCKET_RATE_LIMIT_ROOM_JOIN";
        /// How long that window is instead, in milliseconds.
        rate_window_room_join_ms: Millis = "60000" in 1000..=3600000,
            env "ROOMCAST_RATE_WINDOW_ROOM_JOIN_MS";
        /// Joins of a user with `since`, after a reconnect, or of a usual room, per 60 seconds.
        rate_limit_resume: u32 = "60" in 1..=1000000, env "ROOMCAST_RATE_LIMIT_RESUME";
        /// Presence updates of a user per 60 seconds.
        rate_limit_presence_update: u32 = "20" in 1..=1000000,
            env "WEBSOCKET_RATE_LIMIT_PRESENCE_UPDATE";
        /// How long that window is instead, in milliseconds.
        rate_window_presence_update_ms: Millis = "60000" in 1000..=3600000,
            env "ROOMCAST_RATE_WINDOW_PRESENCE_UPDATE_MS";
        /// Answers that a user may begin to stream per 60 seconds.
        rate_limit_stream: u32 = "20" in 1..=1000000, env "ROOMCAST_RATE_LIMIT_STREAM";
        /// Pages of history and balances that a user may read per 60 seconds, on each node.
        rate_limit_history: u32 = "600" in 1..=1000000, env "ROOMCAST_RATE_LIMIT_HISTORY";
        /// What a user may have looked up that changes nothing, such as a message offered again, a
        /// receipt of a message by its id, or anything in a room that they are not in, per 60
        /// seconds, on each node; never less than messages.
        rate_limit_lookup: u32 = "3000" in 1..=1000000, env "ROOMCAST_RATE_LIMIT_LOOKUP";
        /// Commands of a user per 60 seconds, on each node, but for typing, presence, deltas of
        /// answers and signs of life; never less than twice what the other limits allow together.
        rate_limit_command: u32 = "6000" in 1..=1000000, env "ROOMCAST_RATE_LIMIT_COMMAND";
        /// Refusals for asking too often, within 60 seconds, after which a user is blocked on all
        /// nodes; 0 blocks nobody.
        block_after: u32 = "30" in 0..=1000000, env "ROOMCAST_BLOCK_AFTER";
        /// How long a user is blocked, in milliseconds.
        block_ms: Millis = "300000" in 100..=86400000, env "ROOMCAST_BLOCK_MS";
        /// Whether messages of assistants and streams wait for credits that cover them.
        credits_budget: bool = "false", env "ROOMCAST_CREDITS_BUDGET";
        /// How many entries of a shard may wait before senders are told `backpressure`.
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
        /// For how many days messages stay in the embedded database; 0 keeps them for ever.
        retention_days: u32 = "0" in 0..=36500, env "ROOMCAST_RETENTION_DAYS";
        /// How log lines are written: text or json.
        log_format: LogFormat = "text", env "ROOMCAST_LOG_FORMAT";
        /// Which log lines are written, such as `info` or `info,gateway=debug`.
        log: LogFilter = "info", env "ROOMCAST_LOG";
    }
}

/// Longest wait for the embedded database: beside it, half of a sender's patience is left.
const SYNC_INTERVAL_MS_MAX: u64 = APPEND_TIMEOUT_MS / 2;

/// Longer than a balancer that looks every 2 s and asks twice needs to see that a node leaves.
const DRAIN_NOTICE: Duration = Duration::from_secs(5);

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

impl Settings {
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

    /// What is wrong between settings that are right one by one.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.is_dev() && !self.addresses().iter().all(IpAddr::is_loopback) {
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
            (true, true) if !self.has_keys() && !self.dev => problems.push(Problem::new(
                "ROOMCAST_JWT_SECRET",
                "missing: a cluster needs it, ROOMCAST_JWT_PUBLIC_KEY or ROOMCAST_JWKS, or --dev to try things out on the loopback",
            )),
            (true, true) => {}
        }
        if self.connection_timeout_ms.0 <= self.heartbeat_interval_ms.0 {
            let text = "has to be longer than ROOMCAST_HEARTBEAT_INTERVAL_MS";
            problems.push(Problem::new("ROOMCAST_CONNECTION_TIMEOUT_MS", text));
        }
        problems.extend(self.time_problems());
        problems.extend(self.server_problems());
        problems.extend(self.trust_problems());
        if let Err(error) = ApiKeys::parse(&self.api_keys) {
            problems.push(Problem::new("ROOMCAST_API_KEYS", error.to_string()));
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

    /// Times that are longer than what they are a part of.
    fn time_problems(&self) -> impl Iterator<Item = Problem> {
        let notice = self.drain_notice() >= self.drain_timeout_ms.duration();
        let notice = notice.then(|| {
            let text = "has to be shorter than ROOMCAST_DRAIN_TIMEOUT_MS, within which the process \
                        ends";
            Problem::new("ROOMCAST_DRAIN_NOTICE_MS", text)
        });
        // Embedded, a message is acknowledged when it is in the database.
        let sync = !self.is_cluster() && self.sync_interval_ms.0 > SYNC_INTERVAL_MS_MAX;
        let sync = sync.then(|| {
            let text = format!(
                "in the embedded mode a message is acknowledged after this, and its sender waits \
                 {APPEND_TIMEOUT_MS} ms: at most {SYNC_INTERVAL_MS_MAX}"
            );
            Problem::new("ROOMCAST_SYNC_INTERVAL_MS", text)
        });
        notice.into_iter().chain(sync)
    }

    /// Addresses and folders with which nothing can be started.
    fn server_problems(&self) -> impl Iterator<Item = Problem> {
        let redis = self.redis_url.as_ref().and_then(redis_problem);
        let database = self.database_url.as_ref().and_then(database_problem);
        let folder = !self.is_cluster() && self.data_dir.exists() && !self.data_dir.is_dir();
        let folder = folder.then(|| {
            let text = format!("{} is no folder", self.data_dir.display());
            Problem::new("ROOMCAST_DATA_DIR", text)
        });
        let is_shared = self.port != 0 && self.port == self.operator_port && {
            let meets = |address: &IpAddr| {
                address.is_unspecified()
                    || self.operator_bind.is_unspecified()
                    || *address == self.operator_bind
            };
            self.addresses().iter().any(meets)
        };
        let port = is_shared.then(|| {
            Problem::new(
                "ROOMCAST_OPERATOR_PORT",
                "has to be another than PORT, or at another address",
            )
        });
        redis.into_iter().chain(database).chain(folder).chain(port)
    }

    fn trust_problems(&self) -> impl Iterator<Item = Problem> {
        let is_weak = |secret: &&Secret| secret.expose().len() < JWT_SECRET_BYTES_MIN;
        let weak = self.jwt_secret.as_ref().filter(is_weak).map(|_| {
            let text = format!(
                "a secret of HS256 tokens has at least {JWT_SECRET_BYTES_MIN} bytes; \
                 `openssl rand -base64 32` makes one"
            );
            Problem::new("ROOMCAST_JWT_SECRET", text)
        });
        let trust = self.trust();
        let parts = [
            ("ROOMCAST_JWT_PUBLIC_KEY", Trust { public_key: trust.public_key, ..Trust::default() }),
            ("ROOMCAST_JWKS", Trust { jwks: trust.jwks, ..Trust::default() }),
        ];
        let keys = parts.into_iter().filter_map(|(name, part)| {
            let error = Authenticator::new(part, false).err()?;
            Some(Problem::new(name, error_chain(&error)))
        });
        let proxies = TrustedProxies::parse(&self.trusted_proxies).err();
        let named =
            |error: NetworkError| Problem::new("ROOMCAST_TRUSTED_PROXIES", error.to_string());
        let keys = keys.collect::<Vec<_>>();
        weak.into_iter().chain(keys).chain(proxies.map(named))
    }

    /// Every origin that may open connections besides the node's own.
    #[must_use]
    pub fn origins(&self) -> Vec<String> {
        self.app_url.iter().chain(&self.allowed_origins).cloned().collect()
    }
}
