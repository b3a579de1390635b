//! Builds an edit or a delete and queues it, for commands and the HTTP API.

use bytes::Bytes;
use serde::Serialize;
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, MessageKey, RoomId, UserId};
use shared::contract::message::{Message, Metadata};
use shared::contract::position::Position;
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::timestamp::Timestamp;
use shared::log::{Append, Placement};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::broker::append_queue::{Accepted, Outcome};
use crate::broker::waiters::Waiter;
use crate::node::Node;
use crate::operation::authorize;
use crate::operation::post::{self, COMPARING_PATIENCE, Charge, away, digest};
use crate::operation::validate::ABORTED;
use crate::wire::codec;

/// Who wants a change.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) user: UserId,
    /// Their token lets them change what others said.
    pub(crate) moderates: bool,
    /// On which connection they wait for the database to have it.
    pub(crate) waiter: Option<Waiter>,
}

/// A change that was checked, but for whether it may be made.
#[derive(Debug)]
pub(crate) struct ChangeRequest {
    pub(crate) room: RoomId,
    /// Who sent the message, where the asker says so: one's own is meant else, or the first.
    pub(crate) author: Option<UserId>,
    /// The message.
    pub(crate) id: MessageId,
    /// Names the change.
    pub(crate) change_id: MessageId,
    pub(crate) what: ChangeKind,
}

/// What is to become of a message.
#[derive(Debug)]
pub(crate) enum ChangeKind {
    /// Another content, and other metadata or those that stand.
    Edit { content: String, metadata: NewMetadata },
    /// Nothing but its place.
    Delete,
}

impl ChangeKind {
    /// An edit as somebody asks for it.
    pub(crate) fn edit(content: String, metadata: Option<Metadata>) -> ChangeKind {
        let metadata = metadata.map_or(NewMetadata::Kept, NewMetadata::Replaced);
        ChangeKind::Edit { content, metadata }
    }
}

/// What an edit makes of a message's metadata.
#[derive(Debug)]
pub(crate) enum NewMetadata {
    /// Those that stand.
    Kept,
    /// These, with the server's mark where it stands.
    Replaced(Metadata),
    /// These and no mark: the answer that was cut off is whole.
    Unmarked(Metadata),
}

impl NewMetadata {
    fn asked(&self) -> Option<&Metadata> {
        match self {
            NewMetadata::Kept => None,
            NewMetadata::Replaced(metadata) | NewMetadata::Unmarked(metadata) => Some(metadata),
        }
    }

    /// What comes in the place of `standing`.
    fn over(self, standing: &Metadata) -> Metadata {
        match self {
            NewMetadata::Kept => standing.clone(),
            NewMetadata::Replaced(metadata) if is_marked(standing) => marked(&metadata),
            NewMetadata::Replaced(metadata) | NewMetadata::Unmarked(metadata) => metadata,
        }
    }
}

/// The mark of an answer that was cut off, behind what else there is.
const MARKED: &str = r#""aborted":true}"#;

/// The metadata with the mark of an answer that was cut off; they may pass their limit by it.
pub(crate) fn marked(metadata: &Metadata) -> Metadata {
    let metadata = unmarked(metadata);
    let rest = metadata.as_str().strip_suffix('}').unwrap_or_default();
    let comma = if metadata.entries().is_empty() { "" } else { "," };
    Metadata::from_stored(&format!("{rest}{comma}{MARKED}"))
}

/// The metadata without the mark; the rest as it came.
pub(crate) fn unmarked(metadata: &Metadata) -> Metadata {
    if let Some(rest) = metadata.as_str().strip_suffix(MARKED) {
        let rest = Metadata::from_stored(&format!("{}}}", rest.strip_suffix(',').unwrap_or(rest)));
        if !rest.entries().contains_key(ABORTED) {
            return rest;
        }
    }
    let mut entries = metadata.entries();
    match entries.remove(ABORTED) {
        Some(_) => {
            let text = serde_json::to_string(&entries).expect("texts and JSON values are JSON");
            Metadata::from_stored(&text)
        }
        None => metadata.clone(),
    }
}

/// Whether the answer was cut off.
pub(crate) fn is_marked(metadata: &Metadata) -> bool {
    metadata.entries().remove(ABORTED).is_some_and(|mark| mark.get() == "true")
}

/// How far a change is.
#[derive(Debug)]
pub(crate) enum ChangeProgress {
    /// In line.
    Waiting(oneshot::Receiver<Outcome>, ChangeEntry),
    /// It was made before.
    Made(Accepted),
    /// What it asks for stood already, by another change: nothing of this one is kept.
    Needless(Placement),
}

/// A change that was asked for, to be compared with what stands under its id.
#[derive(Debug)]
pub(crate) struct ChangeEntry {
    /// Whose message, as far as its asker said.
    meant: MessageKey,
    author: Option<UserId>,
    change_id: MessageId,
    /// Of an edit its content and what metadata it asked for; nothing of a delete.
    edit: Option<(Uuid, Option<Metadata>)>,
}

