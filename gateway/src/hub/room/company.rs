//! What of a room has no place in its order: who is there, who types, who has read how far, which
//! answers are being written. Kept and told beside the log, best effort.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::contract::id::{MessageId, UserId};
use shared::contract::protocol::{PresenceList, TypingMark};
use shared::contract::signal::RoomSignal;
use tokio::time::Instant;

use super::{Room, State, presence, receipts, streams, typing};
use crate::frame::Frame;

/// The boards of a room; each is pure state, changed by what nodes signal.
#[derive(Debug, Default)]
pub(super) struct Company {
    pub(super) presence: presence::Board,
    pub(super) receipts: receipts::Board,
    pub(super) streams: streams::Board,
    pub(super) typing: typing::Board,
    /// When those are told anew who missed what they could not take.
    pub(super) mending: Option<Instant>,
    /// A task tells what is due.
    pub(super) attended: bool,
}

/// What somebody who joins finds beside the messages.
#[derive(Debug)]
pub(crate) struct Found {
    /// Who is here; the `presence:list` behind the reply says the same.
    pub(crate) presence: PresenceList,
    /// Who types.
    pub(crate) typing: BTreeMap<UserId, TypingMark>,
}

impl Company {
    /// The last message that somebody has read in the room, where that is known.
    pub(super) fn last_seen(receipts: &receipts::Board, user: &UserId) -> Option<MessageId> {
        receipts.last_seen(user)
    }

    /// When something is to be told.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let due = [self.presence.due_at(), self.typing.due_at(), self.mending];
        due.into_iter().flatten().min()
    }
}

impl Room {
    /// A node signalled something.
    pub(in crate::hub) fn signal(self: &Arc<Self>, what: RoomSignal) {
        let mut state = self.lock();
        let company = &mut state.company;
        let told = match what {
            RoomSignal::Receipt(mark) => {
                if let Some(frame) = company.receipts.apply(&self.id, mark) {
                    self.tell_receipt(&mut state, &frame);
                }
                return self.see_to_receipts(&mut state);
            }
            RoomSignal::Typing { user, ms } => {
                self.heed_typing(&mut state, &user, ms);
                None
            }
            RoomSignal::Presence { user, incarnation, standing } => {
                self.heed_presence(&mut state, &user, incarnation, standing);
                None
            }
            RoomSignal::Stream(part) => company.streams.apply(&self.id, part),
        };
        if let Some(frame) = told {
            self.tell(&state, &frame);
        }
    }

    /// Hands an event without a place to whoever can take it: it is the first to go where a queue
    /// fills, and is not made up for.
    fn tell(&self, state: &State, frame: &Frame) {
        for member in state.members.values().filter(|member| member.lagging.is_none()) {
            member.queue.offer_ephemeral(frame);
        }
    }
}
