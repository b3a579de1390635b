//! A message, in the one form that events, pages and the HTTP API share.

use serde::{Deserialize, Serialize};

use super::id::{MessageId, RoomId, UserId};
use super::limits::CONTENT_BYTES_MAX;
use super::position::Position;
use super::timestamp::Timestamp;

pub use super::metadata::{Metadata, TextError};

/// Who speaks: not who sent it, which is always the authenticated user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageType {
    /// A person.
    #[default]
    User,
    /// An AI assistant.
    Assistant,
    /// The application itself.
    System,
}

impl MessageType {
    /// As the wire and the database spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MessageType::User => "user",
            MessageType::Assistant => "assistant",
            MessageType::System => "system",
        }
    }

    /// What the database holds; rows of an application that knew other kinds count as the user's.
    #[must_use]
    pub fn from_stored(text: &str) -> MessageType {
        match text {
            "assistant" => MessageType::Assistant,
            "system" => MessageType::System,
            _ => MessageType::User,
        }
    }
}

/// A message in its present state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The room it stands in.
    pub room_id: RoomId,
    /// Chosen by the sender; identity is (room, sender, id).
    pub id: MessageId,
    /// The authenticated sender.
    pub user_id: UserId,
    /// Who speaks.
    #[serde(rename = "type")]
    pub kind: MessageType,
    /// The text; empty when deleted.
    pub content: String,
    /// Whatever the application attaches.
    pub metadata: Metadata,
    /// When the gateway accepted it.
    pub created_at: Timestamp,
    /// When it was last edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<Timestamp>,
    /// When it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// What it cost, where it cost something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credits: Option<u64>,
    /// The place of its last change, when it has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_position: Option<Position>,
    /// The id of that change, for cursors; not on the wire.
    #[serde(skip)]
    pub change_id: Option<MessageId>,
    /// Its place; absent only until the log has given it one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// Checks a message's text: at most [`CONTENT_BYTES_MAX`], no U+0000.
///
/// # Errors
/// Says which of the two it breaks.
pub fn check_content(content: &str) -> Result<(), TextError> {
    if content.len() > CONTENT_BYTES_MAX {
        return Err(TextError::TooLong { bytes: content.len(), limit: CONTENT_BYTES_MAX });
    }
    if content.contains('\0') {
        return Err(TextError::Nul);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_limited_in_bytes() {
        assert!(check_content(&"x".repeat(CONTENT_BYTES_MAX)).is_ok());
        assert!(check_content(&"x".repeat(CONTENT_BYTES_MAX + 1)).is_err());
        assert_eq!(check_content("a\0b"), Err(TextError::Nul));
    }
}