impl ChangeEntry {
    fn of(asker: &Asker, change: &ChangeRequest) -> ChangeEntry {
        let ChangeRequest { room, author, id, change_id, what } = change;
        let user = author.as_ref().unwrap_or(&asker.user).clone();
        let meant = MessageKey { room: room.clone(), user, id: id.clone() };
        let edit = match what {
            ChangeKind::Edit { content, metadata } => {
                Some((digest(&[content]), metadata.asked().map(unmarked)))
            }
            ChangeKind::Delete => None,
        };
        ChangeEntry { meant, author: author.clone(), change_id: change_id.clone(), edit }
    }

    /// Whether a message is what this change, which stands at `position`, made of it. Of one that
    /// was changed later again that cannot be said, and it is taken for granted.
    fn is(&self, message: &Message, position: Position) -> bool {
        if self.author.as_ref().is_some_and(|author| *author != message.user_id) {
            return false;
        }
        if message.change_id.as_ref() != Some(&self.change_id) {
            return message.changed_position.is_some_and(|changed| changed > position);
        }
        match (&self.edit, message.deleted_at) {
            (None, deleted_at) => deleted_at.is_some(),
            (Some(_), Some(_)) => false,
            (Some((content, metadata)), None) => {
                let stands = unmarked(&message.metadata);
                *content == digest(&[&message.content])
                    && metadata.as_ref().is_none_or(|asked| asked.means(&stands))
            }
        }
    }
}

/// Refuses what stands as another change, of this message or of another one, where its id was made
/// from a key; as [`post::standing`].
async fn as_asked(node: &Node, made: &ChangeEntry, accepted: Accepted) -> Outcome {
    let Accepted::Placed(place) = accepted else { return Ok(accepted) };
    let is_found = place.duplicate && place.persisted && place.position != Position::ZERO;
    if !is_found || !made.change_id.is_of_name() {
        return Ok(accepted);
    }
    let MessageKey { room, user, id } = &made.meant;
    let read = node.store.message(room, user, id);
    match tokio::time::timeout(COMPARING_PATIENCE, read).await {
        Ok(Ok(None)) => Err(not_found()),
        Ok(Ok(Some(row))) if !made.is(&row, place.position) => Err(post::conflict("changeId")),
        // Where it cannot be seen any more, it is answered as it was.
        Ok(_) | Err(_) => Ok(accepted),
    }
}

/// What the members are told of an edit, without its position.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EditBody<'a> {
    room_id: &'a RoomId,
    id: &'a MessageId,
    /// Who sent the message.
    user_id: &'a UserId,
    change_id: &'a MessageId,
    content: &'a str,
    metadata: &'a Metadata,
    edited_at: Timestamp,
}

/// What the members are told of a delete, without its position.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeleteBody<'a> {
    room_id: &'a RoomId,
    id: &'a MessageId,
    /// Who sent the message.
    user_id: &'a UserId,
    change_id: &'a MessageId,
    deleted_at: Timestamp,
}

/// Puts a change in line, which may cost what the message itself would have. One that was made
/// before is answered even where it is refused now: `allowed` says whether its caller would.
pub(crate) async fn change(
    node: &Node,
    asker: &Asker,
    change: ChangeRequest,
    cost: Option<Charge>,
    allowed: Result<(), Refusal>,
) -> Result<ChangeProgress, Refusal> {
    let identity = MessageKey {
        room: change.room.clone(),
        user: asker.user.clone(),
        id: change.change_id.clone(),
    };
    let made = ChangeEntry::of(asker, &change);
    let tried = match allowed {
        Ok(()) => make(node, asker, change, cost).await,
        Err(refusal) => Err(refusal),
    };
    let accepted = match tried {
        Ok(Tried::Waiting(outcome)) => return Ok(ChangeProgress::Waiting(outcome, made)),
        Ok(Tried::Stands(stands)) => match known(node, identity).await? {
            Some(accepted) => accepted,
            None => {
                as_asked(node, &made, Accepted::Placed(stands)).await?;
                return Ok(ChangeProgress::Needless(stands));
            }
        },
        Err(refusal) => known(node, identity).await?.ok_or(refusal)?,
    };
    as_asked(node, &made, accepted).await.map(ChangeProgress::Made)
}

/// How far a change came.
enum Tried {
    /// In line.
    Waiting(oneshot::Receiver<Outcome>),
    /// What it asks for stands already.
    Stands(Placement),
}

