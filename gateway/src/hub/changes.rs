//! Changes in a room since a position, for readers that are no members: each message once, in its
//! present state, at the position of its last change.
//!
//! The database has this for what is persisted. What is not persisted yet lies in the ring as
//! entries, and is folded into it here. A page may end before the last of them: it is then the
//! state in which the room was at its end.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::ROWS_BYTES_MAX;
use shared::contract::message::Message;
use shared::contract::position::Position;
use shared::log::RejectedEntry;
use shared::store::Span;

use super::cache;
use super::entry::RoomEntry;
use super::history::{History, HistoryError, Rows, Waiting, may_follow, settled};
use crate::wire::codec;

/// A page of changes, oldest first.
#[derive(Debug)]
pub(crate) struct ChangePage {
    /// The messages as JSON.
    pub(crate) messages: Vec<Bytes>,
    /// After which the next page begins.
    pub(crate) next: Position,
    /// Whether there is more at the moment.
    pub(crate) more: bool,
}

/// What has changed, while it is put together.
#[derive(Debug, Default)]
struct ChangeDraft {
    changed: Vec<Message>,
    bytes: usize,
    /// Whose message stands nowhere yet that was read, and up to where their changes count: told on
    /// an earlier page, and not in the database either.
    missing: Vec<(MessageId, UserId)>,
    end: Position,
    /// What was refused, by where the room says so.
    refused: BTreeMap<Position, RejectedEntry>,
}

impl ChangeDraft {
    fn is_full(&self, limit: usize) -> bool {
        self.changed.len() + self.missing.len() > limit || self.bytes > ROWS_BYTES_MAX
    }

    fn add(&mut self, message: Message) {
        self.bytes += message.content.len() + message.metadata.as_str().len();
        self.changed.push(message);
    }

    /// Puts an entry that the database may not have into what it has; `false` where it is a change
    /// of a message that is not here.
    fn fold(&mut self, entry: &RoomEntry) -> bool {
        if let Some(refused) = entry.refused() {
            self.changed.retain(|message| message.position != Some(refused.position));
            self.refused.insert(entry.at, refused.clone());
            return true;
        }
        if !entry.is_change_alone() {
            let known = self.changed.iter().any(|message| message.position == Some(entry.at));
            if let Some(message) = entry.read_message().filter(|_| !known) {
                self.add(message);
            }
            return true;
        }
        let Some(message) = meant(&mut self.changed, entry) else { return false };
        if place(message) < entry.at
            && let Some(folded) = entry.folded(message)
        {
            self.bytes += folded.content.len();
            *message = folded;
        }
        true
    }
}

impl History {
    /// At most `limit` changes after a place; `None` if the room has not come that far.
    pub(crate) async fn changes(
        &self,
        room: &RoomId,
        after: Position,
        limit: u32,
    ) -> Result<Option<ChangePage>, HistoryError> {
        let _turn = self.turn().await?;
        settled(async || {
            // What the database does not have yet is read before it is asked, so that nothing can
            // fall between.
            let waiting = self.waiting(room, after).await?;
            if after > waiting.head {
                return Ok(None);
            }
            let limit = limit as usize;
            let rows = u32::try_from(limit + 1).unwrap_or(u32::MAX);
            let Rows { messages, cut } = self.rows(room, Span::Changes(after), rows).await?;
            if !may_follow(waiting.epoch, &messages) {
                return Err(HistoryError::Passed);
            }
            let mut draft = ChangeDraft::default();
            messages.into_iter().for_each(|message| draft.add(message));
            let told = self.store.refusals(room, after, rows).await?;
            draft.refused = told.into_iter().map(|told| (told.at, told.refused)).collect();
            // Behind rows that were cut there are others, before anything that waits.
            let mut more = cut || draft.is_full(limit);
            if !more {
                more = self.fold_waiting(room, limit, (&waiting, &mut draft)).await?;
            }
            let ChangeDraft { mut changed, refused, .. } = draft;
            changed.retain(|message| place(message) > after);
            changed.sort_by_key(place);
            let end = changed.last().filter(|_| more).map(place);
            let mut told = BTreeMap::new();
            for (at, what) in refused {
                if at > after && end.is_none_or(|end| at <= end) {
                    told.insert(at, self.taken_back(room, &what, at).await?);
                }
            }
            let mut page = page(&changed, told, limit, after);
            page.more |= more;
            Ok(Some(page))
        })
        .await
    }

