//! A TCP connection that speaks HTTP, with a time limit for each part of an exchange.
//!
//! A connection is *new* until its first byte, then reads a request's *head*, is *at work* on its
//! answer, *writes* it, and then is *idle* until the next request begins. Each of these has a time
//! of its own, but for the work: reading a body and what is done have theirs. hyper has one timer
//! for the head, which runs while a connection is idle too; it is not used.
//!
//! The next request is not begun before the last answer has left this process: whoever sends
//! requests and reads no answers makes it hold one answer, not all of them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use shared::contract::limits::{ANSWER_TIMEOUT_MS, HEADER_TIMEOUT_MS, LEAVE_ANSWER_TIMEOUT_MS};
use shared::process::changes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Where a connection is in its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExchangePhase {
    New,
    Head,
    Work,
    Response,
    Idle,
}

/// How far a connection is; shared with whoever answers its requests.
#[derive(Debug)]
pub(super) struct ExchangeProgress {
    state: Mutex<ExchangeState>,
    changed: Notify,
    idle_timeout: Duration,
}

#[derive(Debug)]
struct ExchangeState {
    phase: ExchangePhase,
    since: Instant,
    /// Something was written and has not left this process.
    is_unsent: bool,
    /// When the node began to leave.
    leaving_since: Option<Instant>,
}

impl ExchangeProgress {
    fn new(idle_timeout: Duration) -> ExchangeProgress {
        let since = Instant::now();
        let state = ExchangeState {
            phase: ExchangePhase::New,
            since,
            is_unsent: false,
            leaving_since: None,
        };
        ExchangeProgress { state: Mutex::new(state), changed: Notify::new(), idle_timeout }
    }

    /// Changes the state, and says so to whoever waits for a change.
    fn update(&self, change: impl FnOnce(&mut ExchangeState)) {
        change(&mut self.state.lock());
        self.changed.notify_waiters();
    }

    fn enter(&self, phase: ExchangePhase) {
        self.update(|state| (state.phase, state.since) = (phase, Instant::now()));
    }

    /// Waits until the last answer has left, then begins to work on the next.
    pub(super) async fn begin(&self) {
        changes::until(&self.changed, || (!self.state.lock().is_unsent).then_some(())).await;
        self.enter(ExchangePhase::Work);
    }

    /// Waits until anything at all was asked.
    pub(super) async fn asked(&self) {
        let asked = || (self.state.lock().phase != ExchangePhase::New).then_some(());
        changes::until(&self.changed, asked).await;
    }

    /// The answer is there, and is to be taken.
    pub(super) fn answered(&self) {
        self.enter(ExchangePhase::Response);
    }

    /// From now on nothing but work may last long.
    pub(super) fn leave(&self) {
        self.update(|state| state.leaving_since = Some(Instant::now()));
    }

