//! The `sync-worker` binary: settings, loop, signal, drain.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::contract::limits::{BATCH_BYTES_MAX, ROUND_INTERVAL_MS};
use shared::dependency::{self, Timing, Unfit};
use shared::log::redis::RedisLog;
use shared::log::redis::connection::{Health, RedisConnection};
use shared::process::clock::Clock;
use shared::process::error_chain::error_chain;
use shared::process::memory::MemoryBound;
use shared::process::operator::Operator;
use shared::process::readiness::Readiness;
use shared::process::settings::Sources;
use shared::process::signals;
use shared::process::tasks::{TaskEnded, Tasks};
use shared::process::telemetry;
use shared::store::Lease;
use shared::store::postgres::{self, PostgresStore};
use sync_worker::cli;
use sync_worker::config::{GATEWAY_VARIABLES, WorkerSettings};
use sync_worker::metrics::Metrics;
use sync_worker::stats::Stats;
use sync_worker::worker::{self, Deps};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

/// The worker never appends; no cap applies to it.
const ENTRIES_MAX: usize = usize::MAX;

/// `EX_CONFIG`: what it was told to work with is unfit.
const UNFIT: u8 = 78;

fn main() -> ExitCode {
    // Both processes are often given one environment.
    let sources = Sources::from_process().tolerating(GATEWAY_VARIABLES.lines());
    let (settings, subcommand) = match cli::start(&sources) {
        Ok(started) => started,
        Err(stop) => return stop.exit(),
    };
    if let Err(error) = telemetry::start(settings.log_format, &settings.log) {
        return fail(&error, 1);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    if let Some(subcommand) = subcommand {
        let code = runtime.block_on(cli::run(&settings, subcommand));
        telemetry::finish();
        return code;
    }
    let code = match runtime.block_on(run(&settings)) {
        Ok(code) => code,
        Err(error) => fail(&*error, 1),
    };
    drop(runtime);
    telemetry::finish();
    code
}

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error(transparent)]
    Ended(#[from] TaskEnded),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Unfit(_) => UNFIT,
            Failure::Ended(_) => 1,
        }
    }
}

/// What a worker works with.
struct Servers {
    redis: RedisConnection,
    store: Arc<PostgresStore>,
}

impl Servers {
    fn of(settings: &WorkerSettings, clock: &Clock) -> Result<Servers, Box<dyn Error>> {
        let redis_url = settings.redis_url.clone().unwrap_or_default();
        let password = settings.redis_token.as_ref();
        let redis = RedisConnection::new(&redis_url, password, clock.clone())?;
        let database_url = settings.database_url.clone().unwrap_or_default();
        let store = PostgresStore::connect(&database_url, postgres::Settings::default())?;
        Ok(Servers { redis, store: Arc::new(store) })
    }
}

async fn run(settings: &WorkerSettings) -> Result<ExitCode, Box<dyn Error>> {
    let signal = signals::shutdown()?;
    let clock = Clock::system();
    let Servers { redis, store } = Servers::of(settings, &clock)?;
    let (registry, readiness) = (prometheus::Registry::new(), Readiness::new());
    let tasks = Tasks::new(&readiness);
    let [database_ready, redis_ready, sync_ready, clock_ready] =
        ["database", "redis", "sync", "clock"].map(|name| readiness.condition(name));
    sync_ready.waits("begins when the database has its tables");
    let timing = Timing::new(clock.clone(), clock_ready);
    let owner = Uuid::new_v4().to_string();
    let servers = dependency::Servers::new(Arc::clone(&store), redis.clone(), owner.clone(), false);
    let stats = Arc::new(Stats::default());
    let work = Deps {
        log: Arc::new(RedisLog::new(redis.clone(), ENTRIES_MAX)),
        store: store.clone(),
        settings: loop_settings(settings),
        lease: Some(Lease { owner, ms: settings.lease_ms.0 }),
        metrics: Arc::new(Metrics::register(&registry)),
        stats: Arc::clone(&stats),
        clock,
        lag: Arc::default(),
        tasks: tasks.clone(),
    };

    let (told, health) = (Arc::clone(&stats), Arc::clone(redis.health()));
    let stats_of = Arc::new(move || report(&told, &health));
    let readiness_of = readiness.clone();
    let operator = Operator { readiness: readiness_of, registry, refresh: None, stats: stats_of };
    listen(operator, settings, &tasks).await?;

    let mut signal = pin!(signal);
    let mut redis = pin!(servers.watch_redis(redis_ready, timing, None));
    // The work begins when the tables are there.
    let unfit = tokio::select! {
        _ = &mut signal => {
            tasks.leave();
            return Ok(ExitCode::SUCCESS);
        }
        unfit = &mut redis => Some(unfit),
        migrated = servers.wait_until_migrated(&database_ready) => migrated.err(),
    };
    if let Some(unfit) = unfit {
        tasks.leave();
        return Ok(fail(&unfit, UNFIT));
    }
    let stop = CancellationToken::new();
    tasks.spawn("lag", Stats::watch(Arc::clone(&stats), sync_ready));
    let working = tasks.spawn("worker", worker::run(work, stop.clone()));
    let why: Result<(), Failure> = tokio::select! {
        _ = &mut signal => Ok(()),
        unfit = servers.watch_database(database_ready) => Err(unfit.into()),
        unfit = redis => Err(unfit.into()),
        ended = tasks.ended() => Err(ended.into()),
    };
    readiness.begin_drain();
    tasks.leave();
    stop.cancel();
    let began = Instant::now();
    let drained = tokio::time::timeout(settings.drain_timeout_ms.duration(), working).await;
    if let Err(failure) = why {
        return Ok(fail(&failure, failure.code()));
    }
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if drained.is_err() {
        warn!(duration_ms, "leaving in the middle of a batch; the next owner finishes it");
        return Ok(ExitCode::FAILURE);
    }
    info!(duration_ms, "sync-worker has left in order, its shards given back");
    Ok(ExitCode::SUCCESS)
}

/// Opens the operator port.
async fn listen(
    operator: Operator,
    settings: &WorkerSettings,
    tasks: &Tasks,
) -> Result<(), Box<dyn Error>> {
    let address = SocketAddr::new(settings.operator_bind, settings.operator_port);
    let operator = operator.bind(address).await?;
    info!(operator_address = %operator.local_addr(), "sync-worker runs");
    tasks.spawn("operator", operator.serve(CancellationToken::new()));
    Ok(())
}

fn loop_settings(settings: &WorkerSettings) -> worker::LoopSettings {
    worker::LoopSettings {
        batch_entries: settings.sync_batch_size,
        batch_bytes: MemoryBound::new(settings.memory_bytes_max).share(128, BATCH_BYTES_MAX),
        batch_interval: settings.sync_interval_ms.duration(),
        batch_interval_max: Duration::from_millis(ROUND_INTERVAL_MS),
        retry_delay: settings.sync_retry_delay_ms.duration(),
        retry_delay_max: settings.sync_retry_delay_max_ms.duration(),
        log_keep: settings.log_keep_ms.duration(),
        retention: settings.retention(),
    }
}

/// What `/stats` says, under the seed's names.
fn report(stats: &Stats, redis: &Health) -> Value {
    let nobody = json!({
        "totalConnections": 0, "activeConnections": 0, "totalRooms": 0, "totalMessages": 0,
        "uptime": 0,
    });
    json!({"connections": nobody, "redis": redis.to_json(), "sync": stats.to_json()})
}

fn fail(error: &dyn Error, code: u8) -> ExitCode {
    telemetry::last_words(&format!("sync-worker: {}\n", error_chain(error)));
    ExitCode::from(code)
}
