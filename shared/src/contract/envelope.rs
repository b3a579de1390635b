//! The envelope of an entry in the log and between nodes: a version byte, then bincode.
//!
//! The layout is bincode 2's `standard()` configuration (little endian, variable-length integers)
//! of the private `Wire` struct, behind one version byte, limited in size and without trailing
//! bytes. The crate is unmaintained (RUSTSEC-2025-0141) and therefore pinned and used nowhere else;
//! the parity test below shows that wincode reads and writes the same bytes, so that leaving is a
//! change of this file alone. The position is not in here: the log gives it, and carries it beside.

use bytes::Bytes;

use super::id::{IdError, MessageId, RoomId, UserId};
use super::limits::ENVELOPE_BYTES_MAX;
use super::position::Position;
use super::refusal::Refusal;
use super::timestamp::Timestamp;

/// The version this code writes, and the only one it reads.
const VERSION: u8 = 1;

/// What an entry of the log does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A message stands in the room.
    Message,
    /// A message has another content.
    Edit,
    /// A message is gone.
    Delete,
    /// A place in the order that turned out to be a dead letter before anyone saw it: it moves the
    /// room on and is shown to nobody.
    Void,
    /// Somebody was removed from the room: whoever they are connected to lets go of them here.
    /// `user` is who removed, the body says whom.
    Removal,
    /// How far `user` has read; has no place in the room's order.
    Receipt,
    /// `user`'s credits moved; has no place in a room's order. On its own, without a message, its
    /// room is named like the user, which is where its shard comes from.
    Usage,
    /// The database refused an earlier entry of `user`'s for good: whoever was shown it takes it
    /// away. The body is a [`Retraction`].
    Refusal,
}

impl EntryKind {
    /// Whether it takes a place in its room's order.
    #[must_use]
    pub fn is_placed(self) -> bool {
        !matches!(self, EntryKind::Receipt | EntryKind::Usage)
    }

    fn number(self) -> u8 {
        match self {
            EntryKind::Message => 1,
            EntryKind::Edit => 2,
            EntryKind::Delete => 3,
            EntryKind::Void => 4,
            EntryKind::Removal => 5,
            EntryKind::Receipt => 6,
            EntryKind::Usage => 7,
            EntryKind::Refusal => 8,
        }
    }

    fn from_number(number: u8) -> Option<EntryKind> {
        match number {
            1 => Some(EntryKind::Message),
            2 => Some(EntryKind::Edit),
            3 => Some(EntryKind::Delete),
            4 => Some(EntryKind::Void),
            5 => Some(EntryKind::Removal),
            6 => Some(EntryKind::Receipt),
            7 => Some(EntryKind::Usage),
            8 => Some(EntryKind::Refusal),
            _ => None,
        }
    }
}

/// One entry of the log, without its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What it does.
    pub kind: EntryKind,
    /// The room in whose order it stands.
    pub room: RoomId,
    /// Who sent it, authenticated.
    pub user: UserId,
    /// The message it is about.
    pub id: MessageId,
    /// The id of the change itself, for an edit or a delete.
    pub change_id: Option<MessageId>,
    /// When the gateway accepted it.
    pub accepted_at: Timestamp,
    /// The client-visible JSON object, without its `position`.
    pub body: Bytes,
}

/// The body of a [`EntryKind::Removal`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Removal {
    /// Who is in the room no more.
    pub removed: UserId,
}

/// The body of a [`EntryKind::Refusal`], whose envelope has the room, sender and ids of
/// what was refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retraction {
    /// The place of what was refused.
    pub refused: Position,
    /// What its sender is told.
    pub error: Refusal,
}

/// An [`Envelope`] and the place that the log gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the room's order.
    pub position: Position,
    /// What stands there.
    pub envelope: Envelope,
}

