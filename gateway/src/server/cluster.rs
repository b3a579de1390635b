//! The cluster mode: the log in Redis, Postgres behind it, the workers elsewhere.

use std::sync::Arc;

use futures_util::FutureExt;
use shared::dependency::{Hearing, Servers, Timing, Unfit};
use shared::log::redis::RedisLog;
use shared::log::redis::connection::RedisConnection;
use shared::process::clock::Clock;
use shared::process::readiness::{Condition, Readiness};
use shared::process::settings::Secret;
use shared::process::tasks::Tasks;
use shared::store::postgres::{self, PostgresStore};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Backend, StartError};
use crate::auth::TokenStore;
use crate::broker::redis::RedisBroker;
use crate::config::GatewaySettings;
use crate::metrics::Metrics;
use crate::presence::redis::RedisPresence;
use crate::rate_limit::redis::RedisCounts;
use crate::stream::redis::RedisStreamStore;

/// Names both servers and begins to look after them; nothing is waited for.
pub(super) fn start(
    settings: &GatewaySettings,
    clock: &Clock,
    metrics: &Metrics,
    (readiness, tasks): (&Readiness, &Tasks),
) -> Result<Backend, StartError> {
    let wrong = |setting| {
        move |source: Box<dyn std::error::Error + Send + Sync>| StartError::Setting {
            setting,
            source,
        }
    };
    let given = |url: &Option<Secret>| url.clone().unwrap_or_default();
    let password = settings.redis_token.as_ref();
    let connection = RedisConnection::new(&given(&settings.redis_url), password, clock.clone())
        .map_err(|error| wrong("REDIS_URL")(error.into()))?;
    let store =
        PostgresStore::connect(&given(&settings.database_url), postgres::Settings::default())
            .map_err(|error| wrong("DATABASE_URL")(error.into()))?;
    let store = Arc::new(store);
    let log = RedisLog::new(connection.clone(), settings.log_entries_max);
    let node = Uuid::new_v4();
    let hearing = Arc::new(Hearing::default());
    let foreign = metrics.foreign_publications_total.clone();
    let watched = (tasks, foreign, settings.memory().deliveries);
    let (broker, deliveries) =
        RedisBroker::start(log.clone(), &node.to_string(), Arc::clone(&hearing), watched);
    let (tell, fatal) = oneshot::channel();
    let conditions = (readiness.condition("redis"), readiness.condition("database"));
    let servers = Servers::new(Arc::clone(&store), connection.clone(), node.to_string(), true);
    let timing = Timing::new(clock.clone(), readiness.condition("clock"));
    let attended = attend(servers, conditions, (hearing, timing), tell);
    Ok(Backend {
        log: Arc::new(log),
        store,
        broker: Arc::new(broker),
        token_store: TokenStore::Redis(Box::new(connection.clone())),
        streams: Arc::new(RedisStreamStore::new(connection.clone(), node)),
        presence: Arc::new(RedisPresence::new(connection.clone())),
        deliveries,
        background_tasks: vec![("dependencies", attended.boxed())],
        worker: None,
        redis: Some(Arc::clone(connection.health())),
        counts: Some(RedisCounts::new(connection)),
        fatal,
    })
}

async fn attend(
    servers: Servers,
    (redis, database): (Condition, Condition),
    (hearing, timing): (Arc<Hearing>, Timing),
    tell: oneshot::Sender<StartError>,
) {
    let database = async {
        match servers.wait_until_migrated(&database).await {
            Ok(()) => servers.watch_database(database).await,
            Err(unfit) => unfit,
        }
    };
    let (setting, unfit): (&str, Unfit) = tokio::select! {
        unfit = database => ("DATABASE_URL", unfit),
        unfit = servers.watch_redis(redis, timing, Some(&hearing)) => ("REDIS_URL", unfit),
    };
    // The process may be leaving already.
    let _ = tell.send(StartError::Setting { setting, source: Box::new(unfit) });
    // What was told ends the process in its own words.
    std::future::pending().await
}
