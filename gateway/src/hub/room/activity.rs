//! What coming, going and doing something in a room mean for who is there and who types.
//!
//! What changes gathers on the boards; a task tells it, which lives as long as something is due.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::id::UserId;
use shared::contract::limits::{PRESENCE_GATHER_MS, TYPING_MS};
use shared::contract::protocol::{EventName, PresenceList, PresenceStatus, TypingChanged};
use shared::contract::signal::{PresenceState, RoomSignal, Signal};
use tokio::time::Instant;
use uuid::Uuid;

use super::ephemeral::{Ephemeral, InitialState};
use super::presence::{HERE, News};
use super::typing::TypingEffect;
use super::{Joiner, MemberId, Membership, Room, RoomState};
use crate::presence::local::{Others, Parting};
use crate::wire::codec;
use crate::wire::frame::Frame;

/// How long the task sleeps at most: something else may be due sooner than what it waits for.
const NAP: Duration = Duration::from_millis(PRESENCE_GATHER_MS);

/// How soon it is tried again to tell somebody who is there whose queue was too full.
const MEND: Duration = Duration::from_secs(1);

impl Membership {
    /// The member says whether they do something.
    pub(crate) fn say(&self, status: PresenceStatus) {
        let room = &self.room;
        let mut state = room.lock();
        if let Some(user) = state.members.get(&self.member).map(|member| member.user.clone()) {
            room.parts.presence.say(&room.id, &user, self.member, status);
            room.reflect(&mut state, &user);
        }
    }

    /// The member did something.
    pub(crate) fn touch(&self) {
        let room = &self.room;
        let mut state = room.lock();
        if let Some(user) = state.members.get(&self.member).map(|member| member.user.clone()) {
            room.parts.presence.touch(&room.id, &user);
            room.reflect(&mut state, &user);
        }
    }

    /// The member types, or does no more. The nodes are told, this one among them.
    pub(crate) fn types(&self, types: bool) {
        let room = &self.room;
        let mut state = room.lock();
        let Some(user) = state.members.get(&self.member).map(|member| member.user.clone()) else {
            return;
        };
        if !types {
            room.stop_typing(&mut state, &user);
        } else if state.ephemeral.typing.begins(&user, Instant::now()) {
            room.signal_typing(&user, TYPING_MS);
            room.attend(&mut state);
        }
    }
}

impl Room {
    // --- Coming and going ---

    /// Somebody is about to be a member; gives what they find.
    pub(super) fn add_presence(
        self: &Arc<Self>,
        state: &mut RoomState,
        joiner: &Joiner,
    ) -> InitialState {
        let Joiner { member, user, .. } = joiner;
        if state.members.is_empty() {
            // Nobody has to be told what changed: it is how the newcomer finds it.
            state.ephemeral.presence.settle_all();
        } else {
            let now = Instant::now();
            state.ephemeral.presence.hasten(now);
            self.tell_presence(state, now);
        }
        self.parts.presence.enter(&self.id, user, *member);
        self.reflect(state, user);
        let typing = state.ephemeral.typing.list(user, Instant::now());
        InitialState { presence: self.present(state, user), typing }
    }

    /// Somebody was a member.
    pub(super) fn remove_presence(
        self: &Arc<Self>,
        state: &mut RoomState,
        member: MemberId,
        user: &UserId,
        how: Parting,
    ) {
        self.parts.presence.part(&self.id, user, member, how);
        self.reflect(state, user);
        if state.members.values().all(|member| member.user != *user) {
            self.stop_typing(state, user);
        }
    }

    /// How somebody is here through this node may have changed.
    pub(in crate::hub) fn refresh(self: &Arc<Self>, user: &UserId) {
        self.reflect(&mut self.lock(), user);
    }

    /// What this node knows of its own people, it knows from its own part: no echo of a signal, and
    /// no reading of what is kept, can be newer.
    fn reflect(self: &Arc<Self>, state: &mut RoomState, user: &UserId) {
        let standing = self.parts.presence.standing(&self.id, user);
        state.ephemeral.presence.apply(user, HERE, standing, Instant::now());
        self.attend(state);
    }

    // --- Other nodes ---

    pub(super) fn heed_presence(
        self: &Arc<Self>,
        state: &mut RoomState,
        user: &UserId,
        incarnation: Uuid,
        standing: Option<PresenceState>,
    ) {
        if self.parts.presence.accept(incarnation) {
            state.ephemeral.presence.apply(user, incarnation, standing, Instant::now());
            self.attend(state);
        }
    }

    /// A run of another node is dead.
    pub(in crate::hub) fn mark_dead(self: &Arc<Self>, incarnation: Uuid) {
        let mut state = self.lock();
        state.ephemeral.presence.mark_dead(incarnation, Instant::now());
        self.attend(&mut state);
    }

    /// Before it is asked who else is here.
    pub(in crate::hub) fn begin_attendance(&self) -> u64 {
        self.lock().ephemeral.presence.begin_reading()
    }

    /// Who else is here. `false` when too much was signalled meanwhile: it is to be asked anew.
    pub(in crate::hub) fn finish_attendance(
        self: &Arc<Self>,
        reading: u64,
        others: &Others,
        lost: bool,
    ) -> bool {
        let mut state = self.lock();
        let (board, now) = (&mut state.ephemeral.presence, Instant::now());
        let how = (others.complete, lost);
        let done = board.finish_reading(reading, &others.entries, how, now);
        for (user, standing) in self.parts.presence.members(&self.id) {
            board.apply(&user, HERE, Some(standing), now);
        }
        self.attend(&mut state);
        done
    }

