//! Ephemeral room state (presence, typing, receipts, streams): not logged, best effort.
//!
//! What changes gathers on the boards. What is due is told by tasks, which begin after the change
//! that needs them, and live as long as something is due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::contract::id::{RoomId, UserId};
use shared::contract::limits::TYPING_MS;
use shared::contract::protocol::{
    EventName, PresenceChanged, PresenceList, PresenceStatus, ReceiptList, TypingChanged,
    TypingMark,
};
use shared::contract::signal::{RoomSignal, Signal};
use tokio::time::Instant;
use uuid::Uuid;

use super::members::{Member, RoomMembers};
use super::presence::{HERE, News, RoomPresence};
use super::receipts::RoomReceipts;
use super::streams::{RoomStreams, StreamEffect};
use super::typing::{RoomTyping, TypingEffect};
use super::{Deps, MemberId};
use crate::presence::local::{Others, Parting};
use crate::wire::codec;
use crate::wire::frame::Frame;

/// How soon it is tried again to tell somebody who is there whose queue was too full.
const RESEND: Duration = Duration::from_secs(1);

/// The boards of a room; each is pure state, changed by what nodes signal.
#[derive(Debug)]
pub(in crate::hub) struct Ephemeral {
    room: RoomId,
    parts: Arc<Deps>,
    presence: RoomPresence,
    pub(super) receipts: RoomReceipts,
    pub(super) streams: RoomStreams,
    typing: RoomTyping,
    /// When those are told anew who missed what they could not take.
    resend_at: Option<Instant>,
    /// A task tells what is due.
    telling: bool,
}

/// What somebody who joins finds beside the messages.
#[derive(Debug)]
pub(crate) struct InitialState {
    /// Who is here; the `presence:list` behind the reply says the same.
    pub(crate) presence: PresenceList,
    /// Who types.
    pub(crate) typing: BTreeMap<UserId, TypingMark>,
}

impl Ephemeral {
    pub(super) fn new(room: RoomId, parts: Arc<Deps>) -> Ephemeral {
        Ephemeral {
            room,
            parts,
            presence: RoomPresence::default(),
            receipts: RoomReceipts::default(),
            streams: RoomStreams::default(),
            typing: RoomTyping::default(),
            resend_at: None,
            telling: false,
        }
    }

    /// Whether something is to be told and nobody sees to it; the caller does from now on.
    pub(super) fn begin_telling(&mut self) -> bool {
        let begin = !self.telling && self.due_at().is_some();
        self.telling |= begin;
        begin
    }

    /// When something is to be told.
    fn due_at(&self) -> Option<Instant> {
        let due = [self.presence.due_at(), self.typing.due_at(), self.resend_at];
        due.into_iter().flatten().min()
    }

    /// Tells what is due; gives when the next is.
    pub(super) fn tell_due(&mut self, members: &mut RoomMembers) -> Option<Instant> {
        let now = Instant::now();
        for user in self.typing.expire(now) {
            self.tell_typing(members, &user, TypingEffect::Stop);
        }
        self.tell_presence(members, now);
        self.resend_missed(members, now);
        let next = self.due_at();
        self.telling = next.is_some();
        next
    }

    /// A node signalled something; says whether a part of an answer was lost before it.
    pub(super) fn signal(&mut self, members: &mut RoomMembers, what: RoomSignal) -> bool {
        let now = Instant::now();
        match what {
            RoomSignal::Typing { user, ms } => {
                if let Some(effect) = self.typing.apply(&user, ms, now) {
                    self.tell_typing(members, &user, effect);
                }
            }
            RoomSignal::Receipt(mark) => {
                if let Some(frame) = self.receipts.apply(&self.room, mark) {
                    self.tell_receipt(members, &frame);
                }
            }
            RoomSignal::Presence { user, incarnation, standing } => {
                if self.parts.presence.accept(incarnation) {
                    self.presence.apply(&user, incarnation, standing, now);
                }
            }
            RoomSignal::Stream(part) => match self.streams.apply(&self.room, part) {
                StreamEffect::Nothing => {}
                StreamEffect::Part(frame) => self.tell_stream(members.current(), &frame),
                // What those who catch up were told before they fell behind has to end, too.
                StreamEffect::Last(frame) => self.tell_stream(members.by_id.values(), &frame),
                StreamEffect::Gap => return true,
            },
        }
        false
    }

    // --- Members ---

