//! An entry of a room as clients see it, encoded once.

use bytes::Bytes;
use shared::contract::envelope::{EntryKind, Envelope, EnvelopeError, Removal, Retraction};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::message::{Message, Metadata};
use shared::contract::position::Position;
use shared::contract::protocol::{EventName, Rejected, Since};
use shared::contract::timestamp::Timestamp;
use shared::log::{RejectedEntry, RingEntry};
use shared::store::PlacedRefusal;

use crate::wire::codec;
use crate::wire::frame::Frame;

/// Where a reader stands: the last logged event it got.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// What an entry is to those who fold it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum EntryContent {
    /// A message in some state.
    Message { deleted: bool },
    /// An edit of a message that is not in here.
    Edit,
    /// A delete of a message that is not in here.
    Delete,
    /// Somebody is in the room no more.
    Removal(UserId),
    /// What stood at a place was refused for good.
    Refusal(Box<RejectedEntry>),
    /// A place and nothing else: left empty, or overtaken by a later state of its message.
    Placeholder,
}

/// An entry, or a message in its present state at the place of its last change.
#[derive(Clone, Debug)]
pub(crate) struct RoomEntry {
    /// Its place in the order.
    pub(crate) at: Position,
    /// The message.
    id: MessageId,
    /// Who sent the message.
    user: UserId,
    /// The change, where this is one. A cursor standing here carries either.
    change_id: Option<MessageId>,
    /// Where the message itself stands; equal to `at` unless it has changed.
    message_position: Position,
    what: EntryContent,
    /// For a reader who has not got the message: `message:new`.
    new_frame: Option<Frame>,
    /// For a reader who has: `message:update` or `message:delete`.
    update_frame: Option<Frame>,
}

/// What a change says, whoever wrote it down.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeBody {
    #[serde(default)]
    content: String,
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    edited_at: Option<Timestamp>,
    #[serde(default)]
    deleted_at: Option<Timestamp>,
}

/// Whose message a change is about.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSender {
    user_id: UserId,
}

/// What a change tells a reader who has the message.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed<'a> {
    room_id: &'a RoomId,
    id: &'a MessageId,
    user_id: &'a UserId,
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

impl RoomEntry {
    /// What a ring entry says, and in which room.
    pub(crate) fn from_entry(entry: &RingEntry) -> Result<(RoomId, RoomEntry), EnvelopeError> {
        RoomEntry::from_publication(entry).map(|(room, _, entry)| (room, entry))
    }

    /// What a publication says, in which room, and when it was accepted.
    pub(crate) fn from_publication(
        entry: &RingEntry,
    ) -> Result<(RoomId, Timestamp, RoomEntry), EnvelopeError> {
        let envelope = Envelope::decode(&entry.raw)?;
        let frame =
            |event| codec::raw_event(event, &codec::with_position(&envelope.body, entry.position));
        let (what, new_frame, update_frame) = match envelope.kind {
            EntryKind::Message => {
                (EntryContent::Message { deleted: false }, Some(frame(EventName::MessageNew)), None)
            }
            EntryKind::Edit => (EntryContent::Edit, None, Some(frame(EventName::MessageUpdate))),
            EntryKind::Delete => {
                (EntryContent::Delete, None, Some(frame(EventName::MessageDelete)))
            }
            EntryKind::Removal => {
                // A body that says nobody removes nobody.
                let removal = serde_json::from_slice(&envelope.body).ok();
                let what = removal.map_or(EntryContent::Placeholder, |Removal { removed }| {
                    EntryContent::Removal(removed)
                });
                (what, None, None)
            }
            EntryKind::Refusal => match retracted(&envelope) {
                Some(refused) => {
                    // A change is taken back by reading the room anew.
                    let told = (!refused.is_change).then(|| taken_back(&refused));
                    (EntryContent::Refusal(Box::new(refused)), None, told)
                }
                None => (EntryContent::Placeholder, None, None),
            },
            EntryKind::Void | EntryKind::Receipt | EntryKind::Usage => {
                (EntryContent::Placeholder, None, None)
            }
        };
        let (at, message_position) = (entry.position, entry.position);
        let user = match envelope.kind {
            EntryKind::Edit | EntryKind::Delete => {
                let author = serde_json::from_slice(&envelope.body).ok();
                author.map_or(envelope.user, |MessageSender { user_id }| user_id)
            }
            EntryKind::Message
            | EntryKind::Removal
            | EntryKind::Void
            | EntryKind::Receipt
            | EntryKind::Usage
            | EntryKind::Refusal => envelope.user,
        };
        let Envelope { room, id, change_id, accepted_at, .. } = envelope;
        let entry =
            RoomEntry { at, id, user, change_id, message_position, what, new_frame, update_frame };
        Ok((room, accepted_at, entry))
    }

    /// What the database says was refused, and where the room says so.
    pub(crate) fn from_refusal(placed: &PlacedRefusal) -> RoomEntry {
        let PlacedRefusal { refused, at } = placed;
        RoomEntry {
            at: *at,
            id: refused.id.clone(),
            user: refused.user.clone(),
            change_id: refused.is_change.then(|| refused.key.clone()),
            message_position: *at,
            what: EntryContent::Refusal(Box::new(refused.clone())),
            new_frame: None,
            update_frame: (!refused.is_change).then(|| taken_back(refused)),
        }
    }

