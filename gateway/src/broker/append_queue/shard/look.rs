//! Looks, once in a while, at what nobody may have said: that the log has another epoch, and that
//! the database has what is kept.

use shared::contract::position::Position;
use shared::process::error_chain::error_chain;
use shared::trouble;

use super::ShardQueue;
use crate::broker::append_queue::TryError;

impl ShardQueue {
    /// Asks the log for its epoch, and for what of the oldest retained it knows to be persisted.
    pub(super) async fn look(&self) {
        let looked = async {
            let epoch = self.parts.epochs.verify(self.shard).await?.number;
            self.retention.release_log(epoch, self.parts.log.synced(self.shard).await?);
            for room in self.retention.rooms(epoch) {
                let page = self.parts.log.room(&room, epoch, Position::MAX, 0).await?;
                let Some(page) = page else { continue };
                let persisted = (room, page.persisted);
                if self.retention.awaits(epoch, &persisted) {
                    let refused = self.parts.log.refused(&persisted.0).await?;
                    self.retention.release_room(epoch, persisted, &refused).tell();
                }
            }
            let astray = self.retention.astray(epoch);
            if !astray.is_empty() {
                let messages = self.parts.store.find(&astray).await?;
                let changes = self.parts.store.find_changes(&astray).await?;
                for ((key, message), change) in astray.iter().zip(messages).zip(changes) {
                    if let Some(position) = message.or(change) {
                        self.retention.found(key, position).tell();
                    }
                }
            }
            Ok::<(), TryError>(())
        };
        if let Err(error) = looked.await {
            trouble!(shard = %self.shard, error = error_chain(&error),
                "log does not say where it stands");
        }
    }
}
