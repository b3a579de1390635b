//! Tasks that run as long as their process; one that ends early ends the process.
//!
//! A node without its relay, or without the task that listens, goes on accepting and shows nothing:
//! the process is to end instead, so that its supervisor starts a whole one.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use super::readiness::{Condition, Readiness};

/// A task that ended although nobody had asked it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task {name} has {}", if *.panicked { "panicked" } else { "ended by itself" })]
pub struct TaskEnded {
    /// Which task.
    pub name: &'static str,
    /// Whether a bug ended it.
    pub panicked: bool,
}

/// Runs tasks and watches that they do not end.
///
/// A handle: clones share the tasks.
#[derive(Clone, Debug)]
pub struct Tasks {
    watched: Arc<Watched>,
}

#[derive(Debug)]
struct Watched {
    /// Whether tasks may end.
    is_leaving: AtomicBool,
    /// The first that ended before.
    ended: watch::Sender<Option<TaskEnded>>,
    running: Mutex<Vec<AbortHandle>>,
    condition: Condition,
}

/// Reports the end of its task, however that comes about.
struct End {
    name: &'static str,
    watched: Arc<Watched>,
}

impl Drop for End {
    fn drop(&mut self) {
        if self.watched.is_leaving.load(Ordering::Acquire) {
            return;
        }
        let ended = TaskEnded { name: self.name, panicked: std::thread::panicking() };
        let is_first = self.watched.ended.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(ended);
            is_first
        });
        // What ends after it may do so because of it.
        if is_first {
            self.watched.condition.not_ready("a task of this process has ended");
            tracing::error!(task = self.name, "{ended}");
        }
    }
}

impl Tasks {
    /// None yet; when one ends, `readiness` is told.
    #[must_use]
    pub fn new(readiness: &Readiness) -> Tasks {
        let condition = readiness.met_condition("tasks");
        let watched = Watched {
            is_leaving: AtomicBool::new(false),
            ended: watch::Sender::new(None),
            running: Mutex::default(),
            condition,
        };
        Tasks { watched: Arc::new(watched) }
    }

    /// Runs a task that is not to end before [`Tasks::leave`].
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let end = End { name, watched: Arc::clone(&self.watched) };
        let spawned = tokio::spawn(async move {
            let _end = end;
            task.await;
        });
        let mut running = self.watched.running.lock();
        running.push(spawned.abort_handle());
        spawned
    }

    /// Waits for the first task that ends before [`Tasks::leave`].
    pub async fn ended(&self) -> TaskEnded {
        let mut ended = self.watched.ended.subscribe();
        // The sender lives as long as `self`.
        match ended.wait_for(Option::is_some).await.ok().and_then(|first| *first) {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// The process leaves: from now on tasks may end.
    pub fn leave(&self) {
        self.watched.is_leaving.store(true, Ordering::Release);
    }

    /// Ends whatever still runs.
    pub fn abort(&self) {
        self.leave();
        let mut running = self.watched.running.lock();
        running.drain(..).for_each(|task| task.abort());
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::process::readiness::ReadinessState;

    fn unready(readiness: &Readiness) -> bool {
        matches!(readiness.state(), ReadinessState::Unready(_))
    }

    #[tokio::test]
    async fn a_task_that_returns_unasked_is_named_and_the_process_is_not_ready() {
        let readiness = Readiness::new();
        let tasks = Tasks::new(&readiness);
        let (end, ended) = oneshot::channel::<()>();
        tasks.spawn("endless", std::future::pending());
        tasks.spawn("relay", async move { drop(ended.await) });
        assert!(!unready(&readiness));
        end.send(()).unwrap();
        assert_eq!(tasks.ended().await, TaskEnded { name: "relay", panicked: false });
        assert!(unready(&readiness));
    }

    #[tokio::test]
    async fn a_task_that_panics_is_named_and_the_first_one_counts() {
        let readiness = Readiness::new();
        let tasks = Tasks::new(&readiness);
        let panicked = tasks.spawn("hub", async { panic!("a bug") });
        assert!(panicked.await.unwrap_err().is_panic());
        tasks.spawn("relay", async {}).await.unwrap();
        let ended = tasks.ended().await;
        assert_eq!(ended, TaskEnded { name: "hub", panicked: true });
        assert_eq!(ended.to_string(), "the task hub has panicked");
        assert!(unready(&readiness));
    }

    #[tokio::test]
    async fn tasks_may_end_when_the_process_leaves() {
        let readiness = Readiness::new();
        let tasks = Tasks::new(&readiness);
        let endless = tasks.spawn("endless", std::future::pending());
        tasks.leave();
        tasks.spawn("relay", async {}).await.unwrap();
        tasks.abort();
        assert!(endless.await.unwrap_err().is_cancelled());
        assert!(!unready(&readiness));
    }
}
