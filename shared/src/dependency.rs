//! Waits for Redis and Postgres, logs outages, and refuses configurations that would lose data or
//! belong to another deployment.
//!
//! Whether a server does its work is found out by writes that come through: Redis is asked every
//! second, the database every five. The two know of each other: each process tells the database
//! when Redis last did its work, so that one that is alone without Redis knows it.

mod verdict;
mod hearing;
mod timing;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::RedisError;
use tokio::sync::{Notify, SetOnce};
use tokio::time::Instant;
use tracing::{info, warn};

pub use self::hearing::Hearing;
pub use self::timing::Timing;
use self::verdict::{Gate, Observed, Trouble, others_work};
use crate::contract::keys::VERSION;
use crate::contract::limits::TROUBLE_MS_MAX;
use crate::contract::timestamp::Timestamp;
use crate::log::redis::connection::RedisConnection;
use crate::process::backoff::Backoff;
use crate::process::clock::Clock;
use crate::process::error_chain::error_chain;
use crate::process::readiness::Condition;
use crate::process::trouble::Away;
use crate::store::StoreError;
use crate::store::postgres::{Beat, Deployment, Heard, MigrateError, PostgresStore};

const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often it is looked whether Redis is there for the first time.
const PAUSE_AT_START: Duration = Duration::from_millis(50);
/// How often something is written to Redis.
const REDIS_INTERVAL: Duration = Duration::from_secs(1);
const REDIS_INTERVAL_IN_TROUBLE: Duration = Duration::from_millis(250);
/// How often something is written to the database, and how often while it or Redis is in trouble.
const BEAT_INTERVAL: Duration = Duration::from_secs(5);
const BEAT_INTERVAL_IN_TROUBLE: Duration = Duration::from_secs(1);
/// How often the log says that something is still away.
const SAY_INTERVAL: Duration = Duration::from_secs(30);

/// A dependency that this process must not work with.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The database is of another make.
    #[error(transparent)]
    Database(#[from] MigrateError),
    /// Redis drops keys when it is full, and with them accepted messages.
    #[error("redis evicts keys when it is full (maxmemory-policy {policy}); set it to noeviction")]
    Evicts {
        /// What it is set to.
        policy: String,
    },
    /// Redis has another database's keys.
    #[error(
        "this redis belongs to the deployment {found}, the database to {own}; give each a redis \
         (or a number of one, redis://HOST/1) of its own"
    )]
    Foreign {
        /// Whose it is.
        found: String,
        /// The name in the database.
        own: String,
    },
    /// Programs of two versions do not understand each other.
    #[error("the deployment speaks version {found} of keys and envelopes, this program {VERSION}")]
    Speaks {
        /// What the database says.
        found: u32,
    },
    /// Another database's processes work under the same name.
    #[error(
        "the deployment {name} is refused: {why}. If this database is a copy of another one, stop \
         its processes, give it a redis of its own and run `sync-worker deployment rename`"
    )]
    Refused {
        /// The name in the database.
        name: String,
        /// What was found.
        why: String,
    },
    /// What this process publishes bears a name that is no longer the deployment's.
    #[error("the deployment {before} is called {now} now: start again, with a Redis of its own")]
    Renamed {
        /// The name at the start.
        before: String,
        /// The name now.
        now: String,
    },
}

/// Says now and then that a server is away, since when, and what happens meanwhile.
#[derive(Debug)]
struct ThrottledWarning {
    server: &'static str,
    meanwhile: &'static str,
    away: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    began: Timestamp,
    said: Instant,
    /// What follows from it is not said as well.
    _known: Away,
}

impl ThrottledWarning {
    fn new(server: &'static str, meanwhile: &'static str) -> ThrottledWarning {
        ThrottledWarning { server, meanwhile, away: None }
    }

    fn say(&mut self, error: &dyn std::error::Error) {
        let now = Instant::now();
        let away = self.away.get_or_insert_with(|| Outage {
            began: Timestamp(Clock::system().now_ms()),
            said: now - SAY_INTERVAL,
            _known: Away::known(),
        });
        if away.said.elapsed() < SAY_INTERVAL {
            return;
        }
        away.said = now;
        let (server, meanwhile, since) = (self.server, self.meanwhile, away.began);
        warn!(server, %since, meanwhile, error = error_chain(error),
            "{server} does not do its work, trying on");
    }

    fn over(&mut self) {
        if let Some(Outage { began, .. }) = self.away.take() {
            info!(server = self.server, since = %began, "{} does its work again", self.server);
        }
    }
}

