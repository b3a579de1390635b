//! The task of a chatter: connect, join, offer, listen, and again after every end.

use super::outbox::is_worth_retrying;
use super::rooms::{Desk, Room, Stage};
use super::{Shared, SimClientOptions, State};
use crate::wire::{Incoming, OUTGOING_MAX, Refused, Wire, command};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::process::backoff::Backoff;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// How often silence, pauses and overdue replies are looked at.
const TICK: Duration = Duration::from_millis(25);
/// How often replies and watermarks that should have come are looked for.
const LOOK_FOR_LOST_EVERY: Duration = Duration::from_millis(500);
/// The first pause before a reconnect; it doubles up to the longest.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(400);
/// How long a page of history or a join refused for now waits.
const JOIN_RETRY: Duration = Duration::from_millis(100);
/// The largest page there is.
const PAGE_MAX: u64 = 200;

/// What a command other than a message was for.
#[derive(Debug)]
enum Asked {
    Join { room: String, had_since: bool },
    Leave { room: String },
    Page { room: String, generation: u64 },
    Heartbeat,
}

pub(super) struct Life {
    options: SimClientOptions,
    shared: Arc<Shared>,
    asked: HashMap<u64, Asked>,
    next_ref: u64,
    heard_at: Instant,
    asked_alive_at: Instant,
    reads_paused_until: Instant,
    looked_for_lost_at: Instant,
    /// When the last connection ended, until a room is joined again.
    away_since: Option<Instant>,
}

/// Whether a connection goes on.
type Goes = std::ops::ControlFlow<()>;

impl Life {
    pub(super) fn new(options: SimClientOptions, shared: Arc<Shared>) -> Life {
        let now = Instant::now();
        Life {
            options,
            shared,
            asked: HashMap::new(),
            next_ref: 1,
            heard_at: now,
            asked_alive_at: now,
            reads_paused_until: now,
            looked_for_lost_at: now,
            away_since: None,
        }
    }

    /// Connects for ever, to one address after the other, until the server says not to come back.
    pub(super) async fn run(mut self) {
        let mut pauses = Backoff::new(BACKOFF_MIN, BACKOFF_MAX);
        for turn in 0.. {
            let url = self.shared.lock().urls.get(turn);
            if let Some(wire) = self.connect(&url).await {
                pauses.reset();
                self.stay(wire).await;
            }
            if self.shared.lock().record.closes.last().is_some_and(|closed| closed.is_final()) {
                return;
            }
            // Comes back when it is told something, or by itself; both look at everything.
            let told = self.shared.wake.notified();
            let _by_itself = tokio::time::timeout(pauses.next_delay(), told).await;
        }
    }

    /// A connection that has been welcomed.
    async fn connect(&mut self, url: &str) -> Option<Wire> {
        let mut wire = Wire::connect(url, &self.options.proof).await.ok()?;
        let mut state_fault = None;
        let first = loop {
            match tokio::time::timeout(self.options.silence_max, wire.recv()).await.ok()? {
                // The reply to an `auth` frame may come before the welcome.
                Incoming::Reply { reference: 0, outcome: Ok(_) } => {}
                other => break other,
            }
        };
        match first {
            Incoming::Event { name, data } if name == "welcome" => {
                if data["userId"] != json!(self.options.user) {
                    state_fault = Some(format!("{} was welcomed as {data}", self.options.user));
                }
            }
            Incoming::Closed(closed) => {
                self.shared.lock().record.closes.push(closed);
                return None;
            }
            other => state_fault = Some(format!("the first frame is no welcome: {other:?}")),
        }
        let mut state = self.shared.lock();
        if let Some(fault) = state_fault {
            state.record.fault(fault);
        }
        state.record.connections += 1;
        state.record.welcomed_at.push(Instant::now());
        state.outbox.reconnected();
        state.cut = false;
        drop(state);
        self.asked.clear();
        self.heard_at = Instant::now();
        self.reads_paused_until = self.heard_at;
        Some(wire)
    }

