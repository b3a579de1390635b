//! Joins a client to a room: from the cache, or with the page that was read for it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use shared::contract::limits::UNREAD_MAX;
use shared::contract::position::Position;
use shared::contract::protocol::{EventName, ReceiptList};

use super::lagging::Lagging;
use super::members::Member;
use super::refusals::rejected_frame;
use super::state::RoomState;
use super::{Effects, JoinRetry, Joined, Joiner, Resumption};
use crate::hub::cache::fitting;
use crate::hub::entry::{Cursor, RoomEntry};
use crate::hub::history::{Messages, Page};
use crate::wire::codec;

/// What a join's reply holds of the messages, and from where the member catches up, if it has to.
pub(super) struct JoinPage {
    how: Resumption,
    messages: Vec<Bytes>,
    more: bool,
    lagging: Option<Lagging>,
}

impl JoinPage {
    /// Behind a cursor that is known to stand in this order: with the page that was read for it,
    /// where both are as of the given epoch, or from memory. What is not a message (a change of an
    /// older one) ends the reply, and follows it as an event.
    pub(super) fn after(
        state: &RoomState,
        limit: u32,
        cursor: &Cursor,
        page: Option<(&Page, u64)>,
    ) -> Result<JoinPage, JoinRetry> {
        let (head, floor) = (state.head, state.cache.floor());
        let stands = match page {
            // Read before the log began anew, it may be of what was lost then.
            Some((_, epoch)) => epoch >= state.epoch,
            None => state.knows(cursor),
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
        let mut messages: Vec<Bytes> = leading.take(limit as usize).collect();
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
        Ok(JoinPage { how: Resumption::Recovered, messages, more, lagging })
    }

    /// The latest messages. `older` are those at or below the floor, as they were read for it;
    /// without them the memory has to be enough.
    pub(super) fn latest(
        state: &RoomState,
        limit: u32,
        how: Resumption,
        older: Option<(Position, Messages)>,
    ) -> Result<JoinPage, JoinRetry> {
        let limit = limit as usize;
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
        Ok(JoinPage { how, messages, more: more || surplus > 0, lagging: None })
    }

    /// Makes a member of whoever joins: the reply first, then the lists, then whatever happens.
    pub(super) fn enter(
        self,
        state: &mut RoomState,
        joiner: &Joiner<'_>,
    ) -> (Arc<AtomicBool>, Effects) {
        let JoinPage { how, messages, more, lagging } = self;
        let Joiner { member, user, queue, progress, .. } = joiner;
        let found = state.ephemeral.add_presence(&mut state.members, *member, user);
        let present = codec::event(EventName::PresenceList, &found.presence);
        let receipts = state.ephemeral.receipts.listed(user, progress.own.as_ref());
        let list = ReceiptList { room_id: state.id.clone(), receipts: receipts.clone() };
        let own = state.ephemeral.receipts.of(user).or(progress.own.as_ref());
        let after = own.map_or(Position::ZERO, |mark| mark.position);
        let below = if after < state.cache.floor() { progress.unread_below } else { 0 };
        let unread = (state.cache.unread(user, after) + below).min(UNREAD_MAX);
        let head = state.head;
        let persisted = state.refusals.persisted_before(user, state.persisted);
        (joiner.reply)(Joined { how, messages, head, persisted, more, receipts, unread, found });
        // Whoever left before hearing of it must not take it to be persisted.
        state.refusals.of(user).for_each(|entry| queue.push(rejected_frame(entry)));
        // Bounded like the reply: the connection reads no further while its queue is full.
        queue.push(present);
        queue.push(codec::event(EventName::ReceiptList, &list));
        let (mut new, mut effects) = (Member::new(user, queue), Effects::default());
        if let Some(lagging) = lagging {
            new.lag(*member, lagging, &mut effects);
        }
        state.ephemeral.send_initial_state(&new);
        let ended = Arc::clone(&new.ended);
        state.members.add(*member, new);
        (ended, effects)
    }
}
