//! Decides from the health of Redis whether a node stays in traffic.
//!
//! Out of traffic goes a node that is deaf by itself, or alone without Redis. What is away for
//! everybody takes nobody out: all nodes would leave the balancer at once.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use crate::contract::limits::{
    DEAF_MS_MAX, REDIS_OK_FRESH_MS, REDIS_OK_LEAD_MS, RETURN_MS_MAX, RETURN_MS_MIN, TROUBLE_MS_MAX,
};
use crate::process::readiness::{Condition, Reason};

/// Why no write comes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Redis refuses it with this code.
    Refused(String),
    /// It does not answer.
    Silent,
}

/// What is known of Redis at one moment.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// Why no write comes through, and for how long.
    pub(super) trouble: Option<(Trouble, Duration)>,
    /// For how long nothing has come back that was published and taken; `None` where nobody
    /// listens, or nothing has ever come back.
    pub(super) deaf: Option<Duration>,
    /// Whether this process listens at all.
    pub(super) listens: bool,
    /// Whether Redis does another node's work.
    pub(super) others_work: bool,
}

/// How it is with Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Met,
    Degraded(Reason),
    Unmet(Reason),
    /// Too early to say.
    Open,
}

impl Observed {
    pub(super) fn verdict(&self) -> Verdict {
        if self.deaf.is_some_and(|deaf| deaf > Duration::from_millis(DEAF_MS_MAX)) {
            let reason = "what this node publishes does not come back";
            return Verdict::Unmet(reason.into());
        }
        match &self.trouble {
            None if self.listens && self.deaf.is_none() => Verdict::Open,
            None => Verdict::Met,
            Some((_, lasted)) if *lasted < Duration::from_millis(TROUBLE_MS_MAX) => Verdict::Open,
            Some((trouble, _)) => {
                let reason = trouble.reason();
                if self.others_work {
                    Verdict::Unmet(format!("{reason}, and does its work for other nodes").into())
                } else {
                    Verdict::Degraded(reason)
                }
            }
        }
    }
}

impl Trouble {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Trouble::Refused(code) => format!("redis refuses writes ({code})").into(),
            Trouble::Silent => Cow::Borrowed("redis does not answer"),
        }
    }
}

/// Whether Redis does another node's work and not this one's, by how long ago it last did either.
/// When it stops for all of them, it does so at about the same time for each.
pub(super) fn others_work(own: Option<Duration>, others: Option<Duration>) -> bool {
    let (fresh, lead) =
        (Duration::from_millis(REDIS_OK_FRESH_MS), Duration::from_millis(REDIS_OK_LEAD_MS));
    others.is_some_and(|others| others < fresh && own.is_none_or(|own| others + lead < own))
}

/// Lets a node that was out of traffic wait a while, by chance, before it comes back.
#[derive(Debug, Default)]
pub(super) struct Gate {
    was_met: bool,
    is_out: bool,
    /// Since when all is well, and for how long it has to be.
    well: Option<(Instant, Duration)>,
}

impl Gate {
    /// Whether it was met once.
    pub(super) fn was_met(&self) -> bool {
        self.was_met
    }

    pub(super) fn apply(&mut self, verdict: Verdict, condition: &Condition) {
        if verdict != Verdict::Met {
            self.well = None;
        }
        match verdict {
            Verdict::Open => {}
            Verdict::Degraded(reason) => {
                self.is_out = false;
                condition.degraded(reason);
            }
            Verdict::Unmet(reason) => {
                self.is_out = self.was_met;
                condition.not_ready(reason);
            }
            Verdict::Met => {
                let (since, pause) = *self.well.get_or_insert_with(|| (Instant::now(), drawn()));
                if !self.is_out || since.elapsed() >= pause {
                    (self.was_met, self.is_out) = (true, false);
                    condition.ready();
                }
            }
        }
    }
}

/// So that nodes that were out together do not all come back at one moment.
fn drawn() -> Duration {
    let chance = RandomState::new().hash_one(RETURN_MS_MIN) % (RETURN_MS_MAX - RETURN_MS_MIN);
    Duration::from_millis(RETURN_MS_MIN + chance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::readiness::Readiness;

    const LONG: Duration = Duration::from_secs(60);

    fn observed() -> Observed {
        let deaf = Some(Duration::ZERO);
        Observed { trouble: None, deaf, listens: true, others_work: false }
    }

    fn refused(code: &str, lasted: Duration) -> Option<(Trouble, Duration)> {
        Some((Trouble::Refused(code.to_owned()), lasted))
    }

    #[test]
    fn a_redis_that_refuses_writes_degrades_by_name_once_it_lasts() {
        for code in ["READONLY", "MISCONF", "NOREPLICAS", "OOM", "LOADING", "CLUSTERDOWN"] {
            let short = Duration::from_millis(TROUBLE_MS_MAX - 1);
            let seen = Observed { trouble: refused(code, short), ..observed() };
            assert_eq!(seen.verdict(), Verdict::Open);
            let seen = Observed { trouble: refused(code, LONG), ..observed() };
            let expected = format!("redis refuses writes ({code})");
            assert_eq!(seen.verdict(), Verdict::Degraded(expected.into()));
        }
    }

    #[test]
    fn only_who_is_alone_without_redis_or_deaf_leaves() {
        let silent = Some((Trouble::Silent, LONG));
        let all = Observed { trouble: silent.clone(), ..observed() };
        assert!(matches!(all.verdict(), Verdict::Degraded(_)));
        let alone = Observed { trouble: silent, others_work: true, ..observed() };
        assert!(matches!(alone.verdict(), Verdict::Unmet(_)));
        let deaf = Observed { deaf: Some(LONG), ..observed() };
        assert!(matches!(deaf.verdict(), Verdict::Unmet(_)));
        assert_eq!(observed().verdict(), Verdict::Met);
        let not_yet = Observed { deaf: None, ..observed() };
        assert_eq!(not_yet.verdict(), Verdict::Open);
        let worker = Observed { deaf: None, listens: false, ..observed() };
        assert_eq!(worker.verdict(), Verdict::Met);
    }

    #[test]
    fn a_redis_that_stops_for_all_does_not_work_for_others() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        // Both wrote down their last success at about the same time.
        assert!(!others_work(seconds(4), seconds(3)));
        assert!(others_work(seconds(9), seconds(1)));
        assert!(!others_work(seconds(300), seconds(290)), "theirs is not fresh either");
        assert!(!others_work(seconds(300), None), "there is nobody else");
        assert!(others_work(None, seconds(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_was_out_comes_back_after_a_while_and_a_degraded_one_at_once() {
        let readiness = Readiness::new();
        let condition = readiness.condition("redis");
        let mut gate = Gate::default();
        let is = |label: &str| readiness.state().label() == label;
        gate.apply(Verdict::Unmet("not yet".into()), &condition);
        gate.apply(Verdict::Met, &condition);
        assert!(is("ready"), "the first time nobody waits");
        gate.apply(Verdict::Degraded("away".into()), &condition);
        gate.apply(Verdict::Met, &condition);
        assert!(is("ready"));
        gate.apply(Verdict::Unmet("deaf".into()), &condition);
        gate.apply(Verdict::Met, &condition);
        tokio::time::advance(Duration::from_millis(RETURN_MS_MIN - 1)).await;
        gate.apply(Verdict::Met, &condition);
        assert!(is("unready"));
        tokio::time::advance(Duration::from_millis(RETURN_MS_MAX)).await;
        gate.apply(Verdict::Met, &condition);
        assert!(is("ready"));
    }
}