/// What happens while the database is away; of processes in traffic, and of those behind them.
fn without_database(in_traffic: bool) -> &'static str {
    if in_traffic {
        "messages are accepted and shown, and stored later; history, late ids and rooms that are \
         new here are unavailable"
    } else {
        "what was accepted stays in the log"
    }
}

/// The same for Redis.
fn without_redis(in_traffic: bool) -> &'static str {
    if in_traffic {
        "gateways keep what is accepted in their journals; rooms are read from memory and database"
    } else {
        "nothing is read from the log"
    }
}

/// The servers of a cluster, as one process sees them.
#[derive(Debug)]
pub struct Servers {
    store: Arc<PostgresStore>,
    redis: RedisConnection,
    /// Under which name this process is known to the others.
    process: String,
    /// Whether it tells the others when Redis did its work.
    tells: bool,
    name: SetOnce<String>,
    known: Mutex<ServerState>,
    /// Redis has got into trouble: see how the others are.
    trouble: Notify,
}

#[derive(Debug, Default)]
struct ServerState {
    /// When Redis last did this process's work.
    redis_ok: Option<Instant>,
    in_trouble: bool,
    others_work: bool,
    /// By how much the database's time is ahead of this machine's.
    database_ahead: Option<i64>,
}

impl Servers {
    /// Nothing is looked at yet. `process` is a name that no other has; `tells` is whether the
    /// others are to know when Redis does this one's work, as those in traffic are.
    #[must_use]
    pub fn new(
        store: Arc<PostgresStore>,
        redis: RedisConnection,
        process: String,
        tells: bool,
    ) -> Servers {
        Servers {
            store,
            redis,
            process,
            tells,
            name: SetOnce::new(),
            known: Mutex::default(),
            trouble: Notify::new(),
        }
    }

    /// Migrates the database as soon as it is there, and learns from it whose it is.
    ///
    /// # Errors
    /// When this process must not work with it.
    pub async fn wait_until_migrated(&self, ready: &Condition) -> Result<(), Unfit> {
        let mut pauses = Backoff::new(PAUSE, PAUSE_MAX);
        let mut warning = self.database_warning();
        loop {
            let found = match self.store.migrate().await {
                Ok(()) => self.store.deployment().await,
                Err(MigrateError::Unavailable(error)) => Err(error),
                Err(error @ (MigrateError::Foreign(_) | MigrateError::Encoding { .. })) => {
                    return Err(error.into());
                }
            };
            match found {
                Ok(deployment) => {
                    warning.over();
                    self.check(&deployment)?;
                    info!(deployment = deployment.name, "database is migrated");
                    // It is looked at once.
                    let _ = self.name.set(deployment.name);
                    return Ok(());
                }
                Err(error) => {
                    warning.say(&error);
                    ready.waits(database_trouble(&error));
                    tokio::time::sleep(pauses.next_delay()).await;
                }
            }
        }
    }

    fn database_warning(&self) -> ThrottledWarning {
        ThrottledWarning::new("database", without_database(self.tells))
    }

    fn check(&self, deployment: &Deployment) -> Result<(), Unfit> {
        let Deployment { name, speaks, refused } = deployment;
        if *speaks != VERSION {
            return Err(Unfit::Speaks { found: *speaks });
        }
        if let Some(before) = self.name.get().filter(|before| *before != name) {
            return Err(Unfit::Renamed { before: before.clone(), now: name.clone() });
        }
        match refused {
            Some(why) => Err(Unfit::Refused { name: name.clone(), why: why.clone() }),
            None => Ok(()),
        }
    }

