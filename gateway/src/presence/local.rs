//! This node's part in presence: its members, its lease, and its view of other nodes.
//!
//! What is asked of it is answered from memory, at once. A task announces what has changed, one
//! call at a time, until it has come through; another holds the lease and looks at the others'.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use shared::contract::id::{RoomId, UserId};
use shared::contract::limits::PRESENCE_BATCH_MAX;
use shared::contract::protocol::PresenceStatus;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::signal::{NodeSignal, PresenceState, RoomSignal, Signal};
use shared::contract::timestamp::Timestamp;
use shared::log::LogError;
use shared::process::backoff::Backoff;
use shared::process::clock::Clock;
use shared::process::error_chain::error_chain;
use shared::trouble;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::info;
use uuid::Uuid;

use super::lease::{LeaseMonitor, LeasePoll};
use super::members::LocalMembers;
use super::{Presence, PresenceChange, PresenceEntry, PresenceError, Renewal};
use crate::broker::Broker;
use crate::metrics::Metrics;

pub(crate) use super::members::{ConnectionId, Parting};

const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One node's part in presence.
#[derive(Debug)]
pub(crate) struct LocalPresence {
    presence: Arc<dyn Presence>,
    broker: Arc<dyn Broker>,
    clock: Clock,
    metrics: Arc<Metrics>,
    state: Mutex<LocalState>,
    /// Something is to be announced, or may be now.
    changed: Notify,
}

#[derive(Debug)]
struct LocalState {
    members: LocalMembers,
    monitor: LeaseMonitor,
    /// Own runs that have ended and are to be taken out, once their people are announced anew.
    ended: Vec<Uuid>,
    settled: bool,
    left: bool,
}

/// What others have to do after a look at the leases.
#[derive(Debug, Default)]
pub(crate) struct LeaseReport {
    /// These runs are dead: their people are not there any more.
    pub(crate) died: Vec<Uuid>,
    /// Nobody has cleaned up after these.
    pub(crate) to_clean_up: Vec<Uuid>,
    /// What this node sees of others counts again: who is there has to be read anew.
    pub(crate) settled: bool,
}

/// Who else is in a room.
#[derive(Debug)]
pub(crate) struct Others {
    pub(crate) entries: Vec<PresenceEntry>,
    /// Whoever is not among them is gone; otherwise it may have been forgotten.
    pub(crate) complete: bool,
}

