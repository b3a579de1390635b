//! The broker: orders a room's messages and carries them between nodes.

pub(crate) mod receipt_queue;
pub(crate) mod append_queue;
pub(crate) mod epochs;
pub mod memory;
pub mod redis;
mod unpersisted;
pub(crate) mod waiters;

use std::sync::Arc;

use async_trait::async_trait;
use shared::contract::id::RoomId;
use shared::contract::limits::SIGNALS_WAITING_MAX;
use shared::contract::signal::Signal;
use shared::log::LogError;
use shared::process::error_chain::error_chain;
use shared::process::tasks::Tasks;
use tokio::sync::mpsc;
use tracing::debug;

/// Tells this node what is appended, and every node what is signalled. Deliveries come out of a
/// channel that the constructor gives. Memory and Redis pass one suite of contract tests.
#[async_trait]
pub trait Broker: std::fmt::Debug + Send + Sync + 'static {
    /// Tells the nodes that listen, this one among them; best effort, nothing is kept of it.
    async fn signal(&self, signal: &Signal) -> Result<(), LogError>;

    /// Delivers a room's entries and signals from now on; confirmed when it returns.
    async fn subscribe(&self, room: &RoomId) -> Result<(), LogError>;

    /// Whether this node hears what is published, as far as it can tell; what it remembers of a
    /// room may otherwise have passed.
    fn hears(&self) -> bool;

    /// Delivers them no more.
    async fn unsubscribe(&self, room: &RoomId) -> Result<(), LogError>;
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
