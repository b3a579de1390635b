//! Presence in a room, by node. Pure: the callers bring the time.
//!
//! What members were told of somebody stands beside how it is, so that what they are told is always
//! the difference: a second tab or node is none, nor is a flap that ends where it began.
//! A newcomer is listed what the others were told, and goes on from there like them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::{
    PRESENCE_BUFFER_MAX, PRESENCE_COUNT_GATHER_MS, PRESENCE_GATHER_MS, PRESENCE_LISTED_AGAIN,
    PRESENCE_LISTED_MAX,
};
use shared::contract::protocol::{PresenceChange, PresenceChanged, PresenceStatus, Present};
use shared::contract::signal::PresenceState;
use shared::contract::timestamp::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use crate::presence::PresenceEntry;

/// Stands for this node, whatever the run: what it knows of its own people, it knows from itself.
pub(super) const HERE: Uuid = Uuid::nil();

const GATHER: Duration = Duration::from_millis(PRESENCE_GATHER_MS);
const COUNT_GATHER: Duration = Duration::from_millis(PRESENCE_COUNT_GATHER_MS);

/// The board of one room.
#[derive(Debug, Default)]
pub(super) struct RoomPresence {
    people: HashMap<UserId, Person>,
    /// How many are here.
    here: usize,
    /// How many the members believe to be here.
    told: usize,
    /// Who is not as members were told.
    changed: HashSet<UserId>,
    /// When members are told.
    due: Option<Instant>,
    /// They are too many to list.
    counted: bool,
    /// Members may have missed more than single changes.
    relist: bool,
    reading: Option<PresenceRead>,
    readings: u64,
}

#[derive(Debug, Default)]
struct Person {
    standings: Vec<(Uuid, PresenceState)>,
    /// What members were told; `None`: not here.
    told: Option<PresenceStatus>,
    last_active_at: Timestamp,
}

/// While the board is read anew, what is signalled meanwhile.
#[derive(Debug)]
struct PresenceRead {
    number: u64,
    signalled: Vec<(UserId, Uuid, Option<PresenceState>)>,
}

/// What members are to be told.
#[derive(Debug)]
pub(super) enum News {
    /// Somebody came. They know it themselves, from the reply to their join.
    Arrival(UserId, PresenceChanged),
    /// Somebody went or is otherwise.
    Change(PresenceChanged),
    /// How many there are.
    Count(PresenceChanged),
    /// Everything anew.
    List,
}

impl Person {
    fn now(&self) -> Option<PresenceStatus> {
        self.standings.iter().map(|(_, standing)| standing.status).max()
    }

    fn set(&mut self, from: Uuid, standing: Option<PresenceState>) {
        let place = self.standings.iter().position(|(other, _)| *other == from);
        match (place, standing) {
            (Some(place), Some(standing)) => self.standings[place].1 = standing,
            (Some(place), None) => drop(self.standings.swap_remove(place)),
            // Nearly always the only one, for which a vector would take room for four.
            (None, Some(standing)) if self.standings.is_empty() => {
                self.standings = vec![(from, standing)];
            }
            (None, Some(standing)) => self.standings.push((from, standing)),
            (None, None) => {}
        }
        let latest = standing.map_or(Timestamp(0), |standing| standing.last_active_at);
        self.last_active_at = self.last_active_at.max(latest);
    }
}

impl RoomPresence {
    /// How somebody is present through a node.
    pub(super) fn apply(
        &mut self,
        user: &UserId,
        from: Uuid,
        standing: Option<PresenceState>,
        now: Instant,
    ) {
        if let Some(reading) = &mut self.reading {
            reading.signalled.push((user.clone(), from, standing));
            if reading.signalled.len() > PRESENCE_BUFFER_MAX {
                self.reading = None;
            }
        }
        self.set(user, from, standing, now);
    }

    fn set(&mut self, user: &UserId, from: Uuid, standing: Option<PresenceState>, now: Instant) {
        if standing.is_none() && !self.people.contains_key(user) {
            return;
        }
        let person = self.people.entry(user.clone()).or_default();
        let was_here = person.now().is_some();
        person.set(from, standing);
        let is = person.now();
        self.here = self.here + usize::from(is.is_some()) - usize::from(was_here);
        if is != person.told {
            self.changed.insert(user.clone());
        } else {
            self.changed.remove(user);
            if is.is_none() {
                self.people.remove(user);
            }
        }
        if !self.changed.is_empty() {
            let gather = if self.counted { COUNT_GATHER } else { GATHER };
            self.due.get_or_insert(now + gather);
        }
    }

    /// A run of a node is dead, and nobody is here through it any more.
    pub(super) fn mark_dead(&mut self, incarnation: Uuid, now: Instant) {
        let through =
            |person: &Person| person.standings.iter().any(|(from, _)| *from == incarnation);
        let gone: Vec<UserId> = self
            .people
            .iter()
            .filter(|(_, person)| through(person))
            .map(|(user, _)| user.clone())
            .collect();
        for user in gone {
            self.apply(&user, incarnation, None, now);
        }
    }

    // --- Reading ---

    /// Before it is asked who is here: what is signalled from now on is kept.
    pub(super) fn begin_reading(&mut self) -> u64 {
        self.readings += 1;
        self.reading = Some(PresenceRead { number: self.readings, signalled: Vec::new() });
        self.readings
    }

