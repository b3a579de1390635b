//! Dead letters, kept with their batch.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::columns::{Cell, Columns};
use super::pool::{Pool, Statement, statement};
use super::shards::shard_number;
use super::stored::optional;
use super::value::{Moment, Place, count, log_id, number, position};
use super::{NumberedLetter, PostgresStore};
use crate::contract::envelope::Envelope;
use crate::contract::id::{MessageId, RoomId, Shard, UserId};
use crate::contract::limits::REFUSALS_REMEMBERED_MAX;
use crate::contract::position::Position;
use crate::contract::timestamp::Timestamp;
use crate::log::{LogId, RejectedEntry};
use crate::store::{Batch, DeadLetter, DeadLetters, StoreError, refusal_of};

const BURY: &str = "
    INSERT INTO dead_letters (shard, log_epoch, log_n, epoch, seq, room_id, user_id, message_id,
        raw, code, error, change_id, first_seen_at)
    SELECT $1, log_epoch, log_n, epoch, seq, room_id, user_id, message_id, raw, code, error,
        change_id, clock_timestamp()
    FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[],
        $8::text[], $9::bytea[], $10::text[], $11::text[], $12::text[])
        AS letter(log_epoch, log_n, epoch, seq, room_id, user_id, message_id, raw, code, error,
            change_id)";

const LIST: &str = "
    SELECT log_epoch, log_n, epoch, seq, room_id, user_id, message_id, raw, code, error
    FROM dead_letters ORDER BY id";

const NUMBERED: &str = "
    SELECT log_epoch, log_n, epoch, seq, room_id, user_id, message_id, raw, code, error, id,
        first_seen_at
    FROM dead_letters WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT $3";

const PLACES: &str = "
    SELECT log_epoch, log_n, code FROM dead_letters
    WHERE shard = $1 AND (log_epoch, log_n) > ($2, $3) AND (log_epoch, log_n) <= ($4, $5)
    ORDER BY log_epoch, log_n";

const REFUSED: &str = "
    SELECT room_id, user_id, message_id, epoch, seq, code, change_id FROM dead_letters
    WHERE room_id = ANY($1) AND first_seen_at >= $2 AND epoch IS NOT NULL AND seq IS NOT NULL
        AND user_id IS NOT NULL AND message_id IS NOT NULL
    ORDER BY id DESC LIMIT $3";

/// What [`BURY`] takes: the shard, and a column of each.
pub(super) struct Letters<'a> {
    shard: i16,
    columns: Columns<'a>,
}

impl<'a> Letters<'a> {
    pub(super) fn of(batch: &'a Batch) -> Result<Letters<'a>, StoreError> {
        const TEXT: Type = Type::TEXT_ARRAY;
        const NUMBER: Type = Type::INT8_ARRAY;
        let mut columns = Columns::new([
            NUMBER,
            NUMBER,
            NUMBER,
            NUMBER,
            TEXT,
            TEXT,
            TEXT,
            Type::BYTEA_ARRAY,
            TEXT,
            TEXT,
            TEXT,
        ]);
        for letter in &batch.dead {
            // Nothing about a dead letter may be at fault again, or its batch would never end: a
            // place that cannot be kept is in the raw entry as well.
            let place = letter.position.and_then(|position| Place::exactly(position).ok());
            // Only the raw entry has it, and what is none says nothing.
            let envelope = Envelope::decode(&letter.raw).ok();
            let change_id = envelope.and_then(|envelope| envelope.change_id);
            columns.push([
                number(letter.log_id.epoch)?.into(),
                number(letter.log_id.n)?.into(),
                place.map(|place| place.epoch).into(),
                place.map(|place| place.seq).into(),
                letter.room.as_ref().map(RoomId::as_str).into(),
                letter.user.as_ref().map(UserId::as_str).into(),
                letter.id.as_ref().map(MessageId::as_str).into(),
                Cell::Bytes(&letter.raw),
                without_nul(&letter.code).into(),
                without_nul(&letter.error).into(),
                change_id.map(|id| id.to_string()).into(),
            ]);
        }
        Ok(Letters { shard: shard_number(batch.shard), columns })
    }

    pub(super) fn statement(&self) -> Statement<'_> {
        let mut statement = statement!(BURY, self.shard);
        statement.parameters.extend(self.columns.parameters());
        statement
    }
}

