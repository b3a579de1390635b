//! Members connected to this node, and which changes have yet to be announced. Pure: the callers
//! bring the time.
//!
//! What is announced is a level, not an event: whatever happened meanwhile, what is taken to be
//! announced is how it is now. So a flap costs nothing, and a failure is simply tried again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use shared::contract::id::{RoomId, UserId};
use shared::contract::limits::{GUEST_MS, GUESTS_MAX, LAST_ACTIVE_TOLD_MS, PRESENCE_LINGER_MS};
use shared::contract::protocol::PresenceStatus;
use shared::contract::signal::PresenceState;
use shared::contract::timestamp::Timestamp;
use tokio::time::Instant;

use super::PresenceChange;

/// Names a connection within a node.
pub(crate) type ConnectionId = u64;

/// Somebody in a room.
pub(super) type Who<'a> = (&'a RoomId, &'a UserId);

/// How somebody's connection parted from a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// They left: gone at once.
    Left,
    /// The connection ended: they may be back in a moment.
    Dropped,
}

/// The people of one node.
#[derive(Debug, Default)]
pub(super) struct LocalMembers {
    rooms: HashMap<RoomId, HashMap<UserId, LocalMember>>,
    unannounced: HashSet<(RoomId, UserId)>,
    /// When somebody's time may be over.
    deadlines: BTreeSet<(Instant, RoomId, UserId)>,
    present: usize,
    guests: usize,
}

/// Somebody in a room, or somebody whose going is still to be announced.
#[derive(Debug)]
struct LocalMember {
    /// Nearly always one: no map, which takes more than all else here.
    connections: Vec<(ConnectionId, PresenceStatus)>,
    /// As the application's backend says, and until when.
    guest: Option<(PresenceStatus, Instant)>,
    /// When it said so.
    guest_said_at: Timestamp,
    /// Until when they are still there without a connection.
    lingers: Option<Instant>,
    /// The last of what they were, for as long as they linger.
    status: PresenceStatus,
    last_active_at: Timestamp,
    announced: Announced,
}

/// What the others may believe of somebody here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announced {
    Nothing,
    PresenceState(PresenceState),
    /// An announcement may have come through or not.
    Unsure,
}

impl LocalMember {
    fn new() -> LocalMember {
        LocalMember {
            connections: Vec::with_capacity(1),
            guest: None,
            guest_said_at: Timestamp(0),
            lingers: None,
            status: PresenceStatus::Active,
            last_active_at: Timestamp(0),
            announced: Announced::Nothing,
        }
    }

    fn place(&self, connection: ConnectionId) -> Option<usize> {
        self.connections.iter().position(|(here, _)| *here == connection)
    }

    fn standing(&self) -> Option<PresenceState> {
        let guest = self.guest.map(|(status, _)| status);
        let connected = self.connections.iter().map(|(_, status)| *status).chain(guest).max();
        let status = connected.or(self.lingers.map(|_| self.status))?;
        Some(PresenceState { status, last_active_at: self.last_active_at })
    }

    fn deadline(&self) -> Option<Instant> {
        let guest = self.guest.map(|(_, until)| until);
        self.lingers.into_iter().chain(guest).min()
    }

    fn active(&mut self, at: Timestamp) {
        self.last_active_at = self.last_active_at.max(at);
    }

    fn is_unannounced(&self) -> bool {
        match (self.standing(), self.announced) {
            (_, Announced::Unsure) | (Some(_), Announced::Nothing) => true,
            (None, Announced::Nothing) => false,
            (None, Announced::PresenceState(_)) => true,
            (Some(now), Announced::PresenceState(told)) => {
                let younger_ms = now.last_active_at.0 - told.last_active_at.0;
                now.status != told.status || younger_ms >= LAST_ACTIVE_TOLD_MS
            }
        }
    }
}

impl LocalMembers {
    /// How many are there, each counted in each room.
    pub(super) fn present(&self) -> usize {
        self.present
    }

    /// Whether something is to be announced.
    pub(super) fn is_unannounced(&self) -> bool {
        !self.unannounced.is_empty()
    }

    /// How somebody is there through this node.
    pub(super) fn standing(&self, (room, user): Who<'_>) -> Option<PresenceState> {
        self.rooms.get(room)?.get(user)?.standing()
    }

    /// Everybody in a room through this node.
    pub(super) fn of(&self, room: &RoomId) -> Vec<(UserId, PresenceState)> {
        let people = self.rooms.get(room).into_iter().flatten();
        people.filter_map(|(user, here)| Some((user.clone(), here.standing()?))).collect()
    }

    /// A connection of theirs is in the room. Entering again changes nothing.
    pub(super) fn enter(&mut self, who: Who<'_>, connection: ConnectionId, at: Timestamp) {
        self.change(who, |here| {
            if here.place(connection).is_none() {
                here.connections.push((connection, PresenceStatus::Active));
            }
            here.lingers = None;
            here.active(at);
        });
    }

    /// A connection of theirs is no longer in the room.
    pub(super) fn part(
        &mut self,
        who: Who<'_>,
        connection: ConnectionId,
        how: Parting,
        now: Instant,
    ) {
        self.change(who, |here| {
            let Some(place) = here.place(connection) else { return };
            let (_, status) = here.connections.swap_remove(place);
            if here.connections.is_empty() && how == Parting::Dropped {
                here.status = status;
                here.lingers = Some(now + Duration::from_millis(PRESENCE_LINGER_MS));
            }
        });
    }

