//! The broker of a cluster: appends to the log in Redis, and hears of it by pub/sub.

mod subscriber;

use std::sync::Arc;

use async_trait::async_trait;
use prometheus::IntCounter;
use shared::contract::id::{RoomId, Shard};
use shared::contract::keys::Channels;
use shared::contract::protocol::Durability;
use shared::contract::signal::{Addressed, Signal};
use shared::dependency::Hearing;
use shared::log::deliveries::DeliveryReceiver;
use shared::log::redis::{KnownId, RedisLog};
use shared::log::{Append, Appended, LogError, Past};
use shared::process::tasks::Tasks;
use shared::store::MessageKey;

use self::subscriber::Subscriber;
use super::{AppendBatchResult, AppendResult, Broker, BrokerError, Placement};

/// Answers as soon as Redis has it.
#[derive(Debug)]
pub struct RedisBroker {
    log: RedisLog,
    subscriber: Subscriber,
}

impl RedisBroker {
    /// Over a log, with a subscriber of its own that tells `hearing` whether what is published
    /// comes back. `node` names this node's probe; `foreign` counts what comes in and is another
    /// deployment's.
    #[must_use]
    pub fn start(
        log: RedisLog,
        node: &str,
        hearing: Arc<Hearing>,
        (tasks, foreign): (&Tasks, IntCounter),
    ) -> (RedisBroker, DeliveryReceiver) {
        let (subscriber, deliveries) =
            Subscriber::start(log.connection().clone(), node, hearing, (tasks, foreign));
        (RedisBroker { log, subscriber }, deliveries)
    }
}

impl RedisBroker {
    fn channels(&self) -> Result<&Channels, BrokerError> {
        self.log.connection().channels().map_err(|error| BrokerError(Box::new(error)))
    }
}

impl From<LogError> for BrokerError {
    fn from(error: LogError) -> BrokerError {
        BrokerError(Box::new(error))
    }
}

fn durability(persisted: bool) -> Durability {
    if persisted { Durability::Store } else { Durability::Log }
}

#[async_trait]
impl Broker for RedisBroker {
    async fn append(
        &self,
        shard: Shard,
        epoch: u64,
        entries: &[Append],
    ) -> Result<AppendBatchResult, BrokerError> {
        let (done, stop) = self.log.append(shard, epoch, entries, Past::Nothing).await?;
        let answer = |appended| match appended {
            Appended::Conflict => AppendResult::Conflict,
            Appended::Rejected(refusal) => AppendResult::Rejected(refusal),
            Appended::Placed { position, duplicate, persisted } => {
                let durability = durability(persisted);
                AppendResult::Placed(Placement { position, duplicate, persisted, durability })
            }
        };
        Ok(AppendBatchResult { done: done.into_iter().map(answer).collect(), stop })
    }

    async fn known(&self, identity: &MessageKey) -> Result<Option<AppendResult>, BrokerError> {
        let MessageKey { room, user, id } = identity;
        let known = self.log.known(room, user, id).await?;
        Ok(known.map(|known| match known {
            KnownId::Placed { position, persisted } => {
                let durability = durability(persisted);
                AppendResult::Placed(Placement { position, duplicate: true, persisted, durability })
            }
            KnownId::Rejected(refusal) => AppendResult::Rejected(refusal),
        }))
    }

    async fn signal(&self, signal: &Signal) -> Result<(), BrokerError> {
        let channels = self.channels()?;
        let channel = match signal {
            Signal::Room { room, .. } => channels.room(room),
            Signal::Nodes(_) => channels.nodes(),
        };
        let told = Addressed { owner: channels.owner().to_owned(), told: signal };
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| BrokerError(error);
        let payload = serde_json::to_vec(&told).map_err(|error| failed(error.into()))?;
        let mut pipe = redis::pipe();
        pipe.cmd("PUBLISH").arg(channel).arg(payload).ignore();
        let told: Result<(), _> = self.log.connection().pipeline(&pipe).await;
        told.map_err(|error| failed(error.into()))
    }

    async fn subscribe(&self, room: &RoomId) -> Result<(), BrokerError> {
        self.subscriber.subscribe(self.channels()?.room(room)).await
    }

    fn hears(&self) -> bool {
        self.subscriber.hears()
    }

    async fn unsubscribe(&self, room: &RoomId) -> Result<(), BrokerError> {
        self.subscriber.unsubscribe(self.channels()?.room(room)).await
    }
}