    /// Tells `ready` whether a migrated database does its work; returns only when this process
    /// must not go on.
    pub async fn watch_database(&self, ready: Condition) -> Unfit {
        let mut warning = self.database_warning();
        let mut since: Option<Instant> = None;
        loop {
            let began = Instant::now();
            let redis_ok = self.known.lock().redis_ok.map(|at| at.elapsed());
            let told = redis_ok.filter(|_| self.tells);
            let beat = Beat { process: &self.process, redis_ok: told };
            let heard = self.store.beat(&beat).await;
            let others = heard.as_ref().ok().and_then(|heard| heard.others_redis_ok);
            self.known.lock().others_work = others_work(redis_ok, others);
            match heard {
                Ok(Heard { deployment, forbidden, now_ms, .. }) => {
                    self.known.lock().database_ahead = Some(Clock::behind(now_ms));
                    if let Err(unfit) = self.check(&deployment) {
                        return unfit;
                    }
                    warning.over();
                    since = None;
                    match forbidden {
                        Some(tables) => ready.degraded(format!("no right to write {tables}")),
                        None => ready.ready(),
                    }
                }
                Err(error) => {
                    warning.say(&error);
                    let since = *since.get_or_insert(began);
                    if since.elapsed() >= Duration::from_millis(TROUBLE_MS_MAX) {
                        ready.degraded(database_trouble(&error));
                    }
                }
            }
            let in_trouble = since.is_some() || self.known.lock().in_trouble;
            let pause = if in_trouble { BEAT_INTERVAL_IN_TROUBLE } else { BEAT_INTERVAL };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.trouble.notified() => {}
            }
        }
    }

    /// Takes Redis for this deployment, looks at its settings, and tells `ready` whether it does
    /// its work, and where this process listens, whether it is heard; keeps the clock by Redis's.
    /// Returns only when this process must not work with it.
    pub async fn watch_redis(
        &self,
        ready: Condition,
        mut timing: Timing,
        hearing: Option<&Hearing>,
    ) -> Unfit {
        self.redis.health().watch();
        let mut gate = Gate::default();
        let mut warning = ThrottledWarning::new("redis", without_redis(self.tells));
        let mut trouble: Option<(Trouble, Instant)> = None;
        loop {
            let began = Instant::now();
            match self.look_at_redis(&mut timing).await {
                Ok(Some(unfit)) => return unfit,
                Ok(None) => {
                    warning.over();
                    trouble = None;
                }
                Err(error) => {
                    warning.say(&error);
                    let since = trouble.take().map_or(began, |(_, since)| since);
                    trouble = Some((kind(&error), since));
                }
            }
            let others_work = self.note_redis(trouble.is_none());
            if let (Some((trouble, _)), false) = (&trouble, gate.was_met()) {
                ready.waits(trouble.reason());
            } else if self.name.get().is_none() {
                ready.waits("it answers, and the database has not said yet whose it is");
            } else {
                let observed = Observed {
                    trouble: trouble.clone().map(|(trouble, since)| (trouble, since.elapsed())),
                    deaf: hearing.and_then(Hearing::deaf_for),
                    listens: hearing.is_some(),
                    others_work,
                };
                gate.apply(observed.verdict(), &ready);
            }
            let pause = match (gate.was_met(), trouble.is_some()) {
                (false, _) => PAUSE_AT_START,
                // Nobody else asks it then.
                (true, true) => REDIS_INTERVAL_IN_TROUBLE,
                (true, false) => REDIS_INTERVAL,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether Redis does its work; what makes it unfit, if it does.
    async fn look_at_redis(&self, timing: &mut Timing) -> Result<Option<Unfit>, RedisError> {
        // What time it is can be asked before it is known whose Redis this is.
        let asked = Instant::now();
        let redis_ms = self.redis.time_ms().await?;
        let half = i64::try_from(asked.elapsed().as_millis() / 2).unwrap_or_default();
        let database_ahead = self.known.lock().database_ahead;
        timing.told(redis_ms.saturating_add(half), database_ahead);
        // Where CONFIG is forbidden, the operator's word has to do.
        if let Some(policy) = self.redis.eviction_policy().await?
            && policy != "noeviction"
        {
            return Ok(Some(Unfit::Evicts { policy }));
        }
        let Some(own) = self.name.get() else { return Ok(None) };
        self.redis.take(own).await?;
        // Found here, or by a claim.
        Ok(self
            .redis
            .foreign()
            .map(|found| Unfit::Foreign { found: found.to_owned(), own: own.clone() }))
    }

    /// Says whether Redis does another node's work and not this one's.
    fn note_redis(&self, ok: bool) -> bool {
        let mut known = self.known.lock();
        if ok {
            known.redis_ok = Some(Instant::now());
            known.others_work = false;
        } else if !known.in_trouble {
            self.trouble.notify_one();
        }
        known.in_trouble = !ok;
        known.others_work
    }
}

fn kind(error: &RedisError) -> Trouble {
    match error.code() {
        Some(code) => Trouble::Refused(code.to_owned()),
        None => Trouble::Silent,
    }
}

fn database_trouble(error: &StoreError) -> String {
    match PostgresStore::refusal(error) {
        Some(code) => format!("the database refuses writes ({code})"),
        None => "the database does not answer".to_owned(),
    }
}
