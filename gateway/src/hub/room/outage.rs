//! A room while the log gives no answers.

use shared::contract::id::UserId;

use super::state::RoomState;
use crate::hub::history::Snapshot;
use crate::wire::frame::Frame;

impl RoomState {
    /// What the database has of a room that was never read, while the log gives no answers: it can
    /// be entered, and goes on from there.
    pub(in crate::hub) fn load_stored(&mut self, snapshot: Snapshot, erasures: u64) {
        if self.settled || self.erasures != erasures {
            return;
        }
        let Snapshot { cache, last, head, epoch, persisted } = snapshot;
        (self.cache, self.last, self.head, self.epoch) = (cache, last, head, epoch);
        self.settled = true;
        self.persist(persisted);
    }

    /// Hands everybody what is outside the order; who has no room for it hears of it in the order.
    pub(in crate::hub) fn tell(&self, frame: &Frame) {
        for member in self.members.by_id.values() {
            member.queue.offer(frame);
        }
    }

    /// The same, in other words for one of them.
    pub(in crate::hub) fn tell_of(&self, user: &UserId, (own, others): (&Frame, &Frame)) {
        for member in self.members.by_id.values() {
            let frame = if member.user == *user { own } else { others };
            member.queue.push(frame.clone());
        }
    }
}