    /// What was refused, where this is that the room says so.
    pub(crate) fn refused(&self) -> Option<&RejectedEntry> {
        match &self.what {
            EntryContent::Refusal(refused) => Some(refused),
            EntryContent::Message { .. }
            | EntryContent::Edit
            | EntryContent::Delete
            | EntryContent::Removal(_)
            | EntryContent::Placeholder => None,
        }
    }

    /// Whether a change was refused, so that nobody who has anything of before can go on.
    pub(crate) fn ends_what_was(&self) -> bool {
        self.refused().is_some_and(|refused| refused.is_change)
    }

    /// Under which id it was sent: a change's own, or the message's.
    pub(crate) fn key(&self) -> &MessageId {
        self.change_id.as_ref().unwrap_or(&self.id)
    }

    /// What the database has; `None` for a row without a place.
    pub(crate) fn from_message(message: &Message) -> Option<RoomEntry> {
        let message_position = message.position?;
        let at = message.changed_position.unwrap_or(message_position);
        let change_id = message.change_id.clone();
        let update_frame = change_id.as_ref().map(|change_id| changed(message, change_id, at));
        let new_frame = Some(codec::event(EventName::MessageNew, message));
        let (id, user) = (message.id.clone(), message.user_id.clone());
        let what = EntryContent::Message { deleted: message.deleted_at.is_some() };
        Some(RoomEntry { at, id, user, change_id, message_position, what, new_frame, update_frame })
    }

    /// What to tell a reader who has every message up to `complete_up_to`; nothing for a place
    /// alone.
    pub(crate) fn frame(&self, complete_up_to: Position) -> Option<&Frame> {
        match (&self.new_frame, &self.update_frame) {
            (Some(_), Some(update_frame)) if self.message_position <= complete_up_to => {
                Some(update_frame)
            }
            (Some(new_frame), Some(_) | None) => Some(new_frame),
            (None, update_frame) => update_frame.as_ref(),
        }
    }

    /// What to tell a reader who has everything before it.
    pub(crate) fn next_frame(&self) -> Option<&Frame> {
        self.update_frame.as_ref().or(self.new_frame.as_ref())
    }

    /// The message as JSON, where this is one.
    pub(crate) fn message(&self) -> Option<Bytes> {
        self.new_frame.as_ref().map(|frame| codec::data_of(frame, EventName::MessageNew))
    }

    /// Who has just said something, where this is that.
    pub(crate) fn author(&self) -> Option<&UserId> {
        matches!(self.what, EntryContent::Message { deleted: false }).then_some(&self.user)
    }

    /// The message that it brings, where it brings one.
    pub(crate) fn message_id(&self) -> Option<&MessageId> {
        self.new_frame.as_ref().map(|_| &self.id)
    }

    /// The message, where this is one.
    pub(crate) fn read_message(&self) -> Option<Message> {
        let mut message: Message = serde_json::from_slice(&self.message()?).ok()?;
        message.change_id.clone_from(&self.change_id);
        Some(message)
    }

    /// Where its message stands.
    pub(crate) fn message_position(&self) -> Position {
        self.message_position
    }

    /// Whether anybody sees it.
    pub(crate) fn is_shown(&self) -> bool {
        self.new_frame.is_some() || self.update_frame.is_some()
    }

    /// Who is in the room no more from here on.
    pub(crate) fn removed(&self) -> Option<&UserId> {
        match &self.what {
            EntryContent::Removal(removed) => Some(removed),
            EntryContent::Message { .. }
            | EntryContent::Edit
            | EntryContent::Delete
            | EntryContent::Refusal(_)
            | EntryContent::Placeholder => None,
        }
    }

    /// Whether it is a message of somebody else's, and not deleted.
    pub(crate) fn counts_as_unread_for(&self, reader: &UserId) -> bool {
        self.what == (EntryContent::Message { deleted: false }) && self.user != *reader
    }

    /// Whether it is a change without its message.
    pub(crate) fn is_change_alone(&self) -> bool {
        matches!(self.what, EntryContent::Edit | EntryContent::Delete)
    }

    /// Whether it is a message of this id, and whether it is this one's own.
    pub(crate) fn is_message(&self, id: &MessageId, user: &UserId) -> Option<bool> {
        (self.new_frame.is_some() && self.is_about(id)).then(|| self.is_by(user))
    }

    /// Whether it is about the message of this id.
    pub(crate) fn is_about(&self, id: &MessageId) -> bool {
        self.id == *id
    }

    /// Whether this one sent the message.
    pub(crate) fn is_by(&self, user: &UserId) -> bool {
        self.user == *user
    }

    /// The message that it is about, and who sent that.
    pub(crate) fn subject(&self) -> (&MessageId, &UserId) {
        (&self.id, &self.user)
    }

