//! Rate limits per user over all nodes, and blocks for those who keep exceeding them.
//!
//! Fixed windows, one for each user and allowance, which begin with the first use. A
//! node's own memory is asked first, and refuses what it knows to be over. Then the use is taken
//! from the fleet's count in Redis, a portion at a time, so that a large limit costs few calls and
//! a small one is exact. While Redis does not answer, each node holds the limit by itself.
//!
//! Refusals are counted too, in the node's memory and for the fleet; at their limit the user is
//! blocked, by a key in Redis and a word to all nodes, and after a while is not.
//!
//! Times are the calendar's and not `Instant`s, because a block is told to others as a moment.

pub(crate) mod memory;
mod blocks;
pub(crate) mod redis;
mod usual;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use shared::contract::id::{RoomId, UserId};
use shared::contract::limits::{RATE_PORTIONS, RATE_WINDOW_MS};
use shared::contract::refusal::{Refusal, RefusalCode};
use shared::contract::signal::{NodeSignal, Signal};
use shared::process::clock::Clock;
use shared::process::error_chain::error_chain;
use shared::process::telemetry::metrics::Label;
use shared::trouble;
use tracing::info;

use self::blocks::Blocks;
use self::memory::{LocalCount, Windows};
use self::redis::{Portion, RedisCounts};
use self::usual::Usual;
use crate::auth::Identity;
use crate::broker::Broker;
use crate::config::{GatewaySettings, RateClass};
use crate::metrics::Metrics;

/// How long Redis is not asked after it did not answer, in milliseconds.
const ALONE_MS: i64 = 5000;

/// How long whoever sends something waits for the fleet's count.
const FLEET_PATIENCE: Duration = Duration::from_millis(500);

/// How long a user's refusals gather before the fleet is told of them.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// How often what is over is forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The numbers.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// By the place of each allowance among all of them.
    limits: [u32; RateClass::COUNT],
    /// How long the window of each is.
    windows_ms: [i64; RateClass::COUNT],
    /// Refusals within a minute; 0 for never.
    block_after: u32,
    block_ms: i64,
}

impl Rules {
    pub(crate) fn new(settings: &GatewaySettings) -> Rules {
        let mut limits = [0; RateClass::COUNT];
        let mut windows_ms = [0; RateClass::COUNT];
        for class in RateClass::ALL {
            limits[*class as usize] = settings.rate_limit(*class);
            let window_ms = settings.window_ms(*class).0;
            windows_ms[*class as usize] = i64::try_from(window_ms).unwrap_or(i64::MAX);
        }
        Rules {
            limits,
            windows_ms,
            block_after: settings.block_after,
            block_ms: i64::try_from(settings.block_ms.0).unwrap_or(i64::MAX),
        }
    }
}

/// What it works with.
#[derive(Debug)]
pub(crate) struct Deps {
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    /// Tells the other nodes.
    pub(crate) broker: Arc<dyn Broker>,
    /// The fleet's counts; none where this node is the fleet.
    pub(crate) fleet: Option<RedisCounts>,
}

/// Counts what users do.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    rules: Rules,
    parts: Deps,
    windows: Windows,
    blocks: Blocks,
    usual: Usual,
    /// Until when Redis is not asked.
    alone_until_ms: AtomicI64,
    /// Whether it was said that Redis is not asked.
    is_alone: AtomicBool,
}

/// What was counted, to be given back where it turns out that nothing new was done; nothing for
/// those who have no limit.
#[derive(Debug)]
#[must_use]
pub(crate) struct RatePermit(Option<(UserId, RateClass)>);

impl RatePermit {
    /// Nothing was counted.
    pub(crate) fn nothing() -> RatePermit {
        RatePermit(None)
    }
}

impl RateLimiter {
    pub(crate) fn new(rules: Rules, parts: Deps) -> RateLimiter {
        RateLimiter {
            windows: Windows::new(rules.windows_ms),
            blocks: Blocks::default(),
            usual: Usual::default(),
            rules,
            parts,
            alone_until_ms: AtomicI64::new(0),
            is_alone: AtomicBool::new(false),
        }
    }

    /// Counts one use, or says when there is one again. Whoever is refused in the end, and not
    /// answered after all, is to be [`RateLimiter::refused`].
    pub(crate) async fn count(
        &self,
        identity: &Identity,
        class: RateClass,
    ) -> Result<RatePermit, Refusal> {
        if !identity.is_limited() {
            return Ok(RatePermit(None));
        }
        let user = &identity.user;
        let limit = self.rules.limits[class as usize];
        let now_ms = self.parts.clock.now_ms();
        let fleet = self.parts.fleet.as_ref().filter(|_| !is_of_each_node(class));
        let asked = fleet.filter(|_| self.alone_until_ms.load(Ordering::Relaxed) <= now_ms);
        if fleet.is_some() && asked.is_none() {
            self.parts.metrics.counted_alone_total.inc();
        }
        let taken = match (self.windows.take(user, class, limit, now_ms), asked) {
            (LocalCount::Locally, Some(fleet)) => match self.ask(fleet, user, class).await {
                Some(given) => self.windows.given(user, class, given, now_ms),
                None => LocalCount::Locally,
            },
            (taken, _) => taken,
        };
        match taken {
            LocalCount::Locally | LocalCount::Held => Ok(RatePermit(Some((user.clone(), class)))),
            LocalCount::Over { rest_ms } => Err(too_often(class, rest_ms)),
        }
    }

