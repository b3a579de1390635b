//! Resolves the names of messages, and makes ids for rows.

use uuid::Uuid;

use super::StoreError;
use crate::contract::id::{MessageId, UserId};
use crate::contract::message::Message;

/// The id of a row whose sender's own is taken: from chance alone, so that nobody can know it
/// before and take it too.
pub(super) fn fresh_id() -> MessageId {
    MessageId::from_uuid(Uuid::new_v4())
}

/// Of the messages of one id in a room, the one that a change by `user` would mean: the changer's
/// own, else the first.
pub(super) fn meant(mut known: Vec<Message>, user: &UserId) -> Option<Message> {
    known.sort_by_key(|message| message.position);
    let own = known.iter().position(|message| message.user_id == *user);
    (!known.is_empty()).then(|| known.swap_remove(own.unwrap_or(0)))
}

/// A row that was not written, although neither its message stands nor its id is taken: some other
/// key of it is.
pub(super) fn place_is_taken(code: &str) -> StoreError {
    StoreError::Data {
        code: code.to_owned(),
        detail: "another row has its place, or another unique key of it".to_owned(),
    }
}
