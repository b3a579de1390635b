//! Members that fell behind their send queue, or came back from far: how the room sees them while
//! they catch up.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::contract::position::Position;
use shared::contract::protocol::RoomNotice;
use tokio::time::Instant;

use super::{Member, MemberId, Room, RoomPhase, RoomState};
use crate::hub::cache::RoomCache;
use crate::hub::entry::Cursor;
use crate::hub::history::Page;
use crate::presence::local::Parting;
use crate::wire::codec;
use crate::wire::send_queue::SendQueue;

/// A member that catches up by its cursor.
#[derive(Clone, Debug)]
pub(in crate::hub) struct Lagging {
    pub(in crate::hub) cursor: Cursor,
    /// It has every message up to here. Behind it, up to the cursor, it may not have got what had
    /// moved ahead by a change, and is told the whole of it with that change.
    pub(in crate::hub) complete_up_to: Position,
    /// Its cursor's entry is known to stand in this order; otherwise that is looked up first.
    pub(in crate::hub) verified: bool,
}

impl Lagging {
    /// Of a member that has everything up to its cursor.
    pub(super) fn behind(cursor: Cursor, verified: bool) -> Lagging {
        Lagging { complete_up_to: cursor.position, cursor, verified }
    }
}

/// The next step of a member that catches up.
#[derive(Debug)]
pub(in crate::hub) enum Step {
    /// Caught up, or gone.
    Over,
    /// Its queue refused a frame of so many bytes.
    Wait(usize),
    /// What it needs is not in the room's memory.
    ///
    /// `floor` is where the memory began when it was looked at.
    Read { lagging: Lagging, floor: Position },
}

/// How far a page was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hub) enum Handover {
    /// All of it, or all that the room has heard of; or nobody needs it any more.
    Some,
    /// Up to a frame of so many bytes, which the queue refused.
    Refused(usize),
    /// None of it: the room has not heard of its beginning yet.
    Ahead,
}

impl Room {
    /// Goes on with a lagging member from memory as far as its queue takes it.
    pub(in crate::hub) fn advance(self: &Arc<Self>, id: MemberId, queue: &Arc<SendQueue>) -> Step {
        let mut state = self.lock();
        let RoomState { cache, members, last, persisted, ephemeral, .. } = &mut *state;
        // The same connection may have left and joined again; its new membership has its own task.
        let member = members.get_mut(&id).filter(|member| Arc::ptr_eq(&member.queue, queue));
        let Some((member, mut lagging)) = member.and_then(|member| {
            let lagging = member.lagging.clone()?;
            Some((member, lagging))
        }) else {
            return Step::Over;
        };
        // Above its floor the memory has every message; what moved ahead, it has there.
        let in_memory = lagging.complete_up_to >= cache.floor()
            && (lagging.verified || cache.knows(&lagging.cursor));
        if !in_memory || cache.breaks_after(lagging.cursor.position) {
            return Step::Read { lagging, floor: cache.floor() };
        }
        lagging.verified = true;
        for entry in cache.after(lagging.cursor.position) {
            if let Some(frame) = entry.frame(lagging.complete_up_to) {
                if !member.queue.offer(frame) {
                    member.lagging = Some(lagging);
                    return Step::Wait(frame.len());
                }
                lagging.cursor = entry.cursor();
            }
        }
        debug_assert!(lagging.cursor.position >= last.position, "memory reaches to the last entry");
        member.lagging = None;
        if *persisted > Position::ZERO {
            member.queue.offer(&self.persisted_frame(*persisted));
        }
        // It was told no parts meanwhile.
        for frame in ephemeral.streams.so_far(&self.id) {
            member.queue.offer_ephemeral(&frame);
        }
        if member.missed_receipts {
            self.tell_all_receipts(ephemeral.receipts.listed(&member.user, None), member);
        }
        if member.missed {
            ephemeral.mending = Some(Instant::now());
            self.attend(&mut state);
        }
        Step::Over
    }

