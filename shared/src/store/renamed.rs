//! Rows that stand under an id derived from their sender's: the sender's own is in the metadata.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Identity, derived_id};
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::message::{Message, Metadata};

/// The key in a row's metadata under which the client's id is kept, when the row has another.
const CLIENT_ID: &str = "roomcast.id";

/// The id that the row's sender chose, if the row's own was really derived from it; `None` where
/// the sender has only written our key into its metadata.
pub(super) fn client_id(
    room: &RoomId,
    user: &str,
    row_id: &str,
    renamed_from: &str,
) -> Option<MessageId> {
    let user = UserId::parse(user).ok()?;
    let id = MessageId::parse(renamed_from).ok()?;
    let identity = Identity { room: room.clone(), user, id };
    (derived_id(&identity).as_str() == row_id).then_some(identity.id)
}

/// Of the row that has the id itself and those that seem renamed from it, the one that a change of
/// `id` by `user` would mean: the changer's own, else the one that has the id itself, else the
/// first that stands.
pub(super) fn meant(
    (itself, mut renamed): (Vec<Message>, Vec<Message>),
    user: &UserId,
    id: &MessageId,
) -> Option<Message> {
    renamed.sort_by_key(|message| message.position);
    // Neither a row that only looks renamed, nor one whose own name is another, is meant.
    let known = itself.into_iter().chain(renamed).filter(|message| message.id == *id);
    let mut known: Vec<Message> = known.collect();
    let own = known.iter().position(|message| message.user_id == *user);
    (!known.is_empty()).then(|| known.swap_remove(own.unwrap_or(0)))
}

/// The metadata with the client's id in them.
pub(super) fn named(metadata: &Metadata, id: &MessageId) -> Metadata {
    let id = serde_json::value::to_raw_value(id.as_str()).expect("a text is JSON");
    with_entries(metadata, |entries| {
        entries.insert(CLIENT_ID.to_owned(), id);
    })
}

/// What [`named`] was given.
pub(super) fn nameless(metadata: &Metadata) -> Metadata {
    with_entries(metadata, |entries| {
        entries.remove(CLIENT_ID);
    })
}

/// Rewrites the object without touching its values.
fn with_entries(
    metadata: &Metadata,
    rewrite: impl FnOnce(&mut BTreeMap<String, Box<RawValue>>),
) -> Metadata {
    let mut entries = serde_json::from_str(metadata.as_str()).unwrap_or_default();
    rewrite(&mut entries);
    let text = serde_json::to_string(&entries).expect("texts and JSON values are JSON");
    Metadata::from_stored(&text)
}
