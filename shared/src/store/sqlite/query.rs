//! Reads messages by position, by changed position, and by id.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::stored::{id, message, select_messages};
use super::{SqliteStore, change, place};
use crate::contract::id::{MessageId, MessageKey, RoomId, Shard, UserId};
use crate::contract::limits::REFUSALS_REMEMBERED_MAX;
use crate::contract::message::Message;
use crate::contract::position::Position;
use crate::contract::timestamp::Timestamp;
use crate::log::{LogId, RejectedEntry};
use crate::store::naming::meant;
use crate::store::{DeadLetter, DeadLetters, Messages, Span, StoreError, refusal_of};

pub(super) const AT: &str = select_messages!("(epoch, seq) = (?2, ?3)");

pub(super) const BEFORE: &str =
    select_messages!("(epoch, seq) < (?2, ?3) ORDER BY epoch DESC, seq DESC LIMIT ?4");

pub(super) const AFTER: &str =
    select_messages!("(epoch, seq) > (?2, ?3) ORDER BY epoch, seq LIMIT ?4");

pub(super) const CHANGES: &str = select_messages!(
    "(changed_epoch, changed_seq) > (?2, ?3) ORDER BY changed_epoch, changed_seq LIMIT ?4"
);

pub(super) const LATEST_CHANGES: &str = select_messages!(
    "(changed_epoch, changed_seq) < (?2, ?3) \
     ORDER BY changed_epoch DESC, changed_seq DESC LIMIT ?4"
);

pub(super) const COUNT_CHANGES: &str = "SELECT count(*) FROM (
    SELECT 1 FROM team_chat_messages
    WHERE team_chat_id = ?1 AND (changed_epoch, changed_seq) > (?2, ?3) LIMIT ?4)";

pub(super) const CHANGED_AT: &str = select_messages!("(changed_epoch, changed_seq) = (?2, ?3)");

/// A place in the table; any position above all of these is as good as the last of them.
pub(super) struct Place {
    pub(super) epoch: i64,
    pub(super) seq: i64,
}

impl Place {
    pub(super) fn of(position: Position) -> Place {
        let cut = |part| i64::try_from(part).unwrap_or(i64::MAX);
        Place { epoch: cut(position.epoch), seq: cut(position.seq) }
    }
}

pub(super) const NAMED: &str = select_messages!("client_id = ?2");

#[async_trait]
impl Messages for SqliteStore {
    async fn heads(&self, rooms: &[RoomId]) -> Result<Vec<Position>, StoreError> {
        let rooms = rooms.to_vec();
        self.read(move |connection| {
            let mut head = connection
                .prepare_cached("SELECT epoch, seq FROM room_heads WHERE room_id = ?1")?;
            let heads = rooms.iter().map(|room| {
                let found = head
                    .query_row([room.as_str()], |row| Ok(Position::new(row.get(0)?, row.get(1)?)))
                    .optional()?;
                Ok(found.unwrap_or(Position::ZERO))
            });
            heads.collect()
        })
        .await
    }

    async fn find(&self, identities: &[MessageKey]) -> Result<Vec<Option<Position>>, StoreError> {
        let identities = identities.to_vec();
        self.read(move |connection| {
            identities.iter().map(|identity| place::find(connection, identity)).collect()
        })
        .await
    }

    async fn find_changes(
        &self,
        identities: &[MessageKey],
    ) -> Result<Vec<Option<Position>>, StoreError> {
        let identities = identities.to_vec();
        self.read(move |connection| {
            let found = identities
                .iter()
                .map(|MessageKey { room, user, id }| change::find(connection, room, user, id));
            found.collect()
        })
        .await
    }

    async fn message(
        &self,
        room: &RoomId,
        user: &UserId,
        id: &MessageId,
    ) -> Result<Option<Message>, StoreError> {
        let (room, user, id) = (room.clone(), user.clone(), id.clone());
        self.read(move |connection| {
            let bounds = [room.as_str(), id.as_str()];
            Ok(meant(messages(connection, &room, NAMED, bounds)?, &user))
        })
        .await
    }

