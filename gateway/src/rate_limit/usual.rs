//! Rooms that a user was in lately. Opening all of them at once, or reloading a page, is no abuse,
//! however few new rooms a user may join in a minute.

use std::collections::VecDeque;

use dashmap::DashMap;
use shared::contract::id::{RoomId, UserId};
use shared::contract::limits::RATED_USERS_MAX;

/// Rooms of one user that are remembered, the latest.
pub(super) const ROOMS_MAX: usize = 100;
/// For how long the fleet remembers the rooms of somebody who comes to none, in milliseconds.
pub(super) const FLEET_MEMORY_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// For how long a node does.
const NODE_MEMORY_MS: i64 = 24 * 60 * 60 * 1000;

/// The usual rooms of all users, as far as this node has seen them.
#[derive(Debug, Default)]
pub(super) struct Usual(DashMap<UserId, Rooms>);

#[derive(Debug, Default)]
struct Rooms {
    rooms: VecDeque<RoomId>,
    noted_ms: i64,
}

impl Usual {
    pub(super) fn has(&self, user: &UserId, room: &RoomId) -> bool {
        // The guard ends with the statement.
        self.0.get(user).is_some_and(|known| known.rooms.contains(room))
    }

    /// Somebody is in a room; says whether that is new.
    pub(super) fn note(&self, user: &UserId, room: &RoomId, now_ms: i64) -> bool {
        if self.0.len() >= RATED_USERS_MAX && !self.0.contains_key(user) {
            return true;
        }
        // Nothing below looks at the map again while the guard is held.
        let mut known = self.0.entry(user.clone()).or_default();
        known.noted_ms = now_ms;
        if known.rooms.contains(room) {
            return false;
        }
        known.rooms.push_back(room.clone());
        if known.rooms.len() > ROOMS_MAX {
            known.rooms.pop_front();
        }
        true
    }

    pub(super) fn sweep(&self, now_ms: i64) {
        self.0.retain(|_, known| now_ms - known.noted_ms < NODE_MEMORY_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_rooms_of_each_user_are_remembered_for_a_while() {
        let (usual, ann) = (Usual::default(), UserId::parse("ann").unwrap());
        let room = |number: usize| RoomId::parse(&format!("r{number}")).unwrap();
        assert!((0..=ROOMS_MAX).all(|number| usual.note(&ann, &room(number), 0)));
        assert!(!usual.note(&ann, &room(7), 5), "known");
        assert!(!usual.has(&ann, &room(0)) && usual.has(&ann, &room(1)));
        assert!(!usual.has(&UserId::parse("bob").unwrap(), &room(1)));
        usual.sweep(NODE_MEMORY_MS);
        assert!(usual.has(&ann, &room(1)));
        usual.sweep(NODE_MEMORY_MS + 5);
        assert!(!usual.has(&ann, &room(1)));
    }
}
