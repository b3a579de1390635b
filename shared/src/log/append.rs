//! What is appended to the log, and what becomes of it.

use uuid::Uuid;

use crate::contract::envelope::Envelope;
use crate::contract::id::UserId;
use crate::contract::position::Position;
use crate::contract::protocol::Durability;
use crate::contract::refusal::Refusal;

/// An entry to append.
#[derive(Clone, Debug)]
pub struct Append {
    /// What to append.
    pub envelope: Envelope,
    /// A digest of its content: the same id with another digest is a conflict.
    pub digest: Uuid,
    /// What a message costs: an entry of the log of its own, before the message's and in the same
    /// step, so that where the message is persisted its cost is too.
    pub cost: Option<Envelope>,
    /// Who sent the message that an edit is about: offered again, the edit waits for it.
    pub author: Option<UserId>,
}

/// What became of one append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It stands.
    Placed(Placement),
    /// Its id stands with other content.
    Conflict,
    /// The database has refused it for good.
    Rejected(Refusal),
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// In the room's order; of what has no place there, in the log.
    pub position: Position,
    /// It stood there already.
    pub duplicate: bool,
    /// It is in the database.
    pub persisted: bool,
}

impl Placement {
    /// Of what the database has had for a while.
    #[must_use]
    pub fn stored(position: Position) -> Placement {
        Placement { position, duplicate: true, persisted: true }
    }

    /// How safe it is.
    #[must_use]
    pub fn durability(&self) -> Durability {
        if self.persisted { Durability::Store } else { Durability::Log }
    }
}

/// What became of a batch: an answer for each entry before the stop.
#[derive(Debug)]
pub struct AppendBatchResult {
    /// In the order of the entries.
    pub done: Vec<Appended>,
    /// Why it ended early; nothing was done of what lies behind.
    pub stop: Option<AppendStop>,
}

/// Why a batch of appends ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendStop {
    /// The epoch is another; nothing of the batch was done.
    Stale,
    /// The entry's room is unknown under this epoch: hydrate it and offer the rest again.
    Unhydrated,
    /// What is not persisted is at a cap of the log, in entries or bytes, or the log has no memory
    /// left for what is new.
    Full,
}

/// What an append goes past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// Nothing: what anybody sends.
    Nothing,
    /// The caps of the log and of its memory: what the worker adds of its own, which frees more
    /// than it takes.
    Caps,
    /// The caps, and what is remembered of the id where the database refused it.
    Refusals,
}
