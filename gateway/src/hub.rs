//! Which local connections are in which room.

mod synchronise;
mod catch_up;
pub(crate) mod room;
pub(crate) mod sources;
mod recent;
mod logged;

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use shared::contract::id::RoomId;
use shared::contract::limits::{
    APPEND_TIMEOUT_MS, COMPARE_GRACE_MS, COMPARE_INTERVAL_MS, ROOM_LINGER_MS,
};
use shared::contract::position::Position;
use shared::contract::protocol::Since;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::signal::Signal;
use shared::log::{Delivery, RingEntry, Watermark};
use tokio::sync::Notify;
use tracing::{debug, error, warn};

use self::logged::{Cursor, Logged};
use self::room::{Joined, Joiner, Membership, Miss, Room};
use self::sources::{Messages, SourceError, Sources};
use crate::broker::Broker;
use crate::metrics::Metrics;

/// Tries of a join whose room's memory moves on under it.
const JOIN_TRIES_MAX: usize = 8;

/// What every room works with.
pub(crate) struct Parts {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) sources: Sources,
    pub(crate) metrics: Arc<Metrics>,
    /// Some room has lost its last member.
    pub(crate) empty: Notify,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

/// How a join went, for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumption {
    /// No `since`.
    Fresh,
    /// `since` was found.
    Recovered,
    /// `since` was not found.
    Reset,
}

/// The rooms of this node.
#[derive(Debug)]
pub(crate) struct Hub {
    rooms: DashMap<RoomId, Arc<Room>>,
    parts: Arc<Parts>,
}

impl Hub {
    pub(crate) fn new(parts: Parts) -> Hub {
        Hub { rooms: DashMap::new(), parts: Arc::new(parts) }
    }

    /// How many rooms have members here, or had a moment ago.
    pub(crate) fn len(&self) -> usize {
        self.rooms.len()
    }

    fn room(&self, id: &RoomId) -> Arc<Room> {
        if let Some(room) = self.known(id) {
            return room;
        }
        // The guard of the entry ends with the statement; the task it starts only reads.
        let room = self.rooms.entry(id.clone()).or_insert_with(|| {
            let room = Room::new(id.clone(), Arc::clone(&self.parts));
            self.parts.metrics.rooms.inc();
            tokio::spawn(synchronise::run(Arc::clone(&room)));
            room
        });
        Arc::clone(&room)
    }

    fn known(&self, id: &RoomId) -> Option<Arc<Room>> {
        // The guard ends with the statement.
        self.rooms.get(id).map(|room| Arc::clone(&room))
    }

    /// What the broker says.
    pub(crate) fn take(&self, delivery: Delivery) {
        match delivery {
            Delivery::Entry(entry) => self.deliver(&entry),
            Delivery::Watermark(watermark) => self.watermark(&watermark),
            Delivery::Signal(Signal::Room { room, what }) => {
                if let Some(room) = self.known(&room) {
                    room.signal(what);
                }
            }
            // What is for the whole node is none of the rooms' business.
            Delivery::Signal(Signal::Nodes(_)) => {}
            Delivery::Gap => {
                // Collected first: no guard is held while a room works.
                let rooms: Vec<Arc<Room>> =
                    self.rooms.iter().map(|room| Arc::clone(&room)).collect();
                if !rooms.is_empty() {
                    warn!(
                        rooms = rooms.len(),
                        "publications may be lost; rooms read what they missed"
                    );
                }
                for room in rooms {
                    room.resynchronise();
                }
            }
        }
    }

    fn deliver(&self, entry: &RingEntry) {
        match Logged::from_entry(entry) {
            Ok((id, logged)) => {
                if let Some(room) = self.known(&id) {
                    room.deliver(logged);
                }
            }
            Err(error) => error!(error = ?error, "publication is no entry"),
        }
    }

    fn watermark(&self, watermark: &Watermark) {
        // Senders hear of what was refused before the watermark passes it.
        for rejected in &watermark.rejected {
            if let Some(room) = self.known(&rejected.room) {
                room.rejected(rejected);
            }
        }
        for (id, upto) in &watermark.rooms {
            if let Some(room) = self.known(id) {
                room.persisted(*upto);
            }
        }
    }

    /// Messages of the room were erased.
    pub(crate) fn erased(&self, id: &RoomId) {
        if let Some(room) = self.known(id) {
            room.erased();
        }
    }

