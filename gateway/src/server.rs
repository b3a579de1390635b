//! One process: builds the node, binds, accepts, drains.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use shared::log::Log;
use shared::log::memory::MemoryLog;
use shared::process::clock::Clock;
use shared::process::operator::{self, Operator};
use shared::process::readiness::{Condition, Readiness};
use shared::store::Store;
use shared::store::sqlite::{OpenError, SqliteStore};
use sync_worker::stats::Stats;
use sync_worker::worker;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::auth::Authenticator;
use crate::broker::Broker;
use crate::broker::appender::{self, Appender};
use crate::broker::epochs::Epochs;
use crate::broker::memory::MemoryBroker;
use crate::config::Settings;
use crate::connections::Connections;
use crate::handshake::AllowedOrigins;
use crate::http;
use crate::hub::sources::Sources;
use crate::hub::{self, Hub};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::relay;
use crate::roster::Roster;

/// How often the database is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How often the log forgets what its time has come for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// How often a leaving node looks whether its connections are gone.
const LEAVE_POLL: Duration = Duration::from_millis(20);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The embedded database cannot be used.
    #[error("the database cannot be opened")]
    Store(#[from] OpenError),
    /// A port is taken, or not allowed.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The list of origins is wrong.
    #[error("the allowed origins cannot be used")]
    Origins(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A running gateway in the embedded mode.
#[derive(Debug)]
pub struct Server {
    node: Arc<Node>,
    store: Arc<SqliteStore>,
    readiness: Readiness,
    address: SocketAddr,
    operator_address: SocketAddr,
    worker: JoinHandle<()>,
    stop_worker: CancellationToken,
    /// What runs as long as the process does.
    attendants: Vec<JoinHandle<()>>,
}

/// What the embedded mode is made of, below the node.
struct Embedded {
    log: Arc<MemoryLog>,
    store: Arc<SqliteStore>,
    clock: Clock,
}

impl Server {
    /// Opens the database, binds both ports and begins to accept. `announce` is told the addresses
    /// of the page and of the operator port before anything runs that could log a line.
    ///
    /// # Errors
    /// Says what cannot be opened or bound; nothing is left running then.
    pub async fn start(
        settings: Settings,
        clock: Clock,
        announce: impl FnOnce(SocketAddr, SocketAddr),
    ) -> Result<Server, StartError> {
        let registry = prometheus::Registry::new();
        let metrics = Arc::new(Metrics::register(&registry));
        let sync_metrics = Arc::new(sync_worker::metrics::Metrics::register(&registry));
        let listener = bind(SocketAddr::new(settings.address(), settings.port)).await?;
        let store = Arc::new(SqliteStore::open(&settings.data_dir, clock.clone())?);
        let (log, deliveries) = MemoryLog::new(clock.clone(), settings.log_entries_max);
        let embedded = Embedded { log: Arc::new(log), store: Arc::clone(&store), clock };
        let sync_stats = Arc::new(Stats::default());
        let worker_parts = embedded.worker(&settings, sync_metrics, Arc::clone(&sync_stats));
        let node = Arc::new(embedded.node(settings, metrics)?);

        let readiness = Readiness::new();
        let database = readiness.condition("database");
        let began = Instant::now();
        let (stats_node, settings) = (Arc::clone(&node), &node.settings);
        let operator_address = SocketAddr::new(settings.operator_bind, settings.operator_port);
        let operator = Operator {
            readiness: readiness.clone(),
            registry,
            stats: Arc::new(move || stats(&stats_node, &sync_stats, began)),
            extra: None,
        };
        let operator = operator
            .bind(operator_address)
            .await
            .map_err(|source| StartError::Bind { address: operator_address, source })?;
        let operator_address = operator.local_addr();
        let address = listener.local_addr().unwrap_or(SocketAddr::new(settings.address(), 0));

        announce(address, operator_address);
        info!(%address, %operator_address, "gateway listens");

        let stop_worker = CancellationToken::new();
        let worker = tokio::spawn(worker::run(worker_parts, stop_worker.clone()));
        let attendants = vec![
            tokio::spawn(operator.serve(CancellationToken::new())),
            tokio::spawn(relay::run(Arc::clone(&node), deliveries)),
            tokio::spawn(heartbeat(Arc::clone(&node))),
            tokio::spawn(retire_rooms(Arc::clone(&node))),
            tokio::spawn(sweep(embedded.log)),
            tokio::spawn(watch(Arc::clone(&store), database)),
            tokio::spawn(accept(listener, Arc::clone(&node))),
        ];
        Ok(Server {
            node,
            store,
            readiness,
            address,
            operator_address,
            worker,
            stop_worker,
            attendants,
        })
    }

    /// Where the page and the WebSocket are.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health, metrics and stats are.
    #[must_use]
    pub fn operator_address(&self) -> SocketAddr {
        self.operator_address
    }

    /// Leaves: not ready, no new connections; what was asked is answered and every client sent
    /// elsewhere; the log goes into the database; the database is closed. Says whether all of that
    /// was done in time.
    pub async fn drain(self) -> bool {
        let patience = self.node.settings.drain_timeout_ms.duration();
        self.readiness.begin_drain();
        self.node.leaving.cancel();
        let node = &self.node;
        let finished = tokio::time::timeout(patience, async {
            while node.connections.len() > 0 {
                tokio::time::sleep(LEAVE_POLL).await;
            }
            self.stop_worker.cancel();
            // A panic of the worker was reported when it happened.
            let _ = self.worker.await;
        })
        .await
        .is_ok();
        if !finished {
            let connections = node.connections.len();
            warn!(connections, "leaving before everything was done");
        }
        for attendant in self.attendants {
            attendant.abort();
        }
        self.store.close().await;
        finished
    }
}

impl Embedded {
    fn worker(
        &self,
        settings: &Settings,
        metrics: Arc<sync_worker::metrics::Metrics>,
        stats: Arc<Stats>,
    ) -> worker::Parts {
        worker::Parts {
            log: self.log.clone(),
            store: self.store.clone(),
            settings: worker::Settings {
                batch_entries: settings.sync_batch_size,
                batch_interval: settings.sync_interval_ms.duration(),
                retry_delay: settings.sync_retry_delay_ms.duration(),
                retry_delay_max: settings.sync_retry_delay_max_ms.duration(),
            },
            metrics,
            stats,
            clock: self.clock.clone(),
            lag: Arc::default(),
        }
    }

    fn node(&self, settings: Settings, metrics: Arc<Metrics>) -> Result<Node, StartError> {
        let origins = AllowedOrigins::parse(settings.origins())
            .map_err(|error| StartError::Origins(Box::new(error)))?;
        let log: Arc<dyn Log> = self.log.clone();
        let store: Arc<dyn Store> = self.store.clone();
        let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new(Arc::clone(&self.log)));
        let epochs = Arc::new(Epochs::new(Arc::clone(&log), Arc::clone(&store)));
        let appender = Appender::start(&appender::Parts {
            broker: Arc::clone(&broker),
            log: Arc::clone(&log),
            store: Arc::clone(&store),
            epochs: Arc::clone(&epochs),
            clock: self.clock.clone(),
            metrics: Arc::clone(&metrics),
        });
        let hub = Hub::new(hub::Parts {
            broker: Arc::clone(&broker),
            sources: Sources { log, store: Arc::clone(&store), epochs, clock: self.clock.clone() },
            metrics: Arc::clone(&metrics),
            empty: tokio::sync::Notify::new(),
        });
        Ok(Node {
            authenticator: Authenticator::new(settings.jwt_secret.as_ref(), settings.is_dev()),
            origins,
            clock: self.clock.clone(),
            connections: Connections::new(),
            roster: Arc::new(Roster::default()),
            leaving: CancellationToken::new(),
            settings,
            metrics,
            hub,
            appender,
            broker,
            store,
        })
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })
}

