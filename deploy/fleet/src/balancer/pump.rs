//! One connection: bytes from one side to the other, with the faults of its link.

use super::link::{Faults, Traffic, Watch};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How much is read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// How many chunks may be under way in one direction while there is latency.
const CHUNKS_MAX: usize = 64;

/// Carries until both sides have hung up, or until it is reset; a reset on one side is one on the
/// other.
pub(super) async fn carry(mut client: TcpStream, mut target: TcpStream, mut watch: Watch) {
    // Without it the operating system would delay what the link does not. It fails only on a
    // socket that is gone.
    let _gone = client.set_nodelay(true).and(target.set_nodelay(true));
    let is_whole = {
        let (from_client, to_client) = client.split();
        let (from_target, to_target) = target.split();
        let up = Pump::new(from_client, to_target, watch.faults.clone(), |faults| {
            faults.reset_to_target_after
        });
        let down = Pump::new(from_target, to_client, watch.faults.clone(), |faults| {
            faults.reset_to_client_after
        });
        tokio::select! {
            biased;
            _cut = watch.cuts.changed() => false,
            ended = async { tokio::try_join!(up.run(), down.run()) } => ended.is_ok(),
        }
    };
    if !is_whole {
        let _gone = client.set_zero_linger().and(target.set_zero_linger());
    }
}

/// One direction.
struct Pump<R, W> {
    from: R,
    to: W,
    faults: watch::Receiver<Faults>,
    limit: fn(&Faults) -> Option<u64>,
    /// Read and not yet due.
    line: VecDeque<Chunk>,
    /// Bytes written since the faults were set.
    passed: u64,
    /// Whether bytes were lost on the way, so that what follows makes no sense.
    has_hole: bool,
    is_open: bool,
}

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Pump<R, W> {
    fn new(
        from: R,
        to: W,
        faults: watch::Receiver<Faults>,
        limit: fn(&Faults) -> Option<u64>,
    ) -> Pump<R, W> {
        let line = VecDeque::new();
        Pump { from, to, faults, limit, line, passed: 0, has_hole: false, is_open: true }
    }

    /// An end of the stream is passed on; an error means that both sides have to be reset.
    async fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let faults = *self.faults.borrow_and_update();
            if self.has_hole && faults.traffic != Traffic::Swallowed {
                return Err(ErrorKind::ConnectionReset.into());
            }
            if !self.is_open && self.line.is_empty() && !self.has_hole {
                return self.to.shutdown().await;
            }
            let may_read = self.is_open && self.line.len() < CHUNKS_MAX;
            let due = self.line.front().map(|chunk| chunk.due);
            tokio::select! {
                // What was wrong before the bytes were sent holds for them.
                biased;
                changed = self.faults.changed() => {
                    changed.map_err(io::Error::other)?;
                    self.passed = 0;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)),
                    if due.is_some() && faults.traffic == Traffic::Flows =>
                {
                    if let Some(chunk) = self.line.pop_front() {
                        self.write(&chunk.bytes, &faults).await?;
                    }
                }
                read = self.from.read(&mut buffer),
                    if may_read && faults.traffic != Traffic::Held =>
                {
                    let length = read?;
                    self.take(&buffer[..length], &faults).await?;
                }
            }
        }
    }

    /// What was read; nothing at the end of the stream.
    async fn take(&mut self, bytes: &[u8], faults: &Faults) -> io::Result<()> {
        self.is_open = !bytes.is_empty();
        if faults.traffic == Traffic::Swallowed {
            self.has_hole = true;
            return Ok(());
        }
        if faults.latency.is_zero() && self.line.is_empty() {
            return self.write(bytes, faults).await;
        }
        if self.is_open {
            let due = Instant::now() + faults.latency;
            self.line.push_back(Chunk { due, bytes: bytes.to_vec() });
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8], faults: &Faults) -> io::Result<()> {
        let left = (self.limit)(faults).map(|limit| limit.saturating_sub(self.passed));
        let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
        let allowed = bytes.len().min(left);
        self.to.write_all(&bytes[..allowed]).await?;
        self.passed += u64::try_from(allowed).unwrap_or(u64::MAX);
        if allowed < bytes.len() {
            return Err(ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}
