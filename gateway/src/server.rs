//! One process: builds the node, binds, accepts, drains.

pub mod cli;
mod cluster;
mod embedded;
mod descriptors;
mod rebalance;
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
use shared::process::byte_budget::ByteBudget;
use shared::process::clock::Clock;
use shared::process::operator::{BindError, Operator, Refresh};
use shared::process::readiness::{Condition, Readiness};
use shared::process::tasks::{TaskEnded, Tasks};
use shared::store::Store;
use shared::store::sqlite::OpenError;
use sync_worker::stats::Stats;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::auth::api_keys::ApiKeys;
use crate::auth::client_address::{Addresses, TrustedProxies};
use crate::auth::origin::AllowedOrigins;
use crate::auth::unproven::Unproven;
use crate::auth::{Authenticator, Revocations, TokenStore, TrustError};
use crate::broker::append_queue::{self, AppendQueue};
use crate::broker::epochs::Epochs;
use crate::broker::receipt_queue::ReceiptQueue;
use crate::broker::{Broker, SignalPublisher};
use crate::config::GatewaySettings;
use crate::http::listening;
use crate::hub::history::History;
use crate::hub::room_quota::RoomQuota;
use crate::hub::{self, Hub};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::operation::{authenticate, stream};
use crate::presence::{self, Presence};
use crate::rate_limit::redis::RedisCounts;
use crate::rate_limit::{self, RateLimiter, Rules};
use crate::relay;
use crate::spending::Spending;
use crate::spending::redis::RedisTurns;
use crate::stream::StreamStore;
use crate::stream::buffer::StreamBuffers;
use crate::wire::connect_rate::ConnectRate;
use crate::wire::connections::Connections;
use crate::wire::send_queue::Flushers;

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
        let node =
            Arc::new(node((settings, descriptors.sockets), clock, metrics, (&mut backend, tasks))?);
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
        tasks.spawn("relay", relay::run(Arc::clone(&node), deliveries));
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

fn append_queue(
    (settings, clock): (&GatewaySettings, &Clock),
    metrics: &Arc<Metrics>,
    (backend, epochs): (&Backend, &Arc<Epochs>),
    tasks: &Tasks,
) -> AppendQueue {
    AppendQueue::start(&append_queue::Deps {
        log: Arc::clone(&backend.log),
        store: Arc::clone(&backend.store),
        epochs: Arc::clone(epochs),
        clock: clock.clone(),
        metrics: Arc::clone(metrics),
        tasks: tasks.clone(),
        shares: settings.memory(),
    })
}

fn node(
    (settings, sockets_max): (GatewaySettings, usize),
    clock: Clock,
    metrics: Arc<Metrics>,
    (backend, tasks): (&mut Backend, &Tasks),
) -> Result<Node, StartError> {
    let origins = AllowedOrigins::parse(settings.origins())
        .map_err(|error| unusable("ROOMCAST_ALLOWED_ORIGINS", error))?;
    let proxies = TrustedProxies::parse(&settings.trusted_proxies)
        .map_err(|error| unusable("ROOMCAST_TRUSTED_PROXIES", error))?;
    let authenticator = authenticator(&settings)?;
    let api_keys =
        ApiKeys::parse(&settings.api_keys).map_err(|error| unusable("ROOMCAST_API_KEYS", error))?;
    let memory = settings.memory();
    let epochs = Arc::new(Epochs::new(Arc::clone(&backend.log), Arc::clone(&backend.store)));
    let append_queue = append_queue((&settings, &clock), &metrics, (backend, &epochs), tasks);
    let Backend { log, store, broker, counts, token_store, streams, presence, .. } = backend;
    let present = presence::local::LocalPresence::new(
        Arc::clone(presence),
        Arc::clone(broker),
        clock.clone(),
        Arc::clone(&metrics),
    );
    let history = History::new(Arc::clone(log), Arc::clone(store), epochs, memory.rooms);
    let hub = Hub::new(hub::Deps {
        broker: Arc::clone(broker),
        history,
        syncing: ByteBudget::new(memory.syncing),
        streams: Arc::clone(streams),
        metrics: Arc::clone(&metrics),
        clock: clock.clone(),
        presence: Arc::new(present),
        signals: SignalPublisher::start(Arc::clone(broker), tasks),
        empty: Notify::new(),
        unsure: Notify::new(),
    });
    let spending = Spending::new(counts.as_ref().map(turns));
    let limiter = limiter(&settings, (&clock, &metrics), Arc::clone(broker), counts.take());
    let (written, told) = (Arc::clone(streams), Arc::clone(broker));
    let answers = StreamBuffers::new(written, told, Arc::clone(&metrics), memory.streams);
    Ok(Node {
        streams: Arc::new(answers),
        api_keys,
        authenticator,
        revocations: Revocations::default(),
        token_store: token_store.clone(),
        proxies,
        addresses: Arc::new(Addresses::default()),
        unproven: Unproven::new(settings.unproven_max(), settings.unauthenticated_per_address),
        origins,
        clock,
        flushers: Flushers::start(tasks, settings.write_timeout_ms.duration(), &metrics),
        connections: Connections::new(settings.connections_max),
        connect_rate: ConnectRate::new(settings.connects_per_second),
        unproven_connect_rate: ConnectRate::new(settings.connects_per_second),
        memory,
        pages: Semaphore::new(memory.pages),
        bodies: ByteBudget::new(memory.bodies),
        reading: ByteBudget::new(memory.reading),
        sockets_max,
        exchanges: TaskTracker::new(),
        room_quota: Arc::new(RoomQuota::default()),
        spending,
        limiter: Arc::new(limiter),
        leaving: CancellationToken::new(),
        settings,
        metrics,
        hub,
        append_queue,
        receipts: ReceiptQueue::default(),
        broker: Arc::clone(broker),
        log: Arc::clone(log),
        store: Arc::clone(store),
    })
}

fn limiter(
    settings: &GatewaySettings,
    (clock, metrics): (&Clock, &Arc<Metrics>),
    broker: Arc<dyn Broker>,
    fleet: Option<RedisCounts>,
) -> RateLimiter {
    let (clock, metrics) = (clock.clone(), Arc::clone(metrics));
    RateLimiter::new(Rules::new(settings), rate_limit::Deps { clock, metrics, broker, fleet })
}

/// Whose turn it is among the nodes is known where their counts are.
fn turns(counts: &RedisCounts) -> RedisTurns {
    RedisTurns::new(counts.connection().clone())
}

fn authenticator(settings: &GatewaySettings) -> Result<Authenticator, StartError> {
    Authenticator::new(settings.trust(), settings.is_dev()).map_err(|error| {
        let setting = match error {
            TrustError::File(_) | TrustError::Key(_) => "ROOMCAST_JWT_PUBLIC_KEY",
            TrustError::Jwks(_) => "ROOMCAST_JWKS",
        };
        unusable(setting, error)
    })
}

fn unusable(
    setting: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> StartError {
    StartError::Setting { setting, source: Box::new(error) }
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
    Arc::new(move || {
        let metrics = &node.metrics;
        metrics.retained_entries.set(told(node.append_queue.retained()));
        metrics.retained_bytes.set(told(node.append_queue.retained_bytes()));
        metrics.retained_bytes_max.set(told(node.memory.accepted));
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
