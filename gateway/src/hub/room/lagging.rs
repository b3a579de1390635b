//! A lagging member: where it stands, and how it goes on from the cache or a page.

use std::sync::Arc;

use shared::contract::position::Position;

use crate::hub::cache::RoomCache;
use crate::hub::entry::Cursor;
use crate::hub::history::Page;
use crate::wire::send_queue::SendQueue;

/// Where a member stands that catches up by its cursor.
#[derive(Clone, Debug)]
pub(in crate::hub) struct Lagging {
    pub(in crate::hub) cursor: Cursor,
    /// It has every message up to here. Behind it, up to the cursor, it may not have got what had
    /// moved ahead by a change, and is told the whole of it with that change.
    pub(in crate::hub) complete_up_to: Position,
    /// Its cursor's entry is known to stand in this order; otherwise that is looked up first.
    pub(in crate::hub) verified: bool,
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

impl Lagging {
    /// Of a member that has everything up to its cursor.
    pub(super) fn behind(cursor: Cursor, verified: bool) -> Lagging {
        Lagging { complete_up_to: cursor.position, cursor, verified }
    }

    /// Goes on from memory as far as the queue takes it.
    pub(super) fn advance(&mut self, cache: &RoomCache, queue: &Arc<SendQueue>) -> Step {
        // Above its floor the memory has every message; what moved ahead, it has there.
        let in_memory =
            self.complete_up_to >= cache.floor() && (self.verified || cache.knows(&self.cursor));
        if !in_memory || cache.breaks_after(self.cursor.position) {
            return Step::Read { lagging: self.clone(), floor: cache.floor() };
        }
        self.verified = true;
        for entry in cache.after(self.cursor.position) {
            if let Some(frame) = entry.frame(self.complete_up_to) {
                if !queue.offer(frame) {
                    return Step::Wait(frame.len());
                }
                self.cursor = entry.cursor();
            }
        }
        Step::Over
    }

    /// Goes on with a page, as far as the room has come itself, to its `head`. Nothing above the
    /// cursor means that the memory, which began at `floor` before the page was asked for, goes on
    /// from there: as far as the page speaks for, which somebody else may have asked for earlier.
    pub(super) fn hand_over(
        &mut self,
        page: &Page,
        floor: Position,
        head: Position,
        queue: &Arc<SendQueue>,
    ) -> Handover {
        self.verified = true;
        let (mut given, mut refused) = (0, None);
        for entry in page.entries.iter().take_while(|entry| entry.at <= head) {
            if let Some(frame) = entry.frame(self.complete_up_to) {
                if !queue.offer(frame) {
                    refused = Some(frame.len());
                    break;
                }
                self.cursor = entry.cursor();
            } else {
                self.cursor.position = entry.at;
            }
            given += 1;
        }
        let passed = floor.min(page.head);
        if page.entries.is_empty() && self.cursor.position < passed {
            self.cursor.position = passed;
            given += 1;
        }
        if page.complete && given >= page.entries.len() {
            self.complete_up_to = self.cursor.position;
        }
        match refused {
            Some(bytes) => Handover::Refused(bytes),
            None if page.entries.first().is_none_or(|first| first.at <= head) => Handover::Some,
            None => Handover::Ahead,
        }
    }
}
