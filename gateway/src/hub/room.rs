//! One room on this node: order, cache, members.
//!
//! ```text
//! Syncing{buffer}  |  Live
//! on publication:  not above the head → drop     the next → emit        beyond → Syncing
//! ```
//! Everything here happens under one lock and in short sections: handing a frame to a member never
//! waits. The state is the room's, not the client's: ten thousand clients that come back within its
//! memory cost nobody a question.
//!
//! The state starts nothing itself. Tasks that bring the room or a member to where the log stands
//! are [`Effects`], for whoever changed it to start; those that tell what its boards gathered begin
//! with [`Room::change`].

mod join;
mod outage;
mod state;
mod ephemeral;
mod members;
mod lagging;
mod refusals;
mod presence;
mod receipts;
mod streams;
mod typing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use shared::contract::id::{RoomId, UserId};
use shared::contract::limits::{PRESENCE_GATHER_MS, RECEIPT_INTERVAL_MS};
use shared::contract::position::Position;
use shared::contract::protocol::{PresenceStatus, Receipt};
use shared::contract::signal::ReadMark;
use shared::process::changes;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::ephemeral::Ephemeral;
use self::join::JoinPage;
use self::state::RoomState;
use super::entry::Cursor;
use super::history::{Messages, Page};
use super::{Deps, Resumption};
use crate::presence::local::{ConnectionId, Parting};
use crate::wire::send_queue::SendQueue;

pub(crate) use self::ephemeral::InitialState;
pub(super) use self::lagging::{Handover, Lagging, Step};

/// How long the task that tells what is due sleeps at most: something else may be due sooner than
/// what it waits for.
const NAP: Duration = Duration::from_millis(PRESENCE_GATHER_MS);

/// Names a connection within a node.
pub(crate) type MemberId = ConnectionId;

/// One room.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(super) parts: Arc<Deps>,
    state: Mutex<RoomState>,
    /// Wakes those who wait for the first synchronisation.
    settled: Notify,
}

/// What has to be started for a room, by whoever changed it and as soon as they have. The state
/// counts it as running, so that nobody else starts it.
#[must_use = "nobody else starts what the room waits for"]
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// The room is to be read: it is `Syncing` from here on.
    pub(super) sync: bool,
    /// Members that lag from here on, each with its queue.
    pub(super) catch_up: Vec<(MemberId, Arc<SendQueue>)>,
    /// A part of an answer was lost: the stream store is to be asked.
    pub(super) read_streams: bool,
}

/// Who joins.
pub(crate) struct Joiner<'a> {
    pub(crate) member: MemberId,
    pub(crate) user: UserId,
    pub(crate) queue: Arc<SendQueue>,
    /// Messages in the reply, at most.
    pub(crate) limit: u32,
    pub(crate) progress: ReadProgress,
    /// Called once, under the room's lock: no event of the room can precede it.
    pub(crate) reply: &'a (dyn Fn(Joined) + Sync),
}

/// How far somebody who joins has read, as it was found out where the room does not remember it.
#[derive(Debug, Default)]
pub(crate) struct ReadProgress {
    pub(super) own: Option<ReadMark>,
    /// Messages that they have not read of those at or below the memory's floor.
    pub(super) unread_below: u64,
}

/// What a join found, for its reply.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) how: Resumption,
    pub(crate) messages: Vec<Bytes>,
    pub(crate) head: Position,
    pub(crate) persisted: Position,
    pub(crate) more: bool,
    /// Who has read how far.
    pub(crate) receipts: BTreeMap<UserId, Receipt>,
    /// Messages of others that this one has not read.
    pub(crate) unread: u64,
    pub(crate) found: InitialState,
}

/// Why a join has to be tried differently.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum JoinRetry {
    /// The room left the hub.
    Retired,
    /// The room's memory does not reach back to what is needed.
    Memory,
    /// What was read is ahead of what the room has heard of.
    Ahead,
    /// This one was removed from the room at that place, or before.
    Removed(Position),
}

/// A membership as the connection holds it; leaving is dropping it.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) room: Arc<Room>,
    member: MemberId,
    ended: Arc<AtomicBool>,
}

impl Membership {
    /// Whether the room still counts this connection as its member.
    pub(crate) fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// The member says whether they do something.
    pub(crate) fn say(&self, status: PresenceStatus) {
        self.act(|boards, user| boards.say(user, self.member, status));
    }

