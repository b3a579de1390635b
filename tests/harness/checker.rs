//! Do the clients, the acknowledgements and the database tell the same story?
//!
//! Every function takes one promise and returns a sentence for each place where it is broken.
//! It needs no clock and no connection, so that histories can be made up to test it.

mod views;

use crate::position::Position;
use crate::rows::Row;
use crate::sim_client::{Record, SimClient};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::time::Duration;

/// How many sentences one promise may yield; the rest are counted.
const SENTENCES_MAX: usize = 8;

/// What the run was like, where that changes what may be asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect {
    /// Every number of an epoch, from its first row to its last, has its row. Not so where
    /// messages were edited or deleted: superseded changes leave numbers without a row.
    pub dense: bool,
    /// The last acknowledgement of a message names the place of its row. Not so where the log
    /// forgot what it had acknowledged, and a gateway offered it again.
    pub ack_positions: bool,
    /// Rows and views say what was sent. Not so where messages were edited or deleted.
    pub contents: bool,
    /// Every view reaches the last row. Not so while messages are still under way.
    pub complete: bool,
}

impl Default for Expect {
    fn default() -> Self {
        Expect { dense: true, ack_positions: true, contents: true, complete: true }
    }
}

/// Everything that is wrong, one sentence each; empty when all promises are kept. The records
/// must be of all clients that sent anything, and the rows of all their rooms.
pub fn check_all(records: &[Record], rows: &[Row], expect: &Expect) -> Vec<String> {
    let evidence = Evidence::new(records, rows, *expect);
    let mut found = Vec::new();
    for broken in [
        no_client_saw_a_fault(&evidence),
        no_acked_message_is_lost(&evidence),
        nothing_was_invented(&evidence),
        ids_are_unique(&evidence),
        positions_are_unique(&evidence),
        numbers_are_dense(&evidence),
        acks_name_the_place(&evidence),
        senders_keep_their_order(&evidence),
        persisted_means_stored(&evidence),
        views::views_are_slices(&evidence),
    ] {
        let more = broken.len().saturating_sub(SENTENCES_MAX);
        found.extend(broken.into_iter().take(SENTENCES_MAX));
        if more > 0 {
            found.push(format!("… and {more} more like this"));
        }
    }
    found
}

/// Waits until all promises are kept, and panics with what is broken when `within` has passed:
/// what is still under way at first is not broken.
#[track_caller]
pub fn assert_kept<E: Display>(
    within: Duration,
    chatters: &[SimClient],
    expect: Expect,
    mut read_rows: impl FnMut() -> Result<Vec<Row>, E>,
) -> impl Future<Output = ()> {
    crate::eventually(within, "all promises are kept", move || {
        let rows = read_rows();
        let records: Vec<Record> = chatters.iter().map(SimClient::record).collect();
        async move {
            let rows = rows.map_err(|error| format!("the rows cannot be read: {error}"))?;
            let broken = check_all(&records, &rows, &expect);
            if broken.is_empty() { Ok(()) } else { Err(broken.join("\n  ")) }
        }
    })
}

/// Records and rows, arranged for looking things up.
struct Evidence<'a> {
    records: &'a [Record],
    rows: &'a [Row],
    expect: Expect,
    /// The rows of each room in its order.
    rooms: BTreeMap<&'a str, Vec<&'a Row>>,
    by_id: HashMap<&'a str, &'a Row>,
    /// Messages that some client was told the database refused.
    rejected: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Evidence<'a> {
    fn new(records: &'a [Record], rows: &'a [Row], expect: Expect) -> Evidence<'a> {
        let mut rooms: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        for row in rows {
            rooms.entry(&row.room).or_default().push(row);
        }
        rooms.values_mut().for_each(|rows| rows.sort_by_key(|row| row.position()));
        let by_id = rows.iter().map(|row| (row.id.as_str(), row)).collect();
        let rejected = records.iter().flat_map(|record| record.rejected.keys());
        let rejected = rejected.map(|(room, id)| (room.as_str(), id.as_str())).collect();
        Evidence { records, rows, expect, rooms, by_id, rejected }
    }
}

fn no_client_saw_a_fault(evidence: &Evidence<'_>) -> Vec<String> {
    let faults = |record: &Record| -> Vec<String> {
        record.faults.iter().map(|fault| format!("{} saw: {fault}", record.user)).collect()
    };
    evidence.records.iter().flat_map(faults).collect()
}

fn no_acked_message_is_lost(evidence: &Evidence<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for record in evidence.records {
        for (id, acks) in &record.acked {
            let room = acks.first().map_or("", |ack| ack.room.as_str());
            if evidence.rejected.contains(&(room, id)) {
                continue;
            }
            match evidence.by_id.get(id.as_str()) {
                None => broken.push(format!("{id} of {} was acked and has no row", record.user)),
                Some(row) if row.room != room || row.user != record.user => broken.push(format!(
                    "{id} was acked to {} in {room} and stands as {}'s in {}",
                    record.user, row.user, row.room
                )),
                Some(_) => {}
            }
        }
    }
    broken
}

