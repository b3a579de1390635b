//! Members that fell behind their send queue, or came back from far: how the room sees them while
//! they catch up.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::contract::position::Position;
use shared::contract::protocol::RoomNotice;

use super::{Member, MemberId, Phase, Room, State};
use crate::codec;
use crate::hub::logged::{Cursor, Logged};
use crate::hub::recent::Recent;
use crate::send_queue::SendQueue;

/// A member that catches up by its cursor.
#[derive(Clone, Debug)]
pub(super) struct Lagging {
    pub(super) cursor: Cursor,
    /// Its cursor's entry is known to stand in this order; otherwise that is looked up first.
    pub(super) verified: bool,
}

/// The next step of a member that catches up.
#[derive(Debug)]
pub(in crate::hub) enum Step {
    /// Caught up, or gone.
    Over,
    /// Its queue is full again.
    Wait,
    /// What it needs is not in the room's memory.
    ///
    /// `floor` is where the memory began when it was looked at.
    Read { cursor: Cursor, verified: bool, floor: Position },
}

impl Room {
    /// Goes on with a lagging member from memory as far as its queue takes it.
    pub(in crate::hub) fn advance(&self, id: MemberId, queue: &Arc<SendQueue>) -> Step {
        let mut state = self.lock();
        let State { recent, members, last, persisted, .. } = &mut *state;
        // The same connection may have left and joined again; its new membership has its own task.
        let member = members.get_mut(&id).filter(|member| Arc::ptr_eq(&member.queue, queue));
        let Some((member, lagging)) = member.and_then(|member| {
            let lagging = member.lagging.clone()?;
            Some((member, lagging))
        }) else {
            return Step::Over;
        };
        let Lagging { mut cursor, verified } = lagging;
        let in_memory =
            if verified { cursor.position >= recent.floor() } else { recent.knows(&cursor) };
        if !in_memory {
            return Step::Read { cursor, verified, floor: recent.floor() };
        }
        for entry in recent.after(cursor.position) {
            if let Some(frame) = entry.frame(cursor.position) {
                if !member.queue.offer(frame) {
                    member.lagging = Some(Lagging { cursor, verified: true });
                    return Step::Wait;
                }
                cursor = entry.cursor();
            }
        }
        debug_assert!(cursor.position >= last.position, "memory reaches to the last entry");
        member.lagging = None;
        if *persisted > Position::ZERO {
            member.queue.offer(&self.persisted_frame(*persisted));
        }
        Step::Over
    }

    /// Hands over what was read for a lagging member that stood at `from`. Nothing above it means
    /// that the memory, which began at `floor` before the reading, goes on from there.
    pub(in crate::hub) fn hand_over(
        &self,
        id: MemberId,
        from: &Cursor,
        floor: Position,
        page: &[Logged],
    ) {
        let mut state = self.lock();
        let Some(member) = state.members.get_mut(&id) else { return };
        if member.lagging.as_ref().is_none_or(|lagging| lagging.cursor != *from) {
            return;
        }
        let mut cursor = from.clone();
        for entry in page {
            if let Some(frame) = entry.frame(cursor.position) {
                if !member.queue.offer(frame) {
                    break;
                }
                cursor = entry.cursor();
            } else {
                cursor.position = entry.at;
            }
        }
        if page.is_empty() && cursor.position < floor {
            cursor.position = floor;
        }
        member.lagging = Some(Lagging { cursor, verified: true });
    }

    /// What a member has cannot be continued: it is told so and is out of the room.
    pub(in crate::hub) fn reset(&self, id: MemberId, from: &Cursor) {
        let mut state = self.lock();
        let stands = |member: &Member| member.lagging.as_ref().is_some_and(|l| l.cursor == *from);
        if state.members.get(&id).is_some_and(stands)
            && let Some(member) = state.members.remove(&id)
        {
            self.send_away(&member);
        }
    }

    /// Messages were erased: the room forgets what it remembers, and every member has to drop what
    /// it holds. From here on everything below the head is read from the log and the database.
    pub(in crate::hub) fn erased(&self) {
        let mut state = self.lock();
        if let Phase::Syncing { overflow, .. } = &mut state.phase {
            // What is being read may have been read before.
            *overflow = true;
        }
        state.recent = Recent::new(state.last.clone());
        state.erasures += 1;
        for (_, member) in state.members.drain() {
            self.send_away(&member);
        }
        self.parts.empty.notify_one();
    }

    /// How often messages were erased; for [`Room::recheck`].
    pub(in crate::hub) fn erasures(&self) -> u64 {
        self.lock().erasures
    }

    /// A member has joined with what was read when the room had seen so many erasures: were there
    /// more since, it may have been given what is erased.
    pub(in crate::hub) fn recheck(&self, id: MemberId, erasures: u64) {
        let mut state = self.lock();
        if state.erasures != erasures
            && let Some(member) = state.members.remove(&id)
        {
            self.send_away(&member);
        }
    }

    fn send_away(&self, member: &Member) {
        member.ended.store(true, Ordering::Release);
        let text = "what you have cannot be continued; join anew without since";
        member.queue.push(codec::notice(&self.id, RoomNotice::Reset, text));
        self.parts.metrics.resets_total.inc();
    }
}