    /// Somebody is about to be a member; gives what they find.
    pub(super) fn add_presence(
        &mut self,
        members: &mut RoomMembers,
        member: MemberId,
        user: &UserId,
    ) -> InitialState {
        let now = Instant::now();
        if members.by_id.is_empty() {
            // Nobody has to be told what changed: it is how the newcomer finds it.
            self.presence.settle_all();
        } else {
            self.presence.hasten(now);
            self.tell_presence(members, now);
        }
        self.parts.presence.enter(&self.room, user, member);
        self.refresh(user);
        let typing = self.typing.list(user, now);
        InitialState { presence: self.present(Some(user)), typing }
    }

    /// What a member is told right after its join reply.
    pub(super) fn send_initial_state(&mut self, member: &Member) {
        for frame in self.streams.so_far(&self.room) {
            if member.queue.offer(&frame) {
                self.count_stream_bytes(1, &frame);
            }
        }
    }

    /// A member has caught up: it is told what it was not told meanwhile.
    pub(super) fn resend_to(&mut self, member: &mut Member) {
        for frame in self.streams.so_far(&self.room) {
            member.queue.offer_ephemeral(&frame);
        }
        if member.missed_receipts {
            self.tell_all_receipts(member);
        }
        if member.missed_presence {
            self.resend_at = Some(Instant::now());
        }
    }

    /// Somebody was a member.
    pub(super) fn remove_presence(
        &mut self,
        members: &RoomMembers,
        member: MemberId,
        user: &UserId,
        how: Parting,
    ) {
        self.parts.presence.part(&self.room, user, member, how);
        self.refresh(user);
        if members.of(user).next().is_none() {
            self.stop_typing(user);
        }
    }

    /// A member says whether they do something.
    pub(super) fn say(&mut self, user: &UserId, member: MemberId, status: PresenceStatus) {
        self.parts.presence.say(&self.room, user, member, status);
        self.refresh(user);
    }

    /// A member did something.
    pub(super) fn touch(&mut self, user: &UserId) {
        self.parts.presence.touch(&self.room, user);
        self.refresh(user);
    }

    /// A member types, or does no more. The nodes are told, this one among them.
    pub(super) fn types(&mut self, user: &UserId, types: bool) {
        if !types {
            self.stop_typing(user);
        } else if self.typing.begins(user, Instant::now()) {
            self.signal_typing(user, TYPING_MS);
        }
    }

    // --- Presence ---

    /// How somebody is here through this node may have changed. What this node knows of its own
    /// people, it knows from its own part: no echo of a signal, and no reading of what is kept, can
    /// be newer.
    pub(in crate::hub) fn refresh(&mut self, user: &UserId) {
        let standing = self.parts.presence.standing(&self.room, user);
        self.presence.apply(user, HERE, standing, Instant::now());
    }

    /// A run of another node is dead.
    pub(in crate::hub) fn mark_dead(&mut self, incarnation: Uuid) {
        self.presence.mark_dead(incarnation, Instant::now());
    }

    /// Before it is asked who else is here.
    pub(in crate::hub) fn begin_reading_presence(&mut self) -> u64 {
        self.presence.begin_reading()
    }

    /// Who else is here. `false` when too much was signalled meanwhile: it is to be asked anew.
    pub(in crate::hub) fn finish_reading_presence(
        &mut self,
        reading: u64,
        others: &Others,
        lost: bool,
    ) -> bool {
        let now = Instant::now();
        let how = (others.complete, lost);
        let done = self.presence.finish_reading(reading, &others.entries, how, now);
        for (user, standing) in self.parts.presence.members(&self.room) {
            self.presence.apply(&user, HERE, Some(standing), now);
        }
        done
    }

    /// Who is here: for a member as members were told, for anybody else as it is at this moment.
    pub(in crate::hub) fn present(&self, reader: Option<&UserId>) -> PresenceList {
        let seen = |user: &UserId| self.receipts.last_seen(user);
        let (presence, presence_count) = self.presence.list(reader, seen);
        PresenceList { room_id: self.room.clone(), presence, presence_count }
    }

    fn tell_presence(&mut self, members: &mut RoomMembers, now: Instant) {
        let seen = |user: &UserId| self.receipts.last_seen(user);
        let news = self.presence.news(&self.room, seen, now);
        if !members.by_id.is_empty() {
            self.parts.metrics.presence_changes_total.inc_by(news.len() as u64);
        }
        for news in news {
            match news {
                News::Arrival(user, change) => self.tell_change(members, Some(&user), &change),
                News::Change(change) | News::Count(change) => {
                    self.tell_change(members, None, &change);
                }
                News::List => {
                    members.by_id.values_mut().for_each(|member| member.missed_presence = true);
                    self.resend_at = Some(now);
                }
            }
        }
    }