    /// The cursor of a reader who got it.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { position: self.at, key: Some(self.key().clone()) }
    }

    /// Whether a cursor that stands here is one that this entry left.
    pub(crate) fn left(&self, cursor: &Cursor) -> bool {
        let key = cursor.key.as_ref();
        key.is_none_or(|key| *key == self.id || Some(key) == self.change_id.as_ref())
    }

    /// What it costs to remember.
    pub(crate) fn bytes(&self) -> usize {
        let frames = self.new_frame.iter().chain(&self.update_frame);
        size_of::<RoomEntry>() + frames.map(Frame::len).sum::<usize>()
    }

    // --- Folding ---

    /// Which of the entries before it this one overtakes: the earlier state of the same message.
    pub(crate) fn overtakes<'a>(
        &self,
        entries: impl Iterator<Item = &'a RoomEntry>,
    ) -> Option<usize> {
        let is_state = self.new_frame.is_some() && self.update_frame.is_some();
        if !is_state && !self.is_change_alone() {
            return None;
        }
        let same = |entry: &RoomEntry| match is_state {
            true => entry.message_position == self.message_position,
            false => true,
        };
        let mut entries = entries.enumerate();
        let found = entries
            .find(|(_, entry)| entry.is_message(&self.id, &self.user) == Some(true) && same(entry));
        found.map(|(place, _)| place)
    }

    /// The message in the state in which this change leaves it; an edit of what is deleted does
    /// nothing and is shown to nobody.
    pub(crate) fn upon(&self, message: &Message) -> RoomEntry {
        let folded = self.folded(message).as_ref().and_then(RoomEntry::from_message);
        match folded {
            // The change as its author's gateway wrote it.
            Some(folded) => RoomEntry { update_frame: self.update_frame.clone(), ..folded },
            None => self.overtaken(),
        }
    }

    /// The message after this change, where this is one that changes it.
    pub(crate) fn folded(&self, message: &Message) -> Option<Message> {
        let event = match self.what {
            EntryContent::Edit if message.deleted_at.is_none() => EventName::MessageUpdate,
            EntryContent::Delete => EventName::MessageDelete,
            EntryContent::Edit
            | EntryContent::Message { .. }
            | EntryContent::Removal(_)
            | EntryContent::Refusal(_)
            | EntryContent::Placeholder => return None,
        };
        let body = codec::data_of(self.update_frame.as_ref()?, event);
        let body: ChangeBody = serde_json::from_slice(&body).ok()?;
        let mut folded = message.clone();
        folded.changed_position = Some(self.at);
        folded.change_id.clone_from(&self.change_id);
        if self.what == EntryContent::Delete {
            folded.deleted_at = message.deleted_at.or(body.deleted_at);
            folded.content = String::new();
            folded.metadata = Metadata::default();
        } else {
            folded.edited_at = body.edited_at;
            folded.content = body.content;
            folded.metadata = body.metadata.unwrap_or(folded.metadata);
        }
        Some(folded)
    }

    /// What is left of an entry whose message has a later state: its place, and who may stand here.
    pub(crate) fn overtaken(&self) -> RoomEntry {
        RoomEntry {
            what: EntryContent::Placeholder,
            new_frame: None,
            update_frame: None,
            ..self.clone()
        }
    }
}

/// Leaves out what is said further on to have been refused: nobody is shown it any more. A change
/// is made undone with it, so that its message stands as it was.
pub(crate) fn leave_out_refused(entries: &mut [RoomEntry]) {
    let refused: Vec<Position> =
        entries.iter().filter_map(RoomEntry::refused).map(|refused| refused.position).collect();
    for entry in entries {
        if refused.contains(&entry.at) {
            *entry = entry.overtaken();
        }
    }
}

/// What is refused, by the entry that says so.
fn retracted(envelope: &Envelope) -> Option<RejectedEntry> {
    let Retraction { refused, error } = serde_json::from_slice(&envelope.body).ok()?;
    Some(RejectedEntry::new(envelope, refused, error))
}

/// As those are told who may have been shown it.
fn taken_back(refused: &RejectedEntry) -> Frame {
    let RejectedEntry { room, user, id, .. } = refused;
    let (room_id, id, user_id) = (room.clone(), id.clone(), user.clone());
    let told = Rejected { room_id, id, user_id, change_id: None, error: None };
    codec::event(EventName::MessageRejected, &told)
}

/// Folds a page in order: each message once, in the last state that the page knows, at the place of
/// that change.
pub(crate) fn fold(entries: Vec<RoomEntry>) -> Vec<RoomEntry> {
    let mut folded: Vec<RoomEntry> = Vec::with_capacity(entries.len());
    for mut entry in entries {
        if let Some(place) = entry.overtakes(folded.iter()) {
            if entry.is_change_alone()
                && let Some(message) = folded[place].read_message()
            {
                entry = entry.upon(&message);
            }
            // One that cannot be read stays, and so does its change.
            if entry.is_shown() && !entry.is_change_alone() {
                folded[place] = folded[place].overtaken();
            }
        }
        folded.push(entry);
    }
    folded
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
    let Message { room_id, id, user_id, .. } = message;
    codec::event(event, &Changed { room_id, id, user_id, change_id, state, position: at })
}
