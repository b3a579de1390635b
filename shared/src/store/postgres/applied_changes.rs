//! Finds a batch's edits and deletes that were applied before, by the ids their senders chose.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::pool::{Pool, Statement};
use super::value::position;
use crate::contract::position::Position;
use crate::store::{MessageChange, MessageKey, StoreError};

const MADE: &str = "
    SELECT team_chat_id, user_id, change_id, epoch, seq
    FROM unnest($1::text[], $2::text[], $3::text[]) AS asked(room, changer, id)
    JOIN message_changes ON team_chat_id = room AND user_id = changer AND change_id = id";

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

    /// The question, if there is any; its answer is for [`AppliedChanges::read`].
    pub(super) fn statement(&self) -> Option<Statement<'_>> {
        let parameters = vec![
            (&self.rooms as _, Type::TEXT_ARRAY),
            (&self.users as _, Type::TEXT_ARRAY),
            (&self.ids as _, Type::TEXT_ARRAY),
        ];
        (!self.ids.is_empty()).then_some(Statement { sql: MADE, parameters })
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

/// See [`Store::find_changes`](crate::store::Store::find_changes).
pub(super) async fn find(
    pool: &Pool,
    identities: &[MessageKey],
) -> Result<Vec<Option<Position>>, StoreError> {
    let mut wanted = AppliedChangesQuery::default();
    for MessageKey { room, user, id } in identities {
        wanted.rooms.push(room.as_str());
        wanted.users.push(user.as_str());
        wanted.ids.push(id.as_str());
    }
    let Some(statement) = wanted.statement() else { return Ok(Vec::new()) };
    let answers = pool.read(&[statement]).await?;
    let mut places: HashMap<(&str, &str, &str), Position> = HashMap::new();
    for row in &answers[0] {
        let key = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        places.insert(key, position(row.try_get(3)?, row.try_get(4)?));
    }
    let place = |asked: &MessageKey| {
        places.get(&(asked.room.as_str(), asked.user.as_str(), asked.id.as_str())).copied()
    };
    Ok(identities.iter().map(place).collect())
}
