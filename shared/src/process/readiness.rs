//! Whether this process wants traffic, as a set of named conditions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ready when every named condition is met; until one is named, and once draining, never.
///
/// A handle: clones share the conditions.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    conditions: Vec<Entry>,
    draining: bool,
}

#[derive(Debug)]
struct Entry {
    name: &'static str,
    /// Why it is not met; `None` when it is.
    reason: Option<&'static str>,
}

impl Readiness {
    /// Without conditions yet, and so not ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition, which is not met until its handle says so.
    ///
    /// Name all of them before the operator port is opened: one named later takes the process
    /// out of traffic that it already has.
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        let mut state = self.lock();
        let index = state.conditions.len();
        state.conditions.push(Entry { name, reason: Some("not reported yet") });
        Condition { readiness: self.clone(), index }
    }

    /// Not ready from now on, whatever the conditions say: this process is leaving.
    pub fn begin_drain(&self) {
        self.lock().draining = true;
    }

    /// Ready, or what is in the way of it: (condition, reason) in the order they were named.
    pub fn state(&self) -> Result<(), Vec<(&'static str, &'static str)>> {
        let state = self.lock();
        let mut unmet = Vec::new();
        if state.draining {
            unmet.push(("drain", "this process is leaving"));
        }
        if state.conditions.is_empty() {
            unmet.push(("start", "no condition is named yet"));
        }
        for entry in &state.conditions {
            unmet.extend(entry.reason.map(|reason| (entry.name, reason)));
        }
        if unmet.is_empty() { Ok(()) } else { Err(unmet) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every section leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle by which one part of the process reports on its condition.
///
/// Reporting the same again is free; a change is logged.
#[derive(Debug, Clone)]
pub struct Condition {
    readiness: Readiness,
    index: usize,
}

impl Condition {
    /// The condition is met.
    pub fn ready(&self) {
        if let Some(name) = self.set(None) {
            tracing::info!(condition = name, "readiness condition met");
        }
    }

    /// The condition is not met; `reason` is shown by `/readyz`.
    pub fn not_ready(&self, reason: &'static str) {
        if let Some(name) = self.set(Some(reason)) {
            tracing::warn!(condition = name, reason, "readiness condition not met");
        }
    }

    /// Returns the condition's name if this was a change.
    fn set(&self, reason: Option<&'static str>) -> Option<&'static str> {
        let mut state = self.readiness.lock();
        let entry = &mut state.conditions[self.index];
        let changed = entry.reason != reason;
        entry.reason = reason;
        changed.then_some(entry.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_conditions_is_not_ready() {
        assert!(Readiness::new().state().is_err());
    }

    #[test]
    fn ready_means_that_every_condition_is_met() {
        let readiness = Readiness::new();
        let redis = readiness.condition("redis");
        let database = readiness.condition("database");
        assert_eq!(
            readiness.state(),
            Err(vec![("redis", "not reported yet"), ("database", "not reported yet")])
        );
        redis.ready();
        database.not_ready("no answer");
        assert_eq!(readiness.state(), Err(vec![("database", "no answer")]));
        database.ready();
        assert_eq!(readiness.state(), Ok(()));
        redis.not_ready("probe lost");
        assert_eq!(readiness.state(), Err(vec![("redis", "probe lost")]));
    }

    #[test]
    fn a_draining_process_is_not_ready_for_good() {
        let readiness = Readiness::new();
        let draining = readiness.clone();
        let redis = readiness.condition("redis");
        redis.ready();
        draining.begin_drain();
        redis.ready();
        assert_eq!(readiness.state(), Err(vec![("drain", "this process is leaving")]));
    }
}
