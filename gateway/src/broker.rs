//! The broker: orders a room's messages and carries them between nodes.

pub(crate) mod receipt_queue;
pub(crate) mod append_queue;
pub(crate) mod epochs;
pub mod memory;
pub mod redis;
mod unpersisted;

use std::sync::Arc;

use async_trait::async_trait;
use shared::contract::id::{RoomId, Shard};
use shared::contract::limits::SIGNALS_WAITING_MAX;
use shared::contract::position::Position;
use shared::contract::protocol::Durability;
use shared::contract::refusal::Refusal;
use shared::contract::signal::Signal;
use shared::log::{Append, AppendStop};
use shared::process::error_chain::error_chain;
use shared::process::tasks::Tasks;
use shared::store::MessageKey;
use tokio::sync::mpsc;
use tracing::debug;

/// What became of one append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendResult {
    /// It stands.
    Placed(Placement),
    /// Its id stands with other content.
    Conflict,
    /// The database has refused it for good.
    Rejected(Refusal),
}

/// Where an entry stands, and how safely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its place in the room's order; of what has none, in the log.
    pub position: Position,
    /// It stood there already.
    pub duplicate: bool,
    /// It is in the database.
    pub persisted: bool,
    /// How safe it is.
    pub durability: Durability,
}

/// What became of a batch: an answer for each entry before the stop.
#[derive(Debug)]
pub struct AppendBatchResult {
    /// In the order of the entries.
    pub done: Vec<AppendResult>,
    /// Why it ended early; nothing was done of what lies behind.
    pub stop: Option<AppendStop>,
}

/// The log does not answer; what was asked may or may not have been done.
#[derive(Debug, thiserror::Error)]
#[error("the broker does not answer")]
pub struct BrokerError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Appends, and tells this node what others append. Deliveries come out of a channel that the
/// broker's constructor gives. Memory and Redis pass one suite of contract tests.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Appends to a shard in order, until the first stop; one call per shard at a time.
    ///
    /// An entry whose id is remembered is answered with the place it has. Every entry that is
    /// placed is delivered to each node that subscribed to its room, in order, at least once, or
    /// that node is told of a gap.
    async fn append(
        &self,
        shard: Shard,
        epoch: u64,
        entries: &[Append],
    ) -> Result<AppendBatchResult, BrokerError>;

    /// Where an id stands, if it is remembered.
    async fn known(&self, identity: &MessageKey) -> Result<Option<AppendResult>, BrokerError>;

    /// Tells the nodes that listen, this one among them; best effort, nothing is kept of it.
    async fn signal(&self, signal: &Signal) -> Result<(), BrokerError>;

    /// Delivers a room's entries and signals from now on; confirmed when it returns.
    async fn subscribe(&self, room: &RoomId) -> Result<(), BrokerError>;

    /// Whether this node hears what is published, as far as it can tell; what it remembers of a
    /// room may otherwise have passed.
    fn hears(&self) -> bool;

    /// Delivers them no more.
    async fn unsubscribe(&self, room: &RoomId) -> Result<(), BrokerError>;
}

/// Signals that may be lost, told in order and in the background, so that nobody waits for them:
/// where too many wait, the next are dropped.
#[derive(Clone, Debug)]
pub(crate) struct SignalPublisher {
    waiting: mpsc::Sender<Signal>,
}

impl SignalPublisher {
    /// Starts the task, which ends when the last handle is dropped.
    pub(crate) fn start(broker: Arc<dyn Broker>, tasks: &Tasks) -> SignalPublisher {
        let (waiting, mut signals) = mpsc::channel(SIGNALS_WAITING_MAX);
        tasks.spawn("signals", async move {
            while let Some(signal) = signals.recv().await {
                if let Err(error) = broker.signal(&signal).await {
                    debug!(error = error_chain(&error), "signal is lost");
                }
            }
        });
        SignalPublisher { waiting }
    }

    /// Tells it, if there is room.
    pub(crate) fn publish(&self, signal: Signal) {
        if self.waiting.try_send(signal).is_err() {
            debug!("too many signals wait; one is dropped");
        }
    }
}
