//! Builds a log entry from a validated message and queues it. Callers authorize first.

use std::time::Duration;

use bytes::Bytes;
use shared::contract::credit::{CreditEntry, CreditKind, event_id};
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, MessageKey, RoomId, UserId};
use shared::contract::message::{Message, MessageType, Metadata};
use shared::contract::protocol::Attached;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::timestamp::Timestamp;
use shared::log::{Append, Appended, Placement};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::broker::append_queue::{Accepted, Outcome};
use crate::broker::waiters::Waiter;
use crate::node::Node;
use crate::wire::codec;

/// The name space of content digests; chosen once.
const DIGEST: Uuid = Uuid::from_u128(0x2f7a_91c4_63de_5b1f_8c0e_524f_4f4d_4331);

/// How long a row may take to be compared with what is said again under its id.
pub(crate) const COMPARING_PATIENCE: Duration = Duration::from_secs(2);

/// A message that was checked and is to be said.
#[derive(Debug)]
pub(crate) struct MessageDraft {
    pub(crate) room: RoomId,
    pub(crate) id: MessageId,
    /// The sender.
    pub(crate) user: UserId,
    pub(crate) kind: MessageType,
    pub(crate) content: String,
    pub(crate) metadata: Metadata,
    pub(crate) cost: Option<Charge>,
}

/// What was said, as far as the database keeps it: enough to tell whether what stands under the
/// same id is the same.
#[derive(Debug)]
pub(crate) struct Said {
    key: MessageKey,
    kind: MessageType,
    /// Of the content, which may be large.
    content: Uuid,
    metadata: Metadata,
    credits: Option<u64>,
}

impl Said {
    pub(crate) fn of(draft: &MessageDraft) -> Said {
        let MessageDraft { room, id, user, kind, content, metadata, cost } = draft;
        let key = MessageKey { room: room.clone(), user: user.clone(), id: id.clone() };
        let (kind, content, metadata) = (*kind, digest(&[content]), metadata.clone());
        let credits = cost.as_ref().map(|charge| charge.amount);
        Said { key, kind, content, metadata, credits }
    }

    fn is(&self, message: &Message) -> bool {
        self.kind == message.kind
            && self.content == digest(&[&message.content])
            && self.credits == message.credits
            && self.metadata.means(&message.metadata)
    }
}

/// What a message costs, and whom.
#[derive(Clone, Debug)]
pub(crate) struct Charge {
    pub(crate) user: UserId,
    pub(crate) amount: u64,
    pub(crate) metadata: Attached,
}

/// Puts a message in line, for whose being in the database `waiter` waits.
pub(crate) fn post(
    node: &Node,
    draft: MessageDraft,
    waiter: Option<Waiter>,
) -> Result<oneshot::Receiver<Outcome>, Refusal> {
    let accepted_at = Timestamp(node.clock.now_ms());
    let MessageDraft { room, id, user, kind, content, metadata, cost } = draft;
    let digest = digest(&[
        kind.as_str(),
        &content,
        metadata.as_str(),
        &cost.as_ref().map_or(String::new(), |charge| format!("{} {}", charge.user, charge.amount)),
    ]);
    let message = Message {
        room_id: room.clone(),
        id: id.clone(),
        user_id: user.clone(),
        kind,
        content,
        metadata,
        created_at: accepted_at,
        edited_at: None,
        deleted_at: None,
        credits: cost.as_ref().map(|charge| charge.amount),
        changed_position: None,
        change_id: None,
        position: None,
    };
    let cost = cost.map(|charge| usage(&room, &user, &id, accepted_at, charge));
    let envelope = Envelope {
        kind: EntryKind::Message,
        room,
        user,
        id,
        change_id: None,
        accepted_at,
        body: Bytes::from(codec::json(&message)),
    };
    node.append_queue.append(Append { envelope, digest, cost, author: None }, waiter)
}

/// The movement of credits that goes with a message of `sender`.
pub(crate) fn usage(
    room: &RoomId,
    sender: &UserId,
    id: &MessageId,
    accepted_at: Timestamp,
    charge: Charge,
) -> Envelope {
    let Charge { user, amount, metadata } = charge;
    let kind = CreditKind::Usage;
    let (amount, room_id, message_id) = (kind.signed(amount), Some(room.clone()), Some(id.clone()));
    let entry = CreditEntry { amount, kind, room_id, message_id, metadata };
    Envelope {
        kind: EntryKind::Usage,
        room: room.clone(),
        user,
        id: event_id(room, sender, id, kind),
        change_id: None,
        accepted_at,
        body: Bytes::from(codec::json(&entry)),
    }
}

/// What became of a message that was put in line.
pub(crate) async fn settled(
    node: &Node,
    said: &Said,
    outcome: oneshot::Receiver<Outcome>,
) -> Outcome {
    let accepted = answered(outcome).await?;
    if !accepted.is_duplicate() {
        node.metrics.messages_in_total.inc();
    }
    if let Accepted::Journaled { duplicate: false, body } = &accepted {
        node.hub.pending(&said.key.room, body);
    }
    standing(node, said, accepted).await
}