    /// Enters a room. `reply` is called once, when no event of the room can precede it.
    pub(crate) async fn join(
        &self,
        id: &RoomId,
        joiner: Joiner,
        since: Option<Since>,
        reply: &(dyn Fn(Resumption, Joined<'_>) + Sync),
    ) -> Result<Membership, Refusal> {
        let patience = Duration::from_millis(APPEND_TIMEOUT_MS);
        let cursor = since.map(Cursor::from);
        match tokio::time::timeout(patience, self.try_join(id, &joiner, cursor, reply)).await {
            Ok(Ok(membership)) => Ok(membership),
            Ok(Err(failure)) => {
                warn!(room.id = %id, error = ?failure, "room cannot be joined");
                Err(unreadable())
            }
            Err(_) => Err(unreadable()),
        }
    }

    async fn try_join(
        &self,
        id: &RoomId,
        joiner: &Joiner,
        since: Option<Cursor>,
        reply: &(dyn Fn(Resumption, Joined<'_>) + Sync),
    ) -> Result<Membership, SourceError> {
        let sources = &self.parts.sources;
        for _ in 0..JOIN_TRIES_MAX {
            let room = self.room(id);
            room.settled().await;
            let erasures = room.erasures();
            let joined = match &since {
                None => self.join_latest(&room, joiner, Resumption::Fresh, reply).await?,
                Some(cursor) if room.knows(cursor) => {
                    let reply = |joined: Joined<'_>| reply(Resumption::Recovered, joined);
                    room.join_after(joiner.clone(), cursor, None, reply)
                }
                Some(cursor) if sources.can_resume(id, cursor).await? => {
                    let page = sources.after(id, cursor.position, joiner.limit).await?;
                    let reply = |joined: Joined<'_>| reply(Resumption::Recovered, joined);
                    room.join_after(joiner.clone(), cursor, Some(&page), reply)
                }
                Some(_) => self.join_latest(&room, joiner, Resumption::Reset, reply).await?,
            };
            match joined {
                Ok(membership) => {
                    room.recheck(joiner.member, erasures);
                    return Ok(membership);
                }
                Err(Miss::Retired | Miss::Memory) => {}
            }
        }
        Err(SourceError::Unsettled)
    }

    async fn join_latest(
        &self,
        room: &Arc<Room>,
        joiner: &Joiner,
        how: Resumption,
        reply: &(dyn Fn(Resumption, Joined<'_>) + Sync),
    ) -> Result<Result<Membership, Miss>, SourceError> {
        let reply = |joined: Joined<'_>| reply(how, joined);
        match room.join_latest(joiner.clone(), None, reply) {
            Err(Miss::Memory) => {}
            other => return Ok(other),
        }
        let floor = room.floor();
        let Messages { messages, more } =
            self.parts.sources.messages_before(&room.id, floor.next(), joiner.limit).await?;
        Ok(room.join_latest(joiner.clone(), Some((floor, &messages, more)), reply))
    }

    /// The page of messages below `before`, or above `after`.
    pub(crate) async fn history(
        &self,
        id: &RoomId,
        bound: Bound,
        limit: u32,
    ) -> Result<Messages, Refusal> {
        let sources = &self.parts.sources;
        let (read, from_back) = match bound {
            Bound::Before(before) => (sources.messages_before(id, before, limit).await, true),
            Bound::After(after) => (sources.messages_after(id, after, limit).await, false),
        };
        let mut page = read.map_err(|failure| {
            warn!(room.id = %id, error = ?failure, "history cannot be read");
            unreadable()
        })?;
        let count = page.messages.len();
        if from_back {
            let fit = recent::fitting(page.messages.iter().rev()).min(count);
            page.messages.drain(..count - fit);
        } else {
            page.messages.truncate(recent::fitting(page.messages.iter()).min(count));
        }
        page.more |= page.messages.len() < count;
        Ok(page)
    }

    /// Finds rooms whose subscription has died without a word: behind the log, and still behind
    /// when what is on its way should have come. A room that the log has lost is not behind.
    pub(crate) async fn compare_rooms(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(COMPARE_INTERVAL_MS)).await;
            // Collected first: no guard is held while the log is asked.
            let rooms: Vec<Arc<Room>> = self.rooms.iter().map(|room| Arc::clone(&room)).collect();
            let mut behind = Vec::new();
            for room in rooms {
                match self.parts.sources.head(&room.id).await {
                    Ok((head, persisted)) => {
                        room.persisted(persisted.min(room.head()));
                        if room.head() < head {
                            behind.push((room, head));
                        }
                    }
                    Err(error) => {
                        debug!(room.id = %room.id, error = ?error, "room cannot be compared");
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(COMPARE_GRACE_MS)).await;
            for (room, head) in behind {
                if room.head() < head {
                    warn!(room.id = %room.id, "room had fallen behind the log");
                    self.parts.metrics.gaps_total.inc();
                    room.resynchronise();
                }
            }
        }
    }

    /// Takes out rooms that have lost their last member and stay empty for a while.
    pub(crate) async fn retire_rooms(&self) {
        loop {
            self.parts.empty.notified().await;
            tokio::time::sleep(Duration::from_millis(ROOM_LINGER_MS)).await;
            let mut retired = Vec::new();
            self.rooms.retain(|id, room| {
                let retire = room.retire_if_empty();
                if retire {
                    self.parts.metrics.rooms.dec();
                    retired.push(id.clone());
                }
                !retire
            });
            for id in retired {
                if let Err(error) = self.parts.broker.unsubscribe(&id).await {
                    warn!(room.id = %id, error = ?error, "room stays subscribed");
                }
                // Entered again meanwhile: its new room may have subscribed before that.
                if let Some(room) = self.known(&id) {
                    room.resynchronise();
                }
            }
        }
    }
}

/// Which page of a room's history.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// Ends below this position.
    Before(Position),
    /// Begins above this position.
    After(Position),
}

fn unreadable() -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "the room cannot be read now").retry_after_ms(1000)
}