    async fn stood(
        &self,
        room: &RoomId,
        position: Position,
        key: Option<&MessageId>,
    ) -> Result<bool, StoreError> {
        let (room, key) = (room.clone(), key.cloned());
        self.read(move |connection| {
            let at = Place::of(position);
            let left = |message: &Message| match &key {
                None => true,
                Some(key) => message.id == *key || message.change_id.as_ref() == Some(key),
            };
            for question in [AT, CHANGED_AT] {
                let bounds = params![room.as_str(), at.epoch, at.seq];
                if messages(connection, &room, question, bounds)?.iter().any(left) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    async fn messages(
        &self,
        room: &RoomId,
        span: Span,
        limit: u32,
    ) -> Result<Vec<Message>, StoreError> {
        let room = room.clone();
        self.read(move |connection| {
            let (sql, from) = match span {
                Span::Before(from) => (BEFORE, from),
                Span::After(from) => (AFTER, from),
                Span::Changes(from) => (CHANGES, from),
                Span::LatestChanges(from) => (LATEST_CHANGES, from),
            };
            let from = Place::of(from);
            let bounds = params![room.as_str(), from.epoch, from.seq, limit];
            let mut messages = messages(connection, &room, sql, bounds)?;
            if span.is_backwards() {
                messages.reverse();
            }
            Ok(messages)
        })
        .await
    }

    async fn count_changes(
        &self,
        room: &RoomId,
        after: Position,
        at_most: u64,
    ) -> Result<u64, StoreError> {
        let room = room.clone();
        self.read(move |connection| {
            let (after, at_most) = (Place::of(after), i64::try_from(at_most).unwrap_or(i64::MAX));
            let count = connection
                .prepare_cached(COUNT_CHANGES)?
                .query_row(params![room.as_str(), after.epoch, after.seq, at_most], |row| {
                    row.get(0)
                })?;
            Ok(count)
        })
        .await
    }
}

#[async_trait]
impl DeadLetters for SqliteStore {
    async fn dead_letters(&self) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT log_epoch, log_n, epoch, seq, room_id, user_id, message_id, raw, code, error
                 FROM dead_letters ORDER BY id",
            )?;
            let letters = statement.query_map([], dead_letter)?;
            Ok(letters.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn dead_places(
        &self,
        shard: Shard,
        after: LogId,
        upto: LogId,
    ) -> Result<Vec<(LogId, String)>, StoreError> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT log_epoch, log_n, code FROM dead_letters
                 WHERE shard = ?1 AND (log_epoch, log_n) > (?2, ?3)
                     AND (log_epoch, log_n) <= (?4, ?5)
                 ORDER BY log_epoch, log_n",
            )?;
            let bounds = params![shard.number(), after.epoch, after.n, upto.epoch, upto.n];
            let places = statement.query_map(bounds, |row| {
                Ok((LogId { epoch: row.get(0)?, n: row.get(1)? }, row.get(2)?))
            })?;
            Ok(places.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn refused(
        &self,
        rooms: &[RoomId],
        since: Timestamp,
    ) -> Result<Vec<RejectedEntry>, StoreError> {
        let rooms = rooms.to_vec();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT room_id, user_id, message_id, epoch, seq, code FROM dead_letters
                 WHERE room_id = ?1 AND first_seen_at >= ?2 AND epoch IS NOT NULL
                     AND seq IS NOT NULL AND user_id IS NOT NULL AND message_id IS NOT NULL
                 ORDER BY id DESC LIMIT ?3",
            )?;
            let mut refused = Vec::new();
            for room in rooms {
                let left = REFUSALS_REMEMBERED_MAX - refused.len();
                let found = statement.query_map(params![room.as_str(), since.0, left], |row| {
                    let named = (id(row, 1, UserId::parse)?, id(row, 2, MessageId::parse)?);
                    let place = Position { epoch: row.get(3)?, seq: row.get(4)? };
                    Ok((named, place, row.get::<_, String>(5)?))
                })?;
                for letter in found {
                    let ((user, id), position, code) = letter?;
                    if let (Some(user), Some(id)) = (user, id) {
                        refused.push(refusal_of((room.clone(), user, id, None), position, &code));
                    }
                }
            }
            Ok(refused)
        })
        .await
    }
}

fn dead_letter(row: &Row<'_>) -> Result<DeadLetter, rusqlite::Error> {
    let epoch: Option<u64> = row.get(2)?;
    let seq: Option<u64> = row.get(3)?;
    Ok(DeadLetter {
        log_id: LogId { epoch: row.get(0)?, n: row.get(1)? },
        position: epoch.zip(seq).map(|(epoch, seq)| Position { epoch, seq }),
        room: id(row, 4, RoomId::parse)?,
        user: id(row, 5, UserId::parse)?,
        id: id(row, 6, MessageId::parse)?,
        raw: row.get::<_, Vec<u8>>(7)?.into(),
        code: row.get(8)?,
        error: row.get(9)?,
    })
}

fn messages(
    connection: &Connection,
    room: &RoomId,
    question: &str,
    bounds: impl Params,
) -> Result<Vec<Message>, StoreError> {
    let mut statement = connection.prepare_cached(question)?;
    let messages = statement.query_map(bounds, |row| message(room, row))?;
    Ok(messages.collect::<Result<_, _>>()?)
}
