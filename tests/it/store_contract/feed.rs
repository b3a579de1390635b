//! Fills a store as the sync-worker would.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::contract::id::{MessageId, MessageKey, RoomId, Shard, UserId};
use shared::contract::message::{Message, MessageType, Metadata};
use shared::contract::position::Position;
use shared::contract::timestamp::Timestamp;
use shared::log::LogId;
use shared::store::{
    Batch, Change, Committed, DeadLetter, MessageChange, Row, Span, Store, StoreError,
};
use uuid::Uuid;

/// A moment long ago.
pub(super) const LONG_AGO: Timestamp = Timestamp(1_700_000_000_000);

pub(super) fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(super) fn id(name: &str) -> MessageId {
    MessageId::parse(name).unwrap()
}

pub(super) fn identity(room_: &str, user_: &str, id_: &str) -> MessageKey {
    MessageKey { room: room(room_), user: user(user_), id: id(id_) }
}

pub(super) fn metadata(text: &str) -> Metadata {
    let metadata: Metadata = serde_json::from_str(text).unwrap();
    metadata.check().unwrap();
    metadata
}

/// `room/user/id` at a position, with the id for its content.
pub(super) fn message(name: &str, position: Position) -> Message {
    let parts: Vec<&str> = name.split('/').collect();
    Message {
        room_id: room(parts[0]),
        id: id(parts[2]),
        user_id: user(parts[1]),
        kind: MessageType::User,
        content: parts[2].to_owned(),
        metadata: Metadata::default(),
        created_at: LONG_AGO,
        edited_at: None,
        deleted_at: None,
        credits: None,
        changed_position: None,
        change_id: None,
        position: Some(position),
    }
}

fn change(name: &str, change_id: &str, position: Position, change: Change) -> MessageChange {
    let parts: Vec<&str> = name.split('/').collect();
    MessageChange {
        room: room(parts[0]),
        user: user(parts[1]),
        author: parts.get(3).map(|author| user(author)),
        id: id(parts[2]),
        change_id: id(change_id),
        position,
        at: Timestamp(LONG_AGO.0 + 1000),
        change,
    }
}

/// An edit of `room/user/id`, without metadata; with a fourth part, of that author's message.
pub(super) fn edit(name: &str, change_id: &str, position: Position, content: &str) -> Row {
    let edit = Change::Edit { content: content.to_owned(), metadata: None };
    Row::Change(change(name, change_id, position, edit))
}

/// An edit of `room/user/id`, with metadata.
pub(super) fn edit_metadata(name: &str, change_id: &str, position: Position, text: &str) -> Row {
    let edit = Change::Edit { content: "edited".to_owned(), metadata: Some(metadata(text)) };
    Row::Change(change(name, change_id, position, edit))
}

/// A delete of `room/user/id`; with a fourth part, of that author's message.
pub(super) fn delete(name: &str, change_id: &str, position: Position) -> Row {
    Row::Change(change(name, change_id, position, Change::Delete))
}

/// A dead letter of which little is known.
pub(super) fn dead_letter(log_id: LogId) -> DeadLetter {
    DeadLetter {
        log_id,
        position: Some(Position::new(1, 9)),
        room: Some(room("a")),
        user: None,
        id: Some(id("m9")),
        raw: b"\x00\xffraw".as_slice().into(),
        code: "22021".to_owned(),
        error: "it's \"poison\"".to_owned(),
    }
}

/// Commits batch after batch of a shard.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    pub(super) store: Arc<dyn Store>,
    pub(super) shard: Shard,
    pub(super) epoch: u64,
    pub(super) cursor: LogId,
}

impl Feed {
    /// With an epoch of its own for the shard of `room`.
    pub(super) async fn begin(store: &Arc<dyn Store>, room_: &str) -> Feed {
        let shard = room(room_).shard();
        let epoch = store.mint(shard, Uuid::now_v7(), 0).await.unwrap().number;
        let cursor = store.cursor(shard).await.unwrap().upto;
        Feed { store: Arc::clone(store), shard, epoch, cursor }
    }

    /// The batch of these rows, read from the present cursor.
    pub(super) fn batch(&self, rows: &[Row]) -> Batch {
        let mut heads = BTreeMap::new();
        for row in rows {
            let (room, position) = match row {
                Row::Message(message) => (&message.room_id, message.position.unwrap()),
                Row::Change(change) => (&change.room, change.position),
                Row::Receipt { .. } | Row::Credit(_) => continue,
            };
            let head: &mut Position = heads.entry(room.clone()).or_default();
            *head = position.max(*head);
        }
        let upto = LogId { epoch: self.epoch, n: self.cursor.n + rows.len().max(1) as u64 };
        Batch {
            shard: self.shard,
            epoch: self.epoch,
            after: self.cursor,
            upto,
            lease: None,
            rows: rows.to_vec(),
            dead: Vec::new(),
            heads: heads.into_iter().collect(),
            refusals: Vec::new(),
        }
    }

    pub(super) async fn try_commit(&mut self, batch: &Batch) -> Result<Committed, StoreError> {
        let committed = self.store.commit(batch).await?;
        self.cursor = batch.upto;
        Ok(committed)
    }

    pub(super) async fn commit(&mut self, rows: &[Row]) -> Committed {
        let batch = self.batch(rows);
        self.try_commit(&batch).await.unwrap()
    }

    /// Everything in the room, oldest first.
    pub(super) async fn all(&self, room_: &str) -> Vec<Message> {
        self.store.messages(&room(room_), Span::After(Position::ZERO), 1000).await.unwrap()
    }
}

/// As values: a database may write the same JSON another way.
pub(super) fn values(messages: &[Message]) -> Vec<serde_json::Value> {
    messages.iter().map(|message| serde_json::to_value(message).unwrap()).collect()
}

/// `inserted`, `duplicates`, `renamed`, `changed`.
pub(super) fn counts(committed: Committed) -> [u64; 4] {
    [committed.inserted, committed.duplicates, committed.renamed, committed.changed]
}