    /// Hands over what was read, as of an epoch, for a lagging member that stood at `from`, as far
    /// as the room has come itself. Nothing above it means that the memory, which began at `floor`
    /// before it was asked for, goes on from there: as far as the page speaks for, which somebody
    /// else may have asked for earlier.
    pub(in crate::hub) fn hand_over(
        &self,
        id: MemberId,
        from: &Cursor,
        floor: Position,
        (page, epoch): (&Page, u64),
    ) -> Handover {
        let mut state = self.lock();
        if epoch < state.epoch {
            // The log began anew meanwhile: what was read, and the cursor, may be of what was lost.
            return Handover::Some;
        }
        let RoomState { members, head, .. } = &mut *state;
        let Some(member) = members.get_mut(&id) else { return Handover::Some };
        let Some(lagging) = member.lagging.as_mut().filter(|l| l.cursor == *from) else {
            return Handover::Some;
        };
        lagging.verified = true;
        let (mut given, mut refused) = (0, None);
        let heard = page.entries.iter().take_while(|entry| entry.at <= *head);
        for entry in heard {
            if let Some(frame) = entry.frame(lagging.complete_up_to) {
                if !member.queue.offer(frame) {
                    refused = Some(frame.len());
                    break;
                }
                lagging.cursor = entry.cursor();
            } else {
                lagging.cursor.position = entry.at;
            }
            given += 1;
        }
        let passed = floor.min(page.head);
        if page.entries.is_empty() && lagging.cursor.position < passed {
            lagging.cursor.position = passed;
            given += 1;
        }
        if page.complete && given >= page.entries.len() {
            lagging.complete_up_to = lagging.cursor.position;
        }
        match refused {
            Some(bytes) => Handover::Refused(bytes),
            None if page.entries.first().is_none_or(|first| first.at <= *head) => Handover::Some,
            None => Handover::Ahead,
        }
    }

    /// What a member has cannot be continued: it is told so and is out of the room.
    pub(in crate::hub) fn reset(self: &Arc<Self>, id: MemberId, from: &Cursor) {
        let mut state = self.lock();
        let stands = |member: &Member| member.lagging.as_ref().is_some_and(|l| l.cursor == *from);
        if state.members.get(&id).is_some_and(stands)
            && let Some(member) = state.members.remove(&id)
        {
            self.reset_member(&member);
            self.remove_presence(&mut state, id, &member.user, Parting::Dropped);
        }
    }

    /// Messages were erased: the room forgets what it remembers, and every member has to drop what
    /// it holds. From here on everything below the head is read from the log and the database.
    pub(in crate::hub) fn erased(self: &Arc<Self>) {
        let mut state = self.lock();
        if let RoomPhase::Syncing { overflow, .. } = &mut state.phase {
            // What is being read may have been read before.
            *overflow = true;
        }
        state.erasures += 1;
        self.begin_anew(&mut state);
    }

    /// The room forgets what it remembers, and every member reads it anew.
    pub(super) fn begin_anew(self: &Arc<Self>, state: &mut RoomState) {
        state.cache =
            RoomCache::new(Cursor { position: state.head, key: None }, &self.parts.history.memory);
        let members: Vec<(MemberId, Member)> = state.members.drain().collect();
        for (id, member) in members {
            self.reset_member(&member);
            self.remove_presence(state, id, &member.user, Parting::Dropped);
        }
        self.parts.empty.notify_one();
    }

    /// How often messages were erased; for [`Room::recheck`].
    pub(in crate::hub) fn erasures(&self) -> u64 {
        self.lock().erasures
    }

    /// A member has joined with what was read when the room had seen so many erasures: were there
    /// more since, it may have been given what is erased.
    pub(in crate::hub) fn recheck(self: &Arc<Self>, id: MemberId, erasures: u64) {
        let mut state = self.lock();
        if state.erasures != erasures
            && let Some(member) = state.members.remove(&id)
        {
            self.reset_member(&member);
            self.remove_presence(&mut state, id, &member.user, Parting::Dropped);
        }
    }

    fn reset_member(&self, member: &Member) {
        member.ended.store(true, Ordering::Release);
        let text = "what you have cannot be continued; join anew without since";
        member.queue.push(codec::notice(&self.id, RoomNotice::Reset, text));
        self.parts.metrics.resets_total.inc();
    }
}

#[cfg(test)]
mod tests;
