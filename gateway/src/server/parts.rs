//! Puts the parts of a node together.

use std::sync::Arc;

use shared::process::byte_budget::ByteBudget;
use shared::process::clock::Clock;
use shared::process::tasks::Tasks;
use shared::store::sqlite::journal::Journal;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Backend, StartError};
use crate::auth::api_keys::ApiKeys;
use crate::auth::client_address::{Addresses, TrustedProxies};
use crate::auth::origin::AllowedOrigins;
use crate::auth::unproven::Unproven;
use crate::auth::{Authenticator, Revocations, TrustError};
use crate::broker::append_queue::journaling::RefusedEntry;
use crate::broker::append_queue::{AppendQueue, Starting};
use crate::broker::epochs::Epochs;
use crate::broker::receipt_queue::ReceiptQueue;
use crate::broker::{Broker, SignalPublisher};
use crate::config::{GatewaySettings, JournalMode};
use crate::hub::history::History;
use crate::hub::room_quota::RoomQuota;
use crate::hub::{self, Hub};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::presence;
use crate::rate_limit::redis::RedisCounts;
use crate::rate_limit::{self, RateLimiter, Rules};
use crate::spending::Spending;
use crate::spending::redis::RedisTurns;
use crate::stream::buffer::StreamBuffers;
use crate::wire::connect_rate::ConnectRate;
use crate::wire::connections::Connections;
use crate::wire::send_queue::Flushers;

/// Starts the way into the log, with what the journal has from an earlier life.
pub(super) fn append_queue(
    (settings, clock): (&GatewaySettings, &Clock),
    metrics: &Arc<Metrics>,
    (backend, epochs): (&Backend, &Arc<Epochs>),
    tasks: &Tasks,
) -> Result<(AppendQueue, mpsc::Receiver<RefusedEntry>), StartError> {
    let journal = match settings.journal_folder() {
        Some(folder) => {
            let journal = Journal::open(&folder, settings.journal_bounds(), clock.clone())?;
            Some((Arc::new(journal), settings.journal == JournalMode::Always))
        }
        None => None,
    };
    let parts = Starting {
        log: Arc::clone(&backend.log),
        store: Arc::clone(&backend.store),
        epochs: Arc::clone(epochs),
        clock: clock.clone(),
        metrics: Arc::clone(metrics),
        tasks: tasks.clone(),
        shares: settings.memory(),
    };
    Ok(AppendQueue::start(parts, journal))
}

/// Puts a node together; with whom to tell what the log refuses of what the journal had.
pub(super) fn node(
    (settings, sockets_max): (GatewaySettings, usize),
    clock: Clock,
    metrics: Arc<Metrics>,
    (backend, tasks): (&mut Backend, &Tasks),
) -> Result<(Node, mpsc::Receiver<RefusedEntry>), StartError> {
    let origins = AllowedOrigins::parse(settings.origins())
        .map_err(|error| unusable("ROOMCAST_ALLOWED_ORIGINS", error))?;
    let proxies = TrustedProxies::parse(&settings.trusted_proxies)
        .map_err(|error| unusable("ROOMCAST_TRUSTED_PROXIES", error))?;
    let authenticator = authenticator(&settings)?;
    let api_keys =
        ApiKeys::parse(&settings.api_keys).map_err(|error| unusable("ROOMCAST_API_KEYS", error))?;
    let memory = settings.memory();
    let epochs = Arc::new(Epochs::new(Arc::clone(&backend.log), Arc::clone(&backend.store)));
    let (append_queue, refused) =
        append_queue((&settings, &clock), &metrics, (backend, &epochs), tasks)?;
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
    let node = Node {
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
    };
    Ok((node, refused))
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
