//! Closes dead letters, and notes the positions of their refusals.
//!
//! What was refused may be driven again, or offered again when nobody remembers the refusal: where
//! its row stands in the end, the letter is done with. One that is refused again is another letter.

use std::collections::HashMap;

use tokio_postgres::Row as Answer;
use tokio_postgres::types::Type;

use super::pool::Statement;
use super::value::{Place, position};
use crate::contract::envelope::Envelope;
use crate::contract::id::MessageId;
use crate::contract::position::Position;
use crate::store::{Batch, MessageChange, Row, StoreError};

const CLOSE: &str = "
    DELETE FROM dead_letters AS d
    USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS done(room, sender, id, change)
    WHERE d.room_id = done.room AND d.user_id = done.sender AND d.message_id = done.id
        AND d.change_id IS NOT DISTINCT FROM done.change AND d.epoch IS NOT NULL";

const PLACE: &str = "
    UPDATE dead_letters AS d SET refusal_epoch = at_epoch, refusal_seq = at_seq
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
        AS told(room, epoch, seq, at_epoch, at_seq)
    WHERE d.room_id = told.room AND (d.epoch, d.seq) = (told.epoch, told.seq)
        AND d.refusal_epoch IS NULL";

const FIRST: &str = "
    SELECT DISTINCT ON (room_id, user_id, d.change_id) room_id, user_id, d.change_id, epoch, seq
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS asked(room, changer, id, change)
    JOIN dead_letters AS d ON room_id = room AND user_id = changer AND message_id = asked.id
        AND d.change_id = asked.change
    WHERE epoch IS NOT NULL AND seq IS NOT NULL
    ORDER BY room_id, user_id, d.change_id, epoch, seq";

/// The identities of what a batch is done with: the columns of [`CLOSE`].
#[derive(Debug, Default)]
pub(super) struct Closed {
    rooms: Vec<String>,
    users: Vec<String>,
    ids: Vec<String>,
    changes: Vec<Option<String>>,
}

impl Closed {
    pub(super) fn by(batch: &Batch) -> Closed {
        let mut closed = Closed::default();
        for row in &batch.rows {
            match row {
                Row::Message(message) => {
                    let named = (&message.room_id, &message.user_id, &message.id);
                    closed.push(named.0.as_str(), named.1.as_str(), named.2, None);
                }
                Row::Change(change) => {
                    let (room, user) = (change.room.as_str(), change.user.as_str());
                    closed.push(room, user, &change.id, Some(&change.change_id));
                }
                Row::Receipt { .. } | Row::Credit(_) => {}
            }
        }
        for letter in &batch.dead {
            if let Ok(envelope) = Envelope::decode(&letter.raw) {
                let (room, user) = (envelope.room.as_str(), envelope.user.as_str());
                closed.push(room, user, &envelope.id, envelope.change_id.as_ref());
            }
        }
        closed
    }

    fn push(&mut self, room: &str, user: &str, id: &MessageId, change: Option<&MessageId>) {
        self.rooms.push(room.to_owned());
        self.users.push(user.to_owned());
        self.ids.push(id.as_str().to_owned());
        self.changes.push(change.map(|id| id.as_str().to_owned()));
    }

    pub(super) fn statement(&self) -> Option<Statement<'_>> {
        (!self.ids.is_empty()).then_some(Statement {
            sql: CLOSE,
            parameters: vec![
                (&self.rooms, Type::TEXT_ARRAY),
                (&self.users, Type::TEXT_ARRAY),
                (&self.ids, Type::TEXT_ARRAY),
                (&self.changes, Type::TEXT_ARRAY),
            ],
        })
    }
}

/// The columns of [`PLACE`].
#[derive(Debug, Default)]
pub(super) struct Told<'a> {
    rooms: Vec<&'a str>,
    epochs: Vec<i64>,
    seqs: Vec<i64>,
    at_epochs: Vec<i64>,
    at_seqs: Vec<i64>,
}

impl<'a> Told<'a> {
    pub(super) fn by(batch: &'a Batch) -> Told<'a> {
        let mut told = Told::default();
        for (room, refused, at) in &batch.refusals {
            let (refused, at) = (Place::near(*refused), Place::near(*at));
            told.rooms.push(room.as_str());
            told.epochs.push(refused.epoch);
            told.seqs.push(refused.seq);
            told.at_epochs.push(at.epoch);
            told.at_seqs.push(at.seq);
        }
        told
    }

    pub(super) fn statement(&self) -> Option<Statement<'_>> {
        (!self.rooms.is_empty()).then_some(Statement {
            sql: PLACE,
            parameters: vec![
                (&self.rooms, Type::TEXT_ARRAY),
                (&self.epochs, Type::INT8_ARRAY),
                (&self.seqs, Type::INT8_ARRAY),
                (&self.at_epochs, Type::INT8_ARRAY),
                (&self.at_seqs, Type::INT8_ARRAY),
            ],
        })
    }
}

/// Which changes were refused before, and where they stood first.
#[derive(Debug, Default)]
pub(super) struct WantedFirsts<'a> {
    rooms: Vec<&'a str>,
    users: Vec<&'a str>,
    ids: Vec<&'a str>,
    changes: Vec<&'a str>,
}

impl<'a> WantedFirsts<'a> {
    pub(super) fn change(&mut self, change: &'a MessageChange) {
        self.rooms.push(change.room.as_str());
        self.users.push(change.user.as_str());
        self.ids.push(change.id.as_str());
        self.changes.push(change.change_id.as_str());
    }

    /// The question, if there is any; its answer is for [`Firsts::read`].
    pub(super) fn statement(&self) -> Option<Statement<'_>> {
        (!self.ids.is_empty()).then_some(Statement {
            sql: FIRST,
            parameters: vec![
                (&self.rooms, Type::TEXT_ARRAY),
                (&self.users, Type::TEXT_ARRAY),
                (&self.ids, Type::TEXT_ARRAY),
                (&self.changes, Type::TEXT_ARRAY),
            ],
        })
    }
}

/// The first places of changes that are driven again: they never beat what came between.
#[derive(Debug, Default)]
pub(super) struct Firsts(HashMap<(String, String, String), Position>);

impl Firsts {
    pub(super) fn read(rows: &[Answer]) -> Result<Firsts, StoreError> {
        let mut firsts = HashMap::with_capacity(rows.len());
        for row in rows {
            let key = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            firsts.insert(key, position(row.try_get(3)?, row.try_get(4)?));
        }
        Ok(Firsts(firsts))
    }

    /// By which place a change is compared.
    pub(super) fn of(&self, change: &MessageChange) -> Position {
        let MessageChange { room, user, change_id, .. } = change;
        let key = (room.to_string(), user.to_string(), change_id.to_string());
        self.0.get(&key).map_or(change.position, |first| change.position.min(*first))
    }
}
