//! Events, which the server sends unasked.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::message::MessageType;
use crate::contract::position::Position;
use crate::contract::refusal::{Refusal, RefusalCode};
use crate::contract::timestamp::Timestamp;

/// What a client is told, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventName {
    /// The answer to a command with a `ref`.
    #[serde(rename = "reply")]
    Reply,
    /// First of all.
    #[serde(rename = "welcome")]
    Welcome,
    /// A message stands in a room.
    #[serde(rename = "message:new")]
    MessageNew,
    /// A message waits in this node's journal, outside the order.
    #[serde(rename = "message:pending")]
    MessagePending,
    /// A message has another content.
    #[serde(rename = "message:update")]
    MessageUpdate,
    /// A message is gone.
    #[serde(rename = "message:delete")]
    MessageDelete,
    /// Everything of this epoch up to a position is in the database.
    #[serde(rename = "message:persisted")]
    MessagePersisted,
    /// The database refused a message for good.
    #[serde(rename = "message:rejected")]
    MessageRejected,
    /// A part of an answer that is being written.
    #[serde(rename = "message:stream")]
    MessageStream,
    /// Who is in a room.
    #[serde(rename = "presence:list")]
    PresenceList,
    /// Somebody came, went, or is active or idle.
    #[serde(rename = "presence:update")]
    PresenceUpdate,
    /// Somebody types.
    #[serde(rename = "typing:start")]
    TypingStart,
    /// Somebody types no more.
    #[serde(rename = "typing:stop")]
    TypingStop,
    /// Who has read how far.
    #[serde(rename = "receipt:list")]
    ReceiptList,
    /// Somebody has read on.
    #[serde(rename = "receipt:update")]
    ReceiptUpdate,
    /// One's balance has changed.
    #[serde(rename = "user:credits")]
    UserCredits,
    /// The server's heads.
    #[serde(rename = "heartbeat")]
    Heartbeat,
    /// An error without a `ref`.
    #[serde(rename = "room:error")]
    RoomError,
    /// This node is leaving; come back elsewhere.
    #[serde(rename = "reconnect")]
    Reconnect,
}

/// Data of `welcome`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// [`SUBPROTOCOL`](super::SUBPROTOCOL).
    pub protocol: Cow<'static, str>,
    /// Names this connection in the server's logs.
    pub connection_id: String,
    /// Who the server takes the client for.
    pub user_id: UserId,
    /// How often the server pings.
    pub heartbeat_ms: u64,
    /// What will be refused.
    pub limits: WelcomeLimits,
    /// What time it is here: ids are made by it, so that a client whose clock is wrong can send.
    pub server_time: Timestamp,
}

/// The limits of a connection.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WelcomeLimits {
    /// Largest frame or fragmented message, in bytes.
    pub frame_bytes: usize,
    /// Longest content, in bytes.
    pub content_bytes: usize,
    /// Largest metadata, in bytes.
    pub metadata_bytes: usize,
    /// Most rooms of one user.
    pub rooms_per_user: usize,
    /// Most messages in a page.
    pub page_rows: u32,
}

/// Data of `message:persisted`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Persisted {
    /// The room.
    pub room_id: RoomId,
    /// The place of the last of them.
    pub up_to: Position,
    /// Of what this connection waits for: messages by their ids, changes by their change ids.
    pub ids: Vec<MessageId>,
}

/// Data of `message:rejected`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// The room.
    pub room_id: RoomId,
    /// The message.
    pub id: MessageId,
    /// Who sent what was refused.
    pub user_id: UserId,
    /// The change, where an edit or a delete was refused and the message stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_id: Option<MessageId>,
    /// Why; told to the connections of its sender alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// What `room:error` says: a refusal without a `ref`, or something that happened to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RoomErrorCode {
    /// A command without a `ref` was refused.
    Refused(RefusalCode),
    /// See [`RoomNotice`].
    Notice(RoomNotice),
}

/// What can happen to a room one is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomNotice {
    /// What the client has cannot be continued: it is out of the room; join anew without `since`.
    Reset,
    /// The client was removed from the room and gets nothing more of it.
    Kicked,
}