    /// Waits until a part has taken longer than it may; says which.
    pub(super) async fn overdue(&self) -> ExchangePhase {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (phase, deadline) = self.deadline();
            let Some(deadline) = deadline else {
                changed.await;
                continue;
            };
            if deadline <= Instant::now() {
                return phase;
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    fn deadline(&self) -> (ExchangePhase, Option<Instant>) {
        let state = self.state.lock();
        let patience = match state.phase {
            ExchangePhase::New | ExchangePhase::Head => Duration::from_millis(HEADER_TIMEOUT_MS),
            ExchangePhase::Response => Duration::from_millis(ANSWER_TIMEOUT_MS),
            ExchangePhase::Idle => self.idle_timeout,
            ExchangePhase::Work => return (ExchangePhase::Work, None),
        };
        let deadline = state.since + patience;
        let hurried = state.leaving_since.map(|leaving| {
            leaving.max(state.since) + Duration::from_millis(LEAVE_ANSWER_TIMEOUT_MS)
        });
        (state.phase, Some(hurried.map_or(deadline, |hurried| hurried.min(deadline))))
    }

    fn has_read(&self) {
        let phase = self.state.lock().phase;
        if matches!(phase, ExchangePhase::New | ExchangePhase::Idle) {
            self.enter(ExchangePhase::Head);
        }
    }

    fn is_writing(&self) {
        let mut state = self.state.lock();
        state.is_unsent = true;
        if state.phase == ExchangePhase::Idle {
            drop(state);
            self.enter(ExchangePhase::Response);
        }
    }

    fn has_written_all(&self) {
        let (phase, is_unsent) = {
            let mut state = self.state.lock();
            (state.phase, std::mem::take(&mut state.is_unsent))
        };
        match phase {
            ExchangePhase::Response if is_unsent => self.enter(ExchangePhase::Idle),
            ExchangePhase::New
            | ExchangePhase::Head
            | ExchangePhase::Work
            | ExchangePhase::Response
            | ExchangePhase::Idle => {}
        }
    }
}

/// The socket; everything that passes through it is noted.
#[derive(Debug)]
pub(super) struct TimedSocket {
    stream: TcpStream,
    progress: Arc<ExchangeProgress>,
}

impl TimedSocket {
    /// A new connection.
    pub(super) fn new(
        stream: TcpStream,
        idle_timeout: Duration,
    ) -> (TimedSocket, Arc<ExchangeProgress>) {
        let progress = Arc::new(ExchangeProgress::new(idle_timeout));
        (TimedSocket { stream, progress: Arc::clone(&progress) }, progress)
    }

    /// The socket alone, when it speaks HTTP no more.
    pub(super) fn into_inner(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for TimedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.progress.has_read();
        }
        read
    }
}

impl AsyncWrite for TimedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.progress.is_writing();
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.progress.is_writing();
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Whoever writes flushes when nothing is left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.progress.has_written_all();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> ExchangeProgress {
        ExchangeProgress::new(Duration::from_millis(75_000))
    }

    #[tokio::test(start_paused = true)]
    async fn every_part_has_its_own_time_and_work_has_none() {
        let progress = progress();
        let began = Instant::now();
        let took = |began: Instant| u64::try_from(began.elapsed().as_millis()).unwrap();
        assert_eq!(progress.overdue().await, ExchangePhase::New);
        assert_eq!(took(began), HEADER_TIMEOUT_MS);
        progress.has_read();
        assert_eq!(progress.overdue().await, ExchangePhase::Head);
        progress.begin().await;
        let day = Duration::from_millis(24 * 60 * 60 * 1000);
        assert!(tokio::time::timeout(day, progress.overdue()).await.is_err());
        progress.answered();
        let began = Instant::now();
        assert_eq!(progress.overdue().await, ExchangePhase::Response);
        assert_eq!(took(began), ANSWER_TIMEOUT_MS);
        progress.is_writing();
        progress.has_written_all();
        let began = Instant::now();
        assert_eq!(progress.overdue().await, ExchangePhase::Idle);
        assert_eq!(took(began), 75_000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_request_waits_until_the_last_answer_has_left() {
        let progress = progress();
        progress.begin().await;
        progress.answered();
        progress.is_writing();
        let minute = Duration::from_millis(60_000);
        assert!(tokio::time::timeout(minute, progress.begin()).await.is_err());
        let (begun, ()) = tokio::join!(tokio::time::timeout(minute, progress.begin()), async {
            progress.has_written_all()
        });
        begun.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_new_until_its_first_byte() {
        let progress = progress();
        let minute = Duration::from_millis(60_000);
        assert!(tokio::time::timeout(minute, progress.asked()).await.is_err());
        let (asked, ()) = tokio::join!(tokio::time::timeout(minute, progress.asked()), async {
            progress.has_read();
        });
        asked.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_leaving_node_waits_less() {
        let progress = progress();
        progress.has_read();
        progress.begin().await;
        progress.answered();
        progress.is_writing();
        let began = Instant::now();
        progress.leave();
        assert_eq!(progress.overdue().await, ExchangePhase::Response);
        let took = u64::try_from(began.elapsed().as_millis()).unwrap();
        assert_eq!(took, LEAVE_ANSWER_TIMEOUT_MS);
    }
}
