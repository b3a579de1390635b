//! Validated ids of rooms, users and messages; shards.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::limits::{ID_BYTES_MAX, SHARDS};

/// Why a text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing in it.
    #[error("an id has at least 1 byte")]
    Empty,
    /// More than [`ID_BYTES_MAX`].
    #[error("an id has at most {ID_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// What it has.
        bytes: usize,
    },
    /// White space, a control character, `{` or `}`.
    #[error("an id has no white space, control characters or braces")]
    Forbidden,
    /// `*`, in the id of a room.
    #[error("a room id has no `*`, which stands for any run of characters in a claim")]
    Pattern,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong { bytes: text.len() });
    }
    // Braces would put a hash tag into a Redis key.
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '{' | '}')) {
        return Err(IdError::Forbidden);
    }
    Ok(())
}

/// A name is not a pattern: what a claim says of rooms opens one room where it has no `*`.
fn check_room(text: &str) -> Result<(), IdError> {
    check(text)?;
    if text.contains('*') { Err(IdError::Pattern) } else { Ok(()) }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident by $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text of 1–128 bytes without white space, control characters or braces; the
            /// id of a room has no `*` either.
            ///
            /// # Errors
            /// Says which of the rules the text breaks.
            pub fn parse(text: &str) -> Result<$name, IdError> {
                $check(text).map(|()| $name(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                $name::parse(&text).map_err(de::Error::custom)
            }
        }
    };
}

text_id! {
    /// A room: the unit of order, of isolation and of membership.
    RoomId by check_room
}
text_id! {
    /// An authenticated person or service.
    UserId by check
}
text_id! {
    /// A message, or a change of one: chosen by its sender, best a `UUIDv7`.
    MessageId by check
}

impl MessageId {
    /// The id that `uuid` is.
    #[must_use]
    pub fn from_uuid(uuid: Uuid) -> MessageId {
        MessageId(uuid.hyphenated().to_string().into())
    }

    /// When a `UUIDv7` says it was made, in Unix milliseconds (RFC 9562, 5.7); `None` for any
    /// other id.
    #[must_use]
    pub fn made_at_ms(&self) -> Option<i64> {
        let uuid = Uuid::try_parse(&self.0).ok()?;
        if uuid.get_version_num() != 7 {
            return None;
        }
        i64::try_from(uuid.as_u128() >> 80).ok()
    }

    /// Whether it is made from a name (`UUIDv5`, RFC 9562, 5.5), as ids of an `Idempotency-Key`
    /// are: whoever uses a key again may mean something else by it.
    #[must_use]
    pub fn is_of_name(&self) -> bool {
        Uuid::try_parse(&self.0).is_ok_and(|uuid| uuid.get_version_num() == 5)
    }
}

impl UserId {
    /// The room in whose name the log keeps what concerns this user and no room: it is only there
    /// for its shard. Entries are known by their user too, so that two users may share one.
    #[must_use]
    pub fn ledger_room(&self) -> RoomId {
        RoomId(self.0.replace('*', "+").into())
    }
}

impl RoomId {
    /// The shard whose log has this room's entries: Redis Cluster's CRC16 of its id.
    #[must_use]
    pub fn shard(&self) -> Shard {
        Shard(crc16(self.0.as_bytes()) % SHARDS)
    }
}

/// One of the 64 parts of the log; below [`SHARDS`] by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Shard(u16);

/// A number that is no shard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a shard is below {SHARDS}")]
pub struct ShardError;

impl TryFrom<u16> for Shard {
    type Error = ShardError;

    fn try_from(number: u16) -> Result<Shard, ShardError> {
        if number < SHARDS { Ok(Shard(number)) } else { Err(ShardError) }
    }
}

impl From<Shard> for u16 {
    fn from(shard: Shard) -> u16 {
        shard.0
    }
}

impl Shard {
    /// Every shard, in order.
    pub fn all() -> impl Iterator<Item = Shard> {
        (0..SHARDS).map(Shard)
    }

    /// Its number, for tables and arrays.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// CRC-16/XMODEM (polynomial 0x1021, start 0), as the Redis Cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

/// A message whose id the database was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// In which room.
    pub room: RoomId,
    /// From whom.
    pub user: UserId,
    /// Under which id.
    pub id: MessageId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_by_length_and_by_character() {
        assert!(RoomId::parse("team/42:général").is_ok());
        assert!(RoomId::parse(&"a".repeat(128)).is_ok());
        assert_eq!(RoomId::parse(""), Err(IdError::Empty));
        assert_eq!(RoomId::parse(&"a".repeat(129)), Err(IdError::TooLong { bytes: 129 }));
        for bad in ["a b", "a\tb", "a\u{0}", "a{b", "b}", "a\u{a0}b", "\u{2028}", "\u{85}"] {
            assert_eq!(RoomId::parse(bad), Err(IdError::Forbidden), "{bad:?}");
        }
    }

    #[test]
    fn a_star_may_stand_in_the_ids_of_users_and_messages_and_not_of_rooms() {
        for text in ["*", "team-*", "a*b", "**"] {
            assert_eq!(RoomId::parse(text), Err(IdError::Pattern), "{text}");
            assert!(MessageId::parse(text).is_ok(), "{text}");
            let user = UserId::parse(text).unwrap();
            assert!(RoomId::parse(user.ledger_room().as_str()).is_ok(), "{text}");
        }
        let plain = UserId::parse("ann:watermark").unwrap();
        assert_eq!(plain.ledger_room().as_str(), "ann:watermark");
    }

    #[test]
    fn shards_follow_redis_cluster() {
        // The check value of the Redis Cluster specification.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(RoomId::parse("123456789").unwrap().shard().number(), 0x31C3 % SHARDS);
    }

    #[test]
    fn a_uuid_of_version_seven_tells_its_time() {
        let id = MessageId::parse("0193a1f2-0400-7abc-8def-0123456789ab").unwrap();
        assert_eq!(id.made_at_ms(), Some(0x0193_a1f2_0400));
        assert_eq!(MessageId::parse("hello").unwrap().made_at_ms(), None);
        let four = MessageId::parse("6fa459ea-ee8a-4ca4-894e-db77e160355e").unwrap();
        assert_eq!(four.made_at_ms(), None);
    }
}