/// Bytes that are no envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Larger than the limit.
    #[error("an envelope has at most {ENVELOPE_BYTES_MAX} bytes")]
    TooLarge,
    /// Written by another version of this software.
    #[error("unknown envelope version {0}")]
    Version(u8),
    /// Not the layout of this version.
    #[error("malformed envelope")]
    Malformed(#[source] bincode::error::DecodeError),
    /// Bytes after the end.
    #[error("trailing bytes after an envelope")]
    Trailing,
    /// A kind that this version does not know.
    #[error("unknown kind of entry {0}")]
    Kind(u8),
    /// A name that is no id.
    #[error("malformed id in an envelope")]
    Id(#[from] IdError),
}

#[derive(bincode::Encode, bincode::BorrowDecode)]
struct Wire<'a> {
    kind: u8,
    room: &'a str,
    user: &'a str,
    id: &'a str,
    change_id: Option<&'a str>,
    accepted_at_ms: i64,
    body: &'a [u8],
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<ENVELOPE_BYTES_MAX>()
}

impl Envelope {
    /// The id under which the log remembers this entry: the change's own, else the message's.
    #[must_use]
    pub fn key(&self) -> &MessageId {
        self.change_id.as_ref().unwrap_or(&self.id)
    }

    /// The kind of an encoded envelope, from its first two bytes; `None` for what is none.
    #[must_use]
    pub fn kind_of(raw: &[u8]) -> Option<EntryKind> {
        match raw {
            [VERSION, kind, ..] => EntryKind::from_number(*kind),
            _ => None,
        }
    }

    /// Whether a later version of this software wrote it, which during an update may run already:
    /// it is to be left to that version.
    #[must_use]
    pub fn is_later(raw: &[u8]) -> bool {
        match raw {
            [VERSION, kind, ..] => *kind > EntryKind::Refusal.number(),
            [version, ..] => *version > VERSION,
            [] => false,
        }
    }

    /// Writes the version byte and the body.
    ///
    /// # Errors
    /// [`EnvelopeError::TooLarge`] when it would be over [`ENVELOPE_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, EnvelopeError> {
        let wire = Wire {
            kind: self.kind.number(),
            room: self.room.as_str(),
            user: self.user.as_str(),
            id: self.id.as_str(),
            change_id: self.change_id.as_ref().map(MessageId::as_str),
            accepted_at_ms: self.accepted_at.0,
            body: &self.body,
        };
        let mut bytes = Vec::with_capacity(self.body.len() + 160);
        bytes.push(VERSION);
        bincode::encode_into_std_write(wire, &mut bytes, bincode::config::standard())
            .expect("a vector takes everything");
        if bytes.len() > ENVELOPE_BYTES_MAX { Err(EnvelopeError::TooLarge) } else { Ok(bytes) }
    }

    /// Reads what [`Envelope::encode`] wrote; the body shares `bytes`.
    ///
    /// # Errors
    /// Says why these bytes are no envelope; never panics, never allocates by a declared length.
    pub fn decode(bytes: &Bytes) -> Result<Envelope, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge);
        }
        let (&version, rest) = bytes.split_first().ok_or(EnvelopeError::Version(0))?;
        if version != VERSION {
            return Err(EnvelopeError::Version(version));
        }
        let (wire, read): (Wire<'_>, usize) =
            bincode::borrow_decode_from_slice(rest, config()).map_err(EnvelopeError::Malformed)?;
        if read != rest.len() {
            return Err(EnvelopeError::Trailing);
        }
        Ok(Envelope {
            kind: EntryKind::from_number(wire.kind).ok_or(EnvelopeError::Kind(wire.kind))?,
            room: RoomId::parse(wire.room)?,
            user: UserId::parse(wire.user)?,
            id: MessageId::parse(wire.id)?,
            change_id: wire.change_id.map(MessageId::parse).transpose()?,
            accepted_at: Timestamp(wire.accepted_at_ms),
            body: bytes.slice_ref(wire.body),
        })
    }
}

#[cfg(test)]
mod tests;
