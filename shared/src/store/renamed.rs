//! Rows that stand under an id derived from their sender's: the sender's own is in the metadata.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Identity, derived_id};
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::message::Metadata;

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
