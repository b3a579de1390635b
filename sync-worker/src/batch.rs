//! Decodes entries of the log into rows, and finds the rows that are at fault.

use std::collections::{BTreeMap, HashSet};

use prometheus::Histogram;
use shared::contract::credit::CreditEntry;
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{RoomId, Shard, UserId};
use shared::contract::message::{Message, Metadata};
use shared::contract::position::Position;
use shared::contract::timestamp::Timestamp;
use shared::log::{
    Append, LogEntry, LogId, LogLoad, Movement, RejectedEntry, RememberedId, Watermark,
};
use shared::process::error_chain::error_chain;
use shared::store::{
    Batch, Change, CreditRow, Cursor, DeadLetter, Lease, MessageChange, Row, Store, StoreError,
    refused_with,
};

use crate::refusing;

/// The entries of one batch, decoded.
#[derive(Debug)]
pub(crate) struct Entries {
    shard: Shard,
    /// Those that make a row, in the log's order.
    sources: Vec<(LogEntry, Envelope)>,
    /// Their rows, until a round takes them.
    rows: Vec<Row>,
    /// The ids of those that only take a place.
    places: Vec<RememberedId>,
    /// Where rooms say that something was refused: the room, what, and where it says so.
    refusals: Vec<(RoomId, Position, Position)>,
    /// Those that are given up.
    dead: Vec<(LogEntry, Option<Envelope>, DeadLetter)>,
    /// How far each room gets, epoch by epoch: a position speaks for its own epoch only.
    reached: BTreeMap<(RoomId, u64), Position>,
    upto: LogId,
    /// The last one's.
    load: LogLoad,
    /// Of their envelopes.
    bytes: usize,
    oldest_ms: Option<i64>,
}

/// Why an entry makes no row.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("not the JSON of its kind")]
    Body(#[from] serde_json::Error),
    #[error("the entry has no place in a room's order")]
    NoPosition,
    #[error("a change has an id of its own")]
    NoChangeId,
    #[error("it is among the dead letters")]
    Dead,
}

/// What an edit carries besides its ids.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct EditBody {
    #[serde(default)]
    user_id: Option<UserId>,
    content: String,
    #[serde(default)]
    metadata: Option<Metadata>,
}

/// What a delete carries besides its ids.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeleteBody {
    #[serde(default)]
    user_id: Option<UserId>,
}

impl Entries {
    /// Decodes what was read; what cannot be decoded is a dead letter at once. `None` for no
    /// entries.
    pub(crate) fn decode(shard: Shard, entries: Vec<LogEntry>) -> Option<Entries> {
        let LogEntry { id: upto, load, .. } = *entries.last()?;
        let mut all = Entries {
            shard,
            sources: Vec::with_capacity(entries.len()),
            rows: Vec::with_capacity(entries.len()),
            places: Vec::new(),
            refusals: Vec::new(),
            dead: Vec::new(),
            reached: BTreeMap::new(),
            upto,
            load,
            bytes: entries.iter().map(|entry| entry.raw.len()).sum(),
            oldest_ms: None,
        };
        for entry in entries {
            all.add(entry);
        }
        Some(all)
    }

