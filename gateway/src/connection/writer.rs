//! Writes a connection's send queue to its socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use shared::contract::limits::CLOSE_LINGER_MS;
use shared::contract::refusal::CloseReason;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::wire::frame::Frame;
use crate::wire::send_queue::SendQueue;

/// Writes until the queue is done, then the close frame, and ends this half of the connection. A
/// client that takes no byte for as long as `patience` is cut.
pub(super) async fn run(
    mut socket: OwnedWriteHalf,
    queue: Arc<SendQueue>,
    metrics: Arc<Metrics>,
    patience: Duration,
) {
    while let Some(frames) = queue.take().await {
        let count = frames.len() as u64;
        let bytes = frames.iter().map(Bytes::len).sum();
        if let Err(error) = write(&socket, frames.into(), &queue, patience).await {
            // Part of a frame may be on its way: nothing can follow it, not even a close.
            queue.close(reason(&error));
            queue.written(bytes);
            return;
        }
        metrics.frames_out_total.inc_by(count);
        queue.written(bytes);
    }
    let reason = queue.closing().unwrap_or(CloseReason::Normal);
    if reason != CloseReason::ClientGone {
        let close = Frame::close(reason.code(), reason.label());
        let _ = write(&socket, VecDeque::from([Bytes::from(close)]), &queue, patience).await;
    }
    let _ = socket.shutdown().await;
}

/// Writes all frames, as many as the socket takes at a time.
async fn write(
    socket: &OwnedWriteHalf,
    mut frames: VecDeque<Bytes>,
    queue: &SendQueue,
    patience: Duration,
) -> io::Result<()> {
    while !frames.is_empty() {
        let slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
        let mut written = match socket.try_write_vectored(&slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                writable(socket, queue, patience).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        while let Some(front) = frames.front_mut() {
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            frames.pop_front();
        }
    }
    Ok(())
}

/// Waits until the client takes something again: as long as `patience`, and of a connection that is
/// ending only a moment longer.
async fn writable(
    socket: &OwnedWriteHalf,
    queue: &SendQueue,
    patience: Duration,
) -> io::Result<()> {
    let moment = Duration::from_millis(CLOSE_LINGER_MS);
    let began = Instant::now();
    loop {
        let was_closing = queue.closing().is_some();
        match tokio::time::timeout(moment.min(patience), socket.writable()).await {
            Ok(writable) => return writable,
            Err(_) if was_closing || began.elapsed() >= patience => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(_) => {}
        }
    }
}

fn reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::TimedOut => CloseReason::TooSlow,
        _ => CloseReason::ClientGone,
    }
}
