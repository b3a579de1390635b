//! Those who were removed from a room: out of it at the place of the removal, and kept out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::contract::id::UserId;
use shared::contract::position::Position;
use shared::contract::protocol::RoomNotice;

use super::{MemberId, Room, RoomState};
use crate::presence::local::Parting;
use crate::wire::codec;

impl Room {
    /// Ends every membership of a user: nothing later reaches them, and what a lagging one had not
    /// got yet is not owed to them.
    pub(super) fn kick(self: &Arc<Self>, state: &mut RoomState, user: &UserId, at: Position) {
        state.removed.insert(user.clone(), at);
        let theirs = state.members.iter().filter(|(_, member)| member.user == *user);
        let theirs: Vec<MemberId> = theirs.map(|(id, _)| *id).collect();
        for id in theirs {
            let Some(member) = state.members.remove(&id) else { continue };
            member.ended.store(true, Ordering::Release);
            let text = "you were removed from this room";
            member.queue.push(codec::notice(&self.id, RoomNotice::Kicked, text));
            self.remove_presence(state, id, user, Parting::Left);
            self.parts.metrics.kicked_total.inc();
        }
        if state.members.is_empty() {
            self.parts.empty.notify_one();
        }
    }

    /// Whom the database says to be removed, as it was read when the room stood no further than
    /// now.
    pub(in crate::hub) fn set_removed(self: &Arc<Self>, removed: Vec<UserId>) {
        let mut state = self.lock();
        let at = state.head;
        for user in removed {
            if !state.removed.contains_key(&user) {
                self.kick(&mut state, &user, at);
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
