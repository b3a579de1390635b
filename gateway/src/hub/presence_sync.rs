//! Keeps presence of all local rooms current: leases, expiry, periodic reconciliation.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::id::{RoomId, UserId};
use shared::contract::limits::{COMPARE_INTERVAL_MS, LEASE_LOOK_MS, PRESENCE_GATHER_MS};
use shared::contract::protocol::{PresenceList, PresenceStatus};
use shared::contract::refusal::Refusal;
use shared::contract::timestamp::Timestamp;
use shared::process::error_chain::error_chain;
use shared::trouble;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};
use uuid::Uuid;

use super::room::Room;
use super::{Hub, unreadable};
use crate::presence::PresenceError;

/// Readings of one room in a row, where each is overtaken by what is signalled.
const READINGS_MAX: usize = 5;

/// Reads who is in a room through other nodes; it has to be subscribed already. `lost`: signals may
/// have been missed, and members with them.
pub(super) async fn read(room: &Arc<Room>, lost: bool) -> Result<(), PresenceError> {
    for _ in 0..READINGS_MAX {
        let reading = room.change(|state| state.ephemeral.begin_reading_presence());
        let others = room.parts.presence.others(&room.id).await?;
        if room.change(|state| state.ephemeral.finish_reading_presence(reading, &others, lost)) {
            return Ok(());
        }
    }
    warn!(room.id = %room.id, "too much changes to read who is there; it is compared later");
    Ok(())
}

impl Hub {
    /// Looks after who is there, for as long as the node lives.
    pub(crate) async fn attend(&self) {
        let presence = &self.parts.presence;
        tokio::join!(
            presence.announce(),
            self.renew_lease(),
            self.expire(),
            self.compare_attendance()
        );
    }

    /// Holds the lease, and takes the dead off the boards.
    async fn renew_lease(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(LEASE_LOOK_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reaping: Option<JoinHandle<()>> = None;
        loop {
            ticks.tick().await;
            let report = self.parts.presence.renew().await;
            for died in report.died {
                self.mark_dead(died);
            }
            if report.settled {
                self.parts.unsure.notify_one();
            }
            // Beside the renewals: a node that had many people takes longer than a lease holds.
            // What is left for a later look, that look finds.
            if !report.to_clean_up.is_empty()
                && reaping.as_ref().is_none_or(JoinHandle::is_finished)
            {
                let presence = Arc::clone(&self.parts.presence);
                reaping = Some(tokio::spawn(async move {
                    for dead in report.to_clean_up {
                        presence.clean_up(dead).await;
                    }
                }));
            }
        }
    }

    /// A run of a node was reaped.
    pub(crate) fn reaped(&self, incarnation: Uuid) {
        if self.parts.presence.reaped(incarnation) {
            self.mark_dead(incarnation);
        }
    }

    fn mark_dead(&self, incarnation: Uuid) {
        for room in self.all() {
            room.change(|state| state.ephemeral.mark_dead(incarnation));
        }
    }

    /// Ends the time of those who did not come back.
    async fn expire(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(PRESENCE_GATHER_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (room, user) in self.parts.presence.expire() {
                if let Some(room) = self.known(&room) {
                    room.change(|state| state.ephemeral.refresh(&user));
                }
            }
        }
    }

    /// Compares who is there with what is kept: now and then, because signals may be lost without a
    /// word, and when this node can tell again whether what is kept is complete.
    async fn compare_attendance(&self) {
        let interval = Duration::from_millis(COMPARE_INTERVAL_MS);
        loop {
            // Either way it is time to compare.
            let _ = tokio::time::timeout(interval, self.parts.unsure.notified()).await;
            for room in self.all().into_iter().filter(|room| room.read(|state| state.settled)) {
                if let Err(error) = read(&room, false).await {
                    debug!(room.id = %room.id, error = error_chain(&error),
                        "who is there cannot be compared");
                }
            }
        }
    }

    /// The node leaves.
    pub(crate) async fn leave(&self) {
        self.parts.presence.leave().await;
    }

    /// Says how many connections this node has, and gives those of all nodes.
    pub(crate) async fn loads(&self, own: u64) -> Result<Vec<u64>, PresenceError> {
        self.parts.presence.loads(own).await
    }

    /// How people are in a room who need no connection to this node, until a minute from now unless
    /// it is said again; `None`: not any more. Those who are connected are present all the same.
    ///
    /// # Errors
    /// `backpressure` when the node has too many of them.
    pub(crate) async fn host(
        &self,
        room: &RoomId,
        guests: &[(UserId, Option<PresenceStatus>)],
    ) -> Result<(), Refusal> {
        let hosted = self.parts.presence.host(room, guests);
        let users: Vec<UserId> = guests.iter().map(|(user, _)| user.clone()).collect();
        self.refresh_people(room, &users);
        // Whatever node it was that the backend spoke to last: its word counts.
        self.parts.presence.tell_hosted(room, users).await;
        hosted
    }

    /// The backend has said to another node how people are in a room.
    pub(crate) fn overruled(&self, room: &RoomId, users: &[UserId], said: (Uuid, Timestamp)) {
        let ended = self.parts.presence.overruled(room, users, said);
        self.refresh_people(room, &ended);
    }

    fn refresh_people(&self, room: &RoomId, users: &[UserId]) {
        if let Some(room) = self.known(room) {
            room.change(|state| users.iter().for_each(|user| state.ephemeral.refresh(user)));
        }
    }

    /// Who is in a room, whether this node has members of it or not.
    ///
    /// # Errors
    /// `unavailable` when it cannot be read.
    pub(crate) async fn present(&self, id: &RoomId) -> Result<PresenceList, Refusal> {
        let list = |room: Arc<Room>| {
            room.read(|state| state.settled.then(|| state.ephemeral.present(None)))
        };
        if let Some(list) = self.known(id).and_then(list) {
            return Ok(list);
        }
        // A room of its own, which nobody enters: what it reads is as good as what one would read.
        let room = Room::new(id.clone(), Arc::clone(&self.parts));
        read(&room, false).await.map_err(|error| {
            trouble!(room.id = %id, error = error_chain(&error), "who is there cannot be read");
            unreadable()
        })?;
        Ok(room.read(|state| state.ephemeral.present(None)))
    }
}
