//! Finds a batch's edits and deletes that were applied before, by the ids their senders chose.

use std::collections::HashSet;

use tokio_postgres::Row;

use super::pool::{Statement, statement};
use crate::contract::id::MessageKey;
use crate::store::{MessageChange, StoreError};

/// `OFFSET 0`: as in [`existing`](super::existing).
const MADE: &str = "
    SELECT made.* FROM unnest($1::text[], $2::text[], $3::text[]) AS asked(room, changer, id)
    CROSS JOIN LATERAL (
        SELECT team_chat_id, user_id, change_id, epoch, seq FROM message_changes
        WHERE team_chat_id = room AND user_id = changer AND change_id = asked.id OFFSET 0) AS made";

/// What to look for.
#[derive(Debug, Default)]
pub(super) struct AppliedChangesQuery<'a> {
    rooms: Vec<&'a str>,
    users: Vec<&'a str>,
    ids: Vec<&'a str>,
}

impl<'a> AppliedChangesQuery<'a> {
    pub(super) fn change(&mut self, change: &'a MessageChange) {
        self.rooms.push(change.room.as_str());
        self.users.push(change.user.as_str());
        self.ids.push(change.change_id.as_str());
    }

    pub(super) fn key(&mut self, MessageKey { room, user, id }: &'a MessageKey) {
        self.rooms.push(room.as_str());
        self.users.push(user.as_str());
        self.ids.push(id.as_str());
    }

    /// The question, if there is any; its answer is for [`AppliedChanges::read`].
    pub(super) fn statement(&self) -> Option<Statement<'_>> {
        (!self.ids.is_empty()).then_some(statement!(MADE, self.rooms, self.users, self.ids))
    }
}

/// The changes that were made already.
#[derive(Debug, Default)]
pub(super) struct AppliedChanges(HashSet<(String, String, String)>);

impl AppliedChanges {
    /// What [`AppliedChangesQuery`] asked for.
    pub(super) fn read(rows: &[Row]) -> Result<AppliedChanges, StoreError> {
        let keys = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
        Ok(AppliedChanges(keys.collect::<Result<_, StoreError>>()?))
    }

    pub(super) fn contains(&self, change: &MessageChange) -> bool {
        let MessageChange { room, user, change_id, .. } = change;
        let key = (room.to_string(), user.to_string(), change_id.to_string());
        self.0.contains(&key)
    }
}
