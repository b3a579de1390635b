//! Signals that may be lost, told in order and in the background, so that nobody waits for them:
//! where too many wait, the next are dropped.

use std::sync::Arc;

use shared::contract::limits::SIGNALS_WAITING_MAX;
use shared::contract::signal::Signal;
use shared::process::error_chain::error_chain;
use shared::process::tasks::Tasks;
use tokio::sync::mpsc;
use tracing::debug;

use super::Broker;

/// The way to the task that tells.
#[derive(Clone, Debug)]
pub(crate) struct Herald {
    waiting: mpsc::Sender<Signal>,
}

impl Herald {
    /// Starts the task, which ends when the last handle is dropped.
    pub(crate) fn start(broker: Arc<dyn Broker>, tasks: &Tasks) -> Herald {
        let (waiting, mut signals) = mpsc::channel(SIGNALS_WAITING_MAX);
        tasks.spawn("herald", async move {
            while let Some(signal) = signals.recv().await {
                if let Err(error) = broker.signal(&signal).await {
                    debug!(error = error_chain(&error), "signal is lost");
                }
            }
        });
        Herald { waiting }
    }

    /// Tells it, if there is room.
    pub(crate) fn tell(&self, signal: Signal) {
        if self.waiting.try_send(signal).is_err() {
            debug!("too many signals wait; one is dropped");
        }
    }
}
