//! Presence: who is in which room, on this node and on the others.
//!
//! Each run of a node (an *incarnation*) announces the people who are there through it, and holds
//! one lease for all of them: one write every 2 s however many they are. Whoever finds a lease
//! lapsed forgets that node's people; the first to take a lock cleans up. A run that finds its own
//! lease lapsed does not take it up again: it goes on as another, and announces its people anew.
//! Best effort, with a bound: the people of a dead node are gone within 10 s.

pub(crate) mod local;
mod members;
mod lease;
pub mod memory;
pub mod redis;

use std::collections::BTreeSet;

use async_trait::async_trait;
use shared::contract::id::{RoomId, UserId};
use shared::contract::signal::PresenceState;
use uuid::Uuid;

/// How a lease goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It begins.
    First,
    /// It goes on for [`LEASE_MS`](shared::contract::limits::LEASE_MS), unless it has lapsed.
    Again,
    /// The node leaves: it ends in
    /// [`PRESENCE_LINGER_MS`](shared::contract::limits::PRESENCE_LINGER_MS).
    Last,
}

/// The runs of nodes that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// Their leases hold.
    pub living: BTreeSet<Uuid>,
    /// Their leases have lapsed, and nobody has cleaned up after them.
    pub lapsed: BTreeSet<Uuid>,
}

/// Something to announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceChange {
    /// Where.
    pub room: RoomId,
    /// Who.
    pub user: UserId,
    /// How they are there through this node; `None` when they are not any more.
    pub standing: Option<PresenceState>,
    /// Nobody else is in that room through this node.
    pub last: bool,
}

/// Somebody who is in a room through one run of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceEntry {
    /// Who.
    pub user: UserId,
    /// Through which run.
    pub incarnation: Uuid,
    /// How.
    pub standing: PresenceState,
}

/// Where presence is kept does not answer; what was asked may or may not have been done.
#[derive(Debug, thiserror::Error)]
#[error("presence is not answered for")]
pub struct PresenceError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Keeps who is in which room through which run of which node. Memory keeps one process's people;
/// Redis keeps a fleet's. Both pass one suite of contract tests.
///
/// It keeps what it is told and tells nobody: nodes signal their changes to one another. Whether an
/// entry counts is the reader's to judge, by the lease of its run.
#[async_trait]
pub trait Presence: std::fmt::Debug + Send + Sync + 'static {
    /// Holds the lease of a run. `false` when it has lapsed or was lost: it is not taken up again.
    /// The time is that of wherever leases are kept, one clock for all nodes.
    async fn renew(&self, incarnation: Uuid, renewal: Renewal) -> Result<bool, PresenceError>;

    /// Which leases hold at this moment, and which do not any more.
    async fn leases(&self) -> Result<Leases, PresenceError>;

    /// Says how many connections a run has, and gives those of every run whose lease holds and that
    /// has said so, its own among them.
    async fn loads(&self, incarnation: Uuid, own: u64) -> Result<Vec<u64>, PresenceError>;

    /// Sets or takes out people of a run, each as it is said last. One call at a time of one run;
    /// repeating it is harmless.
    async fn announce(
        &self,
        incarnation: Uuid,
        changes: &[PresenceChange],
    ) -> Result<(), PresenceError>;

    /// Everybody in a room, through whatever run, its lease lapsed or not.
    async fn list(&self, room: &RoomId) -> Result<Vec<PresenceEntry>, PresenceError>;

    /// Takes out a run with all its people, for that run itself.
    async fn withdraw(&self, incarnation: Uuid) -> Result<(), PresenceError>;

    /// Takes out another's run with all its people, if its lease has lapsed and nobody else is at
    /// it; says whether it did.
    async fn clean_up(&self, incarnation: Uuid) -> Result<bool, PresenceError>;

    /// Takes out single entries of runs that were taken out before.
    async fn forget(&self, room: &RoomId, stale: &[(UserId, Uuid)]) -> Result<(), PresenceError>;
}
