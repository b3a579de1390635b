//! Looks in the database for what may be stored already, by the identity of each kind of entry.

use std::collections::HashSet;

use shared::contract::credit::CreditEntry;
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, MessageKey, RoomId, UserId};
use shared::contract::position::Position;
use shared::contract::timestamp::Timestamp;
use shared::log::{Appended, Log, Placement, RejectedEntry};
use shared::store::{Store, StoreError};
use uuid::Uuid;

use super::TryError;

/// Whether an entry of this kind may be in the database under its id.
pub(super) fn is_looked_up(kind: EntryKind) -> bool {
    match kind {
        EntryKind::Message | EntryKind::Edit | EntryKind::Delete | EntryKind::Usage => true,
        EntryKind::Void | EntryKind::Removal | EntryKind::Receipt | EntryKind::Refusal => false,
    }
}

/// Where each of the entries stands, in their order. Receipts are compared and never looked up; a
/// movement of credits has no place in a room, and stands at [`Position::ZERO`], or with another
/// amount, which is a conflict where a key named it; else the worker puts it aside, where
/// somebody sees it. Contents of messages are compared by whoever waits for the answer.
pub(super) async fn stored(
    store: &dyn Store,
    asked: &[&Envelope],
) -> Result<Vec<Option<Appended>>, StoreError> {
    let mut found: Vec<Option<Appended>> = vec![None; asked.len()];
    let messages = places(asked, |kind| kind == EntryKind::Message);
    if !messages.is_empty() {
        let answers = store.find(&identities(asked, &messages)).await?;
        messages.iter().zip(answers).for_each(|(place, answer)| found[*place] = answer.map(stands));
    }
    let changes = places(asked, |kind| matches!(kind, EntryKind::Edit | EntryKind::Delete));
    if !changes.is_empty() {
        let answers = store.find_changes(&identities(asked, &changes)).await?;
        changes.iter().zip(answers).for_each(|(place, answer)| found[*place] = answer.map(stands));
    }
    let credits = places(asked, |kind| kind == EntryKind::Usage);
    if !credits.is_empty() {
        let key = |place: &usize| (asked[*place].id.clone(), asked[*place].user.clone());
        let movements: Vec<(MessageId, UserId)> = credits.iter().map(key).collect();
        let answers = store.find_movements(&movements).await?;
        for (place, standing) in credits.iter().zip(answers) {
            let is_same = |standing| Some(standing) == amount(asked[*place]);
            found[*place] = match standing {
                Some(standing) if is_same(standing) => Some(stands(Position::ZERO)),
                Some(_) if is_of_a_key(&asked[*place].id) => Some(Appended::Conflict),
                Some(_) | None => None,
            };
        }
    }
    Ok(found)
}

fn stands(position: Position) -> Appended {
    Appended::Placed(Placement::stored(position))
}

/// Which of these messages stand, in the log's memory or in the database.
pub(super) async fn there(
    log: &dyn Log,
    store: &dyn Store,
    mut asked: Vec<MessageKey>,
) -> Result<HashSet<MessageKey>, TryError> {
    let mut there = HashSet::new();
    let mut unknown = Vec::new();
    while let Some(message) = asked.pop() {
        if there.contains(&message) || unknown.contains(&message) {
            continue;
        }
        match log.known(&message).await? {
            Some(_) => drop(there.insert(message)),
            None => unknown.push(message),
        }
    }
    if !unknown.is_empty() {
        let found = store.find(&unknown).await?;
        let stored = unknown.into_iter().zip(found).filter(|(_, position)| position.is_some());
        there.extend(stored.map(|(message, _)| message));
    }
    Ok(there)
}

/// The heads of rooms, and what those cover and the database refused since `since`.
pub(crate) async fn heads(
    store: &dyn Store,
    rooms: &[RoomId],
    since: Timestamp,
) -> Result<(Vec<Position>, Vec<RejectedEntry>), StoreError> {
    let heads = store.heads(rooms).await?;
    Ok((heads, store.refused(rooms, since).await?))
}

fn places(asked: &[&Envelope], wanted: fn(EntryKind) -> bool) -> Vec<usize> {
    (0..asked.len()).filter(|place| wanted(asked[*place].kind)).collect()
}

/// Whether an id was made of an `Idempotency-Key`: those are `UUIDv5`.
fn is_of_a_key(id: &MessageId) -> bool {
    Uuid::parse_str(id.as_str()).is_ok_and(|id| id.get_version_num() == 5)
}

/// What a movement moves; what was put in line here can be read.
fn amount(envelope: &Envelope) -> Option<i64> {
    let entry: Option<CreditEntry> = serde_json::from_slice(&envelope.body).ok();
    entry.map(|entry| entry.amount)
}

fn identities(asked: &[&Envelope], places: &[usize]) -> Vec<MessageKey> {
    let identity = |place: &usize| MessageKey {
        room: asked[*place].room.clone(),
        user: asked[*place].user.clone(),
        id: asked[*place].key().clone(),
    };
    places.iter().map(identity).collect()
}
