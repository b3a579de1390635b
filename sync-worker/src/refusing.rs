//! Appends refusals to rooms, so that those who were shown an entry take it away.

use shared::contract::envelope::{EntryKind, Envelope, Retraction};
use shared::contract::position::Position;
use shared::contract::timestamp::Timestamp;
use shared::log::Append;
use shared::store::{DeadLetter, refused_with};
use uuid::Uuid;

/// What the room is to say of a dead letter; nothing of one that nobody was shown.
pub(crate) fn refusal(letter: &DeadLetter, now: Timestamp) -> Option<Append> {
    let refused = letter.position?;
    let envelope = Envelope::decode(&letter.raw).ok()?;
    match envelope.kind {
        EntryKind::Message | EntryKind::Edit | EntryKind::Delete => {}
        EntryKind::Void
        | EntryKind::Removal
        | EntryKind::Receipt
        | EntryKind::Usage
        | EntryKind::Refusal => return None,
    }
    let body = Retraction { refused, error: refused_with(&letter.code) };
    let envelope = Envelope {
        kind: EntryKind::Refusal,
        accepted_at: now,
        body: serde_json::to_vec(&body).ok()?.into(),
        ..envelope
    };
    Some(Append { envelope, digest: Uuid::nil(), cost: None, author: None })
}

/// The place of what an entry says was refused.
pub(crate) fn refused(envelope: &Envelope) -> Option<Position> {
    let is_refusal = envelope.kind == EntryKind::Refusal;
    let body = is_refusal.then(|| serde_json::from_slice::<Retraction>(&envelope.body).ok());
    Some(body??.refused)
}
