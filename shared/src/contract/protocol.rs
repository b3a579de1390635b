//! The native protocol, `roomcast.v1`: what a client can ask, what it is answered, what it is told.
//!
//! Every wire name is written once, here. What follows is `PROTOCOL.md`, the same by example; a
//! test reads its examples with these types.
//!
#![doc = include_str!("../../PROTOCOL.md")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::id::{MessageId, RoomId, UserId};
use super::message::MessageType;
use super::position::Position;
use super::refusal::{Refusal, RefusalCode};
use super::timestamp::Timestamp;

/// The WebSocket subprotocol that these frames are.
pub const SUBPROTOCOL: &str = "roomcast.v1";

/// Largest `ref` a client may choose: the largest integer JavaScript holds exactly.
pub const REF_MAX: u64 = (1 << 53) - 1;

/// What a client can ask, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CommandName {
    /// Say who is asking; again later to refresh.
    #[serde(rename = "auth")]
    Auth,
    /// Enter a room, or come back to it.
    #[serde(rename = "room:join")]
    RoomJoin,
    /// Leave a room.
    #[serde(rename = "room:leave")]
    RoomLeave,
    /// Say something in a room.
    #[serde(rename = "message:send")]
    MessageSend,
    /// Read a page of a room's messages.
    #[serde(rename = "history:get")]
    HistoryGet,
    /// Show life, compare heads.
    #[serde(rename = "heartbeat")]
    Heartbeat,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub enum Command {
    /// See [`CommandName::Auth`].
    Auth(Auth),
    /// See [`CommandName::RoomJoin`].
    RoomJoin(RoomJoin),
    /// See [`CommandName::RoomLeave`].
    RoomLeave(RoomLeave),
    /// See [`CommandName::MessageSend`].
    MessageSend(MessageSend),
    /// See [`CommandName::HistoryGet`].
    HistoryGet(HistoryGet),
    /// See [`CommandName::Heartbeat`].
    Heartbeat(Heartbeat),
}

/// Data of `auth`.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Auth {
    /// A JSON Web Token; never logged.
    pub token: String,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth([redacted])")
    }
}

/// The last logged event that a client got of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Since {
    /// With `seq`, its position.
    pub epoch: u64,
    /// With `epoch`, its position.
    pub seq: u64,
    /// Its `changeId`, or else its `id`; without it only the position is compared.
    #[serde(default)]
    pub message_id: Option<MessageId>,
}

impl Since {
    /// The position of that event.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.epoch, self.seq)
    }
}

/// Reads an object and nothing else: of itself, serde also takes a struct's fields in their order
/// from an array.
fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }

        fn visit_unit<E: de::Error>(self) -> Result<Option<T>, E> {
            Ok(None)
        }
    }

    deserializer.deserialize_any(Object(PhantomData))
}

/// Data of `room:join`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoomJoin {
    /// The room.
    pub room_id: RoomId,
    /// Where to go on, for a client that comes back.
    #[serde(default, deserialize_with = "object")]
    pub since: Option<Since>,
    /// Most messages in the reply; 1–200, 50 by default.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Data of `room:leave`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoomLeave {
    /// The room.
    pub room_id: RoomId,
}

/// Data of `message:send`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageSend {
    /// The room.
    pub room_id: RoomId,
    /// Chosen by the sender, best a `UUIDv7`; the server makes one where it is absent.
    #[serde(default)]
    pub id: Option<MessageId>,
    /// The text; at most 256 KiB, no U+0000.
    pub content: String,
    /// Who speaks; `assistant` and `system` need a role.
    #[serde(default, rename = "type")]
    pub kind: MessageType,
    /// Attached by the application; at most 16 KiB and 16 levels.
    #[serde(default)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// Data of `history:get`: the latest page where neither bound is given.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoryGet {
    /// The room.
    pub room_id: RoomId,
    /// The page that ends below this position.
    #[serde(default, deserialize_with = "object")]
    pub before: Option<Position>,
    /// The page that begins above this position.
    #[serde(default, deserialize_with = "object")]
    pub after: Option<Position>,
    /// Most messages in the page; 1–200, 50 by default.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Data of `heartbeat`, both ways.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Heartbeat {
    /// Heads by room: what the client has seen / where the joined rooms stand.
    #[serde(default)]
    pub heads: BTreeMap<RoomId, Position>,
}

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
    /// Who is here.
    pub presence: serde_json::Map<String, serde_json::Value>,
    /// Who has read how far.
    pub receipts: serde_json::Map<String, serde_json::Value>,
    /// Who is typing.
    pub typing: serde_json::Map<String, serde_json::Value>,
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
    /// [`SUBPROTOCOL`].
    pub protocol: Cow<'static, str>,
    /// Names this connection in the server's logs.
    pub connection_id: String,
    /// Who the server takes the client for.
    pub user_id: UserId,
    /// How often the server pings.
    pub heartbeat_ms: u64,
    /// What will be refused.
    pub limits: WelcomeLimits,
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
    /// Speaks for its own epoch only.
    pub up_to: Position,
}

/// Data of `message:rejected`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// The room.
    pub room_id: RoomId,
    /// The message.
    pub id: MessageId,
    /// Why.
    pub error: Refusal,
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
}

/// Data of `reconnect`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reconnect {
    /// How long to wait before coming back.
    pub after_ms: u64,
}
