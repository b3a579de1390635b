//! From a connection's queue to its socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use shared::contract::limits::{CLOSE_LINGER_MS, WRITE_TIMEOUT_MS};
use shared::contract::refusal::CloseReason;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;

use crate::frame::Frame;
use crate::metrics::Metrics;
use crate::send_queue::SendQueue;

/// Writes until the queue is done, then the close frame, and ends this half of the connection.
pub(super) async fn run(mut socket: OwnedWriteHalf, queue: Arc<SendQueue>, metrics: Arc<Metrics>) {
    while let Some(frames) = queue.take().await {
        let count = frames.len() as u64;
        let bytes = frames.iter().map(Bytes::len).sum();
        if let Err(error) = write(&mut socket, frames.into()).await {
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
        let linger = Duration::from_millis(CLOSE_LINGER_MS);
        let farewell = write(&mut socket, VecDeque::from([Bytes::from(close)]));
        let _ = tokio::time::timeout(linger, farewell).await;
    }
    let _ = socket.shutdown().await;
}

/// Writes all frames, as many as the socket takes at a time.
async fn write(socket: &mut OwnedWriteHalf, mut frames: VecDeque<Bytes>) -> io::Result<()> {
    let patience = Duration::from_millis(WRITE_TIMEOUT_MS);
    while !frames.is_empty() {
        let slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
        let mut written = match socket.try_write_vectored(&slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::timeout(patience, socket.writable()).await??;
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

fn reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::TimedOut => CloseReason::TooSlow,
        _ => CloseReason::ClientGone,
    }
}
