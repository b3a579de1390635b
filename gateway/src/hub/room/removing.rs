//! Those who were removed from a room: out of it at the place of the removal, and kept out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::contract::id::UserId;
use shared::contract::position::Position;
use shared::contract::protocol::RoomNotice;

use super::{Room, State};
use crate::codec;

impl Room {
    /// Ends every membership of a user: nothing later reaches them, and what a lagging one had not
    /// got yet is not owed to them.
    pub(super) fn expel(&self, state: &mut State, user: &UserId, at: Position) {
        state.removed.insert(user.clone(), at);
        let mut expelled = 0;
        state.members.retain(|_, member| {
            let stays = member.user != *user;
            if !stays {
                member.ended.store(true, Ordering::Release);
                let text = "you were removed from this room";
                member.queue.push(codec::notice(&self.id, RoomNotice::Kicked, text));
                expelled += 1;
            }
            stays
        });
        self.parts.metrics.kicked_total.inc_by(expelled);
        if state.members.is_empty() {
            self.parts.empty.notify_one();
        }
    }

    /// Whom the database says to be removed, as it was read when the room stood no further than
    /// now.
    pub(in crate::hub) fn set_removed(&self, removed: Vec<UserId>) {
        let mut state = self.lock();
        let at = state.head;
        for user in removed {
            if !state.removed.contains_key(&user) {
                self.expel(&mut state, &user, at);
            }
        }
    }

    /// The database says that this one, who was removed at `at`, belongs to the room again. A later
    /// removal stands.
    pub(in crate::hub) fn readmit(self: &Arc<Self>, user: &UserId, at: Position) {
        let mut state = self.lock();
        if state.removed.get(user) == Some(&at) {
            state.removed.remove(user);
        }
    }
}
