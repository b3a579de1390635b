//! The Redis connection for commands and scripts, which reconnects by itself.
//!
//! Subscriptions have connections of their own: on a shared one, a reply was seen to be taken for
//! another command's after a reconnect. A server that says that it is not the master, or answers
//! nothing for long, loses all of them: its address may lead elsewhere by now.

mod health;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo, Pipeline, ProtocolVersion,
    RedisError, Script, ScriptInvocation,
};

use tokio::sync::{SetOnce, watch};

pub use self::health::Health;
use crate::contract::keys::{self, Channels};
use crate::process::clock::Clock;
use crate::process::settings::{Problem, Secret};
use crate::trouble;

/// What a Redis at its `maxmemory` says.
const OUT_OF_MEMORY: &str = "OOM";

/// How long an answer may take: longer than a slow script, shorter than a sender's patience.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// Tries within one command; the next command tries again.
const RECONNECT_TRIES: usize = 2;
/// Longest that a command may block.
const BLOCK_MAX: Duration = Duration::from_secs(1);
/// How often it is looked for entries where none may.
const BLOCKED_POLL: Duration = Duration::from_millis(200);
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

/// What is wrong with `REDIS_URL`, if it is none of Redis's, before anything starts.
#[must_use]
pub fn redis_problem(url: &Secret) -> Option<Problem> {
    let error = check_url(url).err()?;
    Some(Problem::new("REDIS_URL", error.to_string()))
}

fn check_url(url: &Secret) -> Result<(), RedisUrlError> {
    let text = url.expose();
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(RedisUrlError::Rest);
    }
    let info = text.into_connection_info().map_err(|_| RedisUrlError::Form)?;
    Client::open(info).map(drop).map_err(|_| RedisUrlError::Form)
}

/// The connection for commands.
#[derive(Clone, Debug)]
pub struct RedisConnection {
    client: Client,
    config: ConnectionManagerConfig,
    manager: Arc<Mutex<ConnectionManager>>,
    /// How often all connections were dropped.
    drops: Arc<watch::Sender<u64>>,
    health: Arc<Health>,
    /// Known once the database has said what this deployment is called.
    channels: Arc<SetOnce<Channels>>,
    /// Whose this Redis is, where it is another's.
    foreign: Arc<SetOnce<String>>,
    take: Arc<Script>,
    /// Whose commands may block, and how often connections had been dropped when it was opened.
    waiting: Arc<Mutex<Option<(u64, MultiplexedConnection)>>>,
}

/// Redis did not do what it was asked. Its own errors do not say whose they are, and have their
/// causes in their text.
#[derive(Debug, thiserror::Error)]
#[error("redis: {0}")]
pub struct RedisFailure(String);

impl From<RedisError> for RedisFailure {
    fn from(error: RedisError) -> RedisFailure {
        RedisFailure(error.to_string())
    }
}

/// Redis has the keys of another deployment.
#[derive(Debug, thiserror::Error)]
#[error("this redis belongs to the deployment {name}")]
pub struct Foreign {
    /// Whose it is.
    pub name: String,
}

