//! The health of Redis, judged by its replies.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::RedisError;
use tokio::time::Instant;

use crate::process::clock::Clock;

/// What a server says that is not the master, or not yet: whoever is may be found under the same
/// address.
const NOT_THE_MASTER: [&str; 3] = ["READONLY", "MASTERDOWN", "LOADING"];

/// The least time between two times that all connections are dropped, and the longest: where it is
/// of no use, everybody would read everything anew every second.
const DROP_PAUSE: Duration = Duration::from_secs(1);
const DROP_PAUSE_MAX: Duration = Duration::from_secs(8);
/// After so long without the pause is short again.
const DROP_MEMORY: Duration = Duration::from_secs(30);
/// After so long without any answer the server is taken for gone, with its connections open.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// After so long without any answer nobody waits for one: it is known that there is none.
const AWAY: Duration = Duration::from_millis(500);
/// After so long without an answer to what was asked the server is taken to stand still.
const STANDSTILL: Duration = Duration::from_millis(600);
/// How often somebody tries all the same, where nobody looks after the server.
const TRY_INTERVAL: Duration = Duration::from_millis(250);

/// How it is with Redis.
#[derive(Debug)]
pub struct Health {
    clock: Clock,
    connected: AtomicBool,
    last_answer_ms: AtomicI64,
    errors: AtomicU64,
    reconnects: AtomicU64,
    silence: Mutex<Silence>,
    asked: Mutex<Asked>,
    /// Somebody looks again and again whether the server answers.
    watched: AtomicBool,
}

/// What was asked and is not answered.
#[derive(Debug, Default)]
struct Asked {
    count: usize,
    /// Since when there has been no answer to any of it.
    since: Option<Instant>,
}

/// A question that waits for its answer, until this is dropped.
#[derive(Debug)]
pub(super) struct Question<'a>(&'a Health);

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut asked = self.0.asked.lock();
        asked.count -= 1;
        if asked.count == 0 {
            asked.since = None;
        }
    }
}

#[derive(Debug, Default)]
struct Silence {
    /// When somebody last tried, although nothing was answered.
    tried: Option<Instant>,
    /// When the first of the commands that were not answered failed.
    began: Option<Instant>,
    /// When all connections were last dropped, and how long they are left alone from then on.
    dropped: Option<(Instant, Duration)>,
}

impl Health {
    pub(super) fn new(clock: Clock) -> Health {
        Health {
            clock,
            connected: AtomicBool::new(false),
            last_answer_ms: AtomicI64::new(0),
            errors: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            silence: Mutex::default(),
            asked: Mutex::default(),
            watched: AtomicBool::new(false),
        }
    }

    /// From now on somebody looks again and again whether the server answers.
    pub fn watch(&self) {
        self.watched.store(true, Ordering::Relaxed);
    }

    /// Whether it is known that there is no answer: for a while none came, to anybody.
    #[must_use]
    pub fn is_away(&self) -> bool {
        !self.connected.load(Ordering::Relaxed)
            && self.silence.lock().began.is_some_and(|began| began.elapsed() >= AWAY)
    }

    /// Something is asked from now on.
    pub(super) fn ask(&self) -> Question<'_> {
        let mut asked = self.asked.lock();
        asked.count += 1;
        asked.since.get_or_insert_with(Instant::now);
        Question(self)
    }

    /// Whether something was asked for longer than an answer takes, and nothing was answered.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.asked.lock().since.is_some_and(|since| since.elapsed() >= STANDSTILL)
    }

    /// Whether a command may be sent: while the server is away only by whoever looks after it.
    pub(super) fn may_ask(&self) -> bool {
        if !self.is_away() {
            return true;
        }
        let mut silence = self.silence.lock();
        let is_time = silence.tried.is_none_or(|at| at.elapsed() >= TRY_INTERVAL);
        if is_time && !self.watched.load(Ordering::Relaxed) {
            silence.tried = Some(Instant::now());
            return true;
        }
        false
    }

    /// Notes what became of a command. Says whether all connections are to be dropped, so that the
    /// server's address is looked up anew: it is not the master, or answers nothing.
    pub(super) fn note<T>(&self, outcome: &Result<T, RedisError>) -> bool {
        match outcome {
            Err(error) if error.is_io_error() || error.is_timeout() => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                if self.connected.swap(false, Ordering::Relaxed) {
                    self.reconnects.fetch_add(1, Ordering::Relaxed);
                }
                self.is_silent_for_long()
            }
            Err(error) => {
                self.heard();
                self.errors.fetch_add(1, Ordering::Relaxed);
                error.code().is_some_and(|code| NOT_THE_MASTER.contains(&code)) && self.may_drop()
            }
            Ok(_) => {
                self.heard();
                if !self.connected.swap(true, Ordering::Relaxed) {
                    self.silence.lock().began = None;
                }
                self.last_answer_ms.store(self.clock.now_ms(), Ordering::Relaxed);
                false
            }
        }
    }

    fn heard(&self) {
        let mut asked = self.asked.lock();
        asked.since = (asked.count > 0).then(Instant::now);
    }

    fn is_silent_for_long(&self) -> bool {
        let mut silence = self.silence.lock();
        let began = *silence.began.get_or_insert_with(Instant::now);
        drop(silence);
        began.elapsed() > SILENCE_MAX && self.may_drop()
    }

    fn may_drop(&self) -> bool {
        let mut silence = self.silence.lock();
        let pause = match silence.dropped {
            Some((at, pause)) if at.elapsed() < pause => return false,
            Some((at, pause)) if at.elapsed() < DROP_MEMORY => (2 * pause).min(DROP_PAUSE_MAX),
            Some(_) | None => DROP_PAUSE,
        };
        silence.dropped = Some((Instant::now(), pause));
        true
    }

    /// The seed's `ConnectionHealth`; `lastPing` is the last answer to anything, in Unix
    /// milliseconds or null.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let last_ms = self.last_answer_ms.load(Ordering::Relaxed);
        serde_json::json!({
            "isConnected": self.connected.load(Ordering::Relaxed),
            "lastPing": (last_ms > 0).then_some(last_ms),
            "errorCount": self.errors.load(Ordering::Relaxed),
            "reconnectAttempts": self.reconnects.load(Ordering::Relaxed),
        })
    }
}
