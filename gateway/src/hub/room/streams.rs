//! Answers that are being written in a room.
//!
//! Parts come over signals, which may be lost: a part that begins beyond what is here means that
//! the stream store has to be asked, which has had every part before it was told.

use std::collections::{BTreeMap, BTreeSet};

use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::STREAMS_PER_ROOM_MAX;
use shared::contract::message::MessageType;
use shared::contract::protocol::{EventName, MessageStream, StreamState};
use shared::contract::signal::StreamPart;

use crate::stream::text::{PieceError, StreamText};
use crate::stream::{StoredStream, StreamHeader};
use crate::wire::codec;
use crate::wire::frame::Frame;

/// The board of one room.
#[derive(Debug, Default)]
pub(super) struct RoomStreams {
    answers: BTreeMap<MessageId, OpenStream>,
    /// The stream store is being asked because of a gap.
    mending: bool,
    /// How often the stream store is being asked at this moment.
    readings: usize,
    /// What went on or ended meanwhile, so that what the stream store had before sets nothing back.
    touched: BTreeSet<MessageId>,
}

#[derive(Debug)]
struct OpenStream {
    user: UserId,
    kind: MessageType,
    so_far: StreamText,
    /// The text so far as an event, made once for all who come between two parts.
    whole: Option<Frame>,
}

/// What comes of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamEffect {
    /// There is nothing new in it, or the stream store is being asked already.
    Nothing,
    /// What members are told who have had everything so far.
    Part(Frame),
    /// What every member is told: no more will come.
    Last(Frame),
    /// Something before it was lost: ask the stream store, and give its answer to
    /// [`RoomStreams::load`] or [`RoomStreams::give_up`].
    Gap,
}

impl OpenStream {
    fn new(user: UserId, kind: MessageType, text: String) -> OpenStream {
        OpenStream { user, kind, so_far: StreamText::from(text), whole: None }
    }

    fn whole(&mut self, room: &RoomId, id: &MessageId) -> Frame {
        let OpenStream { user, kind, so_far, whole } = self;
        let made = || {
            let (id, user, kind) = (id.clone(), user.clone(), *kind);
            let (delta, state) = (so_far.as_str().to_owned(), StreamState::Streaming);
            frame(room, StreamPart { id, user, kind, offset: 0, delta, state })
        };
        whole.get_or_insert_with(made).clone()
    }
}

impl RoomStreams {
    /// Takes a part.
    pub(super) fn apply(&mut self, room: &RoomId, part: StreamPart) -> StreamEffect {
        match part.state {
            StreamState::Streaming => self.add(room, part),
            StreamState::Ended | StreamState::Aborted => {
                self.settle(&part.id);
                StreamEffect::Last(frame(room, part))
            }
        }
    }

    fn add(&mut self, room: &RoomId, mut part: StreamPart) -> StreamEffect {
        if !self.answers.contains_key(&part.id) {
            if self.answers.len() >= STREAMS_PER_ROOM_MAX {
                return StreamEffect::Nothing;
            }
            if part.offset > 0 {
                return self.gap();
            }
        }
        self.touch(&part.id);
        let begin = || OpenStream::new(part.user.clone(), part.kind, String::new());
        let answer = self.answers.entry(part.id.clone()).or_insert_with(begin);
        let offset = answer.so_far.units();
        match answer.so_far.add(part.offset, &part.delta) {
            Ok(0) | Err(PieceError::TooLong | PieceError::Nul) => StreamEffect::Nothing,
            Ok(added) => {
                answer.whole = None;
                part.delta.drain(..part.delta.len() - added);
                part.offset = offset;
                StreamEffect::Part(frame(room, part))
            }
            Err(PieceError::Gap { .. } | PieceError::Split) => self.gap(),
        }
    }

    fn gap(&mut self) -> StreamEffect {
        if std::mem::replace(&mut self.mending, true) {
            StreamEffect::Nothing
        } else {
            StreamEffect::Gap
        }
    }

    /// Notes that a reading of the stream store that is under way may know less of this one.
    fn touch(&mut self, id: &MessageId) {
        if self.readings > 0 {
            self.touched.insert(id.clone());
        }
    }

    /// Before the stream store is asked; [`RoomStreams::load`] or [`RoomStreams::give_up`] has to
    /// follow.
    pub(super) fn begin_reading(&mut self) {
        self.readings += 1;
    }

    fn end_reading(&mut self) {
        self.mending = false;
        self.readings -= 1;
        if self.readings == 0 {
            self.touched.clear();
        }
    }

    /// Takes what the stream store has; gives what members are told of it: the text so far of each
    /// answer of which they were told less.
    pub(super) fn load(
        &mut self,
        room: &RoomId,
        open: Vec<(MessageId, StoredStream)>,
    ) -> Vec<Frame> {
        let mut former = std::mem::take(&mut self.answers);
        let mut told = Vec::new();
        for (id, open) in open.into_iter().take(STREAMS_PER_ROOM_MAX) {
            let has_ended = self.touched.contains(&id) && !former.contains_key(&id);
            if has_ended {
                continue;
            }
            let StoredStream { beginning: StreamHeader { user, kind, .. }, text, .. } = open;
            let known = former.remove(&id);
            let mut answer = OpenStream::new(user, kind, text);
            match known {
                // A part has come while the stream store was being asked.
                Some(known) if known.so_far.units() >= answer.so_far.units() => answer = known,
                Some(_) => told.push(answer.whole(room, &id)),
                None if answer.so_far.units() > 0 => told.push(answer.whole(room, &id)),
                None => {}
            }
            self.answers.insert(id, answer);
        }
        // The stream store had these after it was asked.
        former.retain(|id, _| self.touched.contains(id));
        let room_left = STREAMS_PER_ROOM_MAX - self.answers.len();
        self.answers.extend(former.into_iter().take(room_left));
        self.end_reading();
        told
    }

    /// The stream store does not answer.
    pub(super) fn give_up(&mut self) {
        self.end_reading();
    }

    /// The message that an answer was to become stands.
    pub(super) fn settle(&mut self, id: &MessageId) {
        self.touch(id);
        self.answers.remove(id);
    }

    /// The texts so far, for whoever was told none of them.
    pub(super) fn so_far(&mut self, room: &RoomId) -> Vec<Frame> {
        let begun = self.answers.iter_mut().filter(|(_, answer)| answer.so_far.units() > 0);
        begun.map(|(id, answer)| answer.whole(room, id)).collect()
    }
}

fn frame(room: &RoomId, part: StreamPart) -> Frame {
    let StreamPart { id, user: user_id, kind, offset, delta, state } = part;
    let room_id = room.clone();
    codec::event(
        EventName::MessageStream,
        &MessageStream { room_id, id, user_id, kind, offset, delta, state },
    )
}

#[cfg(test)]
mod tests;
