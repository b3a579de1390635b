//! Answers that are written through this node.
//!
//! What is new of an answer gathers for a tick and then goes out in one piece: first to the stream
//! store, so that whoever hears of it later finds it there, then to the nodes with members of the
//! room. A delta is answered before that: a node that dies takes at most a tick's worth with it,
//! and the producer, asking where to go on, is told what is left. While the stream store does not
//! answer, the text grows here and goes out when it does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use shared::contract::id::UserId;
use shared::contract::limits::STREAM_TICK_MS;
use shared::contract::protocol::StreamState;
use shared::contract::signal::{RoomSignal, Signal, StreamPart};
use shared::process::error_chain::error_chain;
use shared::trouble;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;

use super::text::{self, PieceError, StreamText};
use super::{
    ClaimResult, ClosedStream, PutResult, StoredStream, StreamHeader, StreamKey, StreamStore,
    StreamStoreError,
};
use crate::broker::Broker;
use crate::metrics::Metrics;

/// The tick.
const TICK: Duration = Duration::from_millis(STREAM_TICK_MS);

/// Tries of one piece whose answer the stream store has forgotten meanwhile.
const TRIES_MAX: usize = 3;

/// The buffers of a node.
#[derive(Debug)]
pub(crate) struct StreamBuffers {
    pub(crate) store: Arc<dyn StreamStore>,
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    answers: Mutex<HashMap<StreamKey, Arc<StreamBuffer>>>,
    /// Of all texts in the buffers.
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// An answer in the buffers.
#[derive(Debug)]
pub(crate) struct StreamBuffer {
    pub(crate) key: StreamKey,
    pub(crate) beginning: StreamHeader,
    state: Mutex<BufferState>,
    /// Its pieces go out one after the other.
    turn: Semaphore,
}

#[derive(Debug)]
struct BufferState {
    so_far: StreamText,
    /// How much of it is in the stream store and was told.
    out: TextOffset,
    /// Its producer has shown life since the stream store was told.
    lively: bool,
    /// A task sees to it that what is new goes out.
    attended: bool,
    /// When its producer last showed life.
    touched: Instant,
    /// It is not in the buffers any more.
    gone: bool,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, Default)]
struct TextOffset {
    bytes: usize,
    units: u64,
}

/// Why a delta is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppendError {
    /// The text does not take it.
    #[error(transparent)]
    Piece(#[from] PieceError),
    /// The buffers are full.
    #[error("too much is being written through this node")]
    Full,
    /// The answer has just left the buffers.
    #[error("the answer is not written here any more")]
    Gone,
}

impl StreamBuffer {
    /// Where its next delta begins.
    pub(crate) fn units(&self) -> u64 {
        self.state.lock().so_far.units()
    }

    /// Its text so far.
    pub(crate) fn text(&self) -> String {
        self.state.lock().so_far.as_str().to_owned()
    }

    /// What is to go out, if anything is.
    fn piece(&self) -> Option<(TextOffset, String)> {
        let mut state = self.state.lock();
        let piece = &state.so_far.as_str()[state.out.bytes..];
        if state.gone || (piece.is_empty() && !state.lively) {
            return None;
        }
        let piece = piece.to_owned();
        state.lively = false;
        Some((state.out, piece))
    }

    /// Whether nothing is to go out, so that nobody needs to attend to it.
    fn rests(&self) -> bool {
        let mut state = self.state.lock();
        let rests = state.gone || (state.so_far.as_str().len() == state.out.bytes && !state.lively);
        state.attended &= !rests;
        rests
    }

    fn part(&self, offset: u64, delta: String, state: StreamState) -> Signal {
        let StreamHeader { user, kind, .. } = &self.beginning;
        let (id, user, kind) = (self.key.id.clone(), user.clone(), *kind);
        let part = StreamPart { id, user, kind, offset, delta, state };
        Signal::Room { room: self.key.room.clone(), what: RoomSignal::Stream(part) }
    }
}

