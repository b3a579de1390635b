//! Commands: a type each, and their names.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::event::PresenceStatus;
use crate::contract::credit::CreditKind;
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::message::{MessageType, Metadata};
use crate::contract::position::Position;
use crate::contract::whole;

/// An object of an application's own.
pub type Attached = serde_json::Map<String, serde_json::Value>;

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
    /// Say something else instead.
    #[serde(rename = "message:edit")]
    MessageEdit,
    /// Take back what was said.
    #[serde(rename = "message:delete")]
    MessageDelete,
    /// Begin an answer that is written bit by bit.
    #[serde(rename = "message:stream:start")]
    StreamStart,
    /// Go on with it.
    #[serde(rename = "message:stream:append")]
    StreamAppend,
    /// End it: the whole becomes a message.
    #[serde(rename = "message:stream:end")]
    StreamEnd,
    /// Read a page of a room's messages.
    #[serde(rename = "history:get")]
    HistoryGet,
    /// Say that one types.
    #[serde(rename = "typing:start")]
    TypingStart,
    /// Say that one types no more.
    #[serde(rename = "typing:stop")]
    TypingStop,
    /// Say how far one has read.
    #[serde(rename = "receipt:update")]
    ReceiptUpdate,
    /// Say that one is active or idle.
    #[serde(rename = "presence:update")]
    PresenceUpdate,
    /// Ask for a balance.
    #[serde(rename = "credits:get")]
    CreditsGet,
    /// Count what was used, for trusted roles.
    #[serde(rename = "credits:track")]
    CreditsTrack,
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
    /// See [`CommandName::MessageEdit`].
    MessageEdit(MessageEdit),
    /// See [`CommandName::MessageDelete`].
    MessageDelete(MessageDelete),
    /// See [`CommandName::StreamStart`].
    StreamStart(StreamStart),
    /// See [`CommandName::StreamAppend`].
    StreamAppend(StreamAppend),
    /// See [`CommandName::StreamEnd`].
    StreamEnd(StreamEnd),
    /// See [`CommandName::HistoryGet`].
    HistoryGet(HistoryGet),
    /// See [`CommandName::TypingStart`].
    TypingStart(Typing),
    /// See [`CommandName::TypingStop`].
    TypingStop(Typing),
    /// See [`CommandName::ReceiptUpdate`].
    ReceiptUpdate(ReceiptUpdate),
    /// See [`CommandName::PresenceUpdate`].
    PresenceUpdate(PresenceUpdate),
    /// See [`CommandName::CreditsGet`].
    CreditsGet(CreditsGet),
    /// See [`CommandName::CreditsTrack`].
    CreditsTrack(CreditsTrack),
    /// See [`CommandName::Heartbeat`].
    Heartbeat(Heartbeat),
}

impl Command {
    /// The room it is about, where there is one.
    #[must_use]
    pub fn room_id(&self) -> Option<&RoomId> {
        match self {
            Command::RoomJoin(data) => Some(&data.room_id),
            Command::RoomLeave(data) => Some(&data.room_id),
            Command::MessageSend(data) => Some(&data.room_id),
            Command::MessageEdit(data) => Some(&data.room_id),
            Command::MessageDelete(data) => Some(&data.room_id),
            Command::StreamStart(data) => Some(&data.room_id),
            Command::StreamAppend(data) => Some(&data.room_id),
            Command::StreamEnd(data) => Some(&data.room_id),
            Command::HistoryGet(data) => Some(&data.room_id),
            Command::TypingStart(data) | Command::TypingStop(data) => Some(&data.room_id),
            Command::ReceiptUpdate(data) => Some(&data.room_id),
            Command::PresenceUpdate(data) => Some(&data.room_id),
            Command::Auth(_)
            | Command::CreditsGet(_)
            | Command::CreditsTrack(_)
            | Command::Heartbeat(_) => None,
        }
    }
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
    #[serde(default, deserialize_with = "whole::optional")]
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
    pub metadata: Metadata,
    /// What it costs, for trusted roles.
    #[serde(default)]
    pub credits: Option<Cost>,
}