    /// Takes a portion of the fleet's count; `None` when Redis does not answer.
    async fn ask(&self, fleet: &RedisCounts, user: &UserId, class: RateClass) -> Option<Portion> {
        let limit = self.rules.limits[class as usize];
        let portion = (limit / RATE_PORTIONS).max(1);
        let taken = fleet.take(user, class, (portion, limit), self.window_ms(class));
        // Whoever sends something does not wait for a Redis that stands still.
        let asked = tokio::time::timeout(FLEET_PATIENCE, taken).await;
        let silent = |_| (::redis::ErrorKind::Io, "no answer in time").into();
        let given = self.heard(asked.unwrap_or_else(|late| Err(silent(late))));
        if given.is_none() {
            self.parts.metrics.counted_alone_total.inc();
        }
        given
    }

    fn window_ms(&self, class: RateClass) -> i64 {
        self.rules.windows_ms[class as usize]
    }

    /// Whether somebody has been in a room lately, through whatever node.
    pub(crate) async fn is_usual(&self, user: &UserId, room: &RoomId) -> bool {
        if self.usual.has(user, room) {
            return true;
        }
        let Some(fleet) = self.asked_fleet() else { return false };
        self.heard(fleet.is_usual(user, room).await).unwrap_or(false)
    }

    /// The same as far as this node has seen it.
    pub(crate) fn is_usual_here(&self, user: &UserId, room: &RoomId) -> bool {
        self.usual.has(user, room)
    }

    /// Somebody has come into a room, which is one of their usual ones from now on.
    pub(crate) fn entered(self: &Arc<RateLimiter>, identity: &Identity, room: &RoomId) {
        let now_ms = self.parts.clock.now_ms();
        let is_told = identity.is_limited()
            && self.usual.note(&identity.user, room, now_ms)
            && self.asked_fleet().is_some();
        if !is_told {
            return;
        }
        let (limiter, user, room) = (Arc::clone(self), identity.user.clone(), room.clone());
        tokio::spawn(async move {
            if let Some(fleet) = limiter.asked_fleet() {
                let noted = fleet.note_usual(&user, &room, now_ms).await;
                limiter.heard(noted);
            }
        });
    }

    /// The fleet's counts, where there are some and Redis has answered lately.
    fn asked_fleet(&self) -> Option<&RedisCounts> {
        let is_asked = self.alone_until_ms.load(Ordering::Relaxed) <= self.parts.clock.now_ms();
        self.parts.fleet.as_ref().filter(|_| is_asked)
    }

    /// Leaves Redis alone for a while when it did not answer.
    fn heard<T>(&self, asked: Result<T, ::redis::RedisError>) -> Option<T> {
        match asked {
            Ok(answer) => {
                if self.is_alone.swap(false, Ordering::Relaxed) {
                    info!("limits hold for the whole fleet again");
                }
                Some(answer)
            }
            Err(error) => {
                let until_ms = self.parts.clock.now_ms() + ALONE_MS;
                self.alone_until_ms.store(until_ms, Ordering::Relaxed);
                if !self.is_alone.swap(true, Ordering::Relaxed) {
                    trouble!(
                        error = error_chain(&error),
                        "redis does not count; limits hold for this node alone"
                    );
                }
                None
            }
        }
    }

    /// Nothing new was done: it stood already, or was refused.
    pub(crate) fn refund(&self, counted: RatePermit) {
        if let RatePermit(Some((user, class))) = counted {
            self.windows.refund(&user, class, self.parts.clock.now_ms());
        }
    }

    /// Something that may be lost was dropped, because it came too often. It blocks nobody.
    pub(crate) fn dropped(&self, class: RateClass) {
        self.parts.metrics.rate_limited_total.inc(class);
    }

    /// Notes that somebody was told [`RefusalCode::RateLimited`].
    pub(crate) fn refused(self: &Arc<RateLimiter>, user: &UserId, class: RateClass) {
        self.parts.metrics.rate_limited_total.inc(class);
        if self.rules.block_after == 0 {
            return;
        }
        let now_ms = self.parts.clock.now_ms();
        let noted = self.blocks.refused(user, &self.rules, now_ms);
        if noted.is_over {
            self.block(user, self.rules.block_ms);
        }
        if noted.is_first && self.parts.fleet.is_some() {
            let (limiter, user) = (Arc::clone(self), user.clone());
            tokio::spawn(async move { limiter.report(&user).await });
        }
    }

