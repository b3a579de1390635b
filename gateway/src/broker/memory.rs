//! The broker of the embedded mode is its log, which delivers by itself.

use async_trait::async_trait;
use shared::contract::id::RoomId;
use shared::contract::signal::Signal;
use shared::log::LogError;
use shared::log::memory::MemoryLog;

use super::Broker;

#[async_trait]
impl Broker for MemoryLog {
    async fn signal(&self, signal: &Signal) -> Result<(), LogError> {
        self.deliver(signal);
        Ok(())
    }

    async fn subscribe(&self, room: &RoomId) -> Result<(), LogError> {
        self.set_subscribed(room, true);
        Ok(())
    }

    fn hears(&self) -> bool {
        true
    }

    async fn unsubscribe(&self, room: &RoomId) -> Result<(), LogError> {
        self.set_subscribed(room, false);
        Ok(())
    }
}
