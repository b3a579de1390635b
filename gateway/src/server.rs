//! One process: builds the node, binds, accepts, drains.

pub mod cli;
pub mod replay;
mod cluster;
mod embedded;
mod descriptors;
mod rebalance;
mod parts;
pub mod mint;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use shared::log::Log;
use shared::log::deliveries::DeliveryReceiver;
use shared::log::redis::connection::Health;
use shared::process::clock::Clock;
use shared::process::operator::{BindError, Operator, Refresh};
use shared::process::readiness::{Condition, Readiness};
use shared::process::tasks::{TaskEnded, Tasks};
use shared::store::Store;
use shared::store::sqlite::OpenError;
use shared::store::sqlite::journal::JournalOpenError;
use sync_worker::stats::Stats;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::auth::TokenStore;
use crate::broker::Broker;
use crate::config::GatewaySettings;
use crate::http::listening;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::operation::{authenticate, stream};
use crate::presence::Presence;
use crate::rate_limit::redis::RedisCounts;
use crate::relay;
use crate::stream::StreamStore;

/// How often a leaving node looks whether its connections are gone.
const LEAVE_POLL: Duration = Duration::from_millis(20);

/// How often it is looked whether there are places left.
const PLACES_INTERVAL: Duration = Duration::from_secs(1);

