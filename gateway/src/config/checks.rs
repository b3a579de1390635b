//! Checks between settings that are right one by one.

use std::net::IpAddr;

use shared::contract::limits::{APPEND_TIMEOUT_MS, JWT_SECRET_BYTES_MIN};
use shared::log::redis::connection::redis_problem;
use shared::process::error_chain::error_chain;
use shared::process::memory;
use shared::process::settings::{Problem, Secret};
use shared::store::postgres::database_problem;

use super::GatewaySettings;
use super::shares::MEMORY_BYTES_LEAST;
use crate::auth::api_keys::ApiKeys;
use crate::auth::client_address::{NetworkError, TrustedProxies};
use crate::auth::origin::AllowedOrigins;
use crate::auth::{Authenticator, Trust};

/// Longest wait for the embedded database: beside it, half of a sender's patience is left.
const SYNC_INTERVAL_MS_MAX: u64 = APPEND_TIMEOUT_MS / 2;

impl GatewaySettings {
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

    /// Times that are longer than what they are a part of, and a share that is none.
    fn time_problems(&self) -> impl Iterator<Item = Problem> {
        let drain = self.drain_timeout_ms.duration();
        let parts = [
            ("ROOMCAST_DRAIN_NOTICE_MS", self.drain_notice()),
            ("ROOMCAST_DRAIN_SPREAD_MS", self.drain_spread(usize::MAX)),
        ];
        let parts = parts.into_iter().filter(move |(_, part)| *part >= drain).map(|(name, _)| {
            let text = "has to be shorter than ROOMCAST_DRAIN_TIMEOUT_MS, within which the process \
                        ends";
            Problem::new(name, text)
        });
        let no_room = (1..=100).contains(&self.rebalance_percent).then(|| {
            let text = "0, or above 100: some node always has more than the mean";
            Problem::new("ROOMCAST_REBALANCE_PERCENT", text)
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
        let memory = memory::problem(self.memory_bytes_max, MEMORY_BYTES_LEAST);
        parts.chain(no_room).chain(sync).chain(memory)
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
}
