//! Reads the existing rows that a batch or a query is about.

use std::collections::HashMap;

use tokio_postgres::Row;

use super::pool::{Statement, statement};
use super::value::position;
use crate::contract::id::{MessageId, MessageKey, RoomId, UserId};
use crate::contract::position::Position;
use crate::store::{MessageChange, StoreError};

/// The columns of a row that stands.
macro_rules! existing_columns {
    () => {
        "id, team_chat_id, user_id, coalesce(client_id, id),
         send_time IS NOT NULL OR deleted_at IS NULL, deleted_at IS NOT NULL,
         coalesce(epoch, 0) AS e, coalesce(seq, 0) AS s, coalesce(changed_epoch, 0),
         coalesce(changed_seq, 0), epoch IS NOT NULL"
    };
}

/// Rows by their own ids, `$1`; and by room and the id that their sender chose, `$2` and `$3`. The
/// first of a room to have chosen an id comes first. `OFFSET 0` keeps the two subqueries what they
/// are: an index is asked for each id, however many there are and whatever is known of the table.
const KNOWN: &str = concat!(
    "SELECT found.* FROM (
         SELECT m.* FROM unnest($1::text[]) AS asked(id)
         CROSS JOIN LATERAL (SELECT ",
    existing_columns!(),
    "        FROM team_chat_messages WHERE id = asked.id OFFSET 0) AS m
         UNION
         SELECT m.* FROM unnest($2::text[], $3::text[]) AS asked(room, id)
         CROSS JOIN LATERAL (SELECT ",
    existing_columns!(),
    "        FROM team_chat_messages
             WHERE team_chat_id = asked.room AND client_id = asked.id OFFSET 0) AS m
     ) AS found
     ORDER BY e, s, found.id COLLATE \"C\""
);

/// What to look for.
#[derive(Debug, Default)]
pub(super) struct ExistingQuery<'a> {
    rooms: Vec<&'a str>,
    ids: Vec<&'a str>,
}

impl<'a> ExistingQuery<'a> {
    /// What a room knows under a client's id, and whoever has a row of that id.
    pub(super) fn name(&mut self, room: &'a RoomId, id: &'a MessageId) {
        self.rooms.push(room.as_str());
        self.ids.push(id.as_str());
    }

    /// The question; its answer is for [`ExistingRows::read`].
    pub(super) fn statement(&self) -> Statement<'_> {
        statement!(KNOWN, self.ids, self.rooms, self.ids)
    }
}

/// A row that stands.
#[derive(Clone, Debug)]
pub(super) struct ExistingRow {
    pub(super) row_id: String,
    pub(super) user: String,
    /// `false` in the tombstone of a message that never came and whose sender its delete did not
    /// name: `user` is who deleted it.
    pub(super) sender_known: bool,
    pub(super) deleted: bool,
    /// `false` in what another program wrote and nobody has given a place yet.
    pub(super) placed: bool,
    pub(super) position: Position,
    /// The place of its last change, or its own.
    pub(super) changed: Position,
}

/// The rows that stand, by the ids they have and by the ids they are known under.
#[derive(Debug, Default)]
pub(super) struct ExistingRows {
    rows: HashMap<String, ExistingRow>,
    /// Several in a room can have one id, when each of their senders chose it: their row ids, the
    /// first to stand first.
    names: HashMap<(RoomId, MessageId), Vec<String>>,
}

impl ExistingRows {
    /// What [`ExistingQuery`] asked for.
    pub(super) fn read(rows: &[Row]) -> Result<ExistingRows, StoreError> {
        let mut known = ExistingRows::default();
        for row in rows {
            let standing = ExistingRow {
                row_id: row.try_get(0)?,
                user: row.try_get(2)?,
                sender_known: row.try_get(4)?,
                deleted: row.try_get(5)?,
                placed: row.try_get(10)?,
                position: position(row.try_get(6)?, row.try_get(7)?),
                changed: position(row.try_get(8)?, row.try_get(9)?),
            };
            // What is no room of ours, or no id, takes its row's id and is otherwise no concern.
            let room = RoomId::parse(row.try_get(1)?).ok();
            if let Some((room, name)) = room.zip(MessageId::parse(row.try_get(3)?).ok()) {
                known.name(room, name, &standing.row_id);
            }
            known.rows.insert(standing.row_id.clone(), standing);
        }
        Ok(known)
    }

    /// Adds a row that will stand.
    pub(super) fn add(&mut self, identity: &MessageKey, standing: ExistingRow) {
        self.name(identity.room.clone(), identity.id.clone(), &standing.row_id);
        self.rows.insert(standing.row_id.clone(), standing);
    }

    fn name(&mut self, room: RoomId, name: MessageId, row_id: &str) {
        self.names.entry((room, name)).or_default().push(row_id.to_owned());
    }

    /// Whether some row, of whatever room, has this id.
    pub(super) fn taken(&self, row_id: &MessageId) -> bool {
        self.rows.contains_key(row_id.as_str())
    }

    fn named(&self, room: &RoomId, id: &MessageId) -> impl Iterator<Item = &ExistingRow> {
        let rows = self.names.get(&(room.clone(), id.clone()));
        rows.into_iter().flatten().filter_map(|row_id| self.rows.get(row_id))
    }

    /// Where a message stands. A message whose tombstone came first is found there by whoever sent
    /// it. What has no place yet stands nowhere.
    pub(super) fn find(&self, identity: &MessageKey) -> Option<Position> {
        let found = self.own(&identity.room, &identity.user, &identity.id);
        found.filter(|row| row.placed).map(|row| row.position)
    }

    /// Whether it has a row, with a place or without.
    pub(super) fn stands(&self, identity: &MessageKey) -> bool {
        self.own(&identity.room, &identity.user, &identity.id).is_some()
    }

    /// The row that a message would be, with a place or without.
    pub(super) fn find_row(&mut self, identity: &MessageKey) -> Option<&mut ExistingRow> {
        let found = self.own(&identity.room, &identity.user, &identity.id)?.row_id.clone();
        self.rows.get_mut(&found)
    }

    fn own(&self, room: &RoomId, user: &UserId, id: &MessageId) -> Option<&ExistingRow> {
        let own = self.named(room, id).find(|row| row.sender_known && row.user == user.as_str());
        own.or_else(|| self.named(room, id).find(|row| !row.sender_known))
    }

    /// The row that a change is about: its author's, or where it names none, the changer's own,
    /// else the first.
    pub(super) fn changed_row(&mut self, change: &MessageChange) -> Option<&mut ExistingRow> {
        let MessageChange { room, user, author, id, .. } = change;
        let meant = match author {
            Some(author) => self.own(room, author, id),
            None => {
                let own = self.named(room, id).find(|row| row.user == user.as_str());
                own.or_else(|| self.named(room, id).next())
            }
        };
        let meant = meant?.row_id.clone();
        self.rows.get_mut(&meant)
    }
}
