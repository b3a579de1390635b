//! Requests to a thread, and their replies.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;

/// A request in a thread's queue.
pub(super) type BoxedRequest = Box<dyn StoreRequest>;

/// The way to a thread's queue; the thread ends when none is left.
pub(super) type Queue = mpsc::Sender<BoxedRequest>;

/// Requests that may wait for the writer, and for the readers; beyond it askers wait themselves.
pub(super) const REQUESTS_WAITING_MAX: usize = 256;

/// The store was closed, or its thread died.
#[derive(Debug, thiserror::Error)]
#[error("the database is closed")]
pub(super) struct Closed;

impl From<Closed> for StoreError {
    fn from(closed: Closed) -> StoreError {
        StoreError::Unavailable(Box::new(closed))
    }
}

/// Why nothing of a whole transaction was done.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum TransactionFailed {
    /// It could not begin, go on or be committed.
    #[error("the transaction failed")]
    Statement(#[source] Arc<rusqlite::Error>),
    /// A request in it ended it.
    #[error("the transaction was rolled back by another request")]
    RolledBack,
}

impl From<rusqlite::Error> for TransactionFailed {
    fn from(error: rusqlite::Error) -> TransactionFailed {
        TransactionFailed::Statement(Arc::new(error))
    }
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestResult {
    /// Keep what it did.
    Done,
    /// Undo it; the connection is sound.
    Refused,
    /// Undo it; the connection may not be sound.
    Failed,
}

/// Something to do with a connection, and someone who waits for the outcome.
pub(super) trait StoreRequest: Send {
    /// Does it, and keeps the outcome.
    fn run(&mut self, connection: &Connection) -> RequestResult;

    /// Tells the outcome.
    fn answer(self: Box<Self>);

    /// Tells that the transaction failed, whatever the outcome was.
    fn fail(self: Box<Self>, failed: &TransactionFailed);
}

/// The request of one call.
struct StoreCall<T, F> {
    /// `None` once done.
    work: Option<F>,
    outcome: Result<T, StoreError>,
    asker: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> StoreRequest for StoreCall<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, connection: &Connection) -> RequestResult {
        if let Some(work) = self.work.take() {
            self.outcome = work(connection);
        }
        match &self.outcome {
            Ok(_) => RequestResult::Done,
            Err(StoreError::Data { .. } | StoreError::Fenced { .. }) => RequestResult::Refused,
            Err(StoreError::Unavailable(_)) => RequestResult::Failed,
        }
    }

    fn answer(self: Box<Self>) {
        // Whoever asked may have gone; what was done is done.
        let _gone = self.asker.send(self.outcome);
    }

    fn fail(self: Box<Self>, failed: &TransactionFailed) {
        let _gone = self.asker.send(Err(StoreError::Unavailable(Box::new(failed.clone()))));
    }
}

/// Has `work` done by the thread at the other end of `queue`.
pub(super) async fn ask<T, F>(queue: Queue, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
{
    let (asker, answer) = oneshot::channel();
    let asked = StoreCall { work: Some(work), outcome: Err(Closed.into()), asker };
    queue.send(Box::new(asked)).await.map_err(|_| Closed)?;
    // Kept, it would keep the thread from ending.
    drop(queue);
    answer.await.map_err(|_| Closed)?
}
