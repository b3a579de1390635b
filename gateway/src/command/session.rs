//! An authenticated user on a connection, and their rooms. Dropping it leaves them.

use std::collections::HashMap;
use std::sync::Arc;

use shared::contract::id::RoomId;
use shared::contract::limits::{COMMANDS_IN_FLIGHT_MAX, LAST_ACTIVE_STEP_MS};
use shared::contract::refusal::{Refusal, RefusalCode};
use tokio::sync::Semaphore;

use crate::auth::Identity;
use crate::hub::room::Membership;
use crate::hub::room_quota::RoomSlot;
use crate::operation::submit::Author;
use crate::wire::connections::Handle;

/// An identity on a connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// Who.
    pub(crate) identity: Identity,
    /// On which connection.
    pub(crate) handle: Arc<Handle>,
    /// Sends whose answers are still to come.
    pub(crate) in_flight: Arc<Semaphore>,
    /// Commands that were refused since the user was blocked.
    pub(crate) refused_while_blocked: u32,
    /// Boxed, because a map of one has room for three more.
    rooms: HashMap<RoomId, Box<JoinedRoom>>,
}

/// A room that the session is in. The membership goes first, so that the roster never counts less
/// than there is.
#[derive(Debug)]
struct JoinedRoom {
    membership: Membership,
    /// When it was last noted that they do something there, in Unix milliseconds.
    touched_ms: i64,
    _place: RoomSlot,
}

impl Session {
    pub(crate) fn new(identity: Identity, handle: Arc<Handle>) -> Session {
        let in_flight = Arc::new(Semaphore::new(COMMANDS_IN_FLIGHT_MAX));
        let rooms = HashMap::new();
        Session { identity, handle, in_flight, refused_while_blocked: 0, rooms }
    }

    /// The room now counts this connection as its member.
    pub(crate) fn joined(&mut self, room: RoomId, membership: Membership, place: RoomSlot) {
        let joined = JoinedRoom { membership, touched_ms: 0, _place: place };
        self.rooms.insert(room, Box::new(joined));
    }

    /// Takes the membership out, if there is one.
    pub(crate) fn leave(&mut self, room: &RoomId) -> Option<Membership> {
        self.rooms.remove(room).map(|joined| joined.membership)
    }

    /// Whether this connection is in the room; a membership that the room has ended is forgotten.
    pub(crate) fn is_in(&mut self, room: &RoomId) -> bool {
        let alive = self.rooms.get(room).map(|joined| joined.membership.is_alive());
        if alive == Some(false) {
            self.rooms.remove(room);
        }
        alive == Some(true)
    }

    /// The membership; refused where there is none.
    pub(crate) fn member_of(&mut self, room: &RoomId) -> Result<&Membership, Refusal> {
        if !self.is_in(room) {
            let text = "join the room first";
            return Err(Refusal::new(RefusalCode::NotJoined, text).field("roomId"));
        }
        Ok(&self.rooms.get(room).expect("the connection is in the room").membership)
    }

    /// Who wants something of a room, which is refused if the connection is not in it.
    pub(crate) fn author(&mut self, room: &RoomId) -> Author<'_> {
        let membership = self.member_of(room).map(|_| ());
        let waiter = Arc::downgrade(&self.handle.queue);
        Author::Client { identity: &self.identity, membership, waiter }
    }

    /// They do something in a room; noted once in a while.
    pub(crate) fn touch(&mut self, room: &RoomId, now_ms: i64) {
        if let Some(joined) = self.rooms.get_mut(room)
            && now_ms - joined.touched_ms >= LAST_ACTIVE_STEP_MS
        {
            joined.touched_ms = now_ms;
            joined.membership.touch();
        }
    }

    /// Gives back the places in rooms that have ended the membership.
    pub(crate) fn forget_ended(&mut self) {
        self.rooms.retain(|_, joined| joined.membership.is_alive());
    }

    /// The memberships, by room.
    pub(crate) fn memberships(&self) -> impl Iterator<Item = (&RoomId, &Membership)> {
        self.rooms.iter().map(|(room, joined)| (room, &joined.membership))
    }
}