/// Why a server does not start, or must not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The embedded database cannot be used.
    #[error("the database cannot be opened")]
    Store(#[from] OpenError),
    /// The journal cannot be used.
    #[error("no journal (ROOMCAST_JOURNAL=off does without)")]
    Journal(#[from] JournalOpenError),
    /// A port is taken, or not allowed.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A setting that only its use finds wrong.
    #[error("{setting} cannot be used")]
    Setting {
        /// The variable.
        setting: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What runs as long as the process does has ended.
    #[error(transparent)]
    Ended(#[from] TaskEnded),
}

/// What a node stands on: a log, a database, a broker. Embedded, or those of a cluster.
struct Backend {
    log: Arc<dyn Log>,
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    /// Where tickets and session tokens lie.
    token_store: TokenStore,
    /// Where answers that are being written are kept.
    streams: Arc<dyn StreamStore>,
    presence: Arc<dyn Presence>,
    /// What the broker delivers.
    deliveries: DeliveryReceiver,
    /// What is to run as long as the process does, once it has said what it is.
    background_tasks: Vec<(&'static str, BoxFuture<'static, ()>)>,
    /// Only in the embedded mode.
    worker: Option<Worker>,
    /// Only in a cluster.
    redis: Option<Arc<Health>>,
    /// The fleet's counts of what users do, only in a cluster.
    counts: Option<RedisCounts>,
    /// Told when it turns out that this process must not go on.
    fatal: oneshot::Receiver<StartError>,
}

/// The sync-worker's loop inside this process.
#[derive(Debug)]
struct Worker {
    task: JoinHandle<()>,
    stop: CancellationToken,
    stats: Arc<Stats>,
}

/// A running gateway.
#[derive(Debug)]
pub struct Server {
    node: Arc<Node>,
    readiness: Readiness,
    address: SocketAddr,
    operator_address: SocketAddr,
    worker: Option<Worker>,
    /// What runs as long as the process does.
    tasks: Tasks,
    fatal: oneshot::Receiver<StartError>,
}

impl Server {
    /// Opens or connects what it stands on, binds both ports and begins to accept. In a cluster,
    /// what is down is waited for: the node listens and is not ready. `announce` is told the
    /// addresses of the page and of the operator port, before this logs anything itself.
    ///
    /// # Errors
    /// Says what cannot be opened or bound; nothing is left running then.
    pub async fn start(
        settings: GatewaySettings,
        clock: Clock,
        announce: impl FnOnce(SocketAddr, SocketAddr),
    ) -> Result<Server, StartError> {
        let readiness = Readiness::new();
        let tasks = Tasks::new(&readiness);
        let started = Server::start_with(settings, clock, announce, (readiness, &tasks)).await;
        if started.is_err() {
            tasks.abort();
        }
        started
    }

    async fn start_with(
        mut settings: GatewaySettings,
        clock: Clock,
        announce: impl FnOnce(SocketAddr, SocketAddr),
        (readiness, tasks): (Readiness, &Tasks),
    ) -> Result<Server, StartError> {
        let registry = prometheus::Registry::new();
        let metrics = Arc::new(Metrics::register(&registry));
        let listener = listening::bind(&settings.addresses(), settings.port)?;
        let descriptors = descriptors::settle(&mut settings);
        let mut backend = if settings.is_cluster() {
            cluster::start(&settings, &clock, &metrics, (&readiness, tasks))?
        } else {
            embedded::start(&settings, &clock, &registry, (&readiness, tasks))?
        };
        let revocations = readiness.condition("revocations");
        let places = readiness.condition("connections");
        let settings = (settings, descriptors.sockets);
        let (node, refused) = parts::node(settings, clock, metrics, (&mut backend, tasks))?;
        let node = Arc::new(node);
        let Backend { deliveries, background_tasks, worker, redis, fatal, .. } = backend;

        let began = Instant::now();
        let sync = worker.as_ref().map(|worker| Arc::clone(&worker.stats));
        let (stats_node, settings) = (Arc::clone(&node), &node.settings);
        let operator_address = SocketAddr::new(settings.operator_bind, settings.operator_port);
        let operator = Operator {
            readiness: readiness.clone(),
            registry,
            refresh: Some(refresh(&node)),
            stats: Arc::new(move || stats(&stats_node, redis.as_deref(), sync.as_deref(), began)),
        };
        let operator = operator.bind(operator_address).await?;
        let operator_address = operator.local_addr();
        let address = listener.local_addr().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        announce(address, operator_address);
        info!(%address, %operator_address, "gateway listens");
        descriptors.tell();
        for (name, task) in background_tasks {
            tasks.spawn(name, task);
        }
        tasks.spawn("operator", operator.serve(CancellationToken::new()));
        tasks.spawn("relay", relay::run(Arc::clone(&node), deliveries, refused));
        tasks.spawn("revocations", authenticate::watch_revocations(Arc::clone(&node), revocations));
        spawn_upkeep(&node, tasks);
        tasks.spawn("places", watch_places(Arc::clone(&node), places));
        tasks.spawn("rebalance", rebalance::run(Arc::clone(&node)));
        tasks.spawn("streams", stream::close_silent(Arc::clone(&node)));
        tasks.spawn("accept", listening::accept(listener, Arc::clone(&node)));
        Ok(Server {
            node,
            readiness,
            address,
            operator_address,
            worker,
            tasks: tasks.clone(),
            fatal,
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

    /// Waits for what makes going on impossible, such as a database with another number of shards,
    /// or a task that has ended.
    pub async fn failed(&mut self) -> StartError {
        let fatal = async {
            match (&mut self.fatal).await {
                Ok(error) => error,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            error = fatal => error,
            ended = self.tasks.ended() => ended.into(),
        }
    }

    /// Leaves: not ready, newcomers are answered 503; what was asked is answered and every client
    /// sent elsewhere; in the embedded mode the log goes into the database. The port stays open
    /// until all of that is done, and long enough for balancers to have seen it. Says whether it
    /// was done in time.
    pub async fn drain(self) -> bool {
        let patience = self.node.settings.drain_timeout_ms.duration();
        let node = &self.node;
        let (began, clients) = (Instant::now(), node.connections.len());
        let spread = node.settings.drain_spread(clients);
        self.tasks.leave();
        node.connections.begin_leaving(spread);
        node.leaving.cancel();
        // Last: whoever has seen that the node is not ready finds it leaving.
        self.readiness.begin_drain();
        info!(clients, spread_ms = millis(spread), "gateway is leaving");
        // A client that reads slowly or not at all holds up its own connection, and nothing else.
        let deadline = began + patience;
        let gone = tokio::time::timeout(spread + patience.saturating_sub(spread) / 2, async {
            node.connections.send_elsewhere(usize::MAX, spread).await;
            while node.connections.len() > 0 || !node.exchanges.is_empty() {
                tokio::time::sleep(LEAVE_POLL).await;
            }
        });
        if gone.await.is_err() {
            let connections = node.connections.len();
            warn!(connections, "going on leaving while clients are still connected");
        }
        let finished = tokio::time::timeout_at(deadline, async {
            stream::leave(node, self.worker.is_some()).await;
            node.hub.leave().await;
            // What Redis takes none of now waits for the next start on the same folder.
            node.append_queue.until_replayed().await;
            if let Some(Worker { task, stop, .. }) = self.worker {
                stop.cancel();
                // A panic of the worker was reported when it happened.
                let _ = task.await;
            }
        })
        .await
        .is_ok();
        let noticed = began + node.settings.drain_notice();
        tokio::time::sleep_until(noticed.min(deadline)).await;
        self.tasks.abort();
        self.node.store.close().await;
        let (connections, retained) = (node.connections.len(), node.append_queue.retained());
        let duration_ms = millis(began.elapsed());
        let journal = node.append_queue.journal().map_or(0, |journal| journal.held().entries);
        if journal > 0 {
            warn!(entries = journal, "the journal holds entries for the next start on its folder");
        }
        if finished {
            info!(duration_ms, clients, connections, retained, "gateway has left in order");
        } else {
            warn!(
                duration_ms,
                clients, connections, retained, "gateway leaves before everything was done"
            );
        }
        finished
    }
}

/// Starts what each part of the node does for as long as the process runs.
fn spawn_upkeep(node: &Arc<Node>, tasks: &Tasks) {
    let spawn = |name, work: fn(&Node) -> BoxFuture<'_, ()>| {
        let node = Arc::clone(node);
        tasks.spawn(name, async move { work(&node).await });
    };
    spawn("keys", |node| node.authenticator.attend(&node.metrics.key_set_failures_total).boxed());
    spawn("heartbeat", |node| {
        let every = node.settings.heartbeat_interval_ms.duration();
        let timeout = node.settings.connection_timeout_ms.duration();
        node.connections.heartbeat((every, timeout), &node.clock).boxed()
    });
    spawn("retirement", |node| node.hub.retire_rooms().boxed());
    spawn("comparison", |node| node.hub.compare_rooms().boxed());
    spawn("presence", |node| node.hub.attend().boxed());
    spawn("relief", |node| node.connections.relieve(|| node.excess_frames()).boxed());
    spawn("limits", |node| node.limiter.sweep().boxed());
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Says whether there are places left.
async fn watch_places(node: Arc<Node>, places: Condition) {
    let max = node.settings.connections_max;
    loop {
        match node.connections.len() {
            taken if taken >= max - max / 10 => {
                places.not_ready("this node has nine tenths of its connections, or more");
            }
            // Not at the next one that leaves: it would come and go with each of them.
            taken if taken <= max - max / 10 - max / 20 => places.ready(),
            _ => {}
        }
        tokio::time::sleep(PLACES_INTERVAL).await;
    }
}

/// Sets the gauges that count over many parts, when somebody reads them.
fn refresh(node: &Arc<Node>) -> Refresh {
    let node = Arc::clone(node);
    let told = |count| i64::try_from(count).unwrap_or(i64::MAX);
    let told_long = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Arc::new(move || {
        let metrics = &node.metrics;
        metrics.retained_entries.set(told(node.append_queue.retained()));
        metrics.retained_bytes.set(told(node.append_queue.retained_bytes()));
        metrics.retained_bytes_max.set(told(node.memory.accepted));
        if let Some(journal) = node.append_queue.journal() {
            let held = journal.held();
            metrics.journal_entries.set(told_long(held.entries));
            metrics.journal_bytes.set(told_long(held.bytes));
            metrics.journal_bytes_max.set(told_long(node.settings.journal_bytes_max));
            let age_ms = held.oldest_ms.map_or(0, |oldest| node.clock.now_ms() - oldest);
            metrics.journal_oldest_seconds.set(age_ms / 1000);
        }
        metrics.send_queue_bytes.set(told(node.connections.waiting()));
        metrics.connections.set(told(node.connections.len()));
        metrics.connections_max.set(told(node.settings.connections_max));
        metrics.draining.set(node.leaving.is_cancelled().into());
    })
}

/// What `/stats` says, under the seed's names; times in milliseconds.
fn stats(
    node: &Node,
    redis: Option<&Health>,
    sync: Option<&Stats>,
    began: Instant,
) -> serde_json::Value {
    let no_redis =
        || json!({"isConnected": false, "lastPing": null, "errorCount": 0, "reconnectAttempts": 0});
    json!({
        "connections": {
            "totalConnections": node.connections.total(),
            "activeConnections": node.connections.len(),
            "totalRooms": node.hub.len(),
            "totalMessages": node.metrics.messages_in_total.get(),
            "uptime": millis(began.elapsed()),
        },
        "redis": redis.map_or_else(no_redis, Health::to_json),
        "sync": sync.map_or_else(|| Stats::default().to_json(), Stats::to_json),
    })
}
