//! What of a room has no place in its order: who is there, who types, who has read how far, which
//! answers are being written. Kept and told beside the log, best effort.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::contract::protocol::{PresenceList, TypingMark};
use tokio::time::Instant;

use shared::contract::id::UserId;
use shared::contract::signal::RoomSignal;
use shared::process::error_chain::error_chain;
use tracing::debug;

use super::streams::StreamEffect;
use super::{MemberId, Room, RoomState, presence, receipts, streams, typing};
use crate::wire::frame::Frame;

/// The boards of a room; each is pure state, changed by what nodes signal.
#[derive(Debug, Default)]
pub(super) struct Ephemeral {
    pub(super) presence: presence::RoomPresence,
    pub(super) receipts: receipts::RoomReceipts,
    pub(super) streams: streams::RoomStreams,
    pub(super) typing: typing::RoomTyping,
    /// When those are told anew who missed what they could not take.
    pub(super) mending: Option<Instant>,
    /// A task tells what is due.
    pub(super) attended: bool,
}

/// What somebody who joins finds beside the messages.
#[derive(Debug)]
pub(crate) struct InitialState {
    /// Who is here; the `presence:list` behind the reply says the same.
    pub(crate) presence: PresenceList,
    /// Who types.
    pub(crate) typing: BTreeMap<UserId, TypingMark>,
}

impl Ephemeral {
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
        let ephemeral = &mut state.ephemeral;
        let told = match what {
            RoomSignal::Typing { user, ms } => {
                self.heed_typing(&mut state, &user, ms);
                None
            }
            RoomSignal::Receipt(mark) => {
                if let Some(frame) = ephemeral.receipts.apply(&self.id, mark) {
                    self.tell_receipt(&mut state, &frame);
                }
                return self.see_to_receipts(&mut state);
            }
            RoomSignal::Presence { user, incarnation, standing } => {
                self.heed_presence(&mut state, &user, incarnation, standing);
                None
            }
            RoomSignal::Stream(part) => match ephemeral.streams.apply(&self.id, part) {
                StreamEffect::Nothing => None,
                StreamEffect::Part(frame) => return self.tell_of_stream(&state, &frame),
                StreamEffect::Last(frame) => {
                    // What those who catch up were told before they fell behind has to end, too.
                    let members = state.members.values();
                    let told = members.filter(|member| member.queue.offer_ephemeral(&frame));
                    return self.count_stream_bytes(told.count(), &frame);
                }
                StreamEffect::Gap => {
                    let room = Arc::clone(self);
                    tokio::spawn(async move { room.read_streams().await });
                    None
                }
            },
        };
        if let Some(frame) = told {
            self.tell(&state, &frame);
        }
    }

    /// Hands an event without a place to whoever can take it: it is the first to go where a queue
    /// fills, and is not made up for. Says how many took it.
    fn tell(&self, state: &RoomState, frame: &Frame) -> usize {
        let members = state.members.values().filter(|member| member.lagging.is_none());
        members.filter(|member| member.queue.offer_ephemeral(frame)).count()
    }

    fn tell_of_stream(&self, state: &RoomState, frame: &Frame) {
        self.count_stream_bytes(self.tell(state, frame), frame);
    }

    fn count_stream_bytes(&self, told: usize, frame: &Frame) {
        self.parts.metrics.stream_bytes_out_total.inc_by((told * frame.len()) as u64);
    }

    /// Reads the answers that are being written, where some part of one was missed or the room is
    /// not known yet. Where that fails, the next part that does not fit is another reason to.
    pub(in crate::hub) async fn read_streams(&self) {
        self.lock().ephemeral.streams.begin_reading();
        let read = self.parts.streams.open_in(&self.id).await;
        let mut state = self.lock();
        match read {
            Ok(open) => {
                for frame in state.ephemeral.streams.load(&self.id, open) {
                    self.tell_of_stream(&state, &frame);
                }
            }
            Err(error) => {
                debug!(room.id = %self.id, error = error_chain(&error), "answers cannot be read");
                state.ephemeral.streams.give_up();
            }
        }
    }

    /// What a member is told right after its join reply.
    pub(super) fn send_initial_state(&self, state: &mut RoomState, id: MemberId) {
        let RoomState { ephemeral, members, .. } = state;
        let Some(member) = members.get(&id) else { return };
        for frame in ephemeral.streams.so_far(&self.id) {
            if member.queue.offer(&frame) {
                self.parts.metrics.stream_bytes_out_total.inc_by(frame.len() as u64);
            }
        }
    }
}