    /// Who is here through other nodes, as of after that moment; `complete`: and nobody else is.
    /// `lost`: members may have to be told everything. `false` when too much was signalled.
    pub(super) fn finish_reading(
        &mut self,
        number: u64,
        entries: &[PresenceEntry],
        (complete, lost): (bool, bool),
        now: Instant,
    ) -> bool {
        let Some(reading) = self.reading.take_if(|reading| reading.number == number) else {
            // A later reading knows better, if there is one.
            return self.reading.is_some();
        };
        let listed: HashSet<(&UserId, Uuid)> =
            entries.iter().map(|entry| (&entry.user, entry.incarnation)).collect();
        let mut gone = Vec::new();
        for (user, person) in self.people.iter().filter(|_| complete) {
            let others = person.standings.iter().filter(|(from, _)| *from != HERE);
            let unlisted = others.filter(|(from, _)| !listed.contains(&(user, *from)));
            gone.extend(unlisted.map(|(from, _)| (user.clone(), *from)));
        }
        for (user, from) in gone {
            self.set(&user, from, None, now);
        }
        for PresenceEntry { user, incarnation, standing } in entries {
            self.set(user, *incarnation, Some(*standing), now);
        }
        for (user, from, standing) in reading.signalled {
            self.set(&user, from, standing, now);
        }
        self.relist |= lost && !self.changed.is_empty();
        true
    }

    // --- Telling ---

    /// What has gathered is to be told at once: somebody is about to be listed what members know.
    /// Of too many to list, only the count is told, which has time.
    pub(super) fn hasten(&mut self, now: Instant) {
        if !self.counted && self.due.is_some() {
            self.due = Some(now);
        }
    }

    /// When there is something to tell.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due
    }

    /// What members are to be told at this moment.
    pub(super) fn news(
        &mut self,
        room: &RoomId,
        seen: impl Fn(&UserId) -> Option<MessageId>,
        now: Instant,
    ) -> Vec<News> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = None;
        let relist = std::mem::take(&mut self.relist);
        let changed = std::mem::take(&mut self.changed);
        let lists = if self.counted { PRESENCE_LISTED_AGAIN } else { PRESENCE_LISTED_MAX };
        if self.here > lists || self.counted || relist {
            let told = self.told;
            for user in &changed {
                self.settle(user);
            }
            let was_counted = std::mem::replace(&mut self.counted, self.here > lists);
            return match (self.counted, was_counted) {
                (true, true) if told == self.told => Vec::new(),
                (true, _) => vec![News::Count(self.count(room))],
                (false, _) => vec![News::List],
            };
        }
        // All first: each is told how many there are when all of it is true, in whatever order, and
        // whoever came knows of itself without being told.
        let settled: Vec<_> =
            changed.iter().filter_map(|user| Some((user, self.settle(user)?))).collect();
        let told = settled.into_iter();
        told.map(|(user, (before, person))| self.change(room, user, (before, person), seen(user)))
            .collect()
    }

    /// From here on members know how somebody is; gives what they believed, and what is so.
    fn settle(&mut self, user: &UserId) -> Option<(Option<PresenceStatus>, Person)> {
        let person = self.people.get_mut(user)?;
        let is = person.now();
        let before = std::mem::replace(&mut person.told, is);
        let Person { told, last_active_at, .. } = *person;
        self.told = self.told + usize::from(told.is_some()) - usize::from(before.is_some());
        if told.is_none() {
            self.people.remove(user);
        }
        Some((before, Person { standings: Vec::new(), told, last_active_at }))
    }

    fn change(
        &self,
        room: &RoomId,
        user: &UserId,
        (before, person): (Option<PresenceStatus>, Person),
        seen: Option<MessageId>,
    ) -> News {
        let Person { told, last_active_at, .. } = person;
        let change = PresenceChanged {
            user_id: Some(user.clone()),
            status: Some(match told {
                Some(PresenceStatus::Active) => PresenceChange::Active,
                Some(PresenceStatus::Idle) => PresenceChange::Idle,
                None => PresenceChange::Offline,
            }),
            is_active: Some(told == Some(PresenceStatus::Active)),
            last_active_at: Some(last_active_at),
            last_seen_message_id: seen,
            ..self.count(room)
        };
        match before {
            None => News::Arrival(user.clone(), change),
            Some(_) => News::Change(change),
        }
    }

    fn count(&self, room: &RoomId) -> PresenceChanged {
        PresenceChanged {
            room_id: room.clone(),
            presence_count: self.told,
            user_id: None,
            status: None,
            is_active: None,
            last_active_at: None,
            last_seen_message_id: None,
        }
    }

    /// Nobody has to be told how it is: members, if any, are told from here on.
    pub(super) fn settle_all(&mut self) {
        for user in std::mem::take(&mut self.changed) {
            self.settle(&user);
        }
        (self.due, self.relist) = (None, false);
        self.counted = self.here > PRESENCE_LISTED_MAX;
    }

    /// Who is here, and how many. For a member that is as members were told, and the member itself
    /// in any case, because it is they who read it; for anybody else it is as it is.
    pub(super) fn list(
        &self,
        reader: Option<&UserId>,
        seen: impl Fn(&UserId) -> Option<MessageId>,
    ) -> (BTreeMap<UserId, Present>, usize) {
        let itself = reader.and_then(|own| self.people.get(own));
        let untold = itself.is_some_and(|own| own.told.is_none() && own.now().is_some());
        let count = if reader.is_some() { self.told + usize::from(untold) } else { self.here };
        if self.counted || count > PRESENCE_LISTED_MAX {
            return (BTreeMap::new(), count);
        }
        let present = |(user, person): (&UserId, &Person)| {
            let status = match (reader, person.told) {
                (None, _) => person.now()?,
                (Some(own), None) if user == own => person.now()?,
                (Some(_), told) => told?,
            };
            let present = Present {
                user_id: user.clone(),
                status,
                is_active: status == PresenceStatus::Active,
                last_active_at: person.last_active_at,
                last_seen_message_id: seen(user),
            };
            Some((user.clone(), present))
        };
        (self.people.iter().filter_map(present).collect(), count)
    }
}

#[cfg(test)]
mod tests;
