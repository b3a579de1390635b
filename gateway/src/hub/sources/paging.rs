//! Pages of messages by their own places, each in its present state.

use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::message::Message;
use shared::contract::position::Position;
use tracing::debug;

use super::{Part, Rows, RowsOf, SourceError, Sources, TRIES_MAX, logged, may_follow};
use crate::hub::logged::{Logged, fold};
use crate::hub::standing::Standing;

/// A page of messages, oldest first.
#[derive(Debug)]
pub(crate) struct Messages {
    pub(crate) messages: Vec<Standing>,
    /// There are more on the side that was asked for.
    pub(crate) more: bool,
    /// As [`Page::epoch`](super::Page::epoch).
    pub(crate) epoch: u64,
}

impl Sources {
    /// The last `limit` messages below a position.
    pub(crate) async fn messages_before(
        &self,
        room: &RoomId,
        before: Position,
        limit: u32,
    ) -> Result<Messages, SourceError> {
        for _ in 0..TRIES_MAX {
            // What the database does not have yet was read before it is asked, so that nothing
            // can fall between.
            let (epoch, waiting) = self.unpersisted(room).await?;
            let rows = self.rows(room, RowsOf::Before(before), limit + 1).await?;
            if may_follow(epoch, &rows.messages) {
                let mut messages = standing(&rows.messages, &waiting, |place| place < before);
                let surplus = messages.len().saturating_sub(limit as usize);
                messages.drain(..surplus);
                return Ok(Messages { messages, more: surplus > 0 || rows.cut, epoch });
            }
        }
        Err(SourceError::Unsettled)
    }

    /// The first `limit` messages above a position.
    pub(crate) async fn messages_after(
        &self,
        room: &RoomId,
        after: Position,
        limit: u32,
    ) -> Result<Messages, SourceError> {
        for _ in 0..TRIES_MAX {
            let (epoch, waiting) = self.unpersisted(room).await?;
            let Rows { messages: rows, cut } =
                self.rows(room, RowsOf::After(after), limit + 1).await?;
            if may_follow(epoch, &rows) {
                // Behind rows that were cut there are others, before anything that waits.
                let mut messages = standing(&rows, &waiting, |place| place > after && !cut);
                let more = messages.len() > limit as usize || cut;
                messages.truncate(limit as usize);
                return Ok(Messages { messages, more, epoch });
            }
        }
        Err(SourceError::Unsettled)
    }

    /// A message in its present state: of several of one id this one's own, else the first.
    pub(crate) async fn message(
        &self,
        room: &RoomId,
        user: &UserId,
        id: &MessageId,
    ) -> Result<Option<Message>, SourceError> {
        let (_, waiting) = self.unpersisted(room).await?;
        let folded = fold(waiting.clone());
        let mut found = None;
        for entry in &folded {
            match entry.is_message(id, user) {
                Some(true) => return Ok(entry.read_message()),
                Some(false) if found.is_none() => found = entry.read_message(),
                Some(false) | None => {}
            }
        }
        let stored = match self.store.message(room, user, id).await {
            Ok(stored) => stored,
            // Another's message that was found need not wait for the database.
            Err(error) if found.is_some() => {
                debug!(room.id = %room, error = ?error, "message is not looked up further");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let Some(stored) = stored else { return Ok(found) };
        let mut standing: Vec<Standing> = Standing::from_message(&stored).into_iter().collect();
        for entry in &waiting {
            Standing::change(&mut standing, entry);
        }
        let message = standing.first().and_then(|standing| standing.read());
        Ok(message.or(Some(stored)))
    }

    /// What the database is not known to have, and in which epoch that was read.
    async fn unpersisted(&self, room: &RoomId) -> Result<(u64, Vec<Logged>), SourceError> {
        let (epoch, page) = self.ring(room, Part::After(Position::MAX), 0).await?;
        if page.persisted >= page.head {
            return Ok((epoch, Vec::new()));
        }
        let tail = self.tail(room, page.persisted).await?;
        Ok((tail.epoch, logged(&tail.entries)?))
    }
}

/// The messages of both by their own position, in the state that both together tell; one that the
/// database has is its, with the changes that it does not have yet.
fn standing(
    rows: &[Message],
    waiting: &[Logged],
    wanted: impl Fn(Position) -> bool,
) -> Vec<Standing> {
    let mut messages: Vec<Standing> = rows.iter().filter_map(Standing::from_message).collect();
    for entry in waiting.iter().filter(|entry| wanted(entry.at)) {
        let stands = messages.binary_search_by_key(&entry.at, |message| message.at);
        if let (Err(place), Some(message)) = (stands, entry.read_message())
            && let Some(message) = Standing::from_message(&message)
        {
            messages.insert(place, message);
        }
    }
    for entry in waiting {
        Standing::change(&mut messages, entry);
    }
    messages
}
