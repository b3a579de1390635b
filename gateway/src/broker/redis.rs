//! The broker of a cluster: appends to the log in Redis, and hears of it by pub/sub.

mod subscriber;

use std::sync::Arc;

use async_trait::async_trait;
use prometheus::IntCounter;
use shared::contract::id::RoomId;
use shared::contract::keys::Channels;
use shared::contract::signal::{Addressed, Signal};
use shared::dependency::Hearing;
use shared::log::deliveries::DeliveryReceiver;
use shared::log::redis::RedisLog;
use shared::log::{Delivery, Log, LogError};
use shared::process::tasks::Tasks;

use self::subscriber::Subscriber;
use super::Broker;

/// Answers as soon as Redis has it.
#[derive(Debug)]
pub struct RedisBroker {
    log: RedisLog,
    subscriber: Subscriber,
}

impl RedisBroker {
    /// Over a log, with a subscriber of its own that tells `hearing` whether what is published
    /// comes back, and keeps at most `bytes_max` of what was heard and not handed on. `node` names
    /// this node's probe; `foreign` counts what comes in and is another deployment's.
    #[must_use]
    pub fn start(
        log: RedisLog,
        node: &str,
        hearing: Arc<Hearing>,
        (tasks, foreign, bytes_max): (&Tasks, IntCounter, usize),
    ) -> (RedisBroker, DeliveryReceiver) {
        let connection = log.connection().clone();
        let (subscriber, deliveries) =
            Subscriber::start(connection, node, hearing, (tasks, foreign, bytes_max));
        (RedisBroker { log, subscriber }, deliveries)
    }
}

impl RedisBroker {
    fn channels(&self) -> Result<&Channels, LogError> {
        self.log.connection().channels().map_err(|error| LogError::Unavailable(Box::new(error)))
    }
}

#[async_trait]
impl Broker for RedisBroker {
    async fn signal(&self, signal: &Signal) -> Result<(), LogError> {
        if self.log.is_away() {
            // Nobody else can hear of it; whoever is here does.
            self.subscriber.put(Delivery::Signal(signal.clone()));
            return Ok(());
        }
        let channels = self.channels()?;
        let channel = match signal {
            Signal::Room { room, .. } => channels.room(room),
            Signal::Nodes(_) => channels.nodes(),
        };
        let told = Addressed { owner: channels.owner().to_owned(), told: signal };
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| LogError::Unavailable(error);
        let payload = serde_json::to_vec(&told).map_err(|error| failed(error.into()))?;
        let mut pipe = redis::pipe();
        pipe.cmd("PUBLISH").arg(channel).arg(payload).ignore();
        let told: Result<(), _> = self.log.connection().pipeline(&pipe).await;
        told.map_err(|error| failed(error.into()))
    }

    async fn subscribe(&self, room: &RoomId) -> Result<(), LogError> {
        self.subscriber.subscribe(self.channels()?.room(room)).await
    }

    fn hears(&self) -> bool {
        self.subscriber.hears()
    }

    async fn unsubscribe(&self, room: &RoomId) -> Result<(), LogError> {
        self.subscriber.unsubscribe(self.channels()?.room(room)).await
    }
}