async fn make(
    node: &Node,
    asker: &Asker,
    change: ChangeRequest,
    cost: Option<Charge>,
) -> Result<Tried, Refusal> {
    let meant = change.author.as_ref().unwrap_or(&asker.user);
    let found = match node.hub.message(&change.room, meant, &change.id).await {
        Ok(Some(message)) => Some(message),
        missing => match pending(node, &change, meant).await? {
            None => missing?,
            found => found,
        },
    };
    let is_meant = |user: &UserId| change.author.as_ref().is_none_or(|author| author == user);
    let Some(message) = found.filter(|message| is_meant(&message.user_id)) else {
        return Err(not_found());
    };
    if message.user_id != asker.user && !moderates(node, asker, &change.room).await? {
        let text = "only its author or a moderator may change a message";
        return Err(Refusal::new(RefusalCode::Forbidden, text).field("id"));
    }
    let what = match (change.what, message.deleted_at) {
        (ChangeKind::Edit { .. }, Some(_)) => return Err(not_found()),
        (ChangeKind::Delete, Some(_)) => return Ok(Tried::Stands(standing(&message)?)),
        (what, None) => what,
    };
    let now = Timestamp(node.clock.now_ms());
    let ChangeRequest { room, id, change_id, .. } = change;
    let (room_id, user_id) = (&room, &message.user_id);
    let (kind, body, digest) = match what {
        ChangeKind::Edit { content, metadata } => {
            // What was asked, not what stands, tells one edit from another.
            let asked = metadata.asked().map_or("kept", Metadata::as_str);
            let digest = digest(&["edit", id.as_str(), user_id.as_str(), &content, asked]);
            let (content, metadata) = (&content, &metadata.over(&message.metadata));
            let (id, change_id, edited_at) = (&id, &change_id, now);
            let body = EditBody { room_id, id, user_id, change_id, content, metadata, edited_at };
            (EntryKind::Edit, codec::json(&body), digest)
        }
        ChangeKind::Delete => {
            let digest = digest(&["delete", id.as_str(), user_id.as_str()]);
            let (id, change_id, deleted_at) = (&id, &change_id, now);
            let body = DeleteBody { room_id, id, user_id, change_id, deleted_at };
            (EntryKind::Delete, codec::json(&body), digest)
        }
    };
    let cost = cost.map(|charge| post::usage(&room, &message.user_id, &id, now, charge));
    let envelope = Envelope {
        kind,
        room,
        user: asker.user.clone(),
        id,
        change_id: Some(change_id),
        accepted_at: now,
        body: Bytes::from(body),
    };
    let author = Some(message.user_id);
    let append = Append { envelope, digest, cost, author };
    Ok(Tried::Waiting(node.append_queue.append(append, asker.waiter.clone())?))
}

async fn moderates(node: &Node, asker: &Asker, room: &RoomId) -> Result<bool, Refusal> {
    Ok(asker.moderates || authorize::is_moderator(node, &asker.user, room).await?)
}

/// The last change of a message, which is the one that was wanted.
fn standing(message: &Message) -> Result<Placement, Refusal> {
    let position = message.changed_position.or(message.position).ok_or_else(not_found)?;
    Ok(Placement { position, duplicate: true, persisted: false })
}

/// Where a change stands, in the log's memory, the journal or the database.
async fn known(node: &Node, identity: MessageKey) -> Result<Option<Accepted>, Refusal> {
    if let Some(known) = post::remembered(node, &identity).await? {
        return Ok(Some(known));
    }
    let found = node.store.find_changes(&[identity]).await.map_err(|_| away())?;
    let stored = found.into_iter().next().flatten().map(Placement::stored);
    Ok(stored.map(Accepted::Placed))
}

/// A message that only this node's journal has.
async fn pending(
    node: &Node,
    change: &ChangeRequest,
    meant: &UserId,
) -> Result<Option<Message>, Refusal> {
    let (room, id) = (change.room.clone(), change.id.clone());
    let key = MessageKey { room, user: meant.clone(), id };
    let noted = post::journaled(node, &key).await?;
    Ok(noted.and_then(|append| serde_json::from_slice(&append.envelope.body).ok()))
}

/// What became of a change that was put in line.
pub(crate) async fn settled(
    node: &Node,
    made: &ChangeEntry,
    outcome: oneshot::Receiver<Outcome>,
) -> Outcome {
    let accepted = post::answered(outcome).await?;
    if !accepted.is_duplicate() {
        node.metrics.changes_in_total.inc();
    }
    as_asked(node, made, accepted).await
}

fn not_found() -> Refusal {
    Refusal::new(RefusalCode::NotFound, "no such message in this room").field("id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_comes_and_goes_and_the_rest_stays() {
        for text in [
            "{}",
            "{ }",
            r#"{"model":"small"}"#,
            r#"{ "n" : 12345678901234567890123, "x":1e-400,"n":2 }"#,
        ] {
            let plain = Metadata::from_stored(text);
            let with_mark = marked(&plain);
            assert!(is_marked(&with_mark) && !is_marked(&plain));
            assert_eq!(marked(&with_mark), with_mark);
            assert_eq!(unmarked(&with_mark), plain);
            assert_eq!(unmarked(&plain), plain);
        }
        let first = Metadata::from_stored(r#"{"aborted":true,"n":1.50}"#);
        assert_eq!(unmarked(&first).as_str(), r#"{"n":1.50}"#);
    }
}
