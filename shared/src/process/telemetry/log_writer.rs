//! Writes log lines from a bounded queue, on a thread of its own.
//!
//! Whoever logs never waits: standard error may be a pipe that nobody reads, or one whose reader is
//! gone. What does not fit or cannot be written is counted and dropped, and said once lines get out
//! again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

use crate::contract::limits::LOG_QUEUE_BYTES_MAX;

/// The lines that wait, shared by all who log and the thread that writes.
#[derive(Clone, Debug)]
pub(super) struct LogWriter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    /// Of `lines` and of the line that is being written.
    bytes: usize,
    /// Dropped since that was last said.
    unsaid: u64,
    is_writing: bool,
}

impl LogWriter {
    /// Starts the thread, which writes to `out` for as long as the process lives. After lines were
    /// dropped, `say` logs how many, as soon as a line gets out again.
    pub(super) fn start(
        mut out: impl Write + Send + 'static,
        dropped: IntCounter,
        say: impl Fn(&LogWriter, u64) + Send + 'static,
    ) -> io::Result<LogWriter> {
        let queue = Mutex::new(Queue::default());
        let writer =
            LogWriter { shared: Arc::new(Shared { queue, changed: Condvar::new(), dropped }) };
        let own = writer.clone();
        let run = move || {
            loop {
                let line = own.next();
                let written = out.write_all(&line).and_then(|()| out.flush());
                if let Some(lines) = own.written(&line, &written) {
                    say(&own, lines);
                }
            }
        };
        std::thread::Builder::new().name("log-writer".to_owned()).spawn(run)?;
        Ok(writer)
    }

    /// Puts a line in the queue, or drops it.
    pub(super) fn put(&self, line: &[u8]) {
        let mut queue = self.shared.queue.lock();
        if queue.bytes + line.len() > LOG_QUEUE_BYTES_MAX {
            queue.unsaid += 1;
            self.shared.dropped.inc();
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_vec());
        self.shared.changed.notify_all();
    }

    /// Waits until everything is written, or dropped; no longer than `patience`.
    pub(super) fn finish(&self, patience: Duration) {
        let is_at_work = |queue: &mut Queue| queue.is_writing || !queue.lines.is_empty();
        // What is still there after that waits for somebody who does not read.
        let mut queue = self.shared.queue.lock();
        let _ = self.shared.changed.wait_while_for(&mut queue, is_at_work, patience);
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.shared.queue.lock();
        self.shared.changed.wait_while(&mut queue, |queue| queue.lines.is_empty());
        queue.is_writing = true;
        queue.lines.pop_front().unwrap_or_default()
    }

    /// How many lines were dropped before this one, if that is to be said now.
    fn written(&self, line: &[u8], outcome: &io::Result<()>) -> Option<u64> {
        let mut queue = self.shared.queue.lock();
        queue.bytes -= line.len();
        queue.is_writing = false;
        self.shared.changed.notify_all();
        if outcome.is_err() {
            queue.unsaid += 1;
            self.shared.dropped.inc();
            return None;
        }
        let unsaid = std::mem::take(&mut queue.unsaid);
        (unsaid > 0).then_some(unsaid)
    }
}

/// The whole line comes in one call, and is always taken: a logger that is told of an error writes
/// it to standard error itself, and panics where that is closed.
impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a LogWriter;

    fn make_writer(&'a self) -> &'a LogWriter {
        self
    }
}

#[cfg(test)]
mod tests;
