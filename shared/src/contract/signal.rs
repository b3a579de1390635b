//! Signals between nodes beside the log: best effort, without a position, never stored.
//!
//! JSON, behind no version byte: a node drops what it cannot read. On a room's channel a signal
//! begins with `{`, an entry of the log with the digits of its position.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::id::{MessageId, RoomId, UserId};
use super::message::MessageType;
use super::position::Position;
use super::protocol::{PresenceStatus, StreamState};
use super::timestamp::Timestamp;

/// Something that is published, with whose it is: what bears another's name is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Addressed<T> {
    /// [`Channels::owner`](super::keys::Channels::owner) of whoever published it.
    pub owner: String,
    /// What is told.
    pub told: T,
}

/// A signal and whom it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// The nodes with members of this room.
    Room {
        /// The room.
        room: RoomId,
        /// What happened in it.
        what: RoomSignal,
    },
    /// Every node.
    Nodes(NodeSignal),
}

/// What happens in a room and has no place in its order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomSignal {
    /// Somebody types, or has stopped.
    Typing {
        /// Who.
        user: UserId,
        /// For how long the mark holds, in milliseconds; 0 takes it away.
        ms: u64,
    },
    /// Somebody has read on.
    Receipt(ReadMark),
    /// How somebody is present through one node.
    Presence {
        /// Who.
        user: UserId,
        /// Through which run of which node.
        incarnation: Uuid,
        /// How; `None` when they are gone from there.
        standing: Option<PresenceState>,
    },
    /// A part of an answer that is being written.
    Stream(StreamPart),
}

/// How far somebody has read a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadMark {
    /// Who.
    pub user: UserId,
    /// The last place they have read; grows only.
    pub position: Position,
    /// The message there, where known.
    pub message_id: Option<MessageId>,
    /// When.
    pub read_at: Timestamp,
}

/// How somebody is present through a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceState {
    /// Active or idle.
    pub status: PresenceStatus,
    /// When they last did something.
    pub last_active_at: Timestamp,
}

/// A part of an answer that is being written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamPart {
    /// The message it will be.
    pub id: MessageId,
    /// Who sends it.
    pub user: UserId,
    /// Who speaks.
    pub kind: MessageType,
    /// Where `delta` begins, in UTF-16 code units of the whole text.
    pub offset: u64,
    /// What is new.
    pub delta: String,
    /// How it goes on.
    pub state: StreamState,
}

/// What every node has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeSignal {
    /// This one's connections are to be closed.
    Disconnect {
        /// Whose.
        user: UserId,
    },
    /// Tokens were revoked: read the revocations anew.
    Revoked,
    /// This one asked too often for too long.
    Blocked {
        /// Who.
        user: UserId,
        /// Until when, in Unix milliseconds.
        until_ms: i64,
    },
    /// Messages of this room were erased: forget what you remember of it.
    Erased {
        /// Which room.
        room: RoomId,
    },
    /// The backend has said to one node how people are in a room: what it said of them to any other
    /// node before that counts no more.
    Hosted {
        /// Which room.
        room: RoomId,
        /// Of whom.
        users: Vec<UserId>,
        /// To which run of a node.
        incarnation: Uuid,
        /// When.
        at: Timestamp,
    },
    /// The lease of this run of a node has lapsed and was reaped.
    Reaped {
        /// Which run.
        incarnation: Uuid,
    },
}