impl StreamBuffers {
    pub(crate) fn new(
        store: Arc<dyn StreamStore>,
        broker: Arc<dyn Broker>,
        metrics: Arc<Metrics>,
        bytes_max: usize,
    ) -> StreamBuffers {
        let (answers, bytes) = (Mutex::default(), AtomicUsize::new(0));
        StreamBuffers { store, broker, metrics, answers, bytes, bytes_max }
    }

    /// The answer, if it is written through this node.
    pub(crate) fn get(&self, key: &StreamKey) -> Option<Arc<StreamBuffer>> {
        self.answers.lock().get(key).map(Arc::clone)
    }

    /// Puts an answer that was taken from the stream store into the buffers. What is there of it
    /// already is ahead of the stream store where no other node has taken it, and has no meaning
    /// where one has.
    pub(crate) fn put(&self, key: &StreamKey, open: StoredStream) -> Arc<StreamBuffer> {
        let StoredStream { beginning, text, mine } = open;
        let mut answers = self.answers.lock();
        if let Some(known) = answers.get(key).filter(|_| mine) {
            known.state.lock().touched = Instant::now();
            return Arc::clone(known);
        }
        let so_far = StreamText::from(text);
        let bytes = so_far.as_str().len();
        let state = BufferState {
            out: TextOffset { bytes, units: so_far.units() },
            so_far,
            lively: false,
            attended: false,
            touched: Instant::now(),
            gone: false,
        };
        let (key, state, turn) = (key.clone(), Mutex::new(state), Semaphore::new(1));
        let answer = Arc::new(StreamBuffer { key: key.clone(), beginning, state, turn });
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(former) = answers.insert(key, Arc::clone(&answer)) {
            self.let_go(&former);
        }
        answer
    }

    /// Takes an answer out of the buffers; says whether it was in them.
    pub(crate) fn remove(&self, answer: &Arc<StreamBuffer>) -> bool {
        let mut answers = self.answers.lock();
        if answers.get(&answer.key).is_some_and(|held| Arc::ptr_eq(held, answer)) {
            answers.remove(&answer.key);
        }
        self.let_go(answer)
    }

    fn let_go(&self, answer: &StreamBuffer) -> bool {
        let mut state = answer.state.lock();
        let left = !std::mem::replace(&mut state.gone, true);
        if left {
            self.bytes.fetch_sub(state.so_far.as_str().len(), Ordering::Relaxed);
        }
        left
    }

    /// Adds what is new of a delta, and sees to it that it goes out; says where the next begins.
    pub(crate) fn add(
        self: &Arc<Self>,
        answer: &Arc<StreamBuffer>,
        offset: u64,
        delta: &str,
    ) -> Result<u64, AppendError> {
        let mut state = answer.state.lock();
        if state.gone {
            return Err(AppendError::Gone);
        }
        if self.bytes.load(Ordering::Relaxed) + delta.len() > self.bytes_max {
            return Err(AppendError::Full);
        }
        let added = state.so_far.add(offset, delta)?;
        self.bytes.fetch_add(added, Ordering::Relaxed);
        state.touched = Instant::now();
        state.lively = true;
        let units = state.so_far.units();
        let attended = std::mem::replace(&mut state.attended, true);
        drop(state);
        if !attended {
            tokio::spawn(attend(Arc::clone(self), Arc::clone(answer)));
        }
        Ok(units)
    }

    /// Its producer shows life.
    pub(crate) fn touch(&self, answer: &StreamBuffer) {
        answer.state.lock().touched = Instant::now();
    }

    /// The answers whose producers have shown no life for so long.
    pub(crate) fn silent(&self, silence: Duration) -> Vec<StreamKey> {
        let answers = self.answers.lock();
        let silent =
            answers.values().filter(|answer| answer.state.lock().touched.elapsed() >= silence);
        silent.map(|answer| answer.key.clone()).collect()
    }

