//! Pages of messages by position, each in its present state.

use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::ROWS_BYTES_MAX;
use shared::contract::message::Message;
use shared::contract::position::Position;
use shared::process::error_chain::error_chain;
use shared::store::Span;
use tracing::debug;

use super::waiting::Waiting;
use super::{History, HistoryError, Rows, may_follow, settled};
use crate::hub::entry::RoomEntry;
use crate::hub::view::MessageView;

/// A page of messages, oldest first.
#[derive(Debug)]
pub(crate) struct Messages {
    pub(crate) messages: Vec<MessageView>,
    /// There are more on the side that was asked for.
    pub(crate) more: bool,
    /// As [`Page::epoch`](super::Page::epoch).
    pub(crate) epoch: u64,
}

/// From which end of what is there a page takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageEnd {
    Last,
    First,
}

/// A page while it is put together: what it will not show is dropped at once.
#[derive(Debug)]
struct PageDraft {
    messages: Vec<MessageView>,
    more: bool,
    limit: usize,
    end: PageEnd,
}

impl PageDraft {
    fn new(rows: &Rows, limit: u32, end: PageEnd) -> PageDraft {
        let messages = rows.messages.iter().filter_map(MessageView::from_message).collect();
        let mut draft = PageDraft { messages, more: rows.cut, limit: limit as usize, end };
        draft.shorten();
        draft
    }

    /// An entry that the database may not have; a message of it is wanted only where it is `asked`
    /// for. One that the database has is its, with the changes that it does not have yet.
    fn take(&mut self, entry: &RoomEntry, asked: bool) {
        if let Some(refused) = entry.refused() {
            self.messages.retain(|message| message.at != refused.position);
        }
        // Behind what was cut off there are others, before anything that waits.
        let wanted = asked && (self.end == PageEnd::Last || !self.more);
        let stands = self.messages.binary_search_by_key(&entry.at, |message| message.at);
        if wanted
            && let Err(place) = stands
            && let Some(message) = entry.read_message()
            && let Some(message) = MessageView::from_message(&message)
        {
            self.messages.insert(place, message);
            self.shorten();
        }
        MessageView::change(&mut self.messages, entry);
    }

    fn shorten(&mut self) {
        let mut bytes = self.bytes();
        while self.messages.len() > self.limit
            || (bytes > ROWS_BYTES_MAX && self.messages.len() > 1)
        {
            let gone = match self.end {
                PageEnd::Last => self.messages.remove(0),
                PageEnd::First => self.messages.remove(self.messages.len() - 1),
            };
            bytes -= gone.json.len();
            self.more = true;
        }
    }

    fn bytes(&self) -> usize {
        self.messages.iter().map(|message| message.json.len()).sum()
    }
}

impl History {
    /// The last `limit` messages below a position.
    pub(crate) async fn messages_before(
        &self,
        room: &RoomId,
        before: Position,
        limit: u32,
    ) -> Result<Messages, HistoryError> {
        let asked = |place| place < before;
        self.page(room, Span::Before(before), (limit, PageEnd::Last), asked).await
    }

    /// The first `limit` messages above a position.
    pub(crate) async fn messages_after(
        &self,
        room: &RoomId,
        after: Position,
        limit: u32,
    ) -> Result<Messages, HistoryError> {
        let asked = |place| place > after;
        self.page(room, Span::After(after), (limit, PageEnd::First), asked).await
    }

    async fn page(
        &self,
        room: &RoomId,
        span: Span,
        (limit, end): (u32, PageEnd),
        asked: impl Fn(Position) -> bool,
    ) -> Result<Messages, HistoryError> {
        let _turn = self.turn().await?;
        settled(async || {
            // A change of what stands above a place stands above it too.
            let from = if let Span::After(after) = span { after } else { Position::ZERO };
            let waiting = self.waiting(room, from).await?;
            let epoch = waiting.epoch;
            let rows = self.rows(room, span, limit + 1).await?;
            if !may_follow(epoch, &rows.messages) {
                return Err(HistoryError::Passed);
            }
            let mut draft = PageDraft::new(&rows, limit, end);
            self.each(room, &waiting, |entry| draft.take(entry, asked(entry.at))).await?;
            let PageDraft { messages, more, .. } = draft;
            Ok(Messages { messages, more, epoch })
        })
        .await
    }

    /// A message in its present state: of several of one id this one's own, else the first.
    pub(crate) async fn message(
        &self,
        room: &RoomId,
        user: &UserId,
        id: &MessageId,
    ) -> Result<Option<Message>, HistoryError> {
        settled(async || {
            let waiting = self.waiting(room, Position::ZERO).await?;
            // This one's own before the first of another's.
            let (mut own, mut other, mut changes) = (Vec::new(), Vec::new(), false);
            let mut find = |entry: &RoomEntry| {
                let found = entry.read_message().as_ref().and_then(MessageView::from_message);
                match entry.is_message(id, user) {
                    Some(true) => own.extend(found.filter(|_| own.is_empty())),
                    Some(false) => other.extend(found.filter(|_| other.is_empty())),
                    None => changes |= entry.is_about(id),
                }
                MessageView::change(&mut own, entry);
                MessageView::change(&mut other, entry);
            };
            self.each(room, &waiting, |entry| {
                if entry.is_about(id) {
                    find(entry)
                }
            })
            .await?;
            if let Some(own) = own.first() {
                return Ok(own.read());
            }
            let other = other.first().and_then(MessageView::read);
            let stored = match self.store.message(room, user, id).await {
                Ok(Some(stored)) => stored,
                Ok(None) => return Ok(other),
                // Another's message that was found need not wait for the database.
                Err(error) if other.is_some() => {
                    debug!(room.id = %room, error = error_chain(&error),
                        "message is not looked up further");
                    return Ok(other);
                }
                Err(error) => return Err(error.into()),
            };
            let mut standing: Vec<MessageView> =
                MessageView::from_message(&stored).into_iter().collect();
            if changes {
                self.each(room, &waiting, |entry| MessageView::change(&mut standing, entry))
                    .await?;
            }
            let message = standing.first().and_then(MessageView::read);
            Ok(message.or(Some(stored)))
        })
        .await
    }

    /// Shows each entry that waits, in order.
    pub(crate) async fn each(
        &self,
        room: &RoomId,
        waiting: &Waiting,
        mut show: impl FnMut(&RoomEntry),
    ) -> Result<(), HistoryError> {
        waiting.kept.iter().for_each(&mut show);
        let mut rest = waiting.rest();
        while let Some(entries) = self.more(room, &mut rest).await? {
            entries.iter().for_each(&mut show);
        }
        Ok(())
    }
}