/// Nobody may publish or claim before it is known for whom.
#[derive(Debug, thiserror::Error)]
#[error("the name of this deployment is not known yet")]
pub struct Nameless;

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
        check_url(url)?;
        let info = url.expose().into_connection_info().map_err(|_| RedisUrlError::Form)?;
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
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())
            .map_err(|_| RedisUrlError::Form)?;
        let take = Arc::new(Script::new(include_str!("take.lua")));
        Ok(RedisConnection {
            client,
            config,
            manager: Arc::new(Mutex::new(manager)),
            drops: Arc::default(),
            health: Arc::new(Health::new(clock)),
            channels: Arc::default(),
            foreign: Arc::default(),
            take,
            waiting: Arc::default(),
        })
    }

    /// For a connection of one's own, to subscribe with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Takes this Redis for a deployment, under whose name this connection works from then on; says
    /// whether it is free or its own. Only the first name counts. The script is a write: it comes
    /// through only where writes do.
    ///
    /// # Errors
    /// When Redis does not answer, or takes no writes. One that is full and was taken before is
    /// worked with from then on all the same, or nothing would ever free its memory.
    pub async fn take(&self, name: &str) -> Result<bool, RedisError> {
        let mut call = self.take.prepare_invoke();
        call.key(keys::DEPLOYMENT).arg(name);
        let taken: Result<String, RedisError> = self.call(&call).await;
        if taken.as_ref().is_err_and(is_out_of_memory) {
            let (held,): (Option<String>,) =
                self.send(redis::pipe().cmd("GET").arg(keys::DEPLOYMENT)).await?;
            if held.as_deref() == Some(name) {
                self.work_as(name);
            }
        }
        let held = taken?;
        if held != name {
            self.note_foreign(&held);
            return Ok(false);
        }
        self.work_as(name);
        Ok(true)
    }

    fn work_as(&self, name: &str) {
        let database = self.client.get_connection_info().redis_settings().db();
        // It stands already where this is asked again.
        let _ = self.channels.set(Channels::new(database, name));
    }

    /// This Redis was found to be another deployment's.
    pub(super) fn note_foreign(&self, name: &str) {
        // The first to say so is enough.
        let _ = self.foreign.set(name.to_owned());
    }

    /// Whose this Redis is, where it was found to be another deployment's.
    #[must_use]
    pub fn foreign(&self) -> Option<&str> {
        self.foreign.get().map(String::as_str)
    }

    /// The name under which this connection works.
    ///
    /// # Errors
    /// Before [`RedisConnection::take`].
    pub fn deployment(&self) -> Result<&str, Nameless> {
        self.channels().map(Channels::name)
    }

    /// The channels of this deployment.
    ///
    /// # Errors
    /// Before [`RedisConnection::take`].
    pub fn channels(&self) -> Result<&Channels, Nameless> {
        self.channels.get().ok_or(Nameless)
    }

    /// Waits until it is known whose channels these are.
    pub async fn named_channels(&self) -> &Channels {
        self.channels.wait().await
    }

    fn manager(&self) -> ConnectionManager {
        self.manager.lock().clone()
    }

    fn note<T>(&self, outcome: &Result<T, RedisError>) {
        if self.health.note(outcome) {
            self.drop_connections();
        }
    }

    /// Lets go of every connection, those of subscribers included; the next ones look the server's
    /// address up anew.
    fn drop_connections(&self) {
        trouble!("redis is not the master or gone: its address is looked up anew");
        let fresh =
            ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone());
        // The settings were taken once.
        if let Ok(fresh) = fresh {
            *self.manager.lock() = fresh;
        }
        self.drops.send_modify(|drops| *drops += 1);
    }

    /// Changes whenever all connections are dropped; whoever has one of its own is to give it up
    /// too.
    #[must_use]
    pub fn drops(&self) -> watch::Receiver<u64> {
        self.drops.subscribe()
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
        self.check()?;
        self.call(call).await
    }

    async fn call<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        let _question = self.health.ask();
        let outcome = call.invoke_async(&mut self.manager()).await;
        self.note(&outcome);
        outcome
    }

    /// What this Redis does when it is full; `None` where it does not say.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn eviction_policy(&self) -> Result<Option<String>, RedisError> {
        let mut pipe = redis::pipe();
        pipe.cmd("CONFIG").arg("GET").arg("maxmemory-policy");
        let asked: Result<(HashMap<String, String>,), RedisError> = self.send(&pipe).await;
        match asked {
            Ok((mut policy,)) => Ok(policy.remove("maxmemory-policy")),
            // Hosted servers forbid CONFIG; that is an answer too.
            Err(error) if error.is_io_error() || error.is_timeout() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// What this Redis's clock says, in Unix milliseconds.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn time_ms(&self) -> Result<i64, RedisError> {
        let mut pipe = redis::pipe();
        pipe.cmd("TIME");
        let ((seconds, micros),): ((i64, i64),) = self.send(&pipe).await?;
        Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
    }

    /// How many bytes this Redis uses, and how many it may; `None` where there is no limit, or it
    /// does not say.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn memory(&self) -> Result<Option<(u64, u64)>, RedisError> {
        let mut pipe = redis::pipe();
        pipe.cmd("INFO").arg("memory");
        let asked: Result<(String,), RedisError> = self.pipeline(&pipe).await;
        let info = match asked {
            Ok((info,)) => info,
            Err(error) if error.is_io_error() || error.is_timeout() => return Err(error),
            // Hosted servers may forbid it.
            Err(_) => return Ok(None),
        };
        let said = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|number| number.parse::<u64>().ok())
        };
        let most = said("maxmemory:").filter(|most| *most > 0);
        Ok(said("used_memory:").zip(most))
    }

    /// Waits until one of these streams has an entry above the given id, or so long. On a
    /// connection of its own, because a command that blocks holds up every other behind it. Where
    /// this Redis does not let one wait, a moment passes instead.
    pub async fn wait_for_entry(
        &self,
        streams: impl Iterator<Item = (String, String)>,
        patience: Duration,
    ) {
        let (names, ids): (Vec<String>, Vec<String>) = streams.unzip();
        let patience = patience.min(BLOCK_MAX);
        let waited = match names.is_empty() || self.check().is_err() {
            true => Err((redis::ErrorKind::Client, "there is nothing to wait for").into()),
            false => self.block_on((&names, &ids), patience).await,
        };
        if waited.is_err() {
            tokio::time::sleep(patience.min(BLOCKED_POLL)).await;
        }
    }

    async fn block_on(
        &self,
        (names, ids): (&[String], &[String]),
        patience: Duration,
    ) -> Result<(), RedisError> {
        let drops = *self.drops.borrow();
        // Taken out: whoever gives up waiting leaves an answer behind that is nobody's.
        let held = self.waiting.lock().take().filter(|(since, _)| *since == drops);
        let mut connection = match held {
            Some((_, connection)) => connection,
            None => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(RESPONSE_TIMEOUT + BLOCK_MAX));
                self.client.get_multiplexed_async_connection_with_config(&config).await?
            }
        };
        let mut command = redis::cmd("XREAD");
        // For ever would be 0.
        command.arg("COUNT").arg(1).arg("BLOCK").arg(patience.as_millis().max(1) as u64);
        command.arg("STREAMS").arg(names).arg(ids);
        let _entries: redis::Value = command.query_async(&mut connection).await?;
        *self.waiting.lock() = Some((drops, connection));
        Ok(())
    }

    /// Sends commands together.
    ///
    /// # Errors
    /// When Redis does not answer, or refuses one of them.
    pub async fn pipeline<T: FromRedisValue>(&self, pipe: &Pipeline) -> Result<T, RedisError> {
        self.check()?;
        self.send(pipe).await
    }

    /// What is another's is left alone, and what is known to be away is not waited for.
    fn check(&self) -> Result<(), RedisError> {
        if !self.health.may_ask() {
            return Err((redis::ErrorKind::Io, "it is known to be away").into());
        }
        if self.channels.initialized() && !self.foreign.initialized() {
            return Ok(());
        }
        let why = "it is not known yet whether this redis is this deployment's";
        Err((redis::ErrorKind::Client, why).into())
    }

    async fn send<T: FromRedisValue>(&self, pipe: &Pipeline) -> Result<T, RedisError> {
        let _question = self.health.ask();
        let outcome = pipe.query_async(&mut self.manager()).await;
        self.note(&outcome);
        outcome
    }
}

/// Whether Redis refused a write because it is at its `maxmemory`; nothing was done then.
pub(super) fn is_out_of_memory(error: &RedisError) -> bool {
    error.code() == Some(OUT_OF_MEMORY)
}
