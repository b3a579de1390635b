//! What members are told of who has read how far, and what one of them has not read.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::id::UserId;
use shared::contract::limits::{RECEIPT_INTERVAL_MS, UNREAD_MAX};
use shared::contract::position::Position;
use shared::contract::protocol::{EventName, ReceiptList};
use shared::contract::signal::ReadMark;

use super::{Joiner, Member, Room, RoomState};
use crate::hub::history::SideState;
use crate::wire::codec;
use crate::wire::frame::Frame;

/// What was found out for somebody who joins, where the room does not remember it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    /// How far they have read.
    pub(in crate::hub) own: Option<ReadMark>,
    /// What they have not read of what stands at or below the memory's floor.
    pub(in crate::hub) unread_below: u64,
}

impl Room {
    /// How far somebody has read, and whether the room would know.
    pub(in crate::hub) fn receipt(&self, user: &UserId) -> (Option<ReadMark>, bool) {
        let state = self.lock();
        let receipts = &state.ephemeral.receipts;
        let own = receipts.of(user).cloned();
        let known = own.is_some() || receipts.is_whole();
        (own, known)
    }

    /// The message that stands at a position, if the room remembers it.
    pub(in crate::hub) fn message_at(
        &self,
        position: Position,
    ) -> Option<shared::contract::id::MessageId> {
        self.lock().cache.at(position)
    }

    /// What log and database know of the room beside its order.
    pub(in crate::hub) fn take_side_state(self: &Arc<Self>, side_state: SideState) {
        let SideState { receipts, whole, removed } = side_state;
        self.set_removed(removed);
        let mut state = self.lock();
        state.ephemeral.receipts.load(receipts, whole);
        self.see_to_receipts(&mut state);
    }

    /// Somebody has read on, as the members are told now.
    pub(super) fn tell_receipt(&self, state: &mut RoomState, frame: &Frame) {
        let RoomState { members, ephemeral, .. } = state;
        for member in members.values_mut() {
            if member.lagging.is_none() && member.missed_receipts {
                self.tell_all_receipts(ephemeral.receipts.listed(&member.user, None), member);
            } else if member.lagging.is_some() || !member.queue.offer_ephemeral(frame) {
                member.missed_receipts = true;
            }
        }
    }

    /// Makes up for receipts that a member was not told.
    pub(super) fn tell_all_receipts(
        &self,
        receipts: std::collections::BTreeMap<UserId, shared::contract::protocol::Receipt>,
        member: &mut Member,
    ) {
        let list = ReceiptList { room_id: self.id.clone(), receipts };
        let frame = codec::event(EventName::ReceiptList, &list);
        member.missed_receipts = !member.queue.offer_ephemeral(&frame);
    }

    /// Sees to it that what waits is told.
    pub(super) fn see_to_receipts(self: &Arc<Self>, state: &mut RoomState) {
        if state.ephemeral.receipts.begin_telling() {
            tokio::spawn(tell_in_turn(Arc::clone(self)));
        }
    }
}

impl RoomState {
    /// How many messages of others somebody who joins has not read.
    pub(super) fn unread(&self, joiner: &Joiner) -> u64 {
        let own = self.ephemeral.receipts.of(&joiner.user).or(joiner.reading.own.as_ref());
        let after = own.map_or(Position::ZERO, |mark| mark.position);
        let below = if after < self.cache.floor() { joiner.reading.unread_below } else { 0 };
        (self.cache.unread(&joiner.user, after) + below).min(UNREAD_MAX)
    }
}

async fn tell_in_turn(room: Arc<Room>) {
    let mut more = true;
    while more {
        tokio::time::sleep(Duration::from_millis(RECEIPT_INTERVAL_MS)).await;
        let mut state = room.lock();
        let due = state.ephemeral.receipts.due(&room.id);
        for frame in &due.frames {
            room.tell_receipt(&mut state, frame);
        }
        more = due.more;
    }
}
