//! Closes dead letters, and notes the positions of their refusals.
//!
//! What was refused may be driven again, or offered again when nobody remembers the refusal: where
//! its row stands in the end, the letter is done with. One that is refused again is another letter.

use std::collections::HashMap;

use tokio_postgres::Row as Answer;
use tokio_postgres::types::Type;

use super::columns::{Cell, Columns};
use super::pool::Statement;
use super::value::{Place, position};
use crate::contract::envelope::Envelope;
use crate::contract::message::Message;
use crate::contract::position::Position;
use crate::store::{Batch, MessageChange, Row, StoreError};

pub(super) const CLOSE: &str = "
    DELETE FROM dead_letters AS d
    USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS done(room, sender, id, change)
    WHERE d.room_id = done.room AND d.user_id = done.sender AND d.message_id = done.id
        AND d.change_id IS NOT DISTINCT FROM done.change AND d.epoch IS NOT NULL";

pub(super) const PLACE: &str = "
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

/// The identities of what a round is done with: the columns of [`CLOSE`].
pub(super) fn closed<'a>(round: &[&'a Batch]) -> Columns<'a> {
    let mut columns = Columns::new([const { Type::TEXT_ARRAY }; 4]);
    for row in round.iter().flat_map(|batch| &batch.rows) {
        match row {
            Row::Message(Message { room_id, user_id, id, .. }) => {
                let named = [room_id.as_str(), user_id.as_str(), id.as_str()];
                let [room, user, id] = named.map(Cell::from);
                columns.push([room, user, id, Cell::Null]);
            }
            Row::Change(change) => columns.push(identity(change)),
            Row::Receipt { .. } | Row::Credit(_) => {}
        }
    }
    for letter in round.iter().flat_map(|batch| &batch.dead) {
        if let Ok(Envelope { room, user, id, change_id, .. }) = Envelope::decode(&letter.raw) {
            let change = change_id.map(|id| id.to_string());
            let named = [room.to_string(), user.to_string(), id.to_string()];
            let [room, user, id] = named.map(Cell::from);
            columns.push([room, user, id, change.into()]);
        }
    }
    columns
}

fn identity(change: &MessageChange) -> [Cell<'_>; 4] {
    let MessageChange { room, user, id, change_id, .. } = change;
    [room.as_str(), user.as_str(), id.as_str(), change_id.as_str()].map(Cell::from)
}

/// The columns of [`PLACE`].
pub(super) fn told<'a>(round: &[&'a Batch]) -> Columns<'a> {
    const NUMBER: Type = Type::INT8_ARRAY;
    let mut columns = Columns::new([Type::TEXT_ARRAY, NUMBER, NUMBER, NUMBER, NUMBER]);
    for (room, refused, at) in round.iter().flat_map(|batch| &batch.refusals) {
        let (refused, at) = (Place::near(*refused), Place::near(*at));
        let [epoch, seq, at_epoch, at_seq] =
            [refused.epoch, refused.seq, at.epoch, at.seq].map(Cell::from);
        columns.push([room.as_str().into(), epoch, seq, at_epoch, at_seq]);
    }
    columns
}

/// Which changes were refused before, and where they stood first: the columns of [`FIRST`].
#[derive(Debug)]
pub(super) struct FirstsQuery<'a>(Columns<'a>);

impl Default for FirstsQuery<'_> {
    fn default() -> Self {
        FirstsQuery(Columns::new([const { Type::TEXT_ARRAY }; 4]))
    }
}

impl<'a> FirstsQuery<'a> {
    pub(super) fn change(&mut self, change: &'a MessageChange) {
        self.0.push(identity(change));
    }

    /// The question, if there is any; its answer is for [`Firsts::read`].
    pub(super) fn statement(&self) -> Option<Statement<'_>> {
        (!self.0.is_empty()).then(|| self.0.statement(FIRST))
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
