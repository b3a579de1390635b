//! What has changed in a room since a place, for a reader that is no member: each message once, in
//! its present state, at the place of its last change.
//!
//! The database has this for what is persisted. What is not persisted yet lies in the ring as
//! entries, and is folded into it here.

use bytes::Bytes;
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::message::{Message, Metadata};
use shared::contract::position::Position;
use shared::log::RingEntry;

use super::recent;
use super::sources::{SourceError, Sources};
use crate::codec;

/// A page of changes, oldest first.
#[derive(Debug)]
pub(crate) struct Feed {
    /// The messages as JSON.
    pub(crate) messages: Vec<Bytes>,
    /// After which the next page begins.
    pub(crate) next: Position,
    /// Whether there is more at the moment.
    pub(crate) more: bool,
}

/// What an edit carries besides its ids.
#[derive(serde::Deserialize)]
struct Edited {
    content: String,
    #[serde(default)]
    metadata: Option<Metadata>,
}

impl Sources {
    /// At most `limit` changes after a place; `None` if the room has not come that far.
    pub(crate) async fn feed(
        &self,
        room: &RoomId,
        after: Position,
        limit: u32,
    ) -> Result<Option<Feed>, SourceError> {
        let (head, persisted) = self.head(room).await?;
        if after > head {
            return Ok(None);
        }
        // What the database does not have yet is read before it is asked, so that nothing can fall
        // between.
        let waiting = match persisted < head {
            true => self.tail(room, persisted).await?.entries,
            false => Vec::new(),
        };
        let limit = limit as usize;
        let rows = u32::try_from(limit + 1).unwrap_or(u32::MAX);
        let mut changed = self.store.changes(room, after, Position::MAX, rows).await?;
        let mut entries = waiting.iter().filter(|entry| entry.position > after);
        while changed.len() <= limit
            && let Some(entry) = entries.next()
        {
            self.fold(room, &mut changed, entry).await?;
        }
        changed.retain(|message| place(message) > after);
        changed.sort_by_key(place);
        let mut more = changed.len() > limit;
        changed.truncate(limit);
        let mut messages: Vec<Bytes> =
            changed.iter().map(|message| Bytes::from(codec::json(message))).collect();
        let fit = recent::fitting(messages.iter()).min(messages.len());
        more |= fit < messages.len();
        messages.truncate(fit);
        let next = fit.checked_sub(1).map_or(after, |last| place(&changed[last]));
        Ok(Some(Feed { messages, next, more }))
    }

    /// Where the message of this id was said, by `user` if several have the id.
    pub(crate) async fn place_of(
        &self,
        room: &RoomId,
        user: &UserId,
        id: &MessageId,
    ) -> Result<Option<Position>, SourceError> {
        let (head, persisted) = self.head(room).await?;
        if persisted < head {
            for entry in self.tail(room, persisted).await?.entries {
                let envelope = Envelope::decode(&entry.raw)?;
                if envelope.kind == EntryKind::Message && envelope.id == *id {
                    return Ok(Some(entry.position));
                }
            }
        }
        let found = self.store.message(room, user, id).await?;
        Ok(found.and_then(|message| message.position))
    }

    /// Puts an entry that the database may not have into what it has.
    async fn fold(
        &self,
        room: &RoomId,
        changed: &mut Vec<Message>,
        entry: &RingEntry,
    ) -> Result<(), SourceError> {
        let envelope = Envelope::decode(&entry.raw)?;
        let known = index(changed, &envelope);
        match envelope.kind {
            EntryKind::Message => {
                if !changed.iter().any(|message| message.position == Some(entry.position)) {
                    changed.push(said(&envelope, entry.position)?);
                }
            }
            EntryKind::Edit | EntryKind::Delete => {
                let message = match known {
                    Some(known) => Some(&mut changed[known]),
                    None => {
                        let id = &envelope.id;
                        let stored = self.store.message(room, &envelope.user, id).await?;
                        changed.extend(stored);
                        index(changed, &envelope).map(|place| &mut changed[place])
                    }
                };
                if let Some(message) = message {
                    change(message, &envelope, entry.position)?;
                }
            }
            EntryKind::Void | EntryKind::Removal | EntryKind::Receipt | EntryKind::Usage => {}
        }
        Ok(())
    }
}

/// Where a message stands in the order of changes.
fn place(message: &Message) -> Position {
    message.changed_position.or(message.position).unwrap_or_default()
}

/// The message that an envelope is about: the changer's own, where several have the id.
fn index(changed: &[Message], envelope: &Envelope) -> Option<usize> {
    let same = |message: &Message| message.id == envelope.id;
    let own = |message: &Message| same(message) && message.user_id == envelope.user;
    changed.iter().position(own).or_else(|| changed.iter().position(same))
}

fn said(envelope: &Envelope, position: Position) -> Result<Message, SourceError> {
    let mut message: Message = read(&envelope.body)?;
    message.position = Some(position);
    Ok(message)
}

/// Makes a change that is newer than what stands.
fn change(
    message: &mut Message,
    envelope: &Envelope,
    position: Position,
) -> Result<(), SourceError> {
    let deleting = envelope.kind == EntryKind::Delete;
    if position <= place(message) || (message.deleted_at.is_some() && !deleting) {
        return Ok(());
    }
    if deleting {
        message.content = String::new();
        message.metadata = Metadata::default();
        message.deleted_at.get_or_insert(envelope.accepted_at);
    } else {
        let Edited { content, metadata } = read(&envelope.body)?;
        message.content = content;
        message.metadata = metadata.unwrap_or_else(|| message.metadata.clone());
        message.edited_at = Some(envelope.accepted_at);
    }
    message.changed_position = Some(position);
    Ok(())
}

fn read<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, SourceError> {
    Ok(serde_json::from_slice(body)?)
}
