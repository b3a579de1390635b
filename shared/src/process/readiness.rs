//! Readiness: whether this process wants traffic, as a set of named conditions.
//!
//! *Unready* takes a process out of its balancer. What is away for everybody must not do that, or
//! all nodes would leave at once and take with them what still works: then the process is
//! *degraded*, which it says and goes on. Before everything was there once, degraded is unready.

use std::borrow::Cow;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{IntGaugeVec, Opts, Registry};

/// Why a condition is not met.
pub type Reason = Cow<'static, str>;

/// How it is with this process; what is in the way of more as (condition, reason), in the order in
/// which the conditions were named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadinessState {
    /// Everything is there.
    Ready,
    /// It takes traffic and cannot do all of its work.
    Degraded(Vec<(&'static str, Reason)>),
    /// It wants no traffic.
    Unready(Vec<(&'static str, Reason)>),
}

impl ReadinessState {
    /// `ready`, `degraded` or `unready`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            ReadinessState::Ready => "ready",
            ReadinessState::Degraded(_) => "degraded",
            ReadinessState::Unready(_) => "unready",
        }
    }

    /// What is in the way of being ready.
    #[must_use]
    pub fn unmet(&self) -> &[(&'static str, Reason)] {
        match self {
            ReadinessState::Ready => &[],
            ReadinessState::Degraded(unmet) | ReadinessState::Unready(unmet) => unmet,
        }
    }

    /// As `/stats` has it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let unmet = self.unmet().iter();
        let reasons: serde_json::Map<_, _> =
            unmet.map(|(name, reason)| ((*name).to_owned(), reason.as_ref().into())).collect();
        serde_json::json!({"state": self.label(), "reasons": reasons})
    }
}

/// Ready when every named condition is met; until one is named, and once draining, never.
///
/// A handle: clones share the conditions.
#[derive(Debug, Clone)]
pub struct Readiness {
    inner: Arc<Mutex<Inner>>,
    /// 0 where a condition is met, 1 where it is degraded, 2 where it is not met.
    gauges: IntGaugeVec,
}

#[derive(Debug, Default)]
struct Inner {
    conditions: Vec<ConditionEntry>,
    draining: bool,
}

#[derive(Debug)]
struct ConditionEntry {
    name: &'static str,
    standing: ConditionState,
    /// Whether it was met once.
    was_met: bool,
}

/// How it is with a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ConditionState {
    Met,
    Degraded(Reason),
    Unmet(Reason),
}

impl ConditionEntry {
    fn gauge(&self) -> i64 {
        match self.standing {
            ConditionState::Met => 0,
            ConditionState::Degraded(_) if self.was_met => 1,
            ConditionState::Degraded(_) | ConditionState::Unmet(_) => 2,
        }
    }

    fn reason(&self) -> Option<(&'static str, Reason)> {
        match &self.standing {
            ConditionState::Met => None,
            ConditionState::Degraded(reason) | ConditionState::Unmet(reason) => {
                Some((self.name, reason.clone()))
            }
        }
    }
}

impl Default for Readiness {
    fn default() -> Readiness {
        Readiness::new()
    }
}

impl Readiness {
    /// Without conditions yet, and so not ready.
    ///
    /// # Panics
    /// Never: the name of its metric is sound.
    #[must_use]
    pub fn new() -> Self {
        let help = "Whether a condition is met (0), degraded (1) or not met (2).";
        let gauges = IntGaugeVec::new(Opts::new("roomcast_condition", help), &["condition"])
            .expect("the name of a metric is checked by every test that makes it");
        Readiness { inner: Arc::default(), gauges }
    }

