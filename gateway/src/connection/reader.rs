//! Reads a socket and yields whole messages.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use shared::contract::limits::MESSAGE_TIMEOUT_MS;
use shared::contract::refusal::CloseReason;
use shared::process::byte_budget::ByteShare;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Instant;
use tracing::debug;

use super::decoder::{Decoder, Incoming, Violation};

/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 16 * 1024;

/// Control frames a second that a client may send in the long run.
const CONTROL_FRAMES_PER_SECOND: u32 = 10;

/// Control frames a client may send at once after a silence.
const CONTROL_FRAMES_BURST: u32 = 20;

const NANOS_PER_FRAME: u64 = 1_000_000_000 / CONTROL_FRAMES_PER_SECOND as u64;
/// The time one token takes to come back.
const REFILL: Duration = Duration::from_nanos(NANOS_PER_FRAME);
/// The time an empty bucket takes to fill.
const REFILL_ALL: Duration = Duration::from_nanos(NANOS_PER_FRAME * CONTROL_FRAMES_BURST as u64);

/// The reading half of a connection. Every await in it is cancel-safe: what was read stays here.
#[derive(Debug)]
pub(super) struct Reader {
    socket: OwnedReadHalf,
    input: BytesMut,
    decoder: Decoder,
    budget: ControlBudget,
    /// When the message that is not whole yet began.
    began: Option<Instant>,
    /// What is held of messages that are not whole, of the node's.
    held: ByteShare,
}

/// Bytes of a message under way for which there is always room, and which are not counted: by small
/// beginnings nobody takes the room of those who send something large.
const HELD_BYTES_LEAST: usize = 16 * 1024;

impl Reader {
    pub(super) fn new(
        socket: OwnedReadHalf,
        early: Bytes,
        message_bytes_max: usize,
        held: ByteShare,
    ) -> Reader {
        Reader {
            held,
            socket,
            input: BytesMut::from(&early[..]),
            decoder: Decoder::new(message_bytes_max),
            budget: ControlBudget::new(Instant::now()),
            began: None,
        }
    }

    /// From the next message on, larger ones are taken.
    pub(super) fn allow(&mut self, message_bytes_max: usize) {
        self.decoder.allow(message_bytes_max);
    }

    /// The next whole message; `heard` is called whenever the client shows life.
    pub(super) async fn next(&mut self, heard: impl Fn()) -> Result<Incoming, CloseReason> {
        loop {
            if let Some(incoming) = self.decode()? {
                return Ok(incoming);
            }
            self.fill().await?;
            heard();
        }
    }

    fn decode(&mut self) -> Result<Option<Incoming>, CloseReason> {
        let incoming = self.decoder.next(&mut self.input).map_err(close_reason)?;
        if let Some(Incoming::Ping(_) | Incoming::Pong(_)) = incoming
            && !self.budget.take(Instant::now())
        {
            return Err(CloseReason::PolicyViolation);
        }
        if self.input.is_empty() {
            // An idle connection holds no buffer.
            self.input = BytesMut::new();
        }
        let bytes = if self.input.is_empty() { 0 } else { self.input.capacity() };
        self.hold(bytes + self.decoder.held_bytes())?;
        if self.input.is_empty() && self.decoder.is_idle() {
            self.began = None;
        } else if self.began.is_none() || matches!(incoming, Some(Incoming::Text(_))) {
            self.began = Some(Instant::now());
        }
        Ok(incoming)
    }

    /// Counts what is held; where all together hold too much, whoever sends a large message is to
    /// come back with it.
    fn hold(&mut self, bytes: usize) -> Result<(), CloseReason> {
        let large = bytes.saturating_sub(HELD_BYTES_LEAST);
        if large != self.held.bytes() {
            self.held.set(large);
            if large > 0 && self.held.is_exceeded() {
                return Err(CloseReason::TryLater);
            }
        }
        Ok(())
    }

