//! How a client gets into a room: from its memory, or with the page that was read for it.

use std::sync::Arc;

use bytes::Bytes;
use shared::contract::position::Position;
use shared::contract::protocol::EventName;

use super::{Joined, Joiner, Membership, Miss, Room, State};
use crate::codec;
use crate::hub::logged::{Cursor, Logged};
use crate::hub::recent::fitting;

/// What a join's reply holds of the messages, and from where the member catches up, if it has to.
struct Page<'a> {
    messages: &'a [Bytes],
    more: bool,
    lag: Option<Cursor>,
}

impl Room {
    /// Whether the cursor's entry is in memory.
    pub(in crate::hub) fn knows(&self, cursor: &Cursor) -> bool {
        let state = self.lock();
        cursor.position <= state.head && state.recent.knows(cursor)
    }

    /// Joins behind a cursor that is known to stand in this order: with the page that was read for
    /// it, or from memory. What is not a message (a change of an older one) ends the reply, and
    /// follows it as an event.
    pub(in crate::hub) fn join_after(
        self: &Arc<Self>,
        joiner: Joiner,
        cursor: &Cursor,
        page: Option<&[Logged]>,
        reply: impl FnOnce(Joined<'_>),
    ) -> Result<Membership, Miss> {
        let mut state = self.lock();
        if state.retired {
            return Err(Miss::Retired);
        }
        let mut entries: Vec<&Logged> = page.unwrap_or_default().iter().collect();
        let read_to = entries.last().map_or(cursor.position, |entry| entry.at);
        let in_memory = read_to >= state.recent.floor();
        if page.is_none() && !in_memory {
            return Err(Miss::Memory);
        }
        entries.extend(state.recent.after(read_to).filter(|_| in_memory).map(|entry| &**entry));
        entries.retain(|entry| entry.is_shown());
        let leading = entries.iter().map_while(|entry| entry.message());
        let mut messages: Vec<Bytes> = leading.take(joiner.limit as usize).collect();
        messages.truncate(fitting(messages.iter()));
        let at = match messages.len() {
            0 => cursor.clone(),
            given => entries[given - 1].cursor(),
        };
        let more = messages.len() < entries.len() || !in_memory;
        let page = Page { messages: &messages, more, lag: more.then_some(at) };
        Ok(self.admit(&mut state, joiner, page, reply))
    }

    /// Joins with the latest messages. `older` are those at or below the floor, as they were read
    /// for it; without them the memory has to be enough.
    pub(in crate::hub) fn join_latest(
        self: &Arc<Self>,
        joiner: Joiner,
        older: Option<(Position, &[Bytes], bool)>,
        reply: impl FnOnce(Joined<'_>),
    ) -> Result<Membership, Miss> {
        let mut state = self.lock();
        if state.retired {
            return Err(Miss::Retired);
        }
        let limit = joiner.limit as usize;
        let mut messages = state.recent.latest(limit + 1);
        let mut more = false;
        // What fills the page, in number or in bytes, needs nothing older.
        let fills = messages.len() > limit || fitting(messages.iter().rev()) < messages.len();
        if !fills && state.recent.floor() > Position::ZERO {
            match older {
                Some((floor, older, older_more)) if floor == state.recent.floor() => {
                    messages.splice(0..0, older.iter().cloned());
                    more = older_more;
                }
                Some(_) | None => return Err(Miss::Memory),
            }
        }
        let surplus =
            messages.len() - fitting(messages.iter().rev().take(limit)).min(messages.len());
        messages.drain(..surplus);
        let page = Page { messages: &messages, more: more || surplus > 0, lag: None };
        Ok(self.admit(&mut state, joiner, page, reply))
    }

    /// Makes a member of whoever joins: the reply first, then the lists, then whatever happens.
    fn admit(
        self: &Arc<Self>,
        state: &mut State,
        joiner: Joiner,
        page: Page<'_>,
        reply: impl FnOnce(Joined<'_>),
    ) -> Membership {
        let found = self.arrive(state, &joiner);
        let present = codec::event(EventName::PresenceList, &found.presence);
        let Page { messages, more, lag } = page;
        let (head, persisted) = (state.head, state.persisted);
        reply(Joined { messages, head, persisted, more, found });
        // Bounded like the reply: the connection reads no further while its queue is full.
        joiner.queue.push(present);
        self.add(state, joiner, lag)
    }
}
