//! What of a room has no place in its order: who is there, who types, who has read how far, which
//! answers are being written. Kept and told beside the log, best effort.

use std::sync::Arc;

use shared::contract::id::{MessageId, UserId};
use shared::contract::signal::RoomSignal;

use super::{Room, State, presence, receipts, streams, typing};
use crate::frame::Frame;

/// The boards of a room; each is pure state, changed by what nodes signal.
#[derive(Debug, Default)]
pub(super) struct Company {
    pub(super) presence: presence::Board,
    pub(super) receipts: receipts::Board,
    pub(super) streams: streams::Board,
    pub(super) typing: typing::Board,
}

impl Company {
    /// The last message that somebody has read, where that is known.
    pub(super) fn last_seen(&self, user: &UserId) -> Option<MessageId> {
        self.receipts.last_seen(user)
    }
}

impl Room {
    /// A node signalled something.
    pub(in crate::hub) fn signal(self: &Arc<Self>, what: RoomSignal) {
        let mut state = self.lock();
        let company = &mut state.company;
        let told = match what {
            RoomSignal::Typing { user, ms } => company.typing.apply(&self.id, user, ms),
            RoomSignal::Receipt(mark) => {
                if let Some(frame) = company.receipts.apply(&self.id, mark) {
                    self.tell_receipt(&mut state, &frame);
                }
                return self.see_to_receipts(&mut state);
            }
            RoomSignal::Presence { user, incarnation, standing } => {
                company.presence.apply(&self.id, user, incarnation, standing)
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