    /// A connection says whether its user does something.
    pub(super) fn say(
        &mut self,
        who: Who<'_>,
        connection: ConnectionId,
        status: PresenceStatus,
        at: Timestamp,
    ) {
        self.change(who, |here| {
            if let Some(place) = here.place(connection) {
                here.connections[place].1 = status;
                here.active(at);
            }
        });
    }

    /// They did something.
    pub(super) fn touch(&mut self, who: Who<'_>, at: Timestamp) {
        self.change(who, |here| here.active(at));
    }

    /// The backend says how somebody is there who need not be connected; `None`: not any more.
    /// `false` when too many are said to be.
    pub(super) fn host(
        &mut self,
        (room, user): Who<'_>,
        status: Option<PresenceStatus>,
        (at, now): (Timestamp, Instant),
    ) -> bool {
        let known = self.rooms.get(room).and_then(|people| people.get(user));
        let was = known.is_some_and(|here| here.guest.is_some());
        if status.is_some() && !was && self.guests >= GUESTS_MAX {
            return false;
        }
        self.guests = self.guests + usize::from(status.is_some()) - usize::from(was);
        self.change((room, user), |here| {
            here.guest = status.map(|status| (status, now + Duration::from_millis(GUEST_MS)));
            if status.is_some() {
                here.guest_said_at = at;
                here.active(at);
            }
        });
        true
    }

    /// The backend has said at that time, to another node, how somebody is; says if it had said
    /// something else here before.
    pub(super) fn unhost(&mut self, who: Who<'_>, at: Timestamp) -> bool {
        let known = self.rooms.get(who.0).and_then(|people| people.get(who.1));
        let before = |here: &LocalMember| here.guest.is_some() && here.guest_said_at < at;
        if !known.is_some_and(before) {
            return false;
        }
        self.guests -= 1;
        self.change(who, |here| here.guest = None);
        true
    }

    /// Whose time is over; each of them may be gone now, or be there in another way.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(RoomId, UserId)> {
        let mut expired = Vec::new();
        while let Some((at, room, user)) = self.deadlines.pop_first() {
            if at > now {
                self.deadlines.insert((at, room, user));
                break;
            }
            let mut ended = false;
            self.change((&room, &user), |here| {
                here.lingers = here.lingers.filter(|until| *until > now);
                ended = here.guest.is_some_and(|(_, until)| until <= now);
                here.guest = here.guest.filter(|(_, until)| *until > now);
            });
            self.guests -= usize::from(ended);
            expired.push((room, user));
        }
        expired
    }

    /// Up to `max` of what is to be announced; it counts as announced unless it is said to have
    /// [failed](LocalMembers::failed).
    pub(super) fn take(&mut self, max: usize) -> Vec<PresenceChange> {
        let taken: Vec<(RoomId, UserId)> = self.unannounced.iter().take(max).cloned().collect();
        let mut changes = Vec::with_capacity(taken.len());
        for (room, user) in taken {
            let standing = self.standing((&room, &user));
            self.change((&room, &user), |here| {
                here.announced = standing.map_or(Announced::Nothing, Announced::PresenceState);
            });
            changes.push(PresenceChange {
                last: !self.rooms.contains_key(&room),
                room,
                user,
                standing,
            });
        }
        changes
    }

    /// What was taken may have been announced or not.
    pub(super) fn failed(&mut self, changes: &[PresenceChange]) {
        for PresenceChange { room, user, .. } in changes {
            self.change((room, user), |here| here.announced = Announced::Unsure);
        }
    }

    /// Nobody believes anything of this node any more: everybody is to be announced.
    pub(super) fn forget_announced(&mut self) {
        let everybody: Vec<(RoomId, UserId)> = self
            .rooms
            .iter()
            .flat_map(|(room, people)| people.keys().map(|user| (room.clone(), user.clone())))
            .collect();
        for (room, user) in everybody {
            self.change((&room, &user), |here| here.announced = Announced::Nothing);
        }
    }

    /// Compares with what is kept of this node's people in a room.
    pub(super) fn compare(&mut self, room: &RoomId, kept: &HashMap<UserId, PresenceState>) {
        let here: Vec<UserId> =
            self.rooms.get(room).into_iter().flat_map(|people| people.keys().cloned()).collect();
        for user in here.iter().chain(kept.keys()) {
            let standing = self.standing((room, user)).map(|standing| standing.status);
            if standing != kept.get(user).map(|standing| standing.status) {
                self.change((room, user), |here| here.announced = Announced::Unsure);
            }
        }
    }

    /// Changes somebody, and keeps in step whatever follows from how they are.
    fn change(&mut self, (room, user): Who<'_>, change: impl FnOnce(&mut LocalMember)) {
        let people = self.rooms.entry(room.clone()).or_default();
        let here = people.entry(user.clone()).or_insert_with(LocalMember::new);
        let (was_there, deadline) = (here.standing().is_some(), here.deadline());
        change(here);
        let is_there = here.standing().is_some();
        self.present = self.present + usize::from(is_there) - usize::from(was_there);
        let key = |at: Instant| (at, room.clone(), user.clone());
        if here.deadline() != deadline {
            deadline.map(|at| self.deadlines.remove(&key(at)));
            here.deadline().map(|at| self.deadlines.insert(key(at)));
        }
        let who = (room.clone(), user.clone());
        if here.is_unannounced() {
            self.unannounced.insert(who);
        } else {
            self.unannounced.remove(&who);
            if !is_there {
                people.remove(user);
            }
        }
        if people.is_empty() {
            self.rooms.remove(room);
        }
    }
}

#[cfg(test)]
mod tests;