async fn accept(listener: TcpListener, node: Arc<Node>) {
    loop {
        let (socket, _) = tokio::select! {
            accepted = operator::accept(&listener) => accepted,
            () = node.leaving.cancelled() => return,
        };
        // Small frames must not wait for one another.
        if socket.set_nodelay(true).is_ok() {
            tokio::spawn(http::serve(socket, Arc::clone(&node)));
        }
    }
}

async fn heartbeat(node: Arc<Node>) {
    let every = node.settings.heartbeat_interval_ms.duration();
    let timeout = node.settings.connection_timeout_ms.duration();
    node.connections.heartbeat(every, timeout, &node.metrics).await;
}

async fn retire_rooms(node: Arc<Node>) {
    node.hub.retire_rooms().await;
}

async fn sweep(log: Arc<MemoryLog>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        log.sweep();
    }
}

/// Says whether the database answers.
async fn watch(store: Arc<SqliteStore>, database: Condition) {
    loop {
        match store.ping().await {
            Ok(()) => database.ready(),
            Err(error) => {
                warn!(error = ?error, "database does not answer");
                database.not_ready("the database does not answer");
            }
        }
        tokio::time::sleep(PING_INTERVAL).await;
    }
}

/// What `/stats` says, under the seed's names; times in milliseconds.
fn stats(node: &Node, sync: &Stats, began: Instant) -> serde_json::Value {
    json!({
        "connections": {
            "totalConnections": node.connections.total(),
            "activeConnections": node.connections.len(),
            "totalRooms": node.hub.len(),
            "totalMessages": node.metrics.messages_in_total.get(),
            "uptime": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        },
        "redis": {
            "isConnected": false,
            "lastPing": null,
            "errorCount": 0,
            "reconnectAttempts": 0,
        },
        "sync": sync.to_json(),
    })
}