/// Data of `room:error`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomError<'a> {
    /// The room, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<&'a RoomId>,
    /// The refusal's code, or `reset`.
    pub code: RoomErrorCode,
    /// For people.
    pub message: &'a str,
    /// The field that is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'a str>,
    /// The limit that was passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The server's time, where a clock is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_time: Option<Timestamp>,
}

/// Data of `reconnect`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reconnect {
    /// How long to wait before coming back.
    pub after_ms: u64,
}

/// Whether somebody who is there does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceStatus {
    /// There, and doing nothing.
    Idle,
    /// There, and doing something.
    Active,
}

/// Somebody who is in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Present {
    /// Who.
    pub user_id: UserId,
    /// Active or idle.
    pub status: PresenceStatus,
    /// Whether `status` is active, under the seed's name.
    pub is_active: bool,
    /// When they last did something.
    pub last_active_at: Timestamp,
    /// The last message they have read, where known.
    pub last_seen_message_id: Option<MessageId>,
}

/// Data of `presence:list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceList {
    /// The room.
    pub room_id: RoomId,
    /// Who is here; empty where they are more than are listed.
    pub presence: BTreeMap<UserId, Present>,
    /// How many are here.
    pub presence_count: usize,
}

/// How it is with somebody in `presence:update`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceChange {
    /// Here, and doing something.
    Active,
    /// Here, and doing nothing.
    Idle,
    /// Not here any more.
    Offline,
}

/// Data of `presence:update`; of a room with more people than are listed only the count.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresenceChanged {
    /// The room.
    pub room_id: RoomId,
    /// How many are here now.
    pub presence_count: usize,
    /// Who changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// How they are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<PresenceChange>,
    /// Whether `status` is active, under the seed's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_active: Option<bool>,
    /// When they last did something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active_at: Option<Timestamp>,
    /// The last message they have read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_message_id: Option<MessageId>,
}

/// Somebody who types, in a join's reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypingMark {
    /// Who.
    pub user_id: UserId,
    /// When the mark ends unless it is renewed.
    pub expires_in_ms: u64,
}

/// Data of `typing:start` and `typing:stop`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypingChanged {
    /// The room.
    pub room_id: RoomId,
    /// Who.
    pub user_id: UserId,
    /// When the mark ends unless it is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
}

/// How far somebody has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Who.
    pub user_id: UserId,
    /// The last place they have read.
    pub position: Position,
    /// The message there, where known.
    pub last_read_message_id: Option<MessageId>,
    /// When they said so.
    pub read_at: Timestamp,
}

/// Data of `receipt:list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptList {
    /// The room.
    pub room_id: RoomId,
    /// By user.
    pub receipts: BTreeMap<UserId, Receipt>,
}

/// Data of `receipt:update`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptChanged {
    /// The room.
    pub room_id: RoomId,
    /// Who.
    pub user_id: UserId,
    /// The last place they have read.
    pub position: Position,
    /// The message there, where known.
    pub last_read_message_id: Option<MessageId>,
    /// When they said so.
    pub read_at: Timestamp,
}

/// How it is with an answer that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// More will come.
    Streaming,
    /// It is whole; its `message:new` says the same.
    Ended,
    /// Its producer is gone; what there was of it stands as a message.
    Aborted,
}

/// Data of `message:stream`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageStream {
    /// The room.
    pub room_id: RoomId,
    /// The message it will be.
    pub id: MessageId,
    /// Who sends it.
    pub user_id: UserId,
    /// Who speaks.
    #[serde(rename = "type")]
    pub kind: MessageType,
    /// Where `delta` begins, in UTF-16 code units of the whole text; 0 with the text so far for
    /// whoever comes late.
    pub offset: u64,
    /// What is new.
    pub delta: String,
    /// How it goes on.
    pub state: StreamState,
}

/// Reply to `credits:get`, and data of `user:credits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credits {
    /// Whose.
    pub user_id: UserId,
    /// What the ledger's rows add up to.
    pub balance: i64,
    /// Used, accepted and not in the ledger yet.
    pub unsynced: i64,
}
