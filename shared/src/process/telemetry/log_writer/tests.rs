use std::io::{PipeReader, Read, pipe};

use super::*;

const SOON: Duration = Duration::from_secs(30);

fn counter() -> IntCounter {
    IntCounter::new("roomcast_log_lines_dropped_total", "A test.").unwrap()
}

/// A writer to a pipe, with the pipe's other end.
fn piped() -> (LogWriter, IntCounter, PipeReader) {
    let (reader, out) = pipe().unwrap();
    let dropped = counter();
    let say = |writer: &LogWriter, lines: u64| writer.put(format!("{lines} lost\n").as_bytes());
    (LogWriter::start(out, dropped.clone(), say).unwrap(), dropped, reader)
}

#[test]
fn lines_come_out_in_their_order() {
    let (writer, dropped, mut reader) = piped();
    writer.put(b"one\n");
    writer.put(b"two\n");
    writer.finish(SOON);
    let mut read = [0; 8];
    reader.read_exact(&mut read).unwrap();
    assert_eq!((&read, dropped.get()), (b"one\ntwo\n", 0));
}

#[test]
fn a_line_that_nobody_can_read_any_more_is_counted_and_harms_nobody() {
    let (writer, dropped, reader) = piped();
    drop(reader);
    writer.put(b"one\n");
    writer.put(b"two\n");
    writer.finish(SOON);
    assert_eq!(dropped.get(), 2);
}

#[test]
fn a_pipe_that_is_never_read_holds_up_nobody_and_what_was_dropped_is_said_later() {
    let (writer, dropped, mut reader) = piped();
    let line = vec![b'x'; 64 * 1024];
    // The pipe, the queue, and more than both hold.
    let lines = LOG_QUEUE_BYTES_MAX / line.len() + 8;
    for _ in 0..lines {
        writer.put(&line);
    }
    let lost = dropped.get();
    assert!(lost > 0);
    writer.finish(Duration::from_millis(1));

    let kept = usize::try_from(u64::try_from(lines).unwrap() - lost).unwrap();
    let said = format!("{lost} lost\n");
    let mut read = vec![0; kept * line.len() + said.len()];
    reader.read_exact(&mut read).unwrap();
    assert!(String::from_utf8(read).unwrap().contains(&said));
    writer.finish(SOON);
    assert_eq!(dropped.get(), lost);
}