    /// What a follower is told of a refusal: that a message is gone, or how one stands whose change
    /// was refused.
    async fn taken_back(
        &self,
        room: &RoomId,
        refused: &RejectedEntry,
        at: Position,
    ) -> Result<Bytes, HistoryError> {
        if refused.is_change
            && let Some(message) = self.store.message(room, &refused.user, &refused.id).await?
        {
            let message = Message { changed_position: Some(at), ..message };
            return Ok(Bytes::from(codec::json(&message)));
        }
        Ok(taken_back(refused, at))
    }

    /// Folds what waits into a draft until it is full; says whether there is more.
    async fn fold_waiting(
        &self,
        room: &RoomId,
        limit: usize,
        (waiting, draft): (&Waiting, &mut ChangeDraft),
    ) -> Result<bool, HistoryError> {
        let mut rest = waiting.rest();
        let mut part = waiting.kept.clone();
        let mut full = false;
        loop {
            for entry in &part {
                full = draft.is_full(limit);
                if full {
                    break;
                }
                self.fold(room, entry, draft).await?;
                draft.end = entry.at;
            }
            match self.more(room, &mut rest).await?.filter(|_| !full) {
                Some(next) => part = next,
                None => break,
            }
        }
        if !draft.missing.is_empty() {
            let (missing, end) = (std::mem::take(&mut draft.missing), draft.end);
            let is_missing = |entry: &RoomEntry| {
                let (id, user) = entry.subject();
                entry.at <= end && missing.iter().any(|(of, by)| of == id && by == user)
            };
            self.each(room, &waiting.whole(), |entry| {
                if is_missing(entry) {
                    draft.fold(entry);
                }
            })
            .await?;
        }
        Ok(full)
    }

    async fn fold(
        &self,
        room: &RoomId,
        entry: &RoomEntry,
        draft: &mut ChangeDraft,
    ) -> Result<(), HistoryError> {
        let (id, user) = entry.subject();
        let is_missing = draft.missing.iter().any(|(of, by)| of == id && by == user);
        if is_missing || draft.fold(entry) {
            return Ok(());
        }
        match self.store.message(room, user, id).await? {
            Some(message) => {
                draft.add(message);
                draft.fold(entry);
            }
            None => draft.missing.push((id.clone(), user.clone())),
        }
        Ok(())
    }
}

fn page(
    changed: &[Message],
    refused: BTreeMap<Position, Bytes>,
    limit: usize,
    after: Position,
) -> ChangePage {
    let of = |message: &Message| (place(message), Bytes::from(codec::json(message)));
    // One more than the page tells that there is more.
    let mut items = refused;
    items.extend(changed.iter().take(limit + 1).map(of));
    let mut messages: Vec<Bytes> = items.values().take(limit).cloned().collect();
    messages.truncate(cache::fitting(messages.iter()));
    let next = items.keys().take(messages.len()).last().copied().unwrap_or(after);
    ChangePage { next, more: messages.len() < items.len(), messages }
}

/// What was refused, as a follower is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TakenBack<'a> {
    room_id: &'a RoomId,
    id: &'a MessageId,
    user_id: &'a UserId,
    rejected: bool,
    position: Position,
    changed_position: Position,
}

fn taken_back(refused: &RejectedEntry, at: Position) -> Bytes {
    let RejectedEntry { room: room_id, user: user_id, id, position, .. } = refused;
    let (rejected, position, changed_position) = (true, *position, at);
    let told = TakenBack { room_id, id, user_id, rejected, position, changed_position };
    Bytes::from(codec::json(&told))
}

/// Where a message stands in the order of changes.
fn place(message: &Message) -> Position {
    message.changed_position.or(message.position).unwrap_or_default()
}

/// The message that a change means.
fn meant<'a>(changed: &'a mut [Message], entry: &RoomEntry) -> Option<&'a mut Message> {
    let mut changed = changed.iter_mut();
    changed.find(|message| entry.is_about(&message.id) && entry.is_by(&message.user_id))
}