    /// The member did something.
    pub(crate) fn touch(&self) {
        self.act(Ephemeral::touch);
    }

    /// The member types, or does no more.
    pub(crate) fn types(&self, types: bool) {
        self.act(|boards, user| boards.types(user, types));
    }

    fn act(&self, act: impl FnOnce(&mut Ephemeral, &UserId)) {
        self.room.change(|state| {
            if let Some(member) = state.members.by_id.get(&self.member) {
                act(&mut state.ephemeral, &member.user);
            }
        });
    }

    /// Leaves; `reply` is called when no event can follow any more.
    pub(crate) fn leave(self, reply: impl FnOnce()) {
        self.end(Parting::Left, reply);
    }

    fn end(&self, how: Parting, reply: impl FnOnce()) {
        self.room.change(|state| {
            state.leave(self.member, &self.ended, how);
            reply();
        });
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.end(Parting::Dropped, || ());
    }
}

impl Room {
    /// A room that is about to be read.
    pub(super) fn new(id: RoomId, parts: Arc<Deps>) -> Arc<Room> {
        let state = Mutex::new(RoomState::new(id.clone(), Arc::clone(&parts)));
        Arc::new(Room { id, parts, state, settled: Notify::new() })
    }

    /// Looks at the state.
    pub(super) fn read<T>(&self, look: impl FnOnce(&RoomState) -> T) -> T {
        look(&self.state.lock())
    }

    /// Changes the state, then starts what tells the members of what gathers on its boards.
    pub(super) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut RoomState) -> T) -> T {
        let mut state = self.state.lock();
        let was_settled = state.settled;
        let changed = change(&mut state);
        if state.settled && !was_settled {
            self.settled.notify_waiters();
        }
        let begin_telling = state.ephemeral.begin_telling();
        let begin_telling_receipts = state.ephemeral.receipts.begin_telling();
        drop(state);
        if begin_telling {
            tokio::spawn(tell_due(Arc::clone(self)));
        }
        if begin_telling_receipts {
            tokio::spawn(tell_receipts(Arc::clone(self)));
        }
        changed
    }

    /// Waits until the room has been live once.
    pub(super) async fn settled(&self) {
        changes::until(&self.settled, || self.read(|state| state.settled).then_some(())).await;
    }

    /// Where the room stands.
    pub(crate) fn head(&self) -> Position {
        self.read(|state| state.head)
    }

    /// Joins behind a cursor, with the page that was read for it or from memory.
    pub(super) fn join_after(
        self: &Arc<Self>,
        joiner: &Joiner<'_>,
        cursor: &Cursor,
        page: Option<(&Page, u64)>,
    ) -> Result<(Membership, Effects), JoinRetry> {
        self.join(joiner, |state| JoinPage::after(state, joiner.limit, cursor, page))
    }

    /// Joins with the latest messages; `older` are those at or below the memory's floor.
    pub(super) fn join_latest(
        self: &Arc<Self>,
        joiner: &Joiner<'_>,
        how: Resumption,
        older: Option<(Position, Messages)>,
    ) -> Result<(Membership, Effects), JoinRetry> {
        self.join(joiner, |state| JoinPage::latest(state, joiner.limit, how, older))
    }

    fn join(
        self: &Arc<Self>,
        joiner: &Joiner<'_>,
        page: impl FnOnce(&RoomState) -> Result<JoinPage, JoinRetry>,
    ) -> Result<(Membership, Effects), JoinRetry> {
        let (ended, effects) = self.change(|state| {
            state.admit(&joiner.user)?;
            Ok(page(state)?.enter(state, joiner))
        })?;
        Ok((Membership { room: Arc::clone(self), member: joiner.member, ended }, effects))
    }
}

/// Tells what is due, for as long as anything is.
async fn tell_due(room: Arc<Room>) {
    while let Some(next) = room.change(|state| state.ephemeral.tell_due(&mut state.members)) {
        tokio::time::sleep_until(next.min(Instant::now() + NAP)).await;
    }
}

/// Tells the receipts that wait, for as long as any do.
async fn tell_receipts(room: Arc<Room>) {
    let mut more = true;
    while more {
        tokio::time::sleep(Duration::from_millis(RECEIPT_INTERVAL_MS)).await;
        more = room.change(|state| state.ephemeral.tell_receipts(&mut state.members));
    }
}

#[cfg(test)]
mod tests;
