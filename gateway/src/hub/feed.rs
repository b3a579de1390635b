//! What has changed in a room since a place, for a reader that is no member: each message once, in
//! its present state, at the place of its last change.
//!
//! The database has this for what is persisted. What is not persisted yet lies in the ring as
//! entries, and is folded into it here. A page may end before the last of them: it is then the
//! state in which the room was at its end.

use bytes::Bytes;
use shared::contract::id::RoomId;
use shared::contract::message::Message;
use shared::contract::position::Position;
use shared::log::RingEntry;

use super::logged::Logged;
use super::recent;
use super::sources::{Rows, RowsOf, SourceError, Sources, TRIES_MAX, may_follow};
use crate::codec;

/// A page of changes, oldest first.
#[derive(Debug)]
pub(crate) struct Feed {
    /// The messages as JSON.
    pub(crate) messages: Vec<Bytes>,
    /// After which the next page begins.
    pub(crate) next: Position,
    /// Whether there is more at the moment.
    pub(crate) more: bool,
}

impl Sources {
    /// At most `limit` changes after a place; `None` if the room has not come that far.
    pub(crate) async fn feed(
        &self,
        room: &RoomId,
        after: Position,
        limit: u32,
    ) -> Result<Option<Feed>, SourceError> {
        for _ in 0..TRIES_MAX {
            let (epoch, head, persisted) = self.head(room).await?;
            if after > head {
                return Ok(None);
            }
            if let Some(feed) = self.try_feed(room, after, limit, (epoch, head, persisted)).await? {
                return Ok(Some(feed));
            }
        }
        Err(SourceError::Unsettled)
    }

    /// `None` when the ring's epoch passed before the database was read.
    async fn try_feed(
        &self,
        room: &RoomId,
        after: Position,
        limit: u32,
        (epoch, head, persisted): (u64, Position, Position),
    ) -> Result<Option<Feed>, SourceError> {
        // What the database does not have yet is read before it is asked, so that nothing can fall
        // between.
        let mut waiting = Vec::new();
        if persisted < head {
            let tail = self.tail(room, persisted).await?;
            if tail.epoch != epoch {
                return Ok(None);
            }
            waiting = tail.entries;
        }
        let limit = limit as usize;
        let rows = u32::try_from(limit + 1).unwrap_or(u32::MAX);
        let rows = self.rows(room, RowsOf::Changes(after), rows).await?;
        let Rows { messages: mut changed, cut } = rows;
        if !may_follow(epoch, &changed) {
            return Ok(None);
        }
        let mut entries = waiting.iter().filter(|entry| entry.position > after);
        // Behind rows that were cut there are others, before anything that waits.
        while !cut
            && changed.len() <= limit
            && let Some(entry) = entries.next()
        {
            self.fold(room, &mut changed, &Logged::from_entry(entry)?.1, &waiting).await?;
        }
        changed.retain(|message| place(message) > after);
        changed.sort_by_key(place);
        let mut page = page(&changed, limit, after);
        page.more |= cut;
        Ok(Some(page))
    }

    /// Puts an entry that the database may not have into what it has.
    async fn fold(
        &self,
        room: &RoomId,
        changed: &mut Vec<Message>,
        entry: &Logged,
        waiting: &[RingEntry],
    ) -> Result<(), SourceError> {
        if !entry.is_change_alone() {
            let known = changed.iter().any(|message| message.position == Some(entry.at));
            changed.extend(entry.read_message().filter(|_| !known));
            return Ok(());
        }
        if meant(changed, entry).is_none() {
            let (id, user) = entry.subject();
            match self.store.message(room, user, id).await? {
                Some(message) => changed.push(message),
                // Told on an earlier page, and not in the database yet either.
                None => changed.extend(waiting.iter().filter_map(|entry| {
                    let message = Logged::from_entry(entry).ok()?.1.read_message()?;
                    (message.id == *id && message.user_id == *user).then_some(message)
                })),
            }
        }
        if let Some(message) = meant(changed, entry)
            && place(message) < entry.at
            && let Some(folded) = entry.folded(message)
        {
            *message = folded;
        }
        Ok(())
    }
}

fn page(changed: &[Message], limit: usize, after: Position) -> Feed {
    let mut messages: Vec<Bytes> =
        changed.iter().take(limit).map(|message| Bytes::from(codec::json(message))).collect();
    messages.truncate(recent::fitting(messages.iter()));
    let next = messages.len().checked_sub(1).map_or(after, |last| place(&changed[last]));
    Feed { next, more: messages.len() < changed.len(), messages }
}

/// Where a message stands in the order of changes.
fn place(message: &Message) -> Position {
    message.changed_position.or(message.position).unwrap_or_default()
}

/// The message that a change means.
fn meant<'a>(changed: &'a mut [Message], entry: &Logged) -> Option<&'a mut Message> {
    let mut changed = changed.iter_mut();
    changed.find(|message| entry.is_about(&message.id) && entry.is_by(&message.user_id))
}