    /// Tells the fleet of a user's refusals until there are no new ones.
    async fn report(&self, user: &UserId) {
        loop {
            let count = self.blocks.take_unreported(user);
            let (Some(fleet), 1..) = (&self.parts.fleet, count) else { return };
            let Rules { block_after, block_ms, .. } = self.rules;
            let told = fleet.refused(user, count, block_after, (RATE_WINDOW_MS, block_ms)).await;
            if let Some(block) = self.heard(told)
                && let Some(rest_ms) = block.rest_ms
            {
                self.block(user, rest_ms);
                if block.is_new {
                    self.tell(user, rest_ms).await;
                }
            }
            tokio::time::sleep(REPORT_INTERVAL).await;
        }
    }

    async fn tell(&self, user: &UserId, rest_ms: i64) {
        let until_ms = self.parts.clock.now_ms() + rest_ms;
        let signal = Signal::Nodes(NodeSignal::Blocked { user: user.clone(), until_ms });
        if let Err(error) = self.parts.broker.signal(&signal).await {
            // The others read it in Redis when the user connects there.
            trouble!(error = error_chain(&error), "other nodes do not hear of a block");
        }
    }

    fn block(&self, user: &UserId, rest_ms: i64) {
        // Another node's clock may be ahead of this one's.
        let rest_ms = rest_ms.min(self.rules.block_ms);
        let now_ms = self.parts.clock.now_ms();
        if rest_ms > 0 && self.blocks.block(user, now_ms + rest_ms, now_ms) {
            self.parts.metrics.blocks_total.inc();
        }
    }

    /// Another node says that somebody is blocked.
    pub(crate) fn apply_block(&self, user: &UserId, until_ms: i64) {
        self.block(user, until_ms - self.parts.clock.now_ms());
    }

    /// Asks the fleet whether somebody who has just connected is blocked, without holding them up;
    /// while Redis does not answer, nobody is.
    pub(crate) fn load_block(self: &Arc<RateLimiter>, identity: &Identity) {
        let now_ms = self.parts.clock.now_ms();
        let is_asked = self.parts.fleet.is_some()
            && identity.is_limited()
            && self.rules.block_after > 0
            && self.alone_until_ms.load(Ordering::Relaxed) <= now_ms;
        if !is_asked {
            return;
        }
        let (limiter, user) = (Arc::clone(self), identity.user.clone());
        tokio::spawn(async move {
            let Some(fleet) = &limiter.parts.fleet else { return };
            let blocked = fleet.blocked(&user).await;
            if let Some(Some(rest_ms)) = limiter.heard(blocked) {
                limiter.block(&user, rest_ms);
            }
        });
    }

    /// Counts what may be looked up in vain; who does it too often is refused.
    pub(crate) async fn look_up(
        self: &Arc<RateLimiter>,
        identity: &Identity,
    ) -> Result<RatePermit, Refusal> {
        let counted = self.count(identity, RateClass::Lookups).await;
        counted.inspect_err(|_| self.refused(&identity.user, RateClass::Lookups))
    }

    /// Refuses somebody who is blocked.
    pub(crate) fn check(&self, identity: &Identity) -> Result<(), Refusal> {
        if !identity.is_limited() {
            return Ok(());
        }
        match self.blocks.rest_ms(&identity.user, self.parts.clock.now_ms()) {
            None => Ok(()),
            Some(rest_ms) => {
                let text = "you have asked too often for too long";
                Err(Refusal::new(RefusalCode::Blocked, text).retry_after_ms(rest_ms))
            }
        }
    }

    /// How many refusals of a blocked user a connection survives; `None` for any number.
    pub(crate) fn refusals_before_close(&self) -> Option<u32> {
        (self.rules.block_after > 0).then_some(self.rules.block_after)
    }

    /// Forgets what is over, for ever.
    pub(crate) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            let now_ms = self.parts.clock.now_ms();
            self.windows.sweep(now_ms);
            self.blocks.sweep(now_ms);
            self.usual.sweep(now_ms);
        }
    }
}

/// Whether each node counts by itself: what is only read or looked up is no burden to the others,
/// and too much to ask them about.
fn is_of_each_node(class: RateClass) -> bool {
    match class {
        RateClass::History | RateClass::Lookups | RateClass::Commands => true,
        RateClass::Messages
        | RateClass::Typing
        | RateClass::Joins
        | RateClass::Resumes
        | RateClass::Presence
        | RateClass::Streams => false,
    }
}

fn too_often(class: RateClass, rest_ms: u64) -> Refusal {
    let text = format!("too often ({}); wait until it is allowed again", class.label());
    Refusal::new(RefusalCode::RateLimited, text).retry_after_ms(rest_ms)
}

#[cfg(test)]
mod tests;