/// As the database can store it.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

#[async_trait]
impl DeadLetters for PostgresStore {
    async fn dead_letters(&self) -> Result<Vec<DeadLetter>, StoreError> {
        let answers = self.pool.read(&[statement!(LIST)]).await?;
        answers[0].iter().map(letter).collect()
    }

    async fn dead_places(
        &self,
        shard: Shard,
        after: LogId,
        upto: LogId,
    ) -> Result<Vec<(LogId, String)>, StoreError> {
        let cut = |id| Place::near(Position::from(id));
        let (shard, after, upto) = (shard_number(shard), cut(after), cut(upto));
        let answers = self
            .pool
            .read(&[statement!(PLACES, shard, after.epoch, after.seq, upto.epoch, upto.seq)])
            .await?;
        let places = answers[0]
            .iter()
            .map(|row| Ok((log_id(row.try_get(0)?, row.try_get(1)?), row.try_get(2)?)));
        places.collect()
    }

    async fn refused(
        &self,
        rooms: &[RoomId],
        since: Timestamp,
    ) -> Result<Vec<RejectedEntry>, StoreError> {
        let rooms: Vec<&str> = rooms.iter().map(RoomId::as_str).collect();
        let since = Moment::of(since)?;
        let limit = i64::try_from(REFUSALS_REMEMBERED_MAX).unwrap_or(i64::MAX);
        let answers = self.pool.read(&[statement!(REFUSED, rooms, since, limit)]).await?;
        let mut refused = Vec::with_capacity(answers[0].len());
        for row in &answers[0] {
            let (room, user) = (optional(row, 0, RoomId::parse)?, optional(row, 1, UserId::parse)?);
            let id = optional(row, 2, MessageId::parse)?;
            let (Some(room), Some(user), Some(id)) = (room, user, id) else { continue };
            let change_id = optional(row, 6, MessageId::parse)?;
            let position = position(row.try_get(3)?, row.try_get(4)?);
            refused.push(refusal_of((room, user, id, change_id), position, row.try_get(5)?));
        }
        Ok(refused)
    }
}

impl PostgresStore {
    /// Dead letters with a number above `after`, the lowest first, at most `limit`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn numbered_dead_letters(
        &self,
        after: u64,
        limit: u32,
    ) -> Result<Vec<NumberedLetter>, StoreError> {
        numbered(&self.pool, after.saturating_add(1)..=u64::MAX, limit).await
    }

    /// The dead letter of that number, if there is one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn dead_letter(&self, number: u64) -> Result<Option<NumberedLetter>, StoreError> {
        Ok(numbered(&self.pool, number..=number, 1).await?.pop())
    }
}

async fn numbered(
    pool: &Pool,
    numbers: RangeInclusive<u64>,
    limit: u32,
) -> Result<Vec<NumberedLetter>, StoreError> {
    let cut = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (first, last) = (cut(*numbers.start()), cut(*numbers.end()));
    let limit = i64::from(limit);
    let answers = pool.read(&[statement!(NUMBERED, first, last, limit)]).await?;
    answers[0].iter().map(numbered_letter).collect()
}

fn numbered_letter(row: &Row) -> Result<NumberedLetter, StoreError> {
    Ok(NumberedLetter {
        number: count(row.try_get(10)?),
        first_seen: row.try_get::<_, Moment>(11)?.timestamp(),
        letter: letter(row)?,
    })
}

pub(super) fn letter(row: &Row) -> Result<DeadLetter, StoreError> {
    let epoch: Option<i64> = row.try_get(2)?;
    let seq: Option<i64> = row.try_get(3)?;
    Ok(DeadLetter {
        log_id: log_id(row.try_get(0)?, row.try_get(1)?),
        position: epoch.zip(seq).map(|(epoch, seq)| position(epoch, seq)),
        room: optional(row, 4, RoomId::parse)?,
        user: optional(row, 5, UserId::parse)?,
        id: optional(row, 6, MessageId::parse)?,
        raw: row.try_get::<_, Vec<u8>>(7)?.into(),
        code: row.try_get(8)?,
        error: row.try_get(9)?,
    })
}