    /// Waits for more bytes; a message that has begun has to go on within its time.
    async fn fill(&mut self) -> Result<(), CloseReason> {
        let deadline = self.began.map(|began| began + Duration::from_millis(MESSAGE_TIMEOUT_MS));
        let reading = poll_fn(|context| self.poll_fill(context));
        let read = match deadline {
            None => reading.await,
            Some(deadline) => tokio::time::timeout_at(deadline, reading)
                .await
                .map_err(|_| CloseReason::PolicyViolation)?,
        };
        match read {
            Ok(0) | Err(_) => Err(CloseReason::ClientGone),
            Ok(_) => Ok(()),
        }
    }

    /// Reads what there is; while there is nothing it holds no buffer. By `poll_read`, and not by
    /// `try_read`: to it a read of less than was asked for says that nothing is left, which saves
    /// the read that would find that out.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(READ_BYTES);
        let read = pin!(self.socket.read_buf(&mut self.input)).poll(context);
        if read.is_pending() && self.input.is_empty() {
            self.input = BytesMut::new();
        }
        read
    }

    /// Reads on, for nobody, until the client has closed too.
    pub(super) async fn until_closed(&mut self) {
        self.began = None;
        while self.fill().await.is_ok() {
            self.input.clear();
        }
    }
}

fn close_reason(violation: Violation) -> CloseReason {
    debug!(%violation, "client broke the protocol");
    match violation.close_code() {
        1003 => CloseReason::Unsupported,
        1007 => CloseReason::BadText,
        1008 => CloseReason::PolicyViolation,
        1009 => CloseReason::TooLarge,
        _ => CloseReason::ProtocolError,
    }
}

/// A token bucket for one connection's incoming pings, pongs and closes.
///
/// Every ping costs a pong, so a client that floods pings makes the server write; the protocol
/// itself sets no limit. Whoever exceeds the budget is closed with 1008.
///
/// Kept as one point in time, the moment at which the bucket is full again: exact, and sixteen
/// bytes for each connection.
#[derive(Debug, Clone)]
struct ControlBudget {
    full_at: Instant,
}

impl ControlBudget {
    /// A full bucket.
    fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes a token for one control frame; false when there is none, which takes nothing.
    fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + REFILL;
        let allowed = full_at.duration_since(now) <= REFILL_ALL;
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut ControlBudget, now: Instant, tries: u32) -> u32 {
        (0..tries).map(|_| u32::from(budget.take(now))).sum()
    }

    #[test]
    fn a_burst_of_twenty_passes_and_the_next_does_not() {
        let now = Instant::now();
        let mut budget = ControlBudget::new(now);
        assert_eq!(taken(&mut budget, now, 100), 20);
    }

    #[test]
    fn a_token_returns_every_hundred_milliseconds() {
        let start = Instant::now();
        let mut budget = ControlBudget::new(start);
        taken(&mut budget, start, 20);
        assert!(!budget.take(start + Duration::from_millis(99)));
        assert!(budget.take(start + Duration::from_millis(100)));
        assert!(!budget.take(start + Duration::from_millis(100)));
        assert_eq!(taken(&mut budget, start + Duration::from_millis(600), 100), 5);
    }

    #[test]
    fn silence_saves_no_more_than_the_burst() {
        let start = Instant::now();
        let mut budget = ControlBudget::new(start);
        taken(&mut budget, start, 20);
        assert_eq!(taken(&mut budget, start + Duration::from_secs(3600), 100), 20);
    }

    #[test]
    fn ten_a_second_pass_for_ever() {
        let mut now = Instant::now();
        let mut budget = ControlBudget::new(now);
        for _ in 0..1_000 {
            assert!(budget.take(now));
            now += Duration::from_millis(100);
        }
    }

    #[test]
    fn a_client_that_hammers_gets_what_the_rate_allows() {
        let start = Instant::now();
        let mut budget = ControlBudget::new(start);
        let passed: u32 =
            (0..10_000).map(|ms| taken(&mut budget, start + Duration::from_millis(ms), 1)).sum();
        assert_eq!(passed, 20 + 99);
    }

    #[test]
    fn a_moment_before_the_last_one_is_no_free_token() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut budget = ControlBudget::new(start);
        taken(&mut budget, start, 20);
        assert!(!budget.take(start - Duration::from_secs(5)));
    }
}
