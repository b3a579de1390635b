//! Reads messages by position, by changed position, and by id.
//!
//! `epoch IS NOT NULL` leaves out what has no place yet, and lets the partial indexes serve.

use tokio_postgres::types::Type;

use super::additions::STOOD;
use super::existing::{ExistingQuery, ExistingRows};
use super::pool::{Parameter, Pool, Statement};
use super::stored::{message, scalar, select_messages};
use super::value::{Place, count};
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::message::Message;
use crate::contract::position::Position;
use crate::store::naming::meant;
use crate::store::{MessageKey, Span, StoreError};

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

/// See [`Store::message`](crate::store::Store::message).
pub(super) async fn named(
    pool: &Pool,
    room: &RoomId,
    user: &UserId,
    id: &MessageId,
) -> Result<Option<Message>, StoreError> {
    let (name, key) = (room.as_str(), id.as_str());
    let questions = [CHOSEN, BY_ID]
        .map(|sql| Statement { sql, parameters: vec![(&name, Type::TEXT), (&key, Type::TEXT)] });
    let answers = pool.read(&questions).await?;
    let known = answers.iter().flatten().map(|row| message(room, row));
    Ok(meant(known.collect::<Result<_, _>>()?, user))
}

/// See [`Store::find`](crate::store::Store::find).
pub(super) async fn find(
    pool: &Pool,
    identities: &[MessageKey],
) -> Result<Vec<Option<Position>>, StoreError> {
    if identities.is_empty() {
        return Ok(Vec::new());
    }
    let mut wanted = ExistingQuery::default();
    for identity in identities {
        wanted.name(&identity.room, &identity.id);
    }
    let answers = pool.read(&[wanted.statement()]).await?;
    let known = ExistingRows::read(&answers[0])?;
    Ok(identities.iter().map(|identity| known.find(identity)).collect())
}

/// See [`Store::stood`](crate::store::Store::stood).
pub(super) async fn stood(
    pool: &Pool,
    room: &RoomId,
    position: Position,
    key: Option<&MessageId>,
) -> Result<bool, StoreError> {
    let (name, at) = (room.as_str(), Place::near(position));
    let [here, changed_here] = [AT, CHANGED_AT].map(|sql| Statement {
        sql,
        parameters: vec![(&name, Type::TEXT), (&at.epoch, Type::INT8), (&at.seq, Type::INT8)],
    });
    let left = |message: &Message| match key {
        None => true,
        Some(key) => message.id == *key || message.change_id.as_ref() == Some(key),
    };
    let key_text = key.map(MessageId::as_str);
    let refused = Statement {
        sql: STOOD,
        parameters: vec![
            (&name, Type::TEXT),
            (&at.epoch, Type::INT8),
            (&at.seq, Type::INT8),
            (&key_text, Type::TEXT),
        ],
    };
    let answers = pool.read(&[here, changed_here, refused]).await?;
    for row in answers[..2].iter().flatten() {
        if left(&message(room, row)?) {
            return Ok(true);
        }
    }
    Ok(!answers[2].is_empty())
}

/// See [`Store::count_changes`](crate::store::Store::count_changes).
pub(super) async fn count_changes(
    pool: &Pool,
    room: &RoomId,
    after: Position,
    at_most: u64,
) -> Result<u64, StoreError> {
    let (name, after) = (room.as_str(), Place::near(after));
    let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
    let statement = Statement {
        sql: COUNT_CHANGES,
        parameters: vec![
            (&name, Type::TEXT),
            (&after.epoch, Type::INT8),
            (&after.seq, Type::INT8),
            (&at_most, Type::INT8),
        ],
    };
    Ok(count(scalar(&pool.read(&[statement]).await?[0])?))
}

/// See [`Store::messages`](crate::store::Store::messages).
pub(super) async fn messages(
    pool: &Pool,
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
    let parameters: Vec<Parameter<'_>> = vec![
        (&name, Type::TEXT),
        (&from.epoch, Type::INT8),
        (&from.seq, Type::INT8),
        (&limit, Type::INT8),
    ];
    let answers = pool.read(&[Statement { sql, parameters }]).await?;
    let messages = answers[0].iter().map(|row| message(room, row));
    let mut messages = messages.collect::<Result<Vec<_>, _>>()?;
    if span.is_backwards() {
        messages.reverse();
    }
    Ok(messages)
}
