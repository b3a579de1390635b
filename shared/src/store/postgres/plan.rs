//! Plans a round: what its rows leave behind when applied one after the other.
//!
//! Everything is decided here, from what stood when the shards were locked; the database is then
//! told the outcome in two statements. Should another round that wants the same id have written in
//! between, the row takes a random one; should another program have, the transaction is tried
//! again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::applied_changes::AppliedChanges;
use super::closing::Firsts;
use super::existing::{ExistingRow, ExistingRows};
use crate::contract::id::{MessageId, MessageKey};
use crate::contract::message::{Message, MessageType, Metadata};
use crate::contract::position::Position;
use crate::contract::signal::ReadMark;
use crate::contract::timestamp::Timestamp;
use crate::store::naming::fresh_id;
use crate::store::{Change, Committed, CreditRow, MessageChange, Row, StoreError, receipts};

/// A row that does not stand yet, as it will in the end.
#[derive(Debug)]
pub(super) struct NewRow<'a> {
    pub(super) identity: MessageKey,
    /// Not the tombstone of a message that never came.
    pub(super) is_message: bool,
    pub(super) content: &'a str,
    pub(super) kind: MessageType,
    pub(super) metadata: Cow<'a, Metadata>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    /// `None` in the tombstone of a message that never came, from nobody knows whom.
    pub(super) send_time: Option<Timestamp>,
    pub(super) position: Position,
    pub(super) changed: Position,
    pub(super) change_id: Option<&'a MessageId>,
    pub(super) edited_at: Option<Timestamp>,
    pub(super) deleted_at: Option<Timestamp>,
    pub(super) credits: Option<u64>,
}

/// What becomes of a row that stands: all its changes in one.
#[derive(Debug)]
pub(super) struct Update<'a> {
    pub(super) content: &'a str,
    /// `None` keeps what it has, here and below.
    pub(super) metadata: Option<Cow<'a, Metadata>>,
    pub(super) edited_at: Option<Timestamp>,
    /// The first delete's; what stands goes before.
    pub(super) deleted_at: Option<Timestamp>,
    pub(super) updated_at: Timestamp,
    pub(super) changed: Position,
    pub(super) change_id: &'a MessageId,
}

/// What is to be written, by row id: in one order everywhere, so that two writers that want the
/// same ids wait for one another instead of deadlocking.
#[derive(Debug, Default)]
pub(super) struct WritePlan<'a> {
    known: ExistingRows,
    made: AppliedChanges,
    firsts: Firsts,
    /// Rows of another program that stand, by their ids, and the place that each gets.
    pub(super) adopted: BTreeMap<String, Position>,
    pub(super) inserts: BTreeMap<String, NewRow<'a>>,
    pub(super) updates: BTreeMap<String, Update<'a>>,
    /// The changes that were processed, by room, changer and their own ids.
    pub(super) changes: BTreeMap<(&'a str, &'a str, &'a str), &'a MessageChange>,
    /// The furthest receipt of each room and reader.
    pub(super) marks: BTreeMap<(&'a str, &'a str), &'a ReadMark>,
    /// In the order of the rows.
    pub(super) movements: Vec<&'a CreditRow>,
    /// What is known before anything is written.
    pub(super) done: Committed,
}

/// Where a row came to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placed {
    /// Under its own id.
    Own,
    /// Under a random one.
    IdCollision,
    /// Nowhere: it stood already.
    Stands,
}

