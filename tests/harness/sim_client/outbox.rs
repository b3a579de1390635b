//! What a chatter has to say: kept until it is persisted, offered again after every reconnect.

use super::record::{Ack, Record, Sent};
use crate::position::Position;
use crate::wire::{Accepted, Refused};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// How long to wait after a refusal that names no time.
const RETRY_DEFAULT: Duration = Duration::from_millis(100);

/// Messages by their index in `Record::sent`, in the states between said and persisted.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Not persisted and not refused: what a reconnect offers again.
    kept: BTreeSet<usize>,
    /// To be offered on this connection, oldest first.
    waiting: BTreeSet<usize>,
    /// Offered on this connection and not answered, by `ref`.
    in_flight: HashMap<u64, Offer>,
    /// When a kept message was last offered.
    offered_at: HashMap<usize, Instant>,
    /// Where kept messages stand, as far as is known.
    placed: HashMap<String, BTreeMap<Position, usize>>,
    index_by_id: HashMap<String, usize>,
    /// The server asked for a pause.
    paused_until: Option<Instant>,
    next_offer: u64,
}

#[derive(Debug, Clone, Copy)]
struct Offer {
    index: usize,
    ordinal: u64,
    at: Instant,
}

impl Outbox {
    /// Takes a new message.
    pub(super) fn say(&mut self, record: &mut Record, sent: Sent) {
        let index = record.sent.len();
        self.index_by_id.insert(sent.id.clone(), index);
        record.sent.push(sent);
        self.kept.insert(index);
        self.waiting.insert(index);
    }

    /// A connection has begun: everything kept is offered again, in the order it was said.
    pub(super) fn reconnected(&mut self) {
        self.in_flight.clear();
        self.paused_until = None;
        self.waiting = self.kept.clone();
    }

    /// How many messages are not known to be persisted.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// The next message to be offered in a room that is joined, unless as many as `limit` are
    /// under way or the server asked for a pause.
    pub(super) fn next(
        &mut self,
        record: &Record,
        limit: usize,
        is_joined: impl Fn(&str) -> bool,
    ) -> Option<usize> {
        if self.in_flight.len() >= limit || self.paused_until.is_some_and(|at| at > Instant::now())
        {
            return None;
        }
        self.waiting.iter().copied().find(|index| is_joined(&record.sent[*index].room))
    }

    /// A message has been handed to the connection under a `ref`.
    pub(super) fn offered(&mut self, index: usize, reference: u64) {
        self.waiting.remove(&index);
        let at = Instant::now();
        self.in_flight.insert(reference, Offer { index, ordinal: self.next_offer, at });
        self.offered_at.insert(index, at);
        self.next_offer += 1;
    }

    /// Whether a `ref` is that of an offer.
    pub(super) fn is_offer(&self, reference: u64) -> bool {
        self.in_flight.contains_key(&reference)
    }

    /// The server accepted the offer.
    pub(super) fn accepted(&mut self, record: &mut Record, reference: u64, accepted: Accepted) {
        let Some(offer) = self.in_flight.remove(&reference) else { return };
        let Sent { room, id, .. } = record.sent[offer.index].clone();
        if accepted.id != id {
            record.fault(format!("the reply to {id} names {}", accepted.id));
        }
        let Accepted { position, duplicate, persisted, .. } = accepted;
        let connection = record.connections;
        let ack = Ack { room: room.clone(), position, duplicate, connection, offer: offer.ordinal };
        record.acked.entry(id.clone()).or_default().push(ack);
        if let Some(position) = position {
            record.note_position(&room, position, &id);
            self.place(record, &room, &id, position);
        }
        if persisted {
            self.persist(record, offer.index);
        }
    }

    /// The server refused the offer: it is tried again after a pause, or given up for good.
    pub(super) fn refused(&mut self, record: &mut Record, reference: u64, refused: Refused) {
        let Some(offer) = self.in_flight.remove(&reference) else { return };
        if is_worth_retrying(&refused.code) {
            let pause = refused.retry_after_ms.map_or(RETRY_DEFAULT, Duration::from_millis);
            self.paused_until = Some(Instant::now() + pause);
            self.waiting.insert(offer.index);
            *record.retried.entry(refused.code).or_default() += 1;
        } else {
            self.forget(offer.index);
            record.refused.insert(record.sent[offer.index].id.clone(), refused);
        }
    }

    /// A message of this chatter stands at a position. It may be persisted already, by what a join
    /// said.
    pub(super) fn place(&mut self, record: &mut Record, room: &str, id: &str, position: Position) {
        let Some(index) = self.index_by_id.get(id).copied() else { return };
        if !self.kept.contains(&index) {
            return;
        }
        let reached = record.views.get(room).and_then(|view| view.persisted.get(&position.epoch));
        if reached.is_some_and(|seq| *seq >= position.seq) {
            self.persist(record, index);
        } else {
            self.placed.entry(room.to_owned()).or_default().insert(position, index);
        }
    }

    /// A message is in the database, for which this chatter waits, as nobody else does.
    pub(super) fn persisted(&mut self, record: &mut Record, id: &str) {
        match self.index_by_id.get(id).copied() {
            Some(index) => self.persist(record, index),
            None => record.fault(format!("was told that {id} is persisted, which it did not say")),
        }
    }

    /// Everything of that epoch up to a position is in the database, as a join says.
    pub(super) fn persisted_up_to(&mut self, record: &mut Record, room: &str, up_to: Position) {
        let view = record.views.entry(room.to_owned()).or_default();
        let reached = view.persisted.entry(up_to.epoch).or_default();
        *reached = up_to.seq.max(*reached);
        let Some(placed) = self.placed.get_mut(room) else { return };
        let range = Position::new(up_to.epoch, 0)..=up_to;
        let reached: Vec<(Position, usize)> = placed.range(range).map(|(p, i)| (*p, *i)).collect();
        for (position, index) in reached {
            if let Some(placed) = self.placed.get_mut(room) {
                placed.remove(&position);
            }
            self.persist(record, index);
        }
    }

    /// The database refused a message, which may be this chatter's own.
    pub(super) fn rejected(&mut self, record: &mut Record, id: &str) {
        if record.persisted.contains(id) {
            record.fault(format!("{id} was called persisted before it was called rejected"));
        }
        if let Some(index) = self.index_by_id.get(id).copied() {
            self.forget(index);
        }
    }

    /// Offers again what was offered long ago and is still kept: its watermark may be lost.
    pub(super) fn offer_again(&mut self, after: Duration) {
        let now = Instant::now();
        let under_way: BTreeSet<usize> = self.in_flight.values().map(|offer| offer.index).collect();
        for (index, at) in &self.offered_at {
            if now - *at >= after && !under_way.contains(index) {
                self.waiting.insert(*index);
            }
        }
    }

    /// Whether an offer has been under way for longer than any reply may take.
    pub(super) fn is_overdue(&self, after: Duration) -> bool {
        let now = Instant::now();
        self.in_flight.values().any(|offer| now - offer.at >= after)
    }

    fn persist(&mut self, record: &mut Record, index: usize) {
        if self.kept.contains(&index) {
            record.persisted.insert(record.sent[index].id.clone());
            self.forget(index);
        }
    }

    fn forget(&mut self, index: usize) {
        self.kept.remove(&index);
        self.waiting.remove(&index);
        self.offered_at.remove(&index);
    }
}

/// Refusals that end by themselves. The others would be the same tomorrow.
pub(super) fn is_worth_retrying(code: &str) -> bool {
    matches!(
        code,
        "rate_limited" | "blocked" | "backpressure" | "unavailable" | "internal" | "not_joined"
    )
}
