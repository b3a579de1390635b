//! A message: the same object live, in replay, in history and over HTTP.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use super::id::{MessageId, RoomId, UserId};
use super::limits::{CONTENT_BYTES_MAX, METADATA_BYTES_MAX, METADATA_LEVELS_MAX};
use super::position::Position;
use super::timestamp::Timestamp;

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

/// A text field that may not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Over the limit.
    #[error("{bytes} bytes are more than the limit of {limit}")]
    TooLong {
        /// What it has.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// U+0000, which Postgres cannot store.
    #[error("the character U+0000 cannot be stored")]
    Nul,
    /// Objects within objects.
    #[error("nested deeper than {METADATA_LEVELS_MAX} levels")]
    TooDeep,
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

/// A JSON object of bounded size and depth, kept as the text it travels as.
#[derive(Clone)]
pub struct Metadata(Box<RawValue>);

impl Metadata {
    /// Checks what a client sent: at most [`METADATA_BYTES_MAX`] of compact JSON,
    /// [`METADATA_LEVELS_MAX`] levels, no U+0000 in any key or text.
    ///
    /// # Errors
    /// Says which limit it breaks.
    pub fn check(map: serde_json::Map<String, serde_json::Value>) -> Result<Metadata, TextError> {
        let value = serde_json::Value::Object(map);
        check_value(&value, 1)?;
        let text = value.to_string();
        if text.len() > METADATA_BYTES_MAX {
            return Err(TextError::TooLong { bytes: text.len(), limit: METADATA_BYTES_MAX });
        }
        Ok(Metadata(RawValue::from_string(text).expect("serde_json wrote it")))
    }

    /// What the database kept; anything but an object counts as empty.
    #[must_use]
    pub fn from_stored(text: &str) -> Metadata {
        if !text.trim_start().starts_with('{') {
            return Metadata::default();
        }
        RawValue::from_string(text.to_owned()).map_or_else(|_| Metadata::default(), Metadata)
    }

    /// Its JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

fn check_value(value: &serde_json::Value, level: usize) -> Result<(), TextError> {
    use serde_json::Value;
    if level > METADATA_LEVELS_MAX && (value.is_array() || value.is_object()) {
        return Err(TextError::TooDeep);
    }
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::String(text) if text.contains('\0') => Err(TextError::Nul),
        Value::String(_) => Ok(()),
        Value::Array(items) => items.iter().try_for_each(|item| check_value(item, level + 1)),
        Value::Object(map) => map.iter().try_for_each(|(key, item)| {
            if key.contains('\0') { Err(TextError::Nul) } else { check_value(item, level + 1) }
        }),
    }
}

impl Default for Metadata {
    fn default() -> Metadata {
        Metadata(RawValue::from_string("{}".into()).expect("an empty object is JSON"))
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Metadata) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('{') {
            Ok(Metadata(raw))
        } else {
            Err(de::Error::custom("metadata is an object"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(text: &str) -> Result<Metadata, TextError> {
        Metadata::check(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn metadata_is_limited_in_depth_and_size_and_characters() {
        assert_eq!(
            metadata(r#"{"b":1, "a":[true,null]}"#).unwrap().as_str(),
            r#"{"a":[true,null],"b":1}"#
        );
        let deep = |levels: usize| {
            format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
        };
        assert!(metadata(&deep(METADATA_LEVELS_MAX)).is_ok());
        assert_eq!(metadata(&deep(METADATA_LEVELS_MAX + 1)), Err(TextError::TooDeep));
        assert_eq!(metadata(r#"{"a":"\u0000"}"#), Err(TextError::Nul));
        assert_eq!(metadata(r#"{"\u0000":1}"#), Err(TextError::Nul));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(METADATA_BYTES_MAX));
        assert!(matches!(metadata(&long), Err(TextError::TooLong { .. })));
    }

    #[test]
    fn content_is_limited_in_bytes() {
        assert!(check_content(&"x".repeat(CONTENT_BYTES_MAX)).is_ok());
        assert!(check_content(&"x".repeat(CONTENT_BYTES_MAX + 1)).is_err());
        assert_eq!(check_content("a\0b"), Err(TextError::Nul));
    }
}