impl<'a> WritePlan<'a> {
    /// Does the rows in their order, on top of what is known.
    ///
    /// # Errors
    /// Of the data, for a row that no database could keep.
    pub(super) fn new(
        (known, made, firsts): (ExistingRows, AppliedChanges, Firsts),
        rows: impl Iterator<Item = &'a Row> + Clone,
    ) -> Result<WritePlan<'a>, StoreError> {
        let marks = receipts::furthest(rows.clone());
        let mut plan = WritePlan { known, made, firsts, marks, ..WritePlan::default() };
        for row in rows {
            match row {
                Row::Message(message) => match plan.message(message)? {
                    Placed::Own => plan.done.inserted += 1,
                    Placed::IdCollision => plan.done.renamed += 1,
                    Placed::Stands => plan.done.duplicates += 1,
                },
                Row::Change(change) => plan.change_once(change)?,
                Row::Receipt { .. } => {}
                Row::Credit(credit) => plan.movements.push(credit),
            }
        }
        Ok(plan)
    }

    fn message(&mut self, message: &'a Message) -> Result<Placed, StoreError> {
        let Some(position) = message.position else {
            return Err(StoreError::Data {
                code: "no_position".to_owned(),
                detail: "a message without a position cannot be stored".to_owned(),
            });
        };
        Ok(self.place(NewRow {
            identity: MessageKey {
                room: message.room_id.clone(),
                user: message.user_id.clone(),
                id: message.id.clone(),
            },
            is_message: true,
            content: &message.content,
            kind: message.kind,
            metadata: Cow::Borrowed(&message.metadata),
            created_at: message.created_at,
            updated_at: message.created_at,
            send_time: Some(message.created_at),
            position,
            changed: position,
            change_id: None,
            edited_at: None,
            deleted_at: None,
            credits: message.credits,
        }))
    }

    fn place(&mut self, row: NewRow<'a>) -> Placed {
        if let Some(standing) = self.known.find_row(&row.identity) {
            if standing.placed || !row.is_message {
                return Placed::Stands;
            }
            // Another program wrote it, and this is the place that it gets.
            (standing.placed, standing.position) = (true, row.position);
            standing.changed = row.position.max(standing.changed);
            self.adopted.insert(standing.row_id.clone(), row.position);
            return Placed::Stands;
        }
        let (row_id, placed) = match self.known.taken(&row.identity.id) {
            true => (fresh_id(), Placed::IdCollision),
            false => (row.identity.id.clone(), Placed::Own),
        };
        let standing = ExistingRow {
            row_id: row_id.as_str().to_owned(),
            user: row.identity.user.as_str().to_owned(),
            sender_known: row.send_time.is_some(),
            deleted: row.deleted_at.is_some(),
            placed: true,
            position: row.position,
            changed: row.changed,
        };
        self.known.add(&row.identity, standing);
        self.inserts.insert(row_id.as_str().to_owned(), row);
        placed
    }

    /// Gives a row, whose id another shard took a moment ago, a random one.
    pub(super) fn rename(&mut self, row_id: &str) -> Option<String> {
        let row = self.inserts.remove(row_id)?;
        if row.is_message {
            self.done.inserted -= 1;
            self.done.renamed += 1;
        }
        let renamed = fresh_id().as_str().to_owned();
        self.inserts.insert(renamed.clone(), row);
        Some(renamed)
    }

    /// Makes the change unless it was made before, however long ago.
    fn change_once(&mut self, change: &'a MessageChange) -> Result<(), StoreError> {
        let key = (change.room.as_str(), change.user.as_str(), change.change_id.as_str());
        if self.made.contains(change) || self.changes.contains_key(&key) {
            return Ok(());
        }
        let is_edit = matches!(change.change, Change::Edit { .. });
        if is_edit && self.known.changed_row(change).is_none() {
            // Not remembered: its message may come, and then the edit may come again.
            self.done.orphaned += 1;
            return Ok(());
        }
        self.done.changed += u64::from(self.change(change));
        self.changes.insert(key, change);
        Ok(())
    }

    /// Makes the change, if it is newer than what stands; says whether it did.
    fn change(&mut self, change: &'a MessageChange) -> bool {
        let Some(row) = self.known.changed_row(change) else {
            return match &change.change {
                Change::Edit { .. } => false,
                Change::Delete => self.leave_tombstone(change),
            };
        };
        let compared = self.firsts.of(change);
        let revives = row.deleted && matches!(change.change, Change::Edit { .. });
        if row.changed >= compared || revives {
            return false;
        }
        row.changed = change.position;
        row.deleted |= matches!(change.change, Change::Delete);
        let row_id = row.row_id.clone();
        let update = Update::of(change);
        match self.inserts.get_mut(&row_id) {
            Some(new) => new.apply(update),
            None => match self.updates.get_mut(&row_id) {
                Some(earlier) => earlier.apply(update),
                None => {
                    self.updates.insert(row_id, update);
                }
            },
        }
        true
    }

    /// Takes the id of a message that never came, or comes later.
    fn leave_tombstone(&mut self, change: &'a MessageChange) -> bool {
        let placed = self.place(NewRow {
            identity: MessageKey {
                room: change.room.clone(),
                user: change.author.as_ref().unwrap_or(&change.user).clone(),
                id: change.id.clone(),
            },
            is_message: false,
            content: "",
            kind: MessageType::default(),
            metadata: Cow::Owned(Metadata::default()),
            created_at: change.at,
            updated_at: change.at,
            // Where it is not known who sent it, nobody's message of that id comes any more.
            send_time: change.author.as_ref().map(|_| change.at),
            position: change.position,
            changed: change.position,
            change_id: Some(&change.change_id),
            edited_at: None,
            deleted_at: Some(change.at),
            credits: None,
        });
        placed != Placed::Stands
    }
}

impl<'a> Update<'a> {
    fn of(change: &'a MessageChange) -> Update<'a> {
        let (content, metadata, edited_at, deleted_at) = match &change.change {
            Change::Edit { content, metadata } => {
                (&**content, metadata.as_ref().map(Cow::Borrowed), Some(change.at), None)
            }
            Change::Delete => ("", Some(Cow::Owned(Metadata::default())), None, Some(change.at)),
        };
        Update {
            content,
            metadata,
            edited_at,
            deleted_at,
            updated_at: change.at,
            changed: change.position,
            change_id: &change.change_id,
        }
    }

    fn apply(&mut self, later: Update<'a>) {
        self.content = later.content;
        self.metadata = later.metadata.or(self.metadata.take());
        self.edited_at = later.edited_at.or(self.edited_at);
        self.deleted_at = self.deleted_at.or(later.deleted_at);
        self.updated_at = later.updated_at;
        self.changed = later.changed;
        self.change_id = later.change_id;
    }
}

impl<'a> NewRow<'a> {
    fn apply(&mut self, update: Update<'a>) {
        self.content = update.content;
        if let Some(metadata) = update.metadata {
            self.metadata = metadata;
        }
        self.edited_at = update.edited_at.or(self.edited_at);
        self.deleted_at = self.deleted_at.or(update.deleted_at);
        self.updated_at = update.updated_at;
        self.changed = update.changed;
        self.change_id = Some(update.change_id);
    }
}
