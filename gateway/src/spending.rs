//! Turns for spending where a budget is kept: checking and spending a user's credits are one step,
//! on this node by a queue, among the nodes by a key in Redis.

pub(crate) mod redis;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shared::contract::id::UserId;
use shared::contract::limits::{SPENDING_FRESH_MS, SPENDING_WAIT_MS};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::redis::{RedisTurn, RedisTurns};

/// Lines that are kept though nobody may stand in them.
const LINES_KEPT: usize = 256;

/// The turns of all users.
#[derive(Debug)]
pub(crate) struct Spending {
    /// One place each.
    lines: Mutex<HashMap<UserId, Arc<Semaphore>>>,
    /// None where this node is the fleet.
    fleet: Option<RedisTurns>,
}

/// Nobody could say in time whose turn it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoTurn;

/// Until it is dropped, nobody else spends of the same credits.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn {
    began: Instant,
    // Given back before the next on this node asks for it.
    _fleet: Option<RedisTurn>,
    _line: OwnedSemaphorePermit,
}

impl Turn {
    /// Whether it is certain that no other node has taken it as over.
    pub(crate) fn is_fresh(&self) -> bool {
        self.began.elapsed() < Duration::from_millis(SPENDING_FRESH_MS)
    }
}

impl Spending {
    pub(crate) fn new(fleet: Option<RedisTurns>) -> Spending {
        Spending { lines: Mutex::default(), fleet }
    }

    /// Waits for this node's turn, and for its place in it.
    pub(crate) async fn turn(&self, user: &UserId) -> Result<Turn, NoTurn> {
        let taken = async {
            let line = self.line(user);
            let line = line.acquire_owned().await.map_err(|_| NoTurn)?;
            let fleet = match &self.fleet {
                Some(fleet) => Some(fleet.take(user).await.ok_or(NoTurn)?),
                None => None,
            };
            Ok(Turn { began: Instant::now(), _fleet: fleet, _line: line })
        };
        let patience = Duration::from_millis(SPENDING_WAIT_MS);
        tokio::time::timeout(patience, taken).await.unwrap_or(Err(NoTurn))
    }

    fn line(&self, user: &UserId) -> Arc<Semaphore> {
        let mut lines = self.lines.lock();
        if lines.len() >= LINES_KEPT {
            lines.retain(|_, line| Arc::strong_count(line) > 1);
        }
        Arc::clone(lines.entry(user.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }
}
