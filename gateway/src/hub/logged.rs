//! An entry of a room as clients see it, encoded once.

use bytes::Bytes;
use shared::contract::envelope::{EntryKind, Envelope, EnvelopeError};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::message::{Message, Metadata};
use shared::contract::position::Position;
use shared::contract::protocol::{EventName, Since};
use shared::contract::timestamp::Timestamp;
use shared::log::RingEntry;

use crate::codec;
use crate::frame::Frame;

/// Where a reader stands: the last logged event it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Its position.
    pub(crate) position: Position,
    /// Its `changeId` or `id`, where known.
    pub(crate) key: Option<MessageId>,
}

impl Cursor {
    /// Before everything.
    pub(crate) const ZERO: Cursor = Cursor { position: Position::ZERO, key: None };

    /// Whether it stands before an epoch's first entry, where there is nothing to compare.
    pub(crate) fn at_beginning(&self) -> bool {
        self.position.seq == 0
    }
}

impl From<Since> for Cursor {
    fn from(since: Since) -> Cursor {
        Cursor { position: since.position(), key: since.message_id }
    }
}

/// An entry, or a message in its present state at the place of its last change.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    /// Its place in the order.
    pub(crate) at: Position,
    /// The message.
    id: MessageId,
    /// Who said it, where it is a message that is new.
    speaker: Option<UserId>,
    /// The change, where this is one. A cursor standing here carries either.
    change_id: Option<MessageId>,
    /// Where the message itself stands; equal to `at` unless it has changed.
    origin: Position,
    /// For a reader who has not got the message: `message:new`.
    fresh: Option<Frame>,
    /// For a reader who has: `message:update` or `message:delete`.
    change: Option<Frame>,
}

/// What a change tells a reader who has the message.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed<'a> {
    room_id: &'a RoomId,
    id: &'a MessageId,
    change_id: &'a MessageId,
    #[serde(flatten)]
    state: ChangedState<'a>,
    position: Position,
}

#[derive(serde::Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum ChangedState<'a> {
    Deleted { deleted_at: Timestamp },
    Edited { content: &'a str, metadata: &'a Metadata, edited_at: Option<Timestamp> },
}

impl Logged {
    /// What a publication or a ring entry says, and in which room.
    pub(crate) fn from_entry(entry: &RingEntry) -> Result<(RoomId, Logged), EnvelopeError> {
        let envelope = Envelope::decode(&entry.raw)?;
        let frame =
            |event| codec::raw_event(event, &codec::with_position(&envelope.body, entry.position));
        let (fresh, change) = match envelope.kind {
            EntryKind::Message => (Some(frame(EventName::MessageNew)), None),
            EntryKind::Edit => (None, Some(frame(EventName::MessageUpdate))),
            EntryKind::Delete => (None, Some(frame(EventName::MessageDelete))),
            EntryKind::Void | EntryKind::Removal | EntryKind::Receipt | EntryKind::Usage => {
                (None, None)
            }
        };
        let (at, origin) = (entry.position, entry.position);
        let Envelope { room, id, change_id, user, .. } = envelope;
        let speaker = fresh.is_some().then_some(user);
        Ok((room, Logged { at, id, speaker, change_id, origin, fresh, change }))
    }

    /// What the database has; `None` for a row without a place.
    pub(crate) fn from_message(message: &Message) -> Option<Logged> {
        let origin = message.position?;
        let at = message.changed_position.unwrap_or(origin);
        let change_id = message.change_id.clone();
        let change = change_id.as_ref().map(|change_id| changed(message, change_id, at));
        let fresh = Some(codec::event(EventName::MessageNew, message));
        let id = message.id.clone();
        Some(Logged { at, id, speaker: None, change_id, origin, fresh, change })
    }

    /// What to tell a reader who stands at `cursor`; nothing for a place that was left empty.
    pub(crate) fn frame(&self, cursor: Position) -> Option<&Frame> {
        match (&self.fresh, &self.change) {
            (Some(_), Some(change)) if self.origin <= cursor => Some(change),
            (Some(fresh), Some(_) | None) => Some(fresh),
            (None, change) => change.as_ref(),
        }
    }

    /// The message as JSON, where this is one.
    pub(crate) fn message(&self) -> Option<Bytes> {
        self.fresh.as_ref().map(|frame| codec::data_of(frame, EventName::MessageNew))
    }

    /// Who has just said something, where this is that.
    pub(crate) fn speaker(&self) -> Option<&UserId> {
        self.speaker.as_ref()
    }

    /// Where its message stands.
    pub(crate) fn origin(&self) -> Position {
        self.origin
    }

    /// Whether anybody sees it.
    pub(crate) fn is_shown(&self) -> bool {
        self.fresh.is_some() || self.change.is_some()
    }

    /// The cursor of a reader who got it.
    pub(crate) fn cursor(&self) -> Cursor {
        let key = self.change_id.as_ref().unwrap_or(&self.id);
        Cursor { position: self.at, key: Some(key.clone()) }
    }

    /// Whether a cursor that stands here is one that this entry left.
    pub(crate) fn left(&self, cursor: &Cursor) -> bool {
        let key = cursor.key.as_ref();
        key.is_none_or(|key| *key == self.id || Some(key) == self.change_id.as_ref())
    }

    /// What it costs to remember.
    pub(crate) fn bytes(&self) -> usize {
        let frames = self.fresh.iter().chain(&self.change);
        size_of::<Logged>() + frames.map(Frame::len).sum::<usize>()
    }
}

fn changed(message: &Message, change_id: &MessageId, at: Position) -> Frame {
    let (event, state) = match message.deleted_at {
        Some(deleted_at) => (EventName::MessageDelete, ChangedState::Deleted { deleted_at }),
        None => {
            let Message { content, metadata, edited_at, .. } = message;
            let edited_at = *edited_at;
            (EventName::MessageUpdate, ChangedState::Edited { content, metadata, edited_at })
        }
    };
    let (room_id, id) = (&message.room_id, &message.id);
    codec::event(event, &Changed { room_id, id, change_id, state, position: at })
}
