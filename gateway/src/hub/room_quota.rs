//! Counts the rooms of each user on this node.

use std::sync::Arc;

use dashmap::DashMap;
use shared::contract::id::{RoomId, UserId};

/// Connections by user and room.
#[derive(Debug, Default)]
pub(crate) struct RoomQuota {
    users: DashMap<UserId, Vec<(RoomId, usize)>>,
}

/// A place in the roster; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct RoomSlot {
    room_quota: Arc<RoomQuota>,
    user: UserId,
    room: RoomId,
}

impl RoomQuota {
    /// Takes a place, unless the user is in `max` other rooms. A second connection to the same
    /// room takes none.
    pub(crate) fn enter(
        self: &Arc<RoomQuota>,
        user: &UserId,
        room: &RoomId,
        max: usize,
    ) -> Option<RoomSlot> {
        // The guard ends with the block; nothing in it looks at the map again.
        {
            let mut rooms = self.users.entry(user.clone()).or_insert_with(|| Vec::with_capacity(1));
            match rooms.iter().position(|(joined, _)| joined == room) {
                Some(place) => rooms[place].1 += 1,
                None if rooms.len() >= max => return None,
                None => rooms.push((room.clone(), 1)),
            }
        }
        Some(RoomSlot { room_quota: Arc::clone(self), user: user.clone(), room: room.clone() })
    }
}

impl Drop for RoomSlot {
    fn drop(&mut self) {
        self.room_quota.users.remove_if_mut(&self.user, |_, rooms| {
            if let Some(place) = rooms.iter().position(|(joined, _)| *joined == self.room) {
                rooms[place].1 -= 1;
                if rooms[place].1 == 0 {
                    rooms.swap_remove(place);
                }
            }
            rooms.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_counted_per_user_and_given_back() {
        let room_quota = Arc::new(RoomQuota::default());
        let ann = UserId::parse("ann").unwrap();
        let room = |name: &str| RoomId::parse(name).unwrap();
        let first = room_quota.enter(&ann, &room("a"), 2).unwrap();
        let tab = room_quota.enter(&ann, &room("a"), 2).unwrap();
        let _second = room_quota.enter(&ann, &room("b"), 2).unwrap();
        assert!(room_quota.enter(&ann, &room("c"), 2).is_none());
        drop(first);
        assert!(room_quota.enter(&ann, &room("c"), 2).is_none(), "the other tab is still there");
        drop(tab);
        assert!(room_quota.enter(&ann, &room("c"), 2).is_some());
    }
}
