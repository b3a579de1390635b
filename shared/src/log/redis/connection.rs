//! The way to Redis: one connection for commands and scripts, which comes back by itself.
//!
//! Subscriptions have connections of their own: on a shared one, a reply was seen to be taken for
//! another command's after a reconnect.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{
    Client, FromRedisValue, IntoConnectionInfo, Pipeline, ProtocolVersion, RedisError,
    ScriptInvocation,
};

use crate::process::clock::Clock;
use crate::process::settings::Secret;

/// How long an answer may take: longer than a slow script, shorter than a sender's patience.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// Tries within one command; the next command tries again.
const RECONNECT_TRIES: usize = 2;
/// Commands that may wait for the socket.
const PIPELINE_BUFFER: usize = 1024;

/// Why a Redis URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisUrlError {
    /// The REST address of a hosted Redis.
    #[error("a REST address; use the TCP form, redis://HOST:6379 or rediss://HOST:6379")]
    Rest,
    /// No Redis URL at all.
    #[error("not of the form redis://[user:password@]HOST:PORT[/DATABASE]")]
    Form,
}

/// The connection for commands.
#[derive(Clone)]
pub struct RedisConnection {
    client: Client,
    manager: ConnectionManager,
    health: Arc<Health>,
}

impl std::fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisConnection").field("health", &self.health).finish_non_exhaustive()
    }
}

/// How it is with Redis.
#[derive(Debug)]
pub struct Health {
    clock: Clock,
    connected: AtomicBool,
    last_answer_ms: AtomicI64,
    errors: AtomicU64,
    reconnects: AtomicU64,
}

impl Health {
    fn note<T>(&self, outcome: &Result<T, RedisError>) {
        match outcome {
            Err(error) if error.is_io_error() || error.is_timeout() => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                if self.connected.swap(false, Ordering::Relaxed) {
                    self.reconnects.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(_) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {
                self.connected.store(true, Ordering::Relaxed);
                self.last_answer_ms.store(self.clock.now_ms(), Ordering::Relaxed);
            }
        }
    }

    /// The seed's `ConnectionHealth`; `lastPing` is the last answer to anything, in Unix
    /// milliseconds or null.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let last_ms = self.last_answer_ms.load(Ordering::Relaxed);
        serde_json::json!({
            "isConnected": self.connected.load(Ordering::Relaxed),
            "lastPing": (last_ms > 0).then_some(last_ms),
            "errorCount": self.errors.load(Ordering::Relaxed),
            "reconnectAttempts": self.reconnects.load(Ordering::Relaxed),
        })
    }
}

impl RedisConnection {
    /// A connection to `url`, with `password` where the URL has none. Nothing is connected yet:
    /// a Redis that is down makes commands fail, and the next one tries again.
    ///
    /// # Errors
    /// When the URL is none of Redis's. Needs a tokio runtime.
    pub fn new(
        url: &Secret,
        password: Option<&Secret>,
        clock: Clock,
    ) -> Result<RedisConnection, RedisUrlError> {
        let text = url.expose();
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(RedisUrlError::Rest);
        }
        let info = text.into_connection_info().map_err(|_| RedisUrlError::Form)?;
        let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        if let (None, Some(password)) = (settings.password(), password) {
            settings = settings.set_password(password.expose());
        }
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        let client = Client::open(info).map_err(|_| RedisUrlError::Form)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(RECONNECT_TRIES)
            .set_max_delay(RECONNECT_PAUSE_MAX)
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config)
            .map_err(|_| RedisUrlError::Form)?;
        let health = Arc::new(Health {
            clock,
            connected: AtomicBool::new(false),
            last_answer_ms: AtomicI64::new(0),
            errors: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
        });
        Ok(RedisConnection { client, manager, health })
    }

    /// For a connection of one's own, to subscribe with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How it is with Redis.
    #[must_use]
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Calls a script by its digest; loads it where this Redis does not know it.
    ///
    /// # Errors
    /// When Redis does not answer, or the script fails.
    pub async fn script<T: FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, RedisError> {
        let outcome = call.invoke_async(&mut self.manager.clone()).await;
        self.health.note(&outcome);
        outcome
    }

    /// What this Redis does when it is full; `None` where it does not say.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn eviction_policy(&self) -> Result<Option<String>, RedisError> {
        let mut pipe = redis::pipe();
        pipe.cmd("CONFIG").arg("GET").arg("maxmemory-policy");
        let asked: Result<(HashMap<String, String>,), RedisError> = self.pipeline(&pipe).await;
        match asked {
            Ok((mut policy,)) => Ok(policy.remove("maxmemory-policy")),
            // Hosted servers forbid CONFIG; that is an answer too.
            Err(error) if error.is_io_error() || error.is_timeout() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Sends commands together.
    ///
    /// # Errors
    /// When Redis does not answer, or refuses one of them.
    pub async fn pipeline<T: FromRedisValue>(&self, pipe: &Pipeline) -> Result<T, RedisError> {
        let outcome = pipe.query_async(&mut self.manager.clone()).await;
        self.health.note(&outcome);
        outcome
    }
}