    /// Who is here, for one who reads it.
    fn present(&self, state: &RoomState, reader: &UserId) -> PresenceList {
        let Ephemeral { presence, receipts, .. } = &state.ephemeral;
        let seen = |user: &UserId| receipts.last_seen(user);
        let (presence, presence_count) = presence.list(Some(reader), seen);
        PresenceList { room_id: self.id.clone(), presence, presence_count }
    }

    /// Who is here, where the room knows it.
    pub(in crate::hub) fn attendance(&self) -> Option<PresenceList> {
        let settled = self.is_settled();
        settled.then(|| self.attendance_now())
    }

    /// Who is here, as it is at this moment.
    pub(in crate::hub) fn attendance_now(&self) -> PresenceList {
        let state = self.lock();
        let Ephemeral { presence, receipts, .. } = &state.ephemeral;
        let seen = |user: &UserId| receipts.last_seen(user);
        let (presence, presence_count) = presence.list(None, seen);
        PresenceList { room_id: self.id.clone(), presence, presence_count }
    }

    // --- Typing ---

    pub(super) fn heed_typing(self: &Arc<Self>, state: &mut RoomState, user: &UserId, ms: u64) {
        if let Some(told) = state.ephemeral.typing.apply(user, ms, Instant::now()) {
            self.tell_typing(state, user, told);
        }
        self.attend(state);
    }

    /// A message of theirs was told: what they typed is said.
    pub(super) fn clear_typing(&self, state: &mut RoomState, user: &UserId) {
        if let Some(told) = state.ephemeral.typing.stop(user) {
            self.tell_typing(state, user, told);
        }
    }

    fn stop_typing(&self, state: &mut RoomState, user: &UserId) {
        if state.ephemeral.typing.ends(user) {
            self.signal_typing(user, 0);
        }
    }

    fn signal_typing(&self, user: &UserId, ms: u64) {
        let what = RoomSignal::Typing { user: user.clone(), ms };
        self.parts.signals.publish(Signal::Room { room: self.id.clone(), what });
    }

    /// Whoever types knows it.
    fn tell_typing(&self, state: &RoomState, user: &UserId, told: TypingEffect) {
        let (event, expires_in_ms) = match told {
            TypingEffect::Start { ms } => (EventName::TypingStart, Some(ms)),
            TypingEffect::Stop => (EventName::TypingStop, None),
        };
        let changed =
            TypingChanged { room_id: self.id.clone(), user_id: user.clone(), expires_in_ms };
        let frame = codec::event(event, &changed);
        let others = state.members.values().filter(|member| member.user != *user);
        for member in others.filter(|member| member.lagging.is_none()) {
            member.queue.offer_ephemeral(&frame);
        }
    }

    // --- Telling what is due ---

    /// Sees to it that what is due is told.
    pub(super) fn attend(self: &Arc<Self>, state: &mut RoomState) {
        if state.ephemeral.due_at().is_some() && !state.ephemeral.attended {
            state.ephemeral.attended = true;
            tokio::spawn(attend(Arc::clone(self)));
        }
    }

    /// Tells what is due; gives when the next is.
    fn tell_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.lock();
        for user in state.ephemeral.typing.expire(now) {
            self.tell_typing(&state, &user, TypingEffect::Stop);
        }
        self.tell_presence(&mut state, now);
        self.resend_missed(&mut state, now);
        let next = state.ephemeral.due_at();
        state.ephemeral.attended = next.is_some();
        next
    }

    fn tell_presence(&self, state: &mut RoomState, now: Instant) {
        let Ephemeral { presence, receipts, .. } = &mut state.ephemeral;
        let seen = |user: &UserId| receipts.last_seen(user);
        let news = presence.news(&self.id, seen, now);
        if !state.members.is_empty() {
            self.parts.metrics.presence_changes_total.inc_by(news.len() as u64);
        }
        for news in news {
            match news {
                News::Arrival(user, change) => {
                    self.tell_all_but(state, Some(&user), &event(&change))
                }
                News::Change(change) | News::Count(change) => {
                    self.tell_all_but(state, None, &event(&change));
                }
                News::List => {
                    for member in state.members.values_mut() {
                        member.missed = true;
                    }
                    state.ephemeral.mending = Some(now);
                }
            }
        }
    }

    fn tell_all_but(&self, state: &mut RoomState, user: Option<&UserId>, frame: &Frame) {
        let others = state.members.values_mut().filter(|member| Some(&member.user) != user);
        for member in others {
            if member.lagging.is_some() {
                member.missed = true;
            } else if !member.queue.offer_ephemeral(frame) {
                member.missed = true;
                state.ephemeral.mending.get_or_insert(Instant::now() + MEND);
            }
        }
    }

    /// Whoever missed a change is told everything, once they can take it; one that lags, when it
    /// has caught up.
    fn resend_missed(&self, state: &mut RoomState, now: Instant) {
        if state.ephemeral.mending.is_none_or(|at| at > now) {
            return;
        }
        state.ephemeral.mending = None;
        let missed = |id: &MemberId| {
            let member = state.members.get(id)?;
            (member.missed && member.lagging.is_none()).then(|| (*id, member.user.clone()))
        };
        let missed: Vec<_> = state.members.keys().filter_map(missed).collect();
        for (id, user) in missed {
            let frame = codec::event(EventName::PresenceList, &self.present(state, &user));
            let Some(member) = state.members.get_mut(&id) else { continue };
            member.missed = !member.queue.offer_ephemeral(&frame);
            if member.missed {
                state.ephemeral.mending = Some(now + MEND);
            }
        }
    }
}

fn event(change: &shared::contract::protocol::PresenceChanged) -> Frame {
    codec::event(EventName::PresenceUpdate, change)
}

/// Tells what is due, for as long as anything is.
async fn attend(room: Arc<Room>) {
    while let Some(next) = room.tell_due() {
        tokio::time::sleep_until(next.min(Instant::now() + NAP)).await;
    }
}
