//! A message in a history page, and applying later edits to it.

use bytes::Bytes;
use shared::contract::id::{MessageId, UserId};
use shared::contract::message::Message;
use shared::contract::position::Position;

use super::entry::RoomEntry;
use crate::wire::codec;

/// A message at its own place, in the state in which it was read.
#[derive(Clone, Debug)]
pub(crate) struct MessageView {
    /// Where it stands.
    pub(crate) at: Position,
    /// The place of its last change, or its own.
    pub(crate) changed: Position,
    id: MessageId,
    user: UserId,
    /// The whole, as clients see it.
    pub(crate) json: Bytes,
}

impl MessageView {
    /// What the database has; `None` for a row without a place.
    pub(crate) fn from_message(message: &Message) -> Option<MessageView> {
        let at = message.position?;
        Some(MessageView {
            at,
            changed: message.changed_position.unwrap_or(at),
            id: message.id.clone(),
            user: message.user_id.clone(),
            json: Bytes::from(codec::json(message)),
        })
    }

    /// The message itself.
    pub(crate) fn read(&self) -> Option<Message> {
        serde_json::from_slice(&self.json).ok()
    }

    /// Does to the messages what a later entry says, where it is about one of them and not in its
    /// state already.
    pub(crate) fn change(messages: &mut [MessageView], entry: &RoomEntry) {
        if entry.is_change_alone() {
            if let Some(standing) = MessageView::meant(messages, entry)
                && standing.changed < entry.at
                && let Some(message) = standing.read()
                && let Some(folded) = entry.folded(&message).as_ref()
                && let Some(folded) = MessageView::from_message(folded)
            {
                *standing = folded;
            }
        } else if entry.at > entry.message_position()
            && let Some(json) = entry.message()
            && let Ok(place) =
                messages.binary_search_by_key(&entry.message_position(), |known| known.at)
            && messages[place].changed < entry.at
        {
            messages[place].changed = entry.at;
            messages[place].json = json;
        }
    }

    /// The message that a change means.
    fn meant<'a>(
        messages: &'a mut [MessageView],
        entry: &RoomEntry,
    ) -> Option<&'a mut MessageView> {
        let mut messages = messages.iter_mut();
        messages.find(|message| entry.is_about(&message.id) && entry.is_by(&message.user))
    }
}
