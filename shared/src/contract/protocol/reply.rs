//! Replies to commands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::{Present, Receipt, TypingMark};
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::position::Position;
use crate::contract::timestamp::Timestamp;

/// How safe an accepted message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// In the log, on its way to the database.
    Log,
    /// In this node's journal, without a position yet.
    Journal,
    /// In the database.
    Store,
}

/// Reply to `auth`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthReply {
    /// When the proof ends, and with it the connection unless refreshed; absent when never.
    pub expires_at: Option<Timestamp>,
}

/// Reply to `room:join`, without its `messages`, which are spliced in already encoded.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinReply {
    /// The room.
    pub room_id: RoomId,
    /// Where the room's order stands.
    pub head: Position,
    /// Up to where it is in the database.
    pub persisted: Position,
    /// `since` was found; `messages` are the first changes after it.
    pub recovered: bool,
    /// `since` was not found; forget what you have, `messages` are the latest.
    pub reset: bool,
    /// Recovered: the rest follows by itself; else: older ones exist.
    pub has_more: bool,
    /// Who is here; empty where they are more than are listed.
    pub presence: BTreeMap<UserId, Present>,
    /// How many are here.
    pub presence_count: usize,
    /// Who has read how far.
    pub receipts: BTreeMap<UserId, Receipt>,
    /// Who is typing.
    pub typing: BTreeMap<UserId, TypingMark>,
    /// Others' messages behind one's own receipt; counts no further than 1000.
    pub unread: u64,
}

/// Reply to `room:leave`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Done {}

/// Reply to `message:send`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendReply {
    /// The message's id.
    pub id: MessageId,
    /// Its place; `null` while it is only journaled.
    pub position: Option<Position>,
    /// It stood there already.
    pub duplicate: bool,
    /// It is in the database.
    pub persisted: bool,
    /// How safe it is.
    pub durability: Durability,
}

/// Reply to `history:get`, without its `messages`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryReply {
    /// There are more on the side that was asked for.
    pub has_more: bool,
}

/// Reply to `message:edit` and `message:delete`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeReply {
    /// The change's id.
    pub change_id: MessageId,
    /// The change's place; `null` while it is only journaled.
    pub position: Option<Position>,
    /// It was made already.
    pub duplicate: bool,
    /// It is in the database.
    pub persisted: bool,
    /// How safe it is, where it is only journaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

/// Reply to `message:stream:start` and `message:stream:append`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamReply {
    /// The answer.
    pub id: MessageId,
    /// How much of it there is, in UTF-16 code units: where the next delta begins.
    pub offset: u64,
}

/// Reply to `receipt:update`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReceiptReply {
    /// How far one has read now.
    pub position: Position,
    /// How safe that is, where it is only journaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

/// Reply to `credits:track`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrackReply {
    /// The movement's id.
    pub id: MessageId,
    /// It was counted already.
    pub duplicate: bool,
    /// How safe it is, where it is only journaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}