fn nothing_was_invented(evidence: &Evidence<'_>) -> Vec<String> {
    let mut sent = HashMap::new();
    for record in evidence.records {
        for message in &record.sent {
            sent.insert((message.room.as_str(), record.user.as_str(), &*message.id), message);
        }
    }
    let mut broken = Vec::new();
    for row in evidence.rows {
        match sent.get(&(row.room.as_str(), row.user.as_str(), row.id.as_str())) {
            None => broken.push(format!(
                "the row {} of {} in {} was sent by nobody",
                row.id, row.user, row.room
            )),
            Some(message) if evidence.expect.contents && message.content != row.content => {
                broken.push(format!("the row {} does not say what was sent", row.id));
            }
            Some(_) => {}
        }
    }
    for record in evidence.records {
        let refused = record.refused.keys().filter(|id| !record.acked.contains_key(*id));
        for id in refused.filter(|id| evidence.by_id.contains_key(id.as_str())) {
            broken.push(format!("{id} was refused to {} and has a row", record.user));
        }
    }
    broken
}

fn ids_are_unique(evidence: &Evidence<'_>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let again = evidence.rows.iter().filter(|row| !seen.insert(&row.id));
    again.map(|row| format!("{} has more than one row", row.id)).collect()
}

/// On a position stands one id, in the rows and in everything any client ever got.
fn positions_are_unique(evidence: &Evidence<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    let mut standing: HashMap<(&str, Position), &str> = HashMap::new();
    let mut stand = |room, position, id, who: &str| {
        let before = *standing.entry((room, position)).or_insert(id);
        if before != id {
            broken.push(format!("on {position} of {room} stand {before} and, for {who}, {id}"));
        }
    };
    for row in evidence.rows {
        stand(&row.room, row.position(), &row.id, "the database");
    }
    if evidence.expect.contents {
        // Without edits, whatever a client got at a position is the message itself.
        for record in evidence.records {
            for (room, positions) in &record.positions {
                for (position, id) in positions {
                    stand(room, *position, id, &record.user);
                }
            }
        }
    }
    broken
}

fn numbers_are_dense(evidence: &Evidence<'_>) -> Vec<String> {
    if !evidence.expect.dense {
        return Vec::new();
    }
    // A rejected message has a number and no row.
    let mut rejected: BTreeSet<(&str, Position)> = BTreeSet::new();
    for (room, positions) in evidence.records.iter().flat_map(|record| &record.positions) {
        let refused =
            positions.iter().filter(|(_, id)| evidence.rejected.contains(&(room, id.as_str())));
        rejected.extend(refused.map(|(position, _)| (room.as_str(), *position)));
    }
    let mut broken = Vec::new();
    for (room, rows) in &evidence.rooms {
        let mut before = Position::default();
        for position in rows.iter().map(|row| row.position()) {
            let is_first = before.seq == 0 || before.epoch != position.epoch;
            let expected = if before.seq == 0 { 1 } else { before.seq + 1 };
            let missing = expected..position.seq;
            if (!is_first || before.seq == 0)
                && missing
                    .clone()
                    .any(|seq| !rejected.contains(&(*room, Position::new(position.epoch, seq))))
            {
                broken.push(format!("before {position} of {room}, numbers from {missing:?} lack"));
            }
            before = position;
        }
    }
    broken
}

fn acks_name_the_place(evidence: &Evidence<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for (id, acks) in evidence.records.iter().flat_map(|record| &record.acked) {
        let positions: Vec<Position> = acks.iter().filter_map(|ack| ack.position).collect();
        if let Some(two) =
            positions.windows(2).find(|two| two[0] != two[1] && two[0].epoch >= two[1].epoch)
        {
            broken.push(format!("{id} was acked at {} and then at {}", two[0], two[1]));
        }
        if !evidence.expect.ack_positions {
            continue;
        }
        if let (Some(last), Some(row)) = (positions.last(), evidence.by_id.get(id.as_str()))
            && *last != row.position()
        {
            broken.push(format!("{id} was acked at {last} and stands at {}", row.position()));
        }
    }
    broken
}

/// What one connection offered in an order, and had accepted for the first time, stands in it.
fn senders_keep_their_order(evidence: &Evidence<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for record in evidence.records {
        let mut accepted = BTreeMap::new();
        for (id, ack) in
            record.acked.iter().flat_map(|(id, acks)| acks.iter().map(move |a| (id, a)))
        {
            if let (Some(position), false) = (ack.position, ack.duplicate) {
                accepted.insert((&ack.room, ack.connection, ack.offer), (position, id));
            }
        }
        let accepted: Vec<_> = accepted.into_iter().collect();
        for two in accepted.windows(2) {
            let ((room, connection, _), (earlier, earlier_id)) = &two[0];
            let ((later_room, later_connection, _), (later, later_id)) = &two[1];
            if (room, connection) == (later_room, later_connection) && earlier >= later {
                broken.push(format!(
                    "{} offered {earlier_id} before {later_id} in {room}, and they stand at \
                     {earlier} and {later}",
                    record.user
                ));
            }
        }
    }
    broken
}

fn persisted_means_stored(evidence: &Evidence<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for record in evidence.records {
        for id in record.persisted.iter().filter(|id| !evidence.by_id.contains_key(id.as_str())) {
            broken.push(format!("{} was told that {id} is persisted; no row", record.user));
        }
    }
    for (room, id) in &evidence.rejected {
        if evidence.by_id.get(id).is_some_and(|row| row.room == *room) {
            broken.push(format!("{id} of {room} was called rejected and has a row"));
        }
    }
    broken
}

#[cfg(test)]
mod tests;
