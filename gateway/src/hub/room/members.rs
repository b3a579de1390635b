//! The members of a room, and handing frames to them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shared::contract::id::UserId;

use super::lagging::Lagging;
use super::{Effects, MemberId};
use crate::hub::entry::Cursor;
use crate::wire::frame::Frame;
use crate::wire::send_queue::SendQueue;

/// A connection in a room.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) user: UserId,
    pub(super) queue: Arc<SendQueue>,
    /// Where it stands, while it catches up; a task does that.
    pub(super) lagging: Option<Lagging>,
    /// Receipts went by that it could not take.
    pub(super) missed_receipts: bool,
    /// It could not take a change of who is here.
    pub(super) missed_presence: bool,
    /// Told when the room ends the membership.
    pub(super) ended: Arc<AtomicBool>,
}

impl Member {
    pub(super) fn new(user: &UserId, queue: &Arc<SendQueue>) -> Member {
        let (user, queue) = (user.clone(), Arc::clone(queue));
        let ended = Arc::new(AtomicBool::new(false));
        let (missed_receipts, missed_presence) = (false, false);
        Member { user, queue, lagging: None, missed_receipts, missed_presence, ended }
    }

    /// From here on it catches up by its cursor; one that does already has its task.
    pub(super) fn lag(&mut self, id: MemberId, lagging: Lagging, effects: &mut Effects) {
        if self.lagging.replace(lagging).is_none() {
            effects.catch_up.push((id, Arc::clone(&self.queue)));
        }
    }

    /// The room ends the membership.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// The members of one room.
#[derive(Debug, Default)]
pub(super) struct RoomMembers {
    pub(super) by_id: HashMap<MemberId, Member>,
}

impl RoomMembers {
    /// Adds one; a membership that the same connection had ends.
    pub(super) fn add(&mut self, id: MemberId, member: Member) {
        if let Some(replaced) = self.by_id.insert(id, member) {
            replaced.end();
        }
    }

    /// Those that do not lag.
    pub(super) fn current(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values().filter(|member| member.lagging.is_none())
    }

    /// The connections of a user.
    pub(super) fn of(&self, user: &UserId) -> impl Iterator<Item = &Member> {
        self.by_id.values().filter(move |member| member.user == *user)
    }

    /// Which of them are such.
    pub(super) fn ids(&self, such: impl Fn(MemberId, &Member) -> bool) -> Vec<MemberId> {
        let such = self.by_id.iter().filter(|(id, member)| such(**id, member));
        such.map(|(id, _)| *id).collect()
    }

    /// Hands the next entry, which follows `last`, to all but one user; says how many took it.
    /// Those whose queue is full lag from here on.
    pub(super) fn offer(
        &mut self,
        frame: &Frame,
        but: Option<&UserId>,
        last: &Cursor,
        effects: &mut Effects,
    ) -> u64 {
        let mut delivered = 0;
        for (id, member) in &mut self.by_id {
            if member.lagging.is_some() || but == Some(&member.user) {
                continue;
            }
            if member.queue.offer(frame) {
                delivered += 1;
            } else {
                member.lag(*id, Lagging::behind(last.clone(), true), effects);
            }
        }
        delivered
    }

    /// Each has to show that its cursor, or else `last`, stands in the order as it is now.
    pub(super) fn verify(&mut self, last: &Cursor, effects: &mut Effects) {
        for (id, member) in &mut self.by_id {
            let lagging = member.lagging.clone();
            let lagging = lagging.unwrap_or_else(|| Lagging::behind(last.clone(), false));
            member.lag(*id, Lagging { verified: false, ..lagging }, effects);
        }
    }
}
