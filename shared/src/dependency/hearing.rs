//! Watches whether what a node publishes comes back to it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What the listening end of a node notes, and whoever judges it reads.
#[derive(Debug, Default)]
pub struct Hearing {
    state: Mutex<HearingState>,
}

#[derive(Debug, Default)]
struct HearingState {
    /// Something came back once.
    ever: bool,
    /// When the first was published of what Redis took and what has not come back.
    missing: Option<Instant>,
}

impl Hearing {
    /// Redis has taken what was published, or has not.
    pub fn published(&self, taken: bool) {
        let mut state = self.state.lock();
        if !taken {
            // Nothing can be expected to come back.
            state.missing = None;
        } else if state.missing.is_none() {
            state.missing = Some(Instant::now());
        }
    }

    /// Something came back.
    pub fn came_back(&self) {
        let mut state = self.state.lock();
        state.ever = true;
        state.missing = None;
    }

    /// For how long nothing has come back although Redis takes what is published; `None` while
    /// nothing has ever come back.
    #[must_use]
    pub fn deaf_for(&self) -> Option<Duration> {
        let state = self.state.lock();
        state.ever.then(|| state.missing.map_or(Duration::ZERO, |at| at.elapsed()))
    }
}