    /// How many of them are this user's.
    pub(crate) fn count_of(&self, user: &UserId) -> usize {
        self.all().iter().filter(|answer| answer.beginning.user == *user).count()
    }

    /// Every answer in the buffers.
    pub(crate) fn all(&self) -> Vec<Arc<StreamBuffer>> {
        self.answers.lock().values().map(Arc::clone).collect()
    }

    /// Sends out what is new, unless nothing is.
    pub(crate) async fn flush(&self, answer: &Arc<StreamBuffer>) {
        // Never closed.
        let Ok(_turn) = answer.turn.acquire().await else { return };
        for _ in 0..TRIES_MAX {
            let Some((from, piece)) = answer.piece() else { return };
            match self.send_out(answer, from, piece).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    answer.state.lock().lively = true;
                    let StreamKey { room, id } = &answer.key;
                    debug!(room.id = %room, message.id = %id, error = error_chain(&error),
                        "piece waits");
                    return;
                }
            }
        }
    }

    /// Says whether that is done; otherwise there is another piece to send now.
    async fn send_out(
        &self,
        answer: &Arc<StreamBuffer>,
        from: TextOffset,
        piece: String,
    ) -> Result<bool, StreamStoreError> {
        match self.store.keep(&answer.key, from.bytes, &piece).await? {
            PutResult::Done => {}
            PutResult::Moved | PutResult::Closed => {
                self.remove(answer);
                return Ok(true);
            }
            PutResult::Lost => {
                // The stream store has lost its memory: the answer is put there anew, as a whole.
                return match self.store.begin(&answer.key, &answer.beginning).await? {
                    ClaimResult::Begun | ClaimResult::Open(_) => {
                        let mut state = answer.state.lock();
                        state.out = TextOffset::default();
                        state.lively = true;
                        Ok(false)
                    }
                    ClaimResult::Closed(_) | ClaimResult::NotOwner => {
                        self.remove(answer);
                        Ok(true)
                    }
                    ClaimResult::Full
                    | ClaimResult::FullForUser
                    | ClaimResult::StillActive
                    | ClaimResult::Unknown => Ok(true),
                };
            }
        }
        let units = from.units + text::units(&piece);
        answer.state.lock().out = TextOffset { bytes: from.bytes + piece.len(), units };
        if !piece.is_empty() {
            self.tell(answer.part(from.units, piece, StreamState::Streaming)).await;
        }
        Ok(true)
    }

    /// Best effort: a part that is lost is a gap to whoever hears the next.
    async fn tell(&self, signal: Signal) {
        if let Err(error) = self.broker.signal(&signal).await {
            debug!(error = error_chain(&error), "part of an answer is not told");
        }
    }

    /// The log has the message that the answer became: the stream store forgets it, the room is
    /// told.
    pub(crate) async fn close(&self, answer: &Arc<StreamBuffer>, aborted: bool) {
        let text = if aborted { answer.text() } else { String::new() };
        let closed = ClosedStream { beginning: answer.beginning.clone(), aborted, text };
        if let Err(error) = self.store.close(&answer.key, &closed).await {
            // It lies there until its silence is noticed, and is then found in the log.
            let StreamKey { room, id } = &answer.key;
            trouble!(room.id = %room, message.id = %id, error = error_chain(&error),
                "answer stays in the stream store");
        }
        if !self.remove(answer) {
            return;
        }
        let state = if aborted { StreamState::Aborted } else { StreamState::Ended };
        if aborted {
            self.metrics.streams_aborted_total.inc();
        } else {
            self.metrics.streams_ended_total.inc();
        }
        self.tell(answer.part(answer.units(), String::new(), state)).await;
    }
}

/// Sends out what is new, tick by tick, until nothing is.
async fn attend(buffers: Arc<StreamBuffers>, answer: Arc<StreamBuffer>) {
    loop {
        buffers.flush(&answer).await;
        tokio::time::sleep(TICK).await;
        if answer.rests() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
