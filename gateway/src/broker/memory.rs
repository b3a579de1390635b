//! The broker of the embedded mode: appends to the log in memory and waits for the commit.

use std::sync::Arc;

use async_trait::async_trait;
use shared::contract::id::{RoomId, Shard};
use shared::contract::protocol::Durability;
use shared::contract::signal::Signal;
use shared::log::Append;
use shared::log::memory::{Appended, KnownEntry, MemoryLog, Outcome, Placed};
use shared::store::MessageKey;

use super::{AppendBatchResult, AppendResult, Broker, BrokerError, Placement};

/// Answers after the commit, because its log dies with the process.
#[derive(Debug)]
pub struct MemoryBroker {
    log: Arc<MemoryLog>,
}

impl MemoryBroker {
    /// Over a log whose deliveries go to this node.
    #[must_use]
    pub fn new(log: Arc<MemoryLog>) -> MemoryBroker {
        MemoryBroker { log }
    }

    fn answer(&self, entry: &Append, appended: Appended) -> AppendResult {
        match (appended, self.log.remembered(&entry.envelope)) {
            (Appended::Conflict, _) => AppendResult::Conflict,
            (Appended::Placed(Placed { duplicate, .. }), Some(known)) => answer(known, duplicate),
            // Forgotten since: the log forgets only what the database has.
            (Appended::Placed(Placed { position, duplicate, .. }), None) => {
                let (persisted, durability) = (true, Durability::Store);
                AppendResult::Placed(Placement { position, duplicate, persisted, durability })
            }
        }
    }
}

fn answer(known: KnownEntry, duplicate: bool) -> AppendResult {
    let KnownEntry { position, outcome, .. } = known;
    let (persisted, durability) = match outcome {
        Outcome::Rejected(refusal) => return AppendResult::Rejected(refusal),
        Outcome::Persisted => (true, Durability::Store),
        Outcome::Pending => (false, Durability::Log),
    };
    AppendResult::Placed(Placement { position, duplicate, persisted, durability })
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn append(
        &self,
        shard: Shard,
        epoch: u64,
        entries: &[Append],
    ) -> Result<AppendBatchResult, BrokerError> {
        let (done, stop) = self.log.append(shard, epoch, entries);
        let placed = done.iter().filter_map(|appended| match appended {
            Appended::Placed(placed) => Some(placed.log_id),
            Appended::Conflict => None,
        });
        if let Some(last) = placed.max() {
            self.log.trimmed(shard, last).await;
        }
        let answers = entries.iter().zip(done).map(|(entry, done)| self.answer(entry, done));
        Ok(AppendBatchResult { done: answers.collect(), stop })
    }

    async fn known(&self, identity: &MessageKey) -> Result<Option<AppendResult>, BrokerError> {
        let MessageKey { room, user, id } = identity;
        Ok(self.log.known(room, user, id).map(|known| answer(known, true)))
    }

    async fn signal(&self, signal: &Signal) -> Result<(), BrokerError> {
        self.log.signal(signal);
        Ok(())
    }

    async fn subscribe(&self, room: &RoomId) -> Result<(), BrokerError> {
        self.log.subscribe(room);
        Ok(())
    }

    fn hears(&self) -> bool {
        true
    }

    async fn unsubscribe(&self, room: &RoomId) -> Result<(), BrokerError> {
        self.log.unsubscribe(room);
        Ok(())
    }
}