/// Why something was not announced.
#[derive(Debug, thiserror::Error)]
enum AnnounceError {
    #[error(transparent)]
    Presence(#[from] PresenceError),
    #[error(transparent)]
    Log(#[from] LogError),
}

impl LocalPresence {
    pub(crate) fn new(
        presence: Arc<dyn Presence>,
        broker: Arc<dyn Broker>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> LocalPresence {
        let state = LocalState {
            members: LocalMembers::default(),
            monitor: LeaseMonitor::new(Uuid::new_v4()),
            ended: Vec::new(),
            settled: false,
            left: false,
        };
        let (state, changed) = (Mutex::new(state), Notify::new());
        LocalPresence { presence, broker, clock, metrics, state, changed }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    /// Does something with the people, and wakes whoever announces it.
    fn with_members<T>(&self, change: impl FnOnce(&mut LocalMembers) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state.members);
        let (present, unannounced) = (state.members.present(), state.members.is_unannounced());
        drop(state);
        self.metrics.presence_people.set(i64::try_from(present).unwrap_or(i64::MAX));
        if unannounced {
            self.changed.notify_one();
        }
        result
    }

    // --- People ---

    /// A connection is in a room.
    pub(crate) fn enter(&self, room: &RoomId, user: &UserId, connection: ConnectionId) {
        let at = self.now();
        self.with_members(|members| members.enter((room, user), connection, at));
    }

    /// A connection is no longer in a room.
    pub(crate) fn part(
        &self,
        room: &RoomId,
        user: &UserId,
        connection: ConnectionId,
        how: Parting,
    ) {
        self.with_members(|members| members.part((room, user), connection, how, Instant::now()));
    }

    /// A connection says whether its user does something.
    pub(crate) fn say(
        &self,
        room: &RoomId,
        user: &UserId,
        connection: ConnectionId,
        status: PresenceStatus,
    ) {
        let at = self.now();
        self.with_members(|members| members.say((room, user), connection, status, at));
    }

    /// Somebody did something.
    pub(crate) fn touch(&self, room: &RoomId, user: &UserId) {
        let at = self.now();
        self.with_members(|members| members.touch((room, user), at));
    }

    /// How people are there who need no connection, until a minute from now; `None`: not any more.
    pub(crate) fn host(
        &self,
        room: &RoomId,
        guests: &[(UserId, Option<PresenceStatus>)],
    ) -> Result<(), Refusal> {
        let time = (self.now(), Instant::now());
        let room_left = self.with_members(|members| {
            guests.iter().all(|(user, status)| members.host((room, user), *status, time))
        });
        if room_left {
            return Ok(());
        }
        let text = "more people are said to be present than a node takes";
        Err(Refusal::new(RefusalCode::Backpressure, text).retry_after_ms(1000))
    }

    /// Tells the other nodes of whom the backend has just said something here. Where that is lost,
    /// what it said to them before ends with its time.
    pub(crate) async fn tell_hosted(&self, room: &RoomId, users: Vec<UserId>) {
        let (incarnation, at) = (self.state.lock().monitor.incarnation(), self.now());
        let signal = NodeSignal::Hosted { room: room.clone(), users, incarnation, at };
        if let Err(error) = self.broker.signal(&Signal::Nodes(signal)).await {
            trouble!(
                room.id = %room,
                error = error_chain(&error),
                "others are not told who is said to be there"
            );
        }
    }

    /// The backend has said something to another node of these people; gives those of whom it had
    /// said something here before.
    pub(crate) fn overruled(
        &self,
        room: &RoomId,
        users: &[UserId],
        (incarnation, at): (Uuid, Timestamp),
    ) -> Vec<UserId> {
        if self.state.lock().monitor.is_own(incarnation) {
            return Vec::new();
        }
        let ended = |members: &mut LocalMembers| {
            users.iter().filter(|user| members.unhost((room, user), at)).cloned().collect()
        };
        self.with_members(ended)
    }

    /// How somebody is there through this node.
    pub(crate) fn standing(&self, room: &RoomId, user: &UserId) -> Option<PresenceState> {
        self.state.lock().members.standing((room, user))
    }

    /// Everybody in a room through this node.
    pub(crate) fn members(&self, room: &RoomId) -> Vec<(UserId, PresenceState)> {
        self.state.lock().members.of(room)
    }

    /// Whose time is over.
    pub(crate) fn expire(&self) -> Vec<(RoomId, UserId)> {
        self.with_members(|members| members.expire(Instant::now()))
    }

    // --- Others ---

    /// Whether to believe that somebody is there through a run, which is not one of this process.
    pub(crate) fn accept(&self, incarnation: Uuid) -> bool {
        self.state.lock().monitor.accept(incarnation, Instant::now())
    }

    /// Who is in a room through other nodes. What is kept wrongly of this node's own people is
    /// announced again, what is left of the dead is taken out.
    pub(crate) async fn others(&self, room: &RoomId) -> Result<Others, PresenceError> {
        // As of when it was asked: what was forgotten since is in the answer's place.
        let complete = self.state.lock().monitor.is_settled(Instant::now());
        let listed = self.presence.list(room).await?;
        let (mut entries, mut own, mut stale) = (Vec::new(), HashMap::new(), Vec::new());
        {
            let mut state = self.state.lock();
            let current = state.monitor.incarnation();
            for entry in listed {
                if state.monitor.accept(entry.incarnation, Instant::now()) {
                    entries.push(entry);
                } else if entry.incarnation == current {
                    own.insert(entry.user, entry.standing);
                } else if !state.monitor.is_own(entry.incarnation) {
                    stale.push((entry.user, entry.incarnation));
                }
            }
        }
        self.with_members(|members| members.compare(room, &own));
        if !stale.is_empty() {
            self.presence.forget(room, &stale).await?;
        }
        Ok(Others { entries, complete })
    }

    /// A run was reaped. `false` when it is, or was, this process's own: then its people are
    /// announced anew under another.
    pub(crate) fn reaped(&self, incarnation: Uuid) -> bool {
        let mut state = self.state.lock();
        if state.monitor.is_own(incarnation) {
            if state.monitor.incarnation() == incarnation {
                self.start_new_incarnation(&mut state);
            }
            return false;
        }
        state.monitor.mark_dead(incarnation, Instant::now());
        true
    }

    /// Says how many connections this node has, and gives those of all nodes.
    pub(crate) async fn loads(&self, own: u64) -> Result<Vec<u64>, PresenceError> {
        let incarnation = self.state.lock().monitor.incarnation();
        self.presence.loads(incarnation, own).await
    }

    // --- The lease ---

    /// Goes on as another run, to which everybody who is here belongs from now on.
    fn start_new_incarnation(&self, state: &mut LocalState) {
        let ended = state.monitor.start_new_incarnation(Uuid::new_v4());
        info!(incarnation = %state.monitor.incarnation(), %ended, "going on under a new lease");
        state.ended.push(ended);
        state.members.forget_announced();
        self.changed.notify_one();
    }

    /// Renews the lease where that is due, and looks at the others'.
    pub(crate) async fn renew(&self) -> LeaseReport {
        if let Err(error) = self.renew_lease().await {
            self.state.lock().monitor.failed();
            trouble!(error = error_chain(&error), "the lease cannot be renewed");
        }
        let poll = self.poll().await.unwrap_or_else(|error| {
            self.state.lock().monitor.failed();
            trouble!(error = error_chain(&error), "the leases cannot be looked at");
            LeasePoll::default()
        });
        let mut state = self.state.lock();
        let settles = state.monitor.is_settled(Instant::now());
        let settled = settles && !state.settled;
        state.settled = settles;
        let LeasePoll { died, to_clean_up } = poll;
        LeaseReport { died, to_clean_up, settled }
    }

    async fn renew_lease(&self) -> Result<(), PresenceError> {
        // A lease that turns out to have lapsed is followed by another at once.
        for _ in 0..2 {
            let began = Instant::now();
            let (incarnation, renewal) = {
                let mut state = self.state.lock();
                if state.left {
                    return Ok(());
                }
                if state.monitor.is_overdue(began) {
                    self.start_new_incarnation(&mut state);
                }
                let Some(renewal) = state.monitor.renewal(began) else { return Ok(()) };
                (state.monitor.incarnation(), renewal)
            };
            let holds = self.presence.renew(incarnation, renewal).await?;
            let mut state = self.state.lock();
            if state.monitor.incarnation() != incarnation {
                continue;
            }
            if holds {
                state.monitor.renewed(began, Instant::now());
                self.changed.notify_one();
                return Ok(());
            }
            self.start_new_incarnation(&mut state);
        }
        Ok(())
    }

    async fn poll(&self) -> Result<LeasePoll, PresenceError> {
        let began = Instant::now();
        let leases = self.presence.leases().await?;
        Ok(self.state.lock().monitor.poll(began, Instant::now(), &leases))
    }

    /// Cleans up after a dead run, unless another node does.
    pub(crate) async fn clean_up(&self, incarnation: Uuid) {
        match self.presence.clean_up(incarnation).await {
            Ok(true) => {
                info!(%incarnation, "cleaned up after a node whose lease has lapsed");
                self.metrics.nodes_reaped_total.inc();
                // Whoever does not hear it finds out by itself.
                let _ =
                    self.broker.signal(&Signal::Nodes(NodeSignal::Reaped { incarnation })).await;
            }
            Ok(false) => {}
            Err(error) => {
                trouble!(%incarnation, error = error_chain(&error), "cannot clean up after a node")
            }
        }
    }

    /// The node leaves: its people stay for those few seconds in which they come back elsewhere.
    pub(crate) async fn leave(&self) {
        let incarnation = {
            let mut state = self.state.lock();
            state.left = true;
            state.monitor.incarnation()
        };
        if let Err(error) = self.presence.renew(incarnation, Renewal::Last).await {
            trouble!(error = error_chain(&error), "the lease ends by itself");
        }
    }

    // --- Announcing ---

    /// Announces whatever changes, for as long as the node lives.
    pub(crate) async fn announce(&self) {
        let mut pauses = Backoff::new(PAUSE, PAUSE_MAX);
        loop {
            match self.announce_some().await {
                Ok(true) => pauses.reset(),
                Ok(false) => self.changed.notified().await,
                Err(error) => {
                    trouble!(error = error_chain(&error), "presence will be announced again");
                    tokio::time::sleep(pauses.next_delay()).await;
                }
            }
        }
    }

    /// One step; `false` when there is nothing to announce.
    async fn announce_some(&self) -> Result<bool, AnnounceError> {
        let (incarnation, changes, ended) = {
            let mut state = self.state.lock();
            // Without a lease, nobody could clean up after this run.
            if !state.monitor.is_leased() {
                return Ok(false);
            }
            let changes = state.members.take(PRESENCE_BATCH_MAX);
            (state.monitor.incarnation(), changes, state.ended.first().copied())
        };
        if !changes.is_empty() {
            let told = self.tell(incarnation, &changes).await;
            let mut state = self.state.lock();
            if told.is_err() && state.monitor.incarnation() == incarnation {
                state.members.failed(&changes);
            }
            return told.map(|()| true);
        }
        // Only now: everybody who is still here is known under the present run.
        let Some(ended) = ended else { return Ok(false) };
        self.presence.withdraw(ended).await?;
        let signal = Signal::Nodes(NodeSignal::Reaped { incarnation: ended });
        self.broker.signal(&signal).await?;
        self.state.lock().ended.retain(|other| *other != ended);
        Ok(true)
    }

    /// Kept first, then told: whoever reads after the word finds what it says.
    async fn tell(
        &self,
        incarnation: Uuid,
        changes: &[PresenceChange],
    ) -> Result<(), AnnounceError> {
        self.presence.announce(incarnation, changes).await?;
        let signals: Vec<Signal> = changes
            .iter()
            .map(|PresenceChange { room, user, standing, .. }| Signal::Room {
                room: room.clone(),
                what: RoomSignal::Presence { user: user.clone(), incarnation, standing: *standing },
            })
            .collect();
        let told = join_all(signals.iter().map(|signal| self.broker.signal(signal))).await;
        told.into_iter().collect::<Result<(), LogError>>().map_err(AnnounceError::from)
    }
}

#[cfg(test)]
mod tests;
