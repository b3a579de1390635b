//! The reading threads.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::connection::ReopeningConnection;
use super::request::{BoxedRequest, Queue, REQUESTS_WAITING_MAX, RequestResult};

/// Threads that read, each with its connection: more than one, so that a long page does not keep
/// the short questions waiting; few, because they share the cores with everything else.
pub(super) const READERS: usize = 3;

/// Starts a thread for each link; they end when no way to them is left.
pub(super) fn start(links: Vec<ReopeningConnection>) -> io::Result<(Queue, Vec<JoinHandle<()>>)> {
    let (queue, waiting) = mpsc::channel::<BoxedRequest>(REQUESTS_WAITING_MAX);
    let waiting = Arc::new(Mutex::new(waiting));
    let threads = links.into_iter().enumerate().map(|(index, mut link)| {
        let waiting = Arc::clone(&waiting);
        let run = move || {
            while let Some(request) = next(&waiting) {
                read(&mut link, request);
            }
        };
        thread::Builder::new().name(format!("sqlite-reader-{index}")).spawn(run)
    });
    Ok((queue, threads.collect::<io::Result<_>>()?))
}

/// The next request for whoever is idle: one of them waits for it, the others for the lock.
fn next(waiting: &Mutex<mpsc::Receiver<BoxedRequest>>) -> Option<BoxedRequest> {
    waiting.lock().blocking_recv()
}

fn read(link: &mut ReopeningConnection, mut request: BoxedRequest) {
    // A transaction, so that a request of several statements sees one state; it begins with the
    // first of them, after the request was made, and is rolled back, having changed nothing.
    let done = link
        .connection()
        .and_then(|connection| connection.transaction())
        .map(|transaction| request.run(&transaction));
    if done.as_ref().map_or(true, |verdict| *verdict == RequestResult::Failed) {
        link.cut();
    }
    match done {
        Ok(_) => request.answer(),
        Err(error) => request.fail(&error.into()),
    }
}
