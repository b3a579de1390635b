//! How a client gets into a room: from its memory, or with the page that was read for it.

use std::sync::Arc;

use bytes::Bytes;
use shared::contract::position::Position;
use shared::contract::protocol::{EventName, ReceiptList};

use super::refusals::{persisted_before, rejected_frame};
use super::{JoinRetry, Joined, Joiner, Lagging, Membership, Room, RoomState};
use crate::hub::cache::fitting;
use crate::hub::entry::{Cursor, RoomEntry};
use crate::hub::history::{Messages, Page};
use crate::wire::codec;

/// What a join's reply holds of the messages, and from where the member catches up, if it has to.
struct JoinPage<'a> {
    messages: &'a [Bytes],
    more: bool,
    lagging: Option<Lagging>,
}

impl Room {
    /// Whether the cursor's entry is in memory.
    pub(in crate::hub) fn knows(&self, cursor: &Cursor) -> bool {
        let state = self.lock();
        cursor.position <= state.head && state.cache.knows(cursor)
    }

    /// Joins behind a cursor that is known to stand in this order: with the page that was read for
    /// it, where both are as of the given epoch, or from memory. What is not a message (a change of
    /// an older one) ends the reply, and follows it as an event.
    pub(in crate::hub) fn join_after(
        self: &Arc<Self>,
        joiner: Joiner,
        cursor: &Cursor,
        page: Option<(&Page, u64)>,
        reply: impl FnOnce(Joined<'_>),
    ) -> Result<Membership, JoinRetry> {
        let mut state = self.lock();
        state.admit(&joiner)?;
        let (head, floor) = (state.head, state.cache.floor());
        let stands = match page {
            // Read before the log began anew, it may be of what was lost then.
            Some((_, epoch)) => epoch >= state.epoch,
            None => cursor.position <= head && state.cache.knows(cursor),
        };
        if !stands {
            return Err(JoinRetry::Memory);
        }
        let page = page.map(|(page, _)| page);
        // As far as the room has come itself; the rest follows when it has come there.
        let read = page.map_or(&[][..], |page| &page.entries);
        let heard = read.iter().take_while(|entry| entry.at <= head);
        let mut entries: Vec<&RoomEntry> = heard.collect();
        let read_to = entries.last().map_or(cursor.position, |entry| entry.at);
        let complete = page.is_none_or(|page| page.complete && entries.len() == read.len());
        // Up to here the client has every message when it has read these.
        let complete_up_to = if complete { read_to } else { cursor.position };
        let in_memory = complete_up_to >= floor && !state.cache.breaks_after(read_to);
        if page.is_none() && !in_memory {
            return Err(JoinRetry::Memory);
        }
        entries.extend(state.cache.after(read_to).filter(|_| in_memory).map(|entry| &**entry));
        entries.retain(|entry| entry.is_shown());
        let leading = entries.iter().map_while(|entry| entry.message());
        let mut messages: Vec<Bytes> = leading.take(joiner.limit as usize).collect();
        messages.truncate(fitting(messages.iter()));
        let at = match messages.len() {
            0 => cursor.clone(),
            given => entries[given - 1].cursor(),
        };
        let more = messages.len() < entries.len() || !in_memory;
        let lagging = more.then(|| {
            let complete_up_to =
                if at.position >= complete_up_to { complete_up_to } else { cursor.position };
            Lagging { cursor: at, complete_up_to, verified: true }
        });
        let given = JoinPage { messages: &messages, more, lagging };
        Ok(self.enter(&mut state, joiner, given, reply))
    }

    /// Joins with the latest messages. `older` are those at or below the floor, as they were read
    /// for it; without them the memory has to be enough.
    pub(in crate::hub) fn join_latest(
        self: &Arc<Self>,
        joiner: Joiner,
        older: Option<(Position, Messages)>,
        reply: impl FnOnce(Joined<'_>),
    ) -> Result<Membership, JoinRetry> {
        let mut state = self.lock();
        state.admit(&joiner)?;
        let limit = joiner.limit as usize;
        let mut messages = state.cache.latest(limit + 1);
        let mut more = false;
        // What fills the page, in number or in bytes, needs nothing older.
        let fills = messages.len() > limit || fitting(messages.iter().rev()) < messages.len();
        if !fills && state.cache.floor() > Position::ZERO {
            match older {
                Some((floor, Messages { messages: mut older, more: older_more, epoch }))
                    if floor == state.cache.floor() && epoch >= state.epoch =>
                {
                    // They may have changed since they were read, or ahead of the room: their
                    // cursor would then leave out what lies between.
                    state.cache.renew(&mut older);
                    if older.iter().any(|message| message.changed > state.head) {
                        return Err(JoinRetry::Ahead);
                    }
                    messages.splice(0..0, older.into_iter().map(|message| message.json));
                    more = older_more;
                }
                Some(_) | None => return Err(JoinRetry::Memory),
            }
        }
        let surplus =
            messages.len() - fitting(messages.iter().rev().take(limit)).min(messages.len());
        messages.drain(..surplus);
        let given = JoinPage { messages: &messages, more: more || surplus > 0, lagging: None };
        Ok(self.enter(&mut state, joiner, given, reply))
    }

    /// Makes a member of whoever joins: the reply first, then the lists, then whatever happens.
    fn enter(
        self: &Arc<Self>,
        state: &mut RoomState,
        joiner: Joiner,
        given: JoinPage<'_>,
        reply: impl FnOnce(Joined<'_>),
    ) -> Membership {
        let found = self.add_presence(state, &joiner);
        let present = codec::event(EventName::PresenceList, &found.presence);
        let JoinPage { messages, more, lagging } = given;
        let receipts = state.ephemeral.receipts.listed(&joiner.user, joiner.reading.own.as_ref());
        let list = ReceiptList { room_id: self.id.clone(), receipts: receipts.clone() };
        let (head, unread) = (state.head, state.unread(&joiner));
        let refused = || state.refusals.of(&joiner.user);
        let persisted = persisted_before(state.persisted, refused());
        reply(Joined { messages, head, persisted, more, receipts, unread, found });
        // Whoever left before hearing of it must not take it to be persisted.
        refused().for_each(|entry| joiner.queue.push(rejected_frame(entry)));
        if persisted < state.persisted {
            joiner.queue.push(self.persisted_frame(state.persisted));
        }
        // Bounded like the reply: the connection reads no further while its queue is full.
        joiner.queue.push(present);
        joiner.queue.push(codec::event(EventName::ReceiptList, &list));
        self.add(state, joiner, lagging)
    }
}

impl RoomState {
    /// Refuses whom the room does not take.
    fn admit(&self, joiner: &Joiner) -> Result<(), JoinRetry> {
        if self.retired {
            return Err(JoinRetry::Retired);
        }
        match self.removed.get(&joiner.user) {
            Some(at) => Err(JoinRetry::Removed(*at)),
            None => Ok(()),
        }
    }
}
