//! The embedded mode: the log in memory, the worker's loop inside, an `SQLite` file.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use prometheus::Registry;
use shared::contract::limits::BATCH_BYTES_MAX;
use shared::log::memory::MemoryLog;
use shared::process::clock::Clock;
use shared::process::error_chain::error_chain;
use shared::process::readiness::{Condition, Readiness};
use shared::process::tasks::Tasks;
use shared::store::sqlite::SqliteStore;
use shared::trouble;
use sync_worker::metrics::Metrics;
use sync_worker::stats::Stats;
use sync_worker::worker;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{Backend, StartError, Worker};
use crate::auth::TokenStore;
use crate::broker::Broker;
use crate::config::GatewaySettings;
use crate::presence::memory::MemoryPresence;
use crate::stream::memory::MemoryStreamStore;

/// How often something is written to the database to see whether it can be.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How often the log forgets what its time has come for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Opens the database and starts the loop that fills it.
pub(super) fn start(
    settings: &GatewaySettings,
    clock: &Clock,
    registry: &Registry,
    (readiness, tasks): (&Readiness, &Tasks),
) -> Result<Backend, StartError> {
    let store = Arc::new(SqliteStore::open(&settings.data_dir, clock.clone())?);
    let (log, deliveries) =
        MemoryLog::within(settings.memory().log, clock.clone(), settings.log_entries_max);
    let log = Arc::new(log);
    let stats = Arc::new(Stats::default());
    let parts = worker::Deps {
        log: log.clone(),
        store: store.clone(),
        settings: worker::LoopSettings {
            batch_entries: settings.sync_batch_size,
            batch_bytes: BATCH_BYTES_MAX,
            batch_interval: settings.sync_interval_ms.duration(),
            // Senders wait for it.
            batch_interval_max: settings.sync_interval_ms.duration(),
            retry_delay: settings.sync_retry_delay_ms.duration(),
            retry_delay_max: settings.sync_retry_delay_max_ms.duration(),
            log_keep: Duration::ZERO,
            retention: sync_worker::config::retention(settings.retention_days),
        },
        lease: None,
        metrics: Arc::new(Metrics::register(registry)),
        stats: Arc::clone(&stats),
        clock: clock.clone(),
        lag: Arc::default(),
        tasks: tasks.clone(),
    };
    let stop = CancellationToken::new();
    let task = tasks.spawn("worker", worker::run(parts, stop.clone()));
    let (database, sync) = (readiness.condition("database"), readiness.condition("sync"));
    let background_tasks = vec![
        ("sweep", sweep(Arc::clone(&log)).boxed()),
        ("database", watch(Arc::clone(&store), database).boxed()),
        ("lag", Stats::watch(Arc::clone(&stats), sync).boxed()),
    ];
    // Dropped at once: nothing is found out later.
    let (_, fatal) = oneshot::channel();
    Ok(Backend {
        broker: Arc::clone(&log) as Arc<dyn Broker>,
        token_store: TokenStore::memory(),
        streams: Arc::new(MemoryStreamStore::default()),
        presence: Arc::new(MemoryPresence::default()),
        log,
        store,
        deliveries,
        background_tasks,
        worker: Some(Worker { task, stop, stats }),
        redis: None,
        counts: None,
        fatal,
    })
}

async fn sweep(log: Arc<MemoryLog>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        log.sweep();
    }
}

/// Says whether the database can be written.
async fn watch(store: Arc<SqliteStore>, database: Condition) {
    loop {
        match store.beat().await {
            Ok(()) => database.ready(),
            Err(error) => {
                let meanwhile = "messages are not accepted";
                trouble!(
                    server = "database",
                    meanwhile,
                    error = error_chain(&error),
                    "database cannot be written"
                );
                database.degraded("the database cannot be written");
            }
        }
        tokio::time::sleep(PING_INTERVAL).await;
    }
}
