//! What a node stands on: a log, a database, a broker. Embedded, or those of a cluster.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use shared::log::Log;
use shared::log::deliveries::DeliveryReceiver;
use shared::log::redis::connection::Health;
use shared::store::Store;
use sync_worker::stats::Stats;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::auth::Vault;
use crate::broker::Broker;
use crate::presence::Presence;
use crate::rate_limit::redis::RedisCounts;
use crate::stream::Shelf;

/// What lies below a node.
pub(super) struct Backend {
    pub(super) log: Arc<dyn Log>,
    pub(super) store: Arc<dyn Store>,
    pub(super) broker: Arc<dyn Broker>,
    /// Where tickets and session tokens lie.
    pub(super) vault: Vault,
    /// Where answers that are being written are kept.
    pub(super) shelf: Arc<dyn Shelf>,
    pub(super) presence: Arc<dyn Presence>,
    /// What the broker delivers.
    pub(super) deliveries: DeliveryReceiver,
    /// What is to run as long as the process does, once it has said what it is.
    pub(super) attendants: Vec<(&'static str, BoxFuture<'static, ()>)>,
    /// Only in the embedded mode.
    pub(super) worker: Option<Worker>,
    /// Only in a cluster.
    pub(super) redis: Option<Arc<Health>>,
    /// The fleet's counts of what users do, only in a cluster.
    pub(super) counts: Option<RedisCounts>,
    /// Told when it turns out that this process must not go on.
    pub(super) fatal: oneshot::Receiver<StartError>,
}

/// The sync-worker's loop inside this process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) task: JoinHandle<()>,
    pub(super) stop: CancellationToken,
    pub(super) stats: Arc<Stats>,
}