/// Refuses what stands as something else. The log compares contents for as long as it remembers
/// them. Behind that only room and sender are, except where the id was made from a key: the row is
/// compared then, unless it was changed since, or is another program's.
pub(crate) async fn standing(node: &Node, said: &Said, accepted: Accepted) -> Outcome {
    let MessageKey { room, user, id } = &said.key;
    let Accepted::Placed(place) = accepted else { return Ok(accepted) };
    let is_found = place.duplicate && place.persisted && place.position.epoch > 0;
    if !is_found || !id.is_of_name() {
        return Ok(accepted);
    }
    let read = node.store.message(room, user, id);
    // It stood there a moment ago; where that cannot be seen any more, it is answered as it was.
    let Ok(Ok(Some(row))) = tokio::time::timeout(COMPARING_PATIENCE, read).await else {
        return Ok(accepted);
    };
    let is_as_it_came = row.user_id == *user
        && row.edited_at.is_none()
        && row.deleted_at.is_none()
        && row.change_id.is_none();
    if is_as_it_came && !said.is(&row) { Err(conflict("id")) } else { Ok(accepted) }
}

/// The id is taken.
pub(crate) fn conflict(field: &str) -> Refusal {
    let text = "this id stands already, with other content";
    Refusal::new(RefusalCode::Conflict, text).field(field)
}

/// What became of an entry that was put in line.
pub(crate) async fn answered(outcome: oneshot::Receiver<Outcome>) -> Outcome {
    outcome.await.unwrap_or_else(|_| Err(leaving()))
}

/// Whether it stood already, or was not taken.
pub(crate) fn is_nothing_new(outcome: &Outcome) -> bool {
    outcome.as_ref().map_or_else(was_not_taken, Accepted::is_duplicate)
}

/// Whether the same may come again for no fault of its sender's; what was tried in vain, because
/// it is not allowed or the database refuses it, was tried all the same.
pub(crate) fn was_not_taken(refusal: &Refusal) -> bool {
    use RefusalCode::{Backpressure, Conflict, Unavailable};
    matches!(refusal.code, Backpressure | Conflict | Unavailable)
}

/// Where an id stands, in the log's memory, or else in this node's journal.
pub(crate) async fn remembered(
    node: &Node,
    identity: &MessageKey,
) -> Result<Option<Accepted>, Refusal> {
    let known = match node.append_queue.is_silent() {
        // What it would say is asked of whoever offers it to the log when it is back.
        true => None,
        false => node.log.known(identity).await.map_err(|_| away())?,
    };
    match known {
        Some(Appended::Placed(place)) => Ok(Some(Accepted::Placed(place))),
        Some(Appended::Rejected(refusal)) => Err(refusal),
        Some(Appended::Conflict) | None => {
            let noted = journaled(node, identity).await?;
            let body = noted.map(|append| append.envelope.body);
            Ok(body.map(|body| Accepted::Journaled { duplicate: true, body }))
        }
    }
}

/// What this node's journal has under an id.
pub(crate) async fn journaled(node: &Node, key: &MessageKey) -> Result<Option<Append>, Refusal> {
    let journal = node.append_queue.journal().filter(|journal| journal.holds_any());
    let Some(journal) = journal else { return Ok(None) };
    journal.journal.find(key).await.map_err(|_| away())
}

/// Where an id stands, in the log's memory, the journal or the database.
pub(crate) async fn known(node: &Node, identity: MessageKey) -> Result<Option<Accepted>, Refusal> {
    if let Some(known) = remembered(node, &identity).await? {
        return Ok(Some(known));
    }
    let found = node.store.find(&[identity]).await.map_err(|_| away())?;
    let stored = found.into_iter().next().flatten().map(Placement::stored);
    Ok(stored.map(Accepted::Placed))
}

/// Something that is needed for it does not answer now.
pub(crate) fn away() -> Refusal {
    Refusal::new(RefusalCode::Unavailable, "try again").retry_after_ms(1000)
}

/// A `UUIDv7` by the node's clock.
pub(crate) fn new_id(now_ms: i64) -> MessageId {
    let now_ms = u64::try_from(now_ms).unwrap_or(0);
    let nanos = u32::try_from(now_ms % 1000).unwrap_or(0) * 1_000_000;
    let time = uuid::Timestamp::from_unix(uuid::NoContext, now_ms / 1000, nanos);
    MessageId::from_uuid(Uuid::new_v7(time))
}

/// What tells one content from another under the same id.
pub(crate) fn digest(parts: &[&str]) -> Uuid {
    // Lengths make the text unambiguous.
    let text: String = parts.iter().map(|part| format!("{} {part}", part.len())).collect();
    Uuid::new_v5(&DIGEST, text.as_bytes())
}

/// The outcome is not known, because the node leaves.
pub(crate) fn leaving() -> Refusal {
    let text = "the node is leaving; offer it again under the same id";
    Refusal::new(RefusalCode::Unavailable, text).retry_after_ms(1000)
}