    /// Adds a condition, which is not met until its handle says so.
    ///
    /// Name all of them before the operator port is opened: one named later takes the process
    /// out of traffic that it already has.
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        self.named(name, ConditionState::Unmet("not reported yet".into()))
    }

    /// Adds a condition that is met until its handle says otherwise.
    #[must_use]
    pub fn met_condition(&self, name: &'static str) -> Condition {
        self.named(name, ConditionState::Met)
    }

    fn named(&self, name: &'static str, standing: ConditionState) -> Condition {
        let mut inner = self.inner.lock();
        let index = inner.conditions.len();
        let was_met = standing == ConditionState::Met;
        let entry = ConditionEntry { name, standing, was_met };
        self.gauges.with_label_values(&[name]).set(entry.gauge());
        inner.conditions.push(entry);
        Condition { readiness: self.clone(), index }
    }

    /// Not ready from now on, whatever the conditions say: this process is leaving.
    pub fn begin_drain(&self) {
        self.inner.lock().draining = true;
    }

    /// Ready, or what is in the way of it.
    pub fn state(&self) -> ReadinessState {
        let inner = self.inner.lock();
        let mut unmet: Vec<(&'static str, Reason)> = Vec::new();
        if inner.draining {
            unmet.push(("drain", "this process is leaving".into()));
        }
        if inner.conditions.is_empty() {
            unmet.push(("start", "no condition is named yet".into()));
        }
        let is_unready = !unmet.is_empty() || inner.conditions.iter().any(|c| c.gauge() == 2);
        unmet.extend(inner.conditions.iter().filter_map(ConditionEntry::reason));
        match (is_unready, unmet.is_empty()) {
            (true, _) => ReadinessState::Unready(unmet),
            (false, false) => ReadinessState::Degraded(unmet),
            (false, true) => ReadinessState::Ready,
        }
    }

    /// Adds how it is with each condition to a process's metrics.
    pub(super) fn register(&self, registry: &Registry) {
        match registry.register(Box::new(self.gauges.clone())) {
            // There already is as good as there.
            Ok(()) | Err(prometheus::Error::AlreadyReg) => {}
            Err(error) => tracing::warn!(%error, "no readiness in the metrics"),
        }
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
        if let Some(name) = self.set(ConditionState::Met) {
            tracing::info!(condition = name, "readiness condition met");
        }
    }

    /// What the condition is about does not do its work, for everybody: once it was met, that
    /// leaves the process in traffic. `reason` is shown by `/readyz`.
    pub fn degraded(&self, reason: impl Into<Reason>) {
        let reason = reason.into();
        if let Some(name) = self.set(ConditionState::Degraded(reason.clone())) {
            tracing::warn!(condition = name, %reason, "degraded");
        }
    }

    /// The condition was not met yet, and this is why: no news, and so no line of the log.
    pub fn waits(&self, reason: impl Into<Reason>) {
        self.set(ConditionState::Unmet(reason.into()));
    }

    /// The condition is not met; `reason` is shown by `/readyz`.
    pub fn not_ready(&self, reason: impl Into<Reason>) {
        let reason = reason.into();
        if let Some(name) = self.set(ConditionState::Unmet(reason.clone())) {
            tracing::warn!(condition = name, %reason, "readiness condition not met");
        }
    }

    /// Returns the condition's name if this was a change.
    fn set(&self, standing: ConditionState) -> Option<&'static str> {
        let mut inner = self.readiness.inner.lock();
        let entry = &mut inner.conditions[self.index];
        let changed = entry.standing != standing;
        entry.was_met |= standing == ConditionState::Met;
        entry.standing = standing;
        let (name, gauge) = (entry.name, entry.gauge());
        drop(inner);
        if changed {
            self.readiness.gauges.with_label_values(&[name]).set(gauge);
        }
        changed.then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unready(unmet: &[(&'static str, &'static str)]) -> ReadinessState {
        ReadinessState::Unready(
            unmet.iter().map(|(name, reason)| (*name, (*reason).into())).collect(),
        )
    }

    #[test]
    fn a_process_without_conditions_is_not_ready() {
        assert_eq!(Readiness::new().state().label(), "unready");
    }

    #[test]
    fn ready_means_that_every_condition_is_met() {
        let readiness = Readiness::new();
        let redis = readiness.condition("redis");
        let database = readiness.condition("database");
        assert_eq!(
            readiness.state(),
            unready(&[("redis", "not reported yet"), ("database", "not reported yet")])
        );
        redis.ready();
        database.not_ready("no answer");
        assert_eq!(readiness.state(), unready(&[("database", "no answer")]));
        database.ready();
        assert_eq!(readiness.state(), ReadinessState::Ready);
        redis.not_ready("probe lost");
        assert_eq!(readiness.state(), unready(&[("redis", "probe lost")]));
    }

    #[test]
    fn what_was_there_once_leaves_a_process_degraded_and_what_never_was_unready() {
        let readiness = Readiness::new();
        let redis = readiness.condition("redis");
        let database = readiness.condition("database");
        redis.ready();
        database.degraded("no answer");
        assert_eq!(readiness.state(), unready(&[("database", "no answer")]));
        database.ready();
        database.degraded("no answer");
        assert_eq!(
            readiness.state(),
            ReadinessState::Degraded(vec![("database", "no answer".into())])
        );
        let state = serde_json::json!({"state": "degraded", "reasons": {"database": "no answer"}});
        assert_eq!(readiness.state().to_json(), state);
        redis.not_ready("probe lost");
        assert_eq!(readiness.state().label(), "unready");
    }

    #[test]
    fn a_draining_process_is_not_ready_for_good() {
        let readiness = Readiness::new();
        let draining = readiness.clone();
        let redis = readiness.condition("redis");
        redis.ready();
        draining.begin_drain();
        redis.ready();
        assert_eq!(readiness.state(), unready(&[("drain", "this process is leaving")]));
    }
}