    fn add(&mut self, entry: LogEntry) {
        let envelope = match Envelope::decode(&entry.raw) {
            Ok(envelope) => envelope,
            Err(error) => {
                let letter = dead_letter(&entry, None, "undecodable", &error);
                self.dead.push((entry, None, letter));
                return;
            }
        };
        self.oldest_ms.get_or_insert(envelope.accepted_at.0);
        if let Some(position) = entry.position {
            let reached = self.reached.entry((envelope.room.clone(), position.epoch)).or_default();
            *reached = position.max(*reached);
        }
        match row(&entry, &envelope) {
            Ok(Some(row)) => {
                self.rows.push(row);
                self.sources.push((entry, envelope));
            }
            Ok(None) => {
                let remembered = remembered(&envelope);
                let refused = remembered.refusal_of.zip(entry.position);
                self.refusals.extend(refused.map(|(of, at)| (envelope.room.clone(), of, at)));
                self.places.push(remembered);
            }
            Err(error) => {
                let letter = dead_letter(&entry, Some(&envelope), "undecodable", &error);
                self.dead.push((entry, Some(envelope), letter));
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sources.len() + self.dead.len()
    }

    /// Bytes of the envelopes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last one's place in the log.
    pub(crate) fn upto(&self) -> LogId {
        self.upto
    }

    /// When the oldest was accepted, in Unix milliseconds.
    pub(crate) fn oldest_ms(&self) -> Option<i64> {
        self.oldest_ms
    }

    pub(crate) fn dead(&self) -> usize {
        self.dead.len()
    }

    /// What the rooms are to say of what was refused.
    pub(crate) fn refusals(&self, now: Timestamp) -> Vec<Append> {
        self.dead.iter().filter_map(|(_, _, letter)| refusing::refusal(letter, now)).collect()
    }

    /// The transaction.
    pub(crate) fn batch(&self, cursor: Cursor, lease: Option<&Lease>) -> Batch {
        self.batch_of(self.rows.clone(), cursor, lease)
    }

    /// As [`Entries::batch`], once: the rows go with it.
    pub(crate) fn take_batch(&mut self, cursor: Cursor, lease: Option<&Lease>) -> Batch {
        let rows = std::mem::take(&mut self.rows);
        self.batch_of(rows, cursor, lease)
    }

    fn batch_of(&self, rows: Vec<Row>, cursor: Cursor, lease: Option<&Lease>) -> Batch {
        Batch {
            shard: self.shard,
            epoch: cursor.epoch,
            after: cursor.upto,
            upto: self.upto,
            lease: lease.cloned(),
            rows,
            dead: self.dead.iter().map(|(_, _, letter)| letter.clone()).collect(),
            heads: self.heads(),
            refusals: self.refusals.clone(),
        }
    }

    /// Each room once.
    fn heads(&self) -> Vec<(RoomId, Position)> {
        // Epochs ascend within a room, so the last one stays.
        let heads = self.reached.iter().map(|((room, _), position)| (room.clone(), *position));
        heads.collect::<BTreeMap<_, _>>().into_iter().collect()
    }

    /// What the log and the gateways are told after the commit; the log may forget up to `forget`.
    /// Of `balances` they are told those that moved here.
    pub(crate) fn watermark(
        &self,
        epoch: u64,
        forget: LogId,
        balances: &[(UserId, i64)],
    ) -> Watermark {
        let movements = self.movements();
        let moved: HashSet<&UserId> = movements.iter().map(|movement| &movement.user).collect();
        let balances = balances.iter().filter(|(user, _)| moved.contains(user)).cloned().collect();
        let rejected = self.dead.iter().filter_map(|(entry, envelope, letter)| {
            let error = refused_with(&letter.code);
            Some(RejectedEntry::new(envelope.as_ref()?, entry.position?, error))
        });
        let stored = self.sources.iter().map(|(_, envelope)| envelope);
        let stored = stored.filter(|envelope| has_id(envelope.kind)).map(remembered);
        Watermark {
            shard: self.shard,
            epoch,
            upto: self.upto,
            rooms: self.reached.iter().map(|((room, _), upto)| (room.clone(), *upto)).collect(),
            rejected: rejected.collect(),
            forget,
            balances,
            ids: stored.chain(self.places.iter().cloned()).chain(self.unreadable()).collect(),
            load: self.load,
            movements,
        }
    }

    /// Ids of dead letters that move nothing: nobody would let go of them otherwise.
    fn unreadable(&self) -> impl Iterator<Item = RememberedId> {
        let dead = self.dead.iter().filter_map(|(_, envelope, _)| envelope.as_ref());
        let moves = |envelope: &&Envelope| {
            envelope.kind == EntryKind::Usage
                && serde_json::from_slice::<CreditEntry>(&envelope.body).is_err()
        };
        dead.filter(moves).map(remembered)
    }

    /// What moved credits, dead letters too: they are not on their way any more.
    fn movements(&self) -> Vec<Movement> {
        let stored = self.sources.iter().map(|(entry, envelope)| (entry, envelope, None));
        let dead = self.dead.iter().filter_map(|(entry, envelope, letter)| {
            Some((entry, envelope.as_ref()?, Some(refused_with(&letter.code))))
        });
        let moved = stored.chain(dead).filter(|(_, envelope, _)| envelope.kind == EntryKind::Usage);
        moved
            .filter_map(|(entry, envelope, refusal)| {
                let body: CreditEntry = serde_json::from_slice(&envelope.body).ok()?;
                let (id, user) = (entry.id, envelope.user.clone());
                // What a message cost is remembered with the message.
                let own = refusal.filter(|_| body.room_id.is_none());
                let refused = own.map(|refusal| (envelope.id.clone(), refusal));
                Some(Movement { id, user, amount: body.amount, refused })
            })
            .collect()
    }

    /// Takes out what became a dead letter when it was committed; for what is told of it now.
    pub(crate) fn mark_dead(&mut self, dead: &[(LogId, String)]) {
        for (place, code) in dead {
            // In the log's order, which is that of their ids.
            let found = self.sources.binary_search_by(|(entry, _)| entry.id.cmp(place));
            if let Ok(found) = found {
                self.bury(found, code, &RowError::Dead);
            }
        }
    }

    /// Counts how long each has taken from its acceptance to now.
    pub(crate) fn observe_persisted(&self, seconds: &Histogram, now_ms: i64) {
        for (_, envelope) in &self.sources {
            let took_ms = now_ms.saturating_sub(envelope.accepted_at.0).max(0);
            seconds.observe(took_ms as f64 / 1000.0);
        }
    }

    /// Whether the database takes any of the rows alone.
    pub(crate) async fn passes(&self, store: &dyn Store) -> Result<bool, StoreError> {
        for row in &self.rows {
            if fault(store, std::slice::from_ref(row)).await?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes dead letters of all rows: of one that is refused and nothing else is with it.
    pub(crate) fn give_up(&mut self, error: &StoreError) {
        for place in (0..self.rows.len()).rev() {
            self.bury(place, code(error), error);
        }
    }

    /// Makes a dead letter of the row there.
    fn bury(&mut self, place: usize, code: &str, error: &(dyn std::error::Error + 'static)) {
        self.rows.remove(place);
        let (entry, envelope) = self.sources.remove(place);
        let letter = dead_letter(&entry, Some(&envelope), code, error);
        self.dead.push((entry, Some(envelope), letter));
    }

    /// Finds the rows that fail alone, by halves, and makes dead letters of them; says how many
    /// failed of how many.
    ///
    /// # Errors
    /// The database stopped answering; nothing was changed.
    pub(crate) async fn bisect(&mut self, store: &dyn Store) -> Result<(usize, usize), StoreError> {
        let rows = &self.rows;
        let mut bad: Vec<(usize, StoreError)> = Vec::new();
        let all = 0..rows.len();
        let mut parts = Vec::from([all]);
        while let Some(part) = parts.pop() {
            match fault(store, &rows[part.clone()]).await? {
                None => {}
                Some(error) if part.len() == 1 => bad.push((part.start, error)),
                Some(_) => {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
            }
        }
        let bad = still_refused(bad, rows, store).await?;
        let failed = (bad.len(), rows.len());
        // From the back, so that the places before stay what they are.
        for (place, error) in bad.into_iter().rev() {
            self.bury(place, code(&error), &error);
        }
        Ok(failed)
    }
}

/// What is wrong with some of the rows, if anything is.
async fn fault(store: &dyn Store, rows: &[Row]) -> Result<Option<StoreError>, StoreError> {
    match store.probe(rows).await {
        Ok(()) => Ok(None),
        Err(error @ StoreError::Data { .. }) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// The database's code of a fault of the data.
fn code(error: &StoreError) -> &str {
    match error {
        StoreError::Data { code, .. } => code,
        StoreError::Fenced { .. } | StoreError::Unavailable(_) => "",
    }
}

/// Whether the log remembers the entry by its id. A receipt is only ever compared.
fn has_id(kind: EntryKind) -> bool {
    kind != EntryKind::Receipt
}

fn remembered(envelope: &Envelope) -> RememberedId {
    let Envelope { room, user, .. } = envelope;
    let is_movement = envelope.kind == EntryKind::Usage;
    let refusal_of = refusing::refused(envelope);
    let key = envelope.key().clone();
    RememberedId { room: room.clone(), user: user.clone(), key, is_movement, refusal_of }
}

/// The database refused rows alone, and then took one of them.
#[derive(Debug, thiserror::Error)]
#[error("the database refused a row alone and takes it now: the fault is not the row's")]
struct Recovered;

/// Tries each of them alone once more. Where the fault was the database's and went away in the
/// middle of the search, what was tried before that is as good as what was tried after it: nothing
/// is given up, and the batch is tried again.
async fn still_refused(
    bad: Vec<(usize, StoreError)>,
    rows: &[Row],
    store: &dyn Store,
) -> Result<Vec<(usize, StoreError)>, StoreError> {
    let mut still = Vec::with_capacity(bad.len());
    for (place, _) in bad {
        let found = fault(store, std::slice::from_ref(&rows[place])).await?;
        still.push((place, found.ok_or_else(|| StoreError::Unavailable(Box::new(Recovered)))?));
    }
    Ok(still)
}

/// The row of an entry; `None` for one that only takes a place.
pub(crate) fn row(entry: &LogEntry, envelope: &Envelope) -> Result<Option<Row>, RowError> {
    let change = |author, change| -> Result<Option<Row>, RowError> {
        Ok(Some(Row::Change(MessageChange {
            room: envelope.room.clone(),
            user: envelope.user.clone(),
            author,
            id: envelope.id.clone(),
            change_id: envelope.change_id.clone().ok_or(RowError::NoChangeId)?,
            position: entry.position.ok_or(RowError::NoPosition)?,
            at: envelope.accepted_at,
            change,
        })))
    };
    match envelope.kind {
        EntryKind::Message => {
            let mut message: Message = serde_json::from_slice(&envelope.body)?;
            message.position = Some(entry.position.ok_or(RowError::NoPosition)?);
            Ok(Some(Row::Message(message)))
        }
        EntryKind::Edit => {
            let EditBody { user_id, content, metadata } = serde_json::from_slice(&envelope.body)?;
            change(user_id, Change::Edit { content, metadata })
        }
        EntryKind::Delete => {
            let DeleteBody { user_id } = serde_json::from_slice(&envelope.body)?;
            change(user_id, Change::Delete)
        }
        EntryKind::Receipt => {
            let (room, mark) = (envelope.room.clone(), serde_json::from_slice(&envelope.body)?);
            Ok(Some(Row::Receipt { room, mark }))
        }
        EntryKind::Usage => Ok(Some(Row::Credit(CreditRow {
            id: envelope.id.clone(),
            user: envelope.user.clone(),
            room: envelope.room.clone(),
            entry: serde_json::from_slice(&envelope.body)?,
            at: envelope.accepted_at,
        }))),
        EntryKind::Void | EntryKind::Removal | EntryKind::Refusal => Ok(None),
    }
}

fn dead_letter(
    entry: &LogEntry,
    envelope: Option<&Envelope>,
    code: &str,
    error: &dyn std::error::Error,
) -> DeadLetter {
    DeadLetter {
        log_id: entry.id,
        position: entry.position,
        room: envelope.map(|e| e.room.clone()),
        user: envelope.map(|e| e.user.clone()),
        id: envelope.map(|e| e.id.clone()),
        raw: entry.raw.clone(),
        code: code.to_owned(),
        error: error_chain(error),
    }
}
