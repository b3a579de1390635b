//! The rooms of a chatter: join with a cursor, start anew after a reset, read history to its start.

use super::outbox::Outbox;
use super::record::{Entry, Record};
use crate::position::Position;
use crate::wire::{ChatMessage, Joined, Page, Since};
use serde_json::Value;
use std::collections::HashSet;

/// Where a room stands on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stage {
    /// Not joined, and not asked for.
    #[default]
    Out,
    /// The join is under way; nothing of the room may come before its reply.
    Joining,
    /// Joined.
    Live,
    /// The leave is under way; events may still come before its reply.
    Leaving,
}

/// One room, over all connections.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) stage: Stage,
    /// The last logged event, to go on from.
    pub(super) cursor: Option<Since>,
    /// The screen is complete from here on; what is older has still to be read.
    pub(super) unread_before: Option<Position>,
    /// Pages asked for before this generation of the screen are stale.
    pub(super) generation: u64,
    /// A page is under way on this connection.
    pub(super) is_paging: bool,
    ids: HashSet<String>,
    was_joined: bool,
}

/// The record and what is still to be said, which every event of a room may touch.
pub(super) struct Desk<'a> {
    pub(super) record: &'a mut Record,
    pub(super) outbox: &'a mut Outbox,
    pub(super) name: &'a str,
}

impl Room {
    /// A connection has ended, and every request on it.
    pub(super) fn disconnected(&mut self) {
        self.stage = Stage::Out;
        self.is_paging = false;
    }

    /// The server said that the cursor cannot be continued: the screen is cleared.
    pub(super) fn reset(&mut self, desk: &mut Desk<'_>) {
        self.stage = Stage::Out;
        self.clear(desk);
        desk.record.views.entry(desk.name.to_owned()).or_default().resets += 1;
    }

    /// The reply to the join that carried `since`, or none. With `whole`, also the first join
    /// reads back to the start of the room; after a reset it is always read.
    pub(super) fn joined(
        &mut self,
        desk: &mut Desk<'_>,
        joined: Joined,
        had_since: bool,
        whole: bool,
    ) {
        self.stage = Stage::Live;
        if joined.room_id != desk.name {
            desk.record.fault(format!("the join of {} was answered for another", desk.name));
        }
        if had_since && joined.recovered == joined.reset {
            let fault =
                format!("a resume of {} was neither or both recovered and reset", desk.name);
            desk.record.fault(fault);
        }
        if joined.messages.iter().any(|message| message.position > joined.head) {
            desk.record.fault(format!("a join reply of {} holds more than its head", desk.name));
        }
        if had_since && !joined.reset {
            view_of(desk).resumes += 1;
        } else {
            if joined.reset {
                view_of(desk).resets += 1;
            }
            self.clear(desk);
            view_of(desk).from_start = !joined.has_more;
            let must_read_all = whole || self.was_joined;
            let first = joined.messages.first().map(|message| message.position);
            self.unread_before = first.filter(|_| joined.has_more && must_read_all);
        }
        self.was_joined = true;
        view_of(desk).in_room = true;
        for message in joined.messages {
            self.take(desk, message);
        }
        desk.outbox.persisted_up_to(desk.record, desk.name, joined.persisted);
    }

    /// A page of history, older than everything on the screen.
    pub(super) fn page(&mut self, desk: &mut Desk<'_>, page: Page, generation: u64) {
        self.is_paging = false;
        if generation != self.generation {
            return;
        }
        let before = self.unread_before;
        if !page.messages.is_sorted_by_key(|message| message.position)
            || page.messages.last().map(|message| message.position) >= before
        {
            desk.record.fault(format!("a page of {} is not in order below its bound", desk.name));
        }
        if page.has_more && page.messages.is_empty() {
            desk.record.fault(format!("an empty page of {} says that there is more", desk.name));
        }
        let first = page.messages.first().map(|message| message.position);
        self.unread_before = first.filter(|_| page.has_more);
        let mut older: Vec<Entry> = Vec::new();
        for message in page.messages {
            desk.record.note_position(desk.name, message.position, &message.id);
            if self.ids.insert(message.id.clone()) {
                older.push(Entry::from(message));
            } else {
                desk.record.raw_duplicates += 1;
            }
        }
        let view = view_of(desk);
        view.entries.splice(0..0, older);
        view.from_start = !page.has_more;
    }

    /// A logged event. It must not come before the join reply or after the leave reply.
    pub(super) fn event(&mut self, desk: &mut Desk<'_>, event: &str, data: &Value) {
        if matches!(self.stage, Stage::Out | Stage::Joining) {
            desk.record.fault(format!("{event} of {} outside of the room", desk.name));
            return;
        }
        if event == "message:new" {
            match serde::Deserialize::deserialize(data) {
                Ok(message) => self.take(desk, message),
                Err(error) => desk.record.fault(format!("{event} is malformed: {error}: {data}")),
            }
        } else {
            self.change(desk, event, data);
        }
    }

    /// Puts a message on the screen where it arrives, wrong or right: the checker judges.
    fn take(&mut self, desk: &mut Desk<'_>, message: ChatMessage) {
        desk.record.note_position(desk.name, message.position, &message.id);
        self.advance(
            message.changed_position.unwrap_or(message.position),
            message.change_id.as_deref().unwrap_or(&message.id),
        );
        if message.user_id == desk.record.user {
            desk.outbox.place(desk.record, desk.name, &message.id, message.position);
        }
        if self.ids.insert(message.id.clone()) {
            view_of(desk).entries.push(Entry::from(message));
        } else if message.changed_position.is_some() {
            set_content(desk, &message.id, &message.content);
        } else {
            desk.record.raw_duplicates += 1;
        }
    }

    /// `message:update` or `message:delete`: its position is the place of the change.
    fn change(&mut self, desk: &mut Desk<'_>, event: &str, data: &Value) {
        let position = serde::Deserialize::deserialize(&data["position"]);
        let (Ok(position), Some(id), Some(change_id)) =
            (position, data["id"].as_str(), data["changeId"].as_str())
        else {
            desk.record.fault(format!("{event} is malformed: {data}"));
            return;
        };
        desk.record.note_position(desk.name, position, change_id);
        self.advance(position, change_id);
        if event == "message:delete" {
            set_content(desk, id, "");
        } else if let Some(content) = data["content"].as_str() {
            set_content(desk, id, content);
        }
    }

    fn advance(&mut self, position: Position, id: &str) {
        if self.cursor.as_ref().is_none_or(|cursor| position > cursor.position) {
            self.cursor = Some(Since { position, message_id: id.to_owned() });
        }
    }

    fn clear(&mut self, desk: &mut Desk<'_>) {
        self.cursor = None;
        self.unread_before = None;
        self.generation += 1;
        self.ids.clear();
        let view = view_of(desk);
        view.entries.clear();
        view.from_start = false;
    }
}

fn view_of<'a>(desk: &'a mut Desk<'_>) -> &'a mut super::record::View {
    desk.record.views.entry(desk.name.to_owned()).or_default()
}

fn set_content(desk: &mut Desk<'_>, id: &str, content: &str) {
    let shown = view_of(desk).entries.iter_mut().rev().find(|entry| entry.id == id);
    if let Some(entry) = shown {
        entry.content = content.to_owned();
    }
}
