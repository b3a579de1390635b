//! Presence in the embedded mode. Leases do not lapse.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use parking_lot::Mutex;
use shared::contract::id::{RoomId, UserId};
use shared::contract::signal::PresenceState;
use uuid::Uuid;

use super::{Leases, Presence, PresenceChange, PresenceEntry, PresenceError, Renewal};

/// Keeps what this process announces.
#[derive(Debug, Default)]
pub struct MemoryPresence {
    kept: Mutex<MemoryPresenceState>,
}

#[derive(Debug, Default)]
struct MemoryPresenceState {
    living: BTreeSet<Uuid>,
    rooms: HashMap<RoomId, BTreeMap<(UserId, Uuid), PresenceState>>,
}

impl MemoryPresenceState {
    fn retain(&mut self, keep: impl Fn(&RoomId, &(UserId, Uuid)) -> bool) {
        self.rooms.retain(|room, people| {
            people.retain(|who, _| keep(room, who));
            !people.is_empty()
        });
    }
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn renew(&self, incarnation: Uuid, renewal: Renewal) -> Result<bool, PresenceError> {
        let mut kept = self.kept.lock();
        Ok(match renewal {
            Renewal::First => {
                kept.living.insert(incarnation);
                true
            }
            Renewal::Again | Renewal::Last => kept.living.contains(&incarnation),
        })
    }

    async fn leases(&self) -> Result<Leases, PresenceError> {
        Ok(Leases { living: self.kept.lock().living.clone(), lapsed: BTreeSet::new() })
    }

    async fn loads(&self, _incarnation: Uuid, own: u64) -> Result<Vec<u64>, PresenceError> {
        Ok(vec![own])
    }

    async fn announce(
        &self,
        incarnation: Uuid,
        changes: &[PresenceChange],
    ) -> Result<(), PresenceError> {
        let mut kept = self.kept.lock();
        for PresenceChange { room, user, standing, .. } in changes {
            let people = kept.rooms.entry(room.clone()).or_default();
            let who = (user.clone(), incarnation);
            match standing {
                Some(standing) => {
                    people.insert(who, *standing);
                }
                None => {
                    people.remove(&who);
                }
            }
            if people.is_empty() {
                kept.rooms.remove(room);
            }
        }
        Ok(())
    }

    async fn list(&self, room: &RoomId) -> Result<Vec<PresenceEntry>, PresenceError> {
        let kept = self.kept.lock();
        let people = kept.rooms.get(room).into_iter().flatten();
        let entry = |((user, incarnation), standing): (&(UserId, Uuid), &PresenceState)| {
            PresenceEntry { user: user.clone(), incarnation: *incarnation, standing: *standing }
        };
        Ok(people.map(entry).collect())
    }

    async fn withdraw(&self, incarnation: Uuid) -> Result<(), PresenceError> {
        let mut kept = self.kept.lock();
        kept.living.remove(&incarnation);
        kept.retain(|_, (_, other)| *other != incarnation);
        Ok(())
    }

    async fn clean_up(&self, _incarnation: Uuid) -> Result<bool, PresenceError> {
        Ok(false)
    }

    async fn forget(&self, room: &RoomId, stale: &[(UserId, Uuid)]) -> Result<(), PresenceError> {
        self.kept.lock().retain(|other, who| other != room || !stale.contains(who));
        Ok(())
    }
}
