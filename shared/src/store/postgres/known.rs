//! What stands already of the messages that a batch, or a question, is about.

use std::borrow::Cow;
use std::collections::HashMap;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::link::Statement;
use super::value::position;
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::position::Position;
use crate::store::renamed::client_id;
use crate::store::{Identity, StoreError};

/// Rows by their own ids, `$1`; and renamed rows by room and client's id, `$2` and `$3`. The first
/// of a room to have taken an id comes first.
const KNOWN: &str = "
    WITH known AS (
        SELECT id FROM team_chat_messages WHERE id = ANY($1)
        UNION
        SELECT m.id FROM unnest($2::text[], $3::text[]) AS asked(room, id)
        JOIN team_chat_messages m ON m.team_chat_id = asked.room
            AND left(m.metadata ->> 'roomcast.id', 128) = asked.id AND m.metadata ? 'roomcast.id'
    )
    SELECT id, team_chat_id, user_id,
           CASE WHEN metadata ? 'roomcast.id' THEN left(metadata ->> 'roomcast.id', 128) END,
           send_time IS NOT NULL OR deleted_at IS NULL, deleted_at IS NOT NULL,
           coalesce(epoch, 0), coalesce(seq, 0), coalesce(changed_epoch, 0),
           coalesce(changed_seq, 0)
    FROM team_chat_messages JOIN known USING (id)
    ORDER BY 7, 8, id COLLATE \"C\"";

/// What to look for.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    row_ids: Vec<Cow<'a, str>>,
    rooms: Vec<&'a str>,
    ids: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    /// What a room knows under a client's id.
    pub(super) fn name(&mut self, room: &'a RoomId, id: &'a MessageId) {
        self.row_ids.push(Cow::Borrowed(id.as_str()));
        self.rooms.push(room.as_str());
        self.ids.push(id.as_str());
    }

    /// Whoever has a row's id.
    pub(super) fn row_id(&mut self, id: &MessageId) {
        self.row_ids.push(Cow::Owned(id.as_str().to_owned()));
    }

    /// The question; its answer is for [`Known::read`].
    pub(super) fn statement(&self) -> Statement<'_> {
        Statement {
            sql: KNOWN,
            parameters: vec![
                (&self.row_ids, Type::TEXT_ARRAY),
                (&self.rooms, Type::TEXT_ARRAY),
                (&self.ids, Type::TEXT_ARRAY),
            ],
        }
    }
}

/// A row that stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) row_id: String,
    pub(super) user: String,
    /// `false` in the tombstone of a message that never came: `user` is who deleted it.
    pub(super) sender_known: bool,
    pub(super) deleted: bool,
    pub(super) position: Position,
    /// The place of its last change, or its own.
    pub(super) changed: Position,
}

/// The rows that stand, by the ids they have and by the ids they are known under.
#[derive(Debug, Default)]
pub(super) struct Known {
    rows: HashMap<String, Standing>,
    /// Several in a room can have one id, when each of their senders chose it: their row ids, the
    /// one that has the id itself first.
    names: HashMap<(RoomId, MessageId), Vec<String>>,
}

impl Known {
    /// What [`Wanted`] asked for.
    pub(super) fn read(rows: &[Row]) -> Result<Known, StoreError> {
        let mut known = Known::default();
        for row in rows {
            let standing = Standing {
                row_id: row.try_get(0)?,
                user: row.try_get(2)?,
                sender_known: row.try_get(4)?,
                deleted: row.try_get(5)?,
                position: position(row.try_get(6)?, row.try_get(7)?),
                changed: position(row.try_get(8)?, row.try_get(9)?),
            };
            // What is no room of ours, or no id, takes its row's id and is otherwise no concern.
            if let Ok(room) = RoomId::parse(row.try_get(1)?) {
                let renamed_from: Option<&str> = row.try_get(3)?;
                let renamed_from = renamed_from
                    .and_then(|from| client_id(&room, &standing.user, &standing.row_id, from));
                // Neither a row whose sender chose an id that another's was derived to, nor one
                // whose sender wrote our key into its metadata, is what it looks like.
                let name = renamed_from.or_else(|| MessageId::parse(&standing.row_id).ok());
                if let Some(name) = name {
                    known.name(room, name, &standing.row_id);
                }
            }
            known.rows.insert(standing.row_id.clone(), standing);
        }
        Ok(known)
    }

    /// Adds a row that will stand.
    pub(super) fn add(&mut self, identity: &Identity, standing: Standing) {
        self.name(identity.room.clone(), identity.id.clone(), &standing.row_id);
        self.rows.insert(standing.row_id.clone(), standing);
    }

    fn name(&mut self, room: RoomId, name: MessageId, row_id: &str) {
        let itself = name.as_str() == row_id;
        let rows = self.names.entry((room, name)).or_default();
        rows.insert(if itself { 0 } else { rows.len() }, row_id.to_owned());
    }

    /// Whether some row, of whatever room, has this id.
    pub(super) fn taken(&self, row_id: &MessageId) -> bool {
        self.rows.contains_key(row_id.as_str())
    }

    fn named(&self, room: &RoomId, id: &MessageId) -> impl Iterator<Item = &Standing> {
        let rows = self.names.get(&(room.clone(), id.clone()));
        rows.into_iter().flatten().filter_map(|row_id| self.rows.get(row_id))
    }

    /// Where a message stands. A message whose tombstone came first is found there by whoever sent
    /// it.
    pub(super) fn find(&self, identity: &Identity) -> Option<Position> {
        let standing = || self.named(&identity.room, &identity.id);
        let found = standing()
            .find(|row| row.user == identity.user.as_str())
            .or_else(|| standing().find(|row| !row.sender_known));
        found.map(|row| row.position)
    }

    /// The row that a change is about: the changer's own, else the one that has the id itself.
    pub(super) fn changed_row(
        &mut self,
        room: &RoomId,
        user: &UserId,
        id: &MessageId,
    ) -> Option<&mut Standing> {
        let own = self.named(room, id).find(|row| row.user == user.as_str());
        let meant = own.or_else(|| self.named(room, id).next())?.row_id.clone();
        self.rows.get_mut(&meant)
    }
}
