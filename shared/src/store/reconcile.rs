//! Compares the ledger's movements with the messages.
//!
//! A message's cost has an id that follows from the message's identity, so that each of the two can
//! be found from the other, whoever pays.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{CreditRow, Reconciliation};
use crate::contract::credit::{CreditKind, event_id};
use crate::contract::id::{MessageId, RoomId, UserId};

/// The key in a row's metadata under which the kind of the movement is kept.
const KIND: &str = "roomcast.kind";

/// The key under which the room of the message is kept, for what a message cost.
pub(super) const ROOM: &str = "roomcast.room";

/// Sentences that a comparison gives at most.
pub(super) const DIFFERENCES_MAX: usize = 1000;

/// Rows that are compared at once.
pub(super) const PAGE_ROWS: u32 = 1000;

/// The id of a ledger's row. No id that anybody chooses has white space in it, so that nobody can
/// take that of what a message cost.
pub(super) fn row_id(row: &CreditRow) -> Cow<'_, str> {
    match row.entry.room_id {
        Some(_) => Cow::Owned(cost_id(&row.id)),
        None => Cow::Borrowed(row.id.as_str()),
    }
}

/// The id of the row of what a message cost.
pub(super) fn cost_id(event: &MessageId) -> String {
    format!("cost {event}")
}

/// The metadata of a ledger's row.
pub(super) fn metadata(row: &CreditRow) -> String {
    let mut metadata: Map<String, Value> = row.entry.metadata.clone();
    metadata.insert(KIND.to_owned(), row.entry.kind.as_str().into());
    metadata.remove(ROOM);
    if let Some(room) = &row.entry.room_id {
        metadata.insert(ROOM.to_owned(), room.as_str().into());
    }
    Value::Object(metadata).to_string()
}

/// A message that cost something.
#[derive(Debug)]
pub(super) struct Priced {
    pub(super) room: RoomId,
    pub(super) sender: UserId,
    pub(super) id: MessageId,
    pub(super) credits: i64,
}

impl Priced {
    /// The id of its row in the ledger.
    pub(super) fn row_id(&self) -> String {
        cost_id(&event_id(&self.room, &self.sender, &self.id, CreditKind::Usage))
    }

    /// Compares it with what the ledger has under that id.
    pub(super) fn compare(&self, amount: Option<i64>) -> Option<String> {
        let Priced { room, id, credits, .. } = self;
        let said = format!("message {id} of room {room} cost {credits}");
        match amount {
            None => Some(format!("{said} and has no row in the ledger")),
            Some(amount) if amount != -credits => {
                Some(format!("{said} and its row in the ledger says {amount}"))
            }
            Some(_) => None,
        }
    }
}

/// A row of the ledger that says which message it belongs to, and one message that stands under
/// that id in that room, if any.
#[derive(Debug)]
pub(super) struct Cost {
    pub(super) row_id: String,
    pub(super) user: String,
    pub(super) amount: i64,
    pub(super) room: String,
    pub(super) message: String,
    /// Its sender, `None` in the tombstone of a message that never came; and its cost.
    pub(super) found: Option<(Option<String>, Option<i64>)>,
}

impl Cost {
    /// Whether what was found is the message it belongs to.
    fn belongs(&self) -> bool {
        let Some((sender, _)) = &self.found else { return false };
        let Some(sender) = sender else { return true };
        let names =
            (RoomId::parse(&self.room), UserId::parse(sender), MessageId::parse(&self.message));
        let (Ok(room), Ok(sender), Ok(id)) = names else { return false };
        cost_id(&event_id(&room, &sender, &id, CreditKind::Usage)) == self.row_id
    }
}

/// Compares rows of one page, those with one id side by side, with their messages. Where the
/// messages may have expired, that one is missing is no difference.
pub(super) fn compare_costs(costs: &[Cost], found: &mut Reconciliation) {
    for group in costs.chunk_by(|one, other| one.row_id == other.row_id) {
        let cost = &group[0];
        let said = || {
            let Cost { row_id, user, amount, room, message, .. } = cost;
            format!("row {row_id} of {user} ({amount}) belongs to message {message} of room {room}")
        };
        match group.iter().find(|cost| cost.belongs()) {
            None => found.differ(format!("{}, which is not there", said())),
            // Its price is compared from the message's side.
            Some(Cost { found: Some((Some(_), None)), .. }) => {
                found.differ(format!("{}, which cost nothing", said()));
            }
            Some(_) => {}
        }
    }
}

impl Reconciliation {
    /// Adds a sentence, as long as there is room for it.
    pub(super) fn differ(&mut self, sentence: String) {
        if !self.is_full() {
            self.differences.push(sentence);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.differences.len() >= DIFFERENCES_MAX
    }

    pub(super) fn balance(&mut self, user: &str, balance: i64, sum: i64) {
        self.differ(format!("the balance of {user} is {balance}, its rows add up to {sum}"));
    }

    pub(super) fn quarantined(&mut self, id: &str, user: &str, amount: i64) {
        self.differ(format!(
            "row {id} of {user} ({amount}) is in quarantine: the ledger has that id with another \
             user or amount"
        ));
    }

    pub(super) fn dead(&mut self, id: &str, user: &str) {
        self.differ(format!("movement {id} of {user} is among the dead letters"));
    }
}