    /// Tells all but one user.
    fn tell_change(
        &mut self,
        members: &mut RoomMembers,
        but: Option<&UserId>,
        change: &PresenceChanged,
    ) {
        let frame = codec::event(EventName::PresenceUpdate, change);
        for member in members.by_id.values_mut().filter(|member| Some(&member.user) != but) {
            if member.lagging.is_some() {
                member.missed_presence = true;
            } else if !member.queue.offer_ephemeral(&frame) {
                member.missed_presence = true;
                self.resend_at.get_or_insert(Instant::now() + RESEND);
            }
        }
    }

    /// Whoever missed a change is told everything, once they can take it; one that lags, when it
    /// has caught up.
    fn resend_missed(&mut self, members: &mut RoomMembers, now: Instant) {
        if self.resend_at.is_none_or(|at| at > now) {
            return;
        }
        self.resend_at = None;
        let missed =
            members.by_id.values_mut().filter(|m| m.missed_presence && m.lagging.is_none());
        for member in missed {
            let list = self.present(Some(&member.user));
            let frame = codec::event(EventName::PresenceList, &list);
            member.missed_presence = !member.queue.offer_ephemeral(&frame);
            if member.missed_presence {
                self.resend_at = Some(now + RESEND);
            }
        }
    }

    // --- Typing ---

    /// A message of theirs was told: what they typed is said.
    pub(super) fn clear_typing(&mut self, members: &RoomMembers, user: &UserId) {
        if let Some(effect) = self.typing.stop(user) {
            self.tell_typing(members, user, effect);
        }
    }

    fn stop_typing(&mut self, user: &UserId) {
        if self.typing.ends(user) {
            self.signal_typing(user, 0);
        }
    }

    fn signal_typing(&self, user: &UserId, ms: u64) {
        let what = RoomSignal::Typing { user: user.clone(), ms };
        self.parts.signals.publish(Signal::Room { room: self.room.clone(), what });
    }

    /// Whoever types knows it.
    fn tell_typing(&self, members: &RoomMembers, user: &UserId, effect: TypingEffect) {
        let (event, expires_in_ms) = match effect {
            TypingEffect::Start { ms } => (EventName::TypingStart, Some(ms)),
            TypingEffect::Stop => (EventName::TypingStop, None),
        };
        let (room_id, user_id) = (self.room.clone(), user.clone());
        let frame = codec::event(event, &TypingChanged { room_id, user_id, expires_in_ms });
        for member in members.current().filter(|member| member.user != *user) {
            member.queue.offer_ephemeral(&frame);
        }
    }

    // --- Receipts ---

    /// Tells the receipts that have waited long enough; says whether others still wait.
    pub(super) fn tell_receipts(&mut self, members: &mut RoomMembers) -> bool {
        let due = self.receipts.due(&self.room);
        for frame in &due.frames {
            self.tell_receipt(members, frame);
        }
        due.more
    }

    fn tell_receipt(&self, members: &mut RoomMembers, frame: &Frame) {
        for member in members.by_id.values_mut() {
            if member.lagging.is_none() && member.missed_receipts {
                self.tell_all_receipts(member);
            } else if member.lagging.is_some() || !member.queue.offer_ephemeral(frame) {
                member.missed_receipts = true;
            }
        }
    }

    /// Makes up for receipts that a member was not told.
    fn tell_all_receipts(&self, member: &mut Member) {
        let receipts = self.receipts.listed(&member.user, None);
        let list = ReceiptList { room_id: self.room.clone(), receipts };
        let frame = codec::event(EventName::ReceiptList, &list);
        member.missed_receipts = !member.queue.offer_ephemeral(&frame);
    }

    // --- Streams ---

    /// Hands a part to whoever can take it: it is the first to go where a queue fills, and is not
    /// made up for.
    pub(super) fn tell_stream<'a>(&self, members: impl Iterator<Item = &'a Member>, frame: &Frame) {
        let told = members.filter(|member| member.queue.offer_ephemeral(frame)).count();
        self.count_stream_bytes(told, frame);
    }

    fn count_stream_bytes(&self, told: usize, frame: &Frame) {
        self.parts.metrics.stream_bytes_out_total.inc_by((told * frame.len()) as u64);
    }
}
