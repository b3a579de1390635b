//! Reads messages by position, by changed position, and by id.
//!
//! `epoch IS NOT NULL` leaves out what has no place yet, and lets the partial indexes serve.

use std::collections::HashMap;

use async_trait::async_trait;

use super::additions::STOOD;
use super::applied_changes::AppliedChangesQuery;
use super::existing::{ExistingQuery, ExistingRows};
use super::pool::statement;
use super::stored::{message, scalar, select_messages};
use super::value::{Place, count, position};
use super::{PostgresStore, heads};
use crate::contract::id::{MessageId, MessageKey, RoomId, UserId};
use crate::contract::message::Message;
use crate::contract::position::Position;
use crate::store::naming::meant;
use crate::store::{Messages, Span, StoreError};

const AT: &str = select_messages!("epoch IS NOT NULL AND (epoch, seq) = ($2, $3)");

const BEFORE: &str = select_messages!(
    "epoch IS NOT NULL AND (epoch, seq) < ($2, $3) ORDER BY epoch DESC, seq DESC LIMIT $4"
);

const AFTER: &str =
    select_messages!("epoch IS NOT NULL AND (epoch, seq) > ($2, $3) ORDER BY epoch, seq LIMIT $4");

const CHANGES: &str = select_messages!(
    "changed_epoch IS NOT NULL AND (changed_epoch, changed_seq) > ($2, $3) \
     ORDER BY changed_epoch, changed_seq LIMIT $4"
);

const LATEST_CHANGES: &str = select_messages!(
    "changed_epoch IS NOT NULL AND (changed_epoch, changed_seq) < ($2, $3) \
     ORDER BY changed_epoch DESC, changed_seq DESC LIMIT $4"
);

const COUNT_CHANGES: &str = "
    SELECT count(*) FROM (
        SELECT 1 FROM team_chat_messages
        WHERE team_chat_id = $1 AND changed_epoch IS NOT NULL
            AND (changed_epoch, changed_seq) > ($2, $3) LIMIT $4) AS counted";

const CHANGED_AT: &str =
    select_messages!("changed_epoch IS NOT NULL AND (changed_epoch, changed_seq) = ($2, $3)");

const CHOSEN: &str = select_messages!("epoch IS NOT NULL AND client_id = $2");

/// What another program wrote.
const BY_ID: &str = select_messages!("epoch IS NOT NULL AND client_id IS NULL AND id = $2");

#[async_trait]
impl Messages for PostgresStore {
    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Position>, StoreError> {
        heads::heads(&self.pool, rooms).await
    }

    async fn find(&self, identities: &[MessageKey]) -> Result<Vec<Option<Position>>, StoreError> {
        if identities.is_empty() {
            return Ok(Vec::new());
        }
        let mut wanted = ExistingQuery::default();
        for identity in identities {
            wanted.name(&identity.room, &identity.id);
        }
        let answers = self.pool.read(&[wanted.statement()]).await?;
        let known = ExistingRows::read(&answers[0])?;
        Ok(identities.iter().map(|identity| known.find(identity)).collect())
    }

    async fn find_changes(
        &self,
        identities: &[MessageKey],
    ) -> Result<Vec<Option<Position>>, StoreError> {
        let mut wanted = AppliedChangesQuery::default();
        identities.iter().for_each(|identity| wanted.key(identity));
        let Some(statement) = wanted.statement() else { return Ok(Vec::new()) };
        let answers = self.pool.read(&[statement]).await?;
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

    async fn message(
        &self,
        room: &RoomId,
        user: &UserId,
        id: &MessageId,
    ) -> Result<Option<Message>, StoreError> {
        let (name, key) = (room.as_str(), id.as_str());
        let questions = [CHOSEN, BY_ID].map(|sql| statement!(sql, name, key));
        let answers = self.pool.read(&questions).await?;
        let known = answers.iter().flatten().map(|row| message(room, row));
        Ok(meant(known.collect::<Result<_, _>>()?, user))
    }

    async fn stood(
        &self,
        room: &RoomId,
        position: Position,
        key: Option<&MessageId>,
    ) -> Result<bool, StoreError> {
        let (name, at) = (room.as_str(), Place::near(position));
        let [here, changed_here] =
            [AT, CHANGED_AT].map(|sql| statement!(sql, name, at.epoch, at.seq));
        let left = |message: &Message| match key {
            None => true,
            Some(key) => message.id == *key || message.change_id.as_ref() == Some(key),
        };
        let key_text = key.map(MessageId::as_str);
        let refused = statement!(STOOD, name, at.epoch, at.seq, key_text);
        let answers = self.pool.read(&[here, changed_here, refused]).await?;
        for row in answers[..2].iter().flatten() {
            if left(&message(room, row)?) {
                return Ok(true);
            }
        }
        Ok(!answers[2].is_empty())
    }

    async fn messages(
        &self,
        room: &RoomId,
        span: Span,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let (sql, from) = match span {
            Span::Before(from) => (BEFORE, from),
            Span::After(from) => (AFTER, from),
            Span::Changes(from) => (CHANGES, from),
            Span::LatestChanges(from) => (LATEST_CHANGES, from),
        };
        let (name, from, limit) = (room.as_str(), Place::near(from), i64::from(limit));
        let answers = self.pool.read(&[statement!(sql, name, from.epoch, from.seq, limit)]).await?;
        let messages = answers[0].iter().map(|row| message(room, row));
        let mut messages = messages.collect::<Result<Vec<_>, _>>()?;
        if span.is_backwards() {
            messages.reverse();
        }
        Ok(messages)
    }

    async fn count_changes(
        &self,
        room: &RoomId,
        after: Position,
        at_most: u64,
    ) -> Result<u64, StoreError> {
        let (name, after) = (room.as_str(), Place::near(after));
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let statement = statement!(COUNT_CHANGES, name, after.epoch, after.seq, at_most);
        Ok(count(scalar(&self.pool.read(&[statement]).await?[0])?))
    }
}