    /// One connection, to its end.
    async fn stay(&mut self, mut wire: Wire) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.speak(&wire);
            self.shared.changed();
            let goes = tokio::select! {
                incoming = wire.recv() => self.hear(incoming),
                () = self.shared.wake.notified() => self.obey(),
                _now = tick.tick() => self.look_at_the_clock(&wire),
            };
            if goes.is_break() {
                break;
            }
        }
        self.away_since.get_or_insert_with(Instant::now);
        let mut state = self.shared.lock();
        state.rooms.values_mut().for_each(Room::disconnected);
        drop(state);
        self.shared.changed();
    }

    /// Everything that can be said now: leaves, joins, pages, messages.
    fn speak(&mut self, wire: &Wire) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let state = &mut *state;
        for name in &state.wanted {
            let room = state.rooms.entry(name.clone()).or_default();
            let may_ask = Instant::now() >= self.reads_paused_until;
            match room.stage {
                Stage::Out if may_ask => self.join(wire, name, room),
                Stage::Live if may_ask && room.unread_before.is_some() && !room.is_paging => {
                    self.page(wire, name, room);
                }
                Stage::Out | Stage::Live | Stage::Joining | Stage::Leaving => {}
            }
        }
        for (name, room) in &mut state.rooms {
            if room.stage == Stage::Live && !state.wanted.contains(name) {
                room.stage = Stage::Leaving;
                let asked = Asked::Leave { room: name.clone() };
                self.ask(wire, "room:leave", &json!({ "roomId": name }), asked);
            }
        }
        self.offer(wire, state);
    }

    fn join(&mut self, wire: &Wire, name: &str, room: &mut Room) {
        let mut data = json!({ "roomId": name, "limit": self.options.join_limit });
        if let Some(since) = &room.cursor {
            data["since"] = since.to_json();
        }
        room.stage = Stage::Joining;
        let asked = Asked::Join { room: name.to_owned(), had_since: room.cursor.is_some() };
        self.ask(wire, "room:join", &data, asked);
    }

    fn page(&mut self, wire: &Wire, name: &str, room: &mut Room) {
        room.is_paging = true;
        let data = json!({ "roomId": name, "before": room.unread_before, "limit": PAGE_MAX });
        let asked = Asked::Page { room: name.to_owned(), generation: room.generation };
        self.ask(wire, "history:get", &data, asked);
    }

    fn offer(&mut self, wire: &Wire, state: &mut State) {
        let State { record, outbox, rooms, .. } = state;
        // Fewer than the send queue holds, so that joins and pages always find room in it.
        let limit = self.options.in_flight_max.min(OUTGOING_MAX / 2);
        let is_joined = |name: &str| rooms.get(name).is_some_and(|room| room.stage == Stage::Live);
        while let Some(index) = outbox.next(record, limit, is_joined) {
            let sent = &record.sent[index];
            let (room, id, content) = (&sent.room, &sent.id, &sent.content);
            let data = json!({ "roomId": room, "id": id, "content": content, "type": "user" });
            if !wire.try_send(command("message:send", self.next_ref, &data)) {
                return;
            }
            outbox.offered(index, self.next_ref);
            self.next_ref += 1;
        }
    }

    fn ask(&mut self, wire: &Wire, event: &str, data: &Value, asked: Asked) {
        // Where the queue is full the reply never comes, and the connection is given up.
        wire.try_send(command(event, self.next_ref, data));
        self.asked.insert(self.next_ref, asked);
        self.next_ref += 1;
    }

    /// What the test asked for since the last look.
    fn obey(&mut self) -> Goes {
        if std::mem::take(&mut self.shared.lock().cut) {
            Goes::Break(())
        } else {
            Goes::Continue(())
        }
    }

    fn look_at_the_clock(&mut self, wire: &Wire) -> Goes {
        let silence = self.heard_at.elapsed();
        if silence >= self.options.silence_max {
            return Goes::Break(());
        }
        if self.looked_for_lost_at.elapsed() >= LOOK_FOR_LOST_EVERY {
            self.looked_for_lost_at = Instant::now();
            let mut state = self.shared.lock();
            state.outbox.offer_again(self.options.offer_again_after);
            if state.outbox.is_overdue(self.options.reply_within) {
                state.record.fault("a message got no reply on a living connection".to_owned());
                return Goes::Break(());
            }
        }
        let half = self.options.silence_max / 2;
        if silence >= half && self.asked_alive_at.elapsed() >= half {
            self.asked_alive_at = Instant::now();
            self.ask(wire, "heartbeat", &json!({}), Asked::Heartbeat);
        }
        Goes::Continue(())
    }

    fn hear(&mut self, incoming: Incoming) -> Goes {
        self.heard_at = Instant::now();
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        match incoming {
            Incoming::Reply { reference, outcome } if state.outbox.is_offer(reference) => {
                state.offer_answered(reference, outcome);
            }
            Incoming::Reply { reference, outcome } => match self.asked.remove(&reference) {
                Some(asked) => self.answered(&mut state, asked, outcome),
                None => state.record.fault(format!("a second or unknown reply, ref {reference}")),
            },
            Incoming::Event { name, data } => state.event(&name, &data),
            Incoming::Faulty(what) => state.record.fault(format!("a faulty frame: {what}")),
            Incoming::Closed(closed) => {
                state.record.closes.push(closed);
                return Goes::Break(());
            }
        }
        Goes::Continue(())
    }

    fn answered(&mut self, state: &mut State, asked: Asked, outcome: Result<Value, Refused>) {
        let State { record, outbox, rooms, wanted, .. } = state;
        let name = match &asked {
            Asked::Heartbeat => return,
            Asked::Join { room, .. } | Asked::Leave { room } | Asked::Page { room, .. } => room,
        };
        let room = rooms.entry(name.clone()).or_default();
        let mut desk = Desk { record, outbox, name };
        match (&asked, outcome) {
            (Asked::Join { had_since, .. }, Ok(data)) => match Deserialize::deserialize(&data) {
                Ok(joined) => {
                    desk.record.pauses.extend(self.away_since.take().map(|since| since.elapsed()));
                    room.joined(&mut desk, joined, *had_since, self.options.whole_history);
                }
                Err(error) => desk.record.fault(format!("a join reply is malformed: {error}")),
            },
            (Asked::Page { generation, .. }, Ok(data)) => match Deserialize::deserialize(&data) {
                Ok(page) => room.page(&mut desk, page, *generation),
                Err(error) => desk.record.fault(format!("a page is malformed: {error}")),
            },
            (Asked::Leave { .. }, _) => {
                room.stage = Stage::Out;
                desk.record.views.entry(name.clone()).or_default().in_room = false;
            }
            (_, Err(refused)) => {
                // Who is refused a page is in the room all the same.
                match asked {
                    Asked::Page { .. } => room.is_paging = false,
                    Asked::Join { .. } | Asked::Leave { .. } | Asked::Heartbeat => {
                        room.disconnected();
                    }
                }
                let pause = refused.retry_after_ms.map_or(JOIN_RETRY, Duration::from_millis);
                self.reads_paused_until = Instant::now() + pause;
                if is_worth_retrying(&refused.code) {
                    *desk.record.retried.entry(refused.code).or_default() += 1;
                } else {
                    desk.record.room_errors.push((Some(name.clone()), refused.code));
                    wanted.remove(name);
                }
            }
            (Asked::Heartbeat, _) => {}
        }
    }
}