/// What a message costs: a number, or an object of it and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Credits used; 1 to 10^12.
    pub amount: u64,
    /// Whose; the sender's where it is absent.
    pub user_id: Option<UserId>,
    /// Attached to the ledger's row.
    pub metadata: Attached,
}

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cost, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Fields {
            #[serde(deserialize_with = "whole::whole")]
            amount: u64,
            #[serde(default)]
            user_id: Option<UserId>,
            #[serde(default)]
            metadata: Attached,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Cost;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of credits, or an object with `amount`")
            }

            fn visit_u64<E: de::Error>(self, amount: u64) -> Result<Cost, E> {
                Ok(Cost { amount, user_id: None, metadata: Attached::new() })
            }

            fn visit_f64<E: de::Error>(self, amount: f64) -> Result<Cost, E> {
                match whole::of_float(amount) {
                    Some(amount) => self.visit_u64(amount),
                    None => Err(E::invalid_value(de::Unexpected::Float(amount), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Cost, A::Error> {
                let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
                let Fields { amount, user_id, metadata } = fields;
                Ok(Cost { amount, user_id, metadata })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Data of `message:edit`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageEdit {
    /// The room.
    pub room_id: RoomId,
    /// The message.
    pub id: MessageId,
    /// Who sent the message; where it is absent, one's own of that id is meant, else the first.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// Names this change, best a `UUIDv7`; the server makes one where it is absent.
    #[serde(default)]
    pub change_id: Option<MessageId>,
    /// The new text; limits as in `message:send`.
    pub content: String,
    /// The new metadata; those that stand are kept where it is absent.
    #[serde(default)]
    pub metadata: Option<Metadata>,
}

/// Data of `message:delete`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageDelete {
    /// The room.
    pub room_id: RoomId,
    /// The message.
    pub id: MessageId,
    /// As in `message:edit`.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// Names this change, best a `UUIDv7`; the server makes one where it is absent.
    #[serde(default)]
    pub change_id: Option<MessageId>,
}

/// Data of `message:stream:start`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamStart {
    /// The room.
    pub room_id: RoomId,
    /// The message it will be; the server makes an id where it is absent.
    #[serde(default)]
    pub id: Option<MessageId>,
    /// Who speaks; an assistant by default.
    #[serde(default, rename = "type")]
    pub kind: Option<MessageType>,
    /// Attached by the application; limits as in `message:send`.
    #[serde(default)]
    pub metadata: Metadata,
}

/// Data of `message:stream:append`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamAppend {
    /// The room.
    pub room_id: RoomId,
    /// The answer.
    pub id: MessageId,
    /// What is new.
    pub delta: String,
    /// Where it begins, in UTF-16 code units of the whole text.
    pub offset: u64,
}

/// Data of `message:stream:end`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamEnd {
    /// The room.
    pub room_id: RoomId,
    /// The answer.
    pub id: MessageId,
    /// The whole text, where the producer wants to be sure of it.
    #[serde(default)]
    pub content: Option<String>,
    /// In place of those of the start.
    #[serde(default)]
    pub metadata: Option<Metadata>,
    /// What it costs, for trusted roles.
    #[serde(default)]
    pub credits: Option<Cost>,
}

/// Data of `typing:start` and `typing:stop`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Typing {
    /// The room.
    pub room_id: RoomId,
}

/// Data of `receipt:update`: one of the two.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReceiptUpdate {
    /// The room.
    pub room_id: RoomId,
    /// The last message that was read.
    #[serde(default)]
    pub last_read_message_id: Option<MessageId>,
    /// Its position.
    #[serde(default, deserialize_with = "object")]
    pub position: Option<Position>,
}

/// Data of `presence:update`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PresenceUpdate {
    /// The room.
    pub room_id: RoomId,
    /// Active or idle.
    pub status: PresenceStatus,
}

/// Data of `credits:get`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreditsGet {
    /// Whose; only trusted roles may ask for another's.
    #[serde(default)]
    pub user_id: Option<UserId>,
}

/// Data of `credits:track`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreditsTrack {
    /// Whose.
    pub user_id: UserId,
    /// How much; 1 to 10^12.
    #[serde(deserialize_with = "whole::whole")]
    pub amount: u64,
    /// Why; used by default.
    #[serde(default)]
    pub kind: CreditKind,
    /// Names this movement, so that it counts once; the server makes one where it is absent.
    #[serde(default)]
    pub id: Option<MessageId>,
    /// The message it belongs to, for people.
    #[serde(default)]
    pub message_id: Option<MessageId>,
    /// Attached to the ledger's row.
    #[serde(default)]
    pub metadata: Attached,
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
    #[serde(default, deserialize_with = "whole::optional")]
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
