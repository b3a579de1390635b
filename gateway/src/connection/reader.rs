//! From a socket's bytes to whole messages.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use shared::contract::limits::MESSAGE_TIMEOUT_MS;
use shared::contract::refusal::CloseReason;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Instant;
use tracing::debug;

use super::assembler::{Assembler, Incoming, Violation};
use super::control_budget::ControlBudget;

/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 16 * 1024;

/// The reading half of a connection. Every await in it is cancel-safe: what was read stays here.
#[derive(Debug)]
pub(super) struct Reader {
    socket: OwnedReadHalf,
    input: BytesMut,
    assembler: Assembler,
    budget: ControlBudget,
    /// When the message that is not whole yet began.
    began: Option<Instant>,
}

impl Reader {
    pub(super) fn new(socket: OwnedReadHalf, early: Bytes, message_bytes_max: usize) -> Reader {
        Reader {
            socket,
            input: BytesMut::from(&early[..]),
            assembler: Assembler::new(message_bytes_max),
            budget: ControlBudget::new(Instant::now()),
            began: None,
        }
    }

    /// From the next message on, larger ones are taken.
    pub(super) fn allow(&mut self, message_bytes_max: usize) {
        self.assembler.allow(message_bytes_max);
    }

    /// The next whole message; `heard` is called whenever the client shows life.
    pub(super) async fn next(&mut self, heard: impl Fn()) -> Result<Incoming, CloseReason> {
        loop {
            if let Some(incoming) = self.assemble()? {
                return Ok(incoming);
            }
            self.fill().await?;
            heard();
        }
    }

    fn assemble(&mut self) -> Result<Option<Incoming>, CloseReason> {
        let incoming = self.assembler.next(&mut self.input).map_err(close_reason)?;
        if let Some(Incoming::Ping(_) | Incoming::Pong(_)) = incoming
            && !self.budget.take(Instant::now())
        {
            return Err(CloseReason::PolicyViolation);
        }
        if self.input.is_empty() {
            // An idle connection holds no buffer.
            self.input = BytesMut::new();
        }
        if self.input.is_empty() && self.assembler.is_idle() {
            self.began = None;
        } else if self.began.is_none() || matches!(incoming, Some(Incoming::Text(_))) {
            self.began = Some(Instant::now());
        }
        Ok(incoming)
    }

    /// Waits for more bytes; a message that has begun has to go on within its time.
    async fn fill(&mut self) -> Result<(), CloseReason> {
        let deadline = self.began.map(|began| began + Duration::from_millis(MESSAGE_TIMEOUT_MS));
        loop {
            match deadline {
                None => self.socket.readable().await.map_err(|_| CloseReason::ClientGone)?,
                Some(deadline) => tokio::time::timeout_at(deadline, self.socket.readable())
                    .await
                    .map_err(|_| CloseReason::PolicyViolation)?
                    .map_err(|_| CloseReason::ClientGone)?,
            }
            // Only now that there is something: an idle connection holds no buffer.
            self.input.reserve(READ_BYTES);
            match self.socket.try_read_buf(&mut self.input) {
                Ok(0) => return Err(CloseReason::ClientGone),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(CloseReason::ClientGone),
            }
        }
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
