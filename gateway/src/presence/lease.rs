//! Leases of the nodes' incarnations, and which of them have lapsed. Pure: the callers bring the
//! time.
//!
//! A lease that has lapsed proves nothing while nobody could renew any: a Redis that stood still
//! lets all of them lapse. So a node judges others only after its own renewals and looks have come
//! through promptly for the length of a lease, and nobody of whom it has not known for as long.

use std::collections::HashMap;
use std::time::Duration;

use shared::contract::limits::{LEASE_LOOK_MS, LEASE_MS, LEASE_RENEW_MS};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Leases, Renewal};

const LEASE: Duration = Duration::from_millis(LEASE_MS);
const RENEW: Duration = Duration::from_millis(LEASE_RENEW_MS);
/// An answer that took longer says that something stood still.
const PROMPT: Duration = Duration::from_millis(LEASE_LOOK_MS);
/// How long the dead are remembered, against words of theirs that come late.
const DEAD_MEMORY: Duration = Duration::from_secs(10 * 60);
/// Own earlier runs that are remembered.
const PAST_RUNS_MAX: usize = 16;

/// What one node knows of the leases.
#[derive(Debug)]
pub(super) struct LeaseMonitor {
    incarnation: Uuid,
    past: Vec<Uuid>,
    /// When the last renewal that came through was begun; `None` before the first.
    held: Option<Instant>,
    /// Since when everything has come through promptly.
    prompt_since: Option<Instant>,
    /// Others, and since when they are known.
    known: HashMap<Uuid, Instant>,
    dead: HashMap<Uuid, Instant>,
}

/// What a look at the leases has shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LeasePoll {
    /// These are dead, as of now.
    pub(super) died: Vec<Uuid>,
    /// Nobody has cleaned up after these.
    pub(super) to_clean_up: Vec<Uuid>,
}

impl LeaseMonitor {
    pub(super) fn new(incarnation: Uuid) -> LeaseMonitor {
        LeaseMonitor {
            incarnation,
            past: Vec::new(),
            held: None,
            prompt_since: None,
            known: HashMap::new(),
            dead: HashMap::new(),
        }
    }

    /// This run.
    pub(super) fn incarnation(&self) -> Uuid {
        self.incarnation
    }

    /// Whether this process is, or was, that run.
    pub(super) fn is_own(&self, incarnation: Uuid) -> bool {
        incarnation == self.incarnation || self.past.contains(&incarnation)
    }

    /// Whether this run has a lease: before, it must not announce anybody.
    pub(super) fn is_leased(&self) -> bool {
        self.held.is_some()
    }

    /// Whether the lease may have lapsed, by this machine's own clock.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.held.is_some_and(|held| now - held >= LEASE)
    }

    /// Goes on as another run; gives the one that ended.
    pub(super) fn start_new_incarnation(&mut self, incarnation: Uuid) -> Uuid {
        let ended = std::mem::replace(&mut self.incarnation, incarnation);
        if self.past.len() == PAST_RUNS_MAX {
            self.past.remove(0);
        }
        self.past.push(ended);
        (self.held, self.prompt_since) = (None, None);
        ended
    }

    /// The renewal that is due.
    pub(super) fn renewal(&self, now: Instant) -> Option<Renewal> {
        match self.held {
            None => Some(Renewal::First),
            // A look is due in any case; not to wait for the next saves most of its interval.
            Some(held) if now - held + PROMPT / 2 >= RENEW => Some(Renewal::Again),
            Some(_) => None,
        }
    }

    /// A renewal that was begun then has come through.
    pub(super) fn renewed(&mut self, began: Instant, now: Instant) {
        self.held = Some(began);
        if self.came_through(began, now) {
            self.prompt_since.get_or_insert(began);
        }
    }

    /// Something did not come through.
    pub(super) fn failed(&mut self) {
        self.prompt_since = None;
    }

    fn came_through(&mut self, began: Instant, now: Instant) -> bool {
        if now - began > PROMPT {
            self.failed();
        }
        now - began <= PROMPT
    }

    /// Whether what this node sees of others counts.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.prompt_since.is_some_and(|since| now - since >= LEASE)
    }

    /// Looks at the leases, as they were asked for then.
    pub(super) fn poll(&mut self, began: Instant, now: Instant, leases: &Leases) -> LeasePoll {
        // Without its own lease among them, Redis has forgotten, or this node has slept.
        if !self.came_through(began, now) || !leases.living.contains(&self.incarnation) {
            self.failed();
        }
        for incarnation in leases.living.iter().chain(&leases.lapsed) {
            self.accept(*incarnation, now);
        }
        for living in &leases.living {
            if self.dead.remove(living).is_some() {
                self.known.insert(*living, now);
            }
        }
        self.dead.retain(|_, died| now - *died < DEAD_MEMORY);
        if !self.is_settled(now) {
            return LeasePoll::default();
        }
        let died = |(incarnation, since): (&Uuid, &Instant)| {
            let lapsed = !leases.living.contains(incarnation) && now - *since >= LEASE;
            lapsed.then_some(*incarnation)
        };
        let died: Vec<Uuid> = self.known.iter().filter_map(died).collect();
        for incarnation in &died {
            self.mark_dead(*incarnation, now);
        }
        let dead = leases.lapsed.iter().filter(|lapsed| self.dead.contains_key(lapsed));
        LeasePoll { died, to_clean_up: dead.copied().collect() }
    }

    /// Somebody is said to be there through another's run; whether that is to be believed.
    pub(super) fn accept(&mut self, incarnation: Uuid, now: Instant) -> bool {
        if self.is_own(incarnation) || self.dead.contains_key(&incarnation) {
            return false;
        }
        self.known.entry(incarnation).or_insert(now);
        true
    }

    /// Another's run is dead.
    pub(super) fn mark_dead(&mut self, incarnation: Uuid, now: Instant) {
        self.known.remove(&incarnation);
        self.dead.insert(incarnation, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        monitor: LeaseMonitor,
        began: Instant,
    }

    const HERE: Uuid = Uuid::from_u128(1);
    const THERE: Uuid = Uuid::from_u128(2);

    impl Scene {
        fn new() -> Scene {
            Scene { monitor: LeaseMonitor::new(HERE), began: Instant::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.began + Duration::from_millis(ms)
        }

        /// Renews and looks each second of a span, every answer prompt.
        fn live(&mut self, from_ms: u64, to_ms: u64, living: &[Uuid]) -> LeasePoll {
            let mut last = LeasePoll::default();
            for ms in (from_ms..=to_ms).step_by(1000) {
                let now = self.at(ms);
                if self.monitor.renewal(now).is_some() {
                    self.monitor.renewed(now, now);
                }
                last = self.poll(ms, living, &[]);
            }
            last
        }

        fn poll(&mut self, ms: u64, living: &[Uuid], lapsed: &[Uuid]) -> LeasePoll {
            let living = living.iter().copied().chain([self.monitor.incarnation()]).collect();
            let lapsed = lapsed.iter().copied().collect();
            let now = self.at(ms);
            self.monitor.poll(now, now, &Leases { living, lapsed })
        }
    }

    #[test]
    fn whose_lease_lapses_is_dead_and_to_be_reaped_until_somebody_has() {
        let mut scene = Scene::new();
        assert_eq!(scene.live(0, 10_000, &[THERE]), LeasePoll::default());
        let judged = scene.poll(11_000, &[], &[THERE]);
        assert_eq!(judged, LeasePoll { died: vec![THERE], to_clean_up: vec![THERE] });
        assert!(!scene.monitor.accept(THERE, scene.at(11_500)), "a late word of the dead");
        let judged = scene.poll(12_000, &[], &[THERE]);
        assert_eq!(judged, LeasePoll { died: vec![], to_clean_up: vec![THERE] });
        assert_eq!(scene.poll(13_000, &[], &[]), LeasePoll::default());
    }

    #[test]
    fn nobody_is_judged_before_ones_own_renewals_have_come_through_for_a_lease() {
        let mut scene = Scene::new();
        scene.live(0, 20_000, &[THERE]);
        scene.monitor.failed();
        assert_eq!(scene.poll(36_000, &[], &[THERE]), LeasePoll::default());
        assert_eq!(scene.live(37_000, 42_000, &[]), LeasePoll::default());
        assert_eq!(scene.live(43_000, 43_000, &[]).died, [THERE]);
    }

    #[test]
    fn nobody_is_judged_after_a_slow_answer_or_without_ones_own_lease() {
        let mut scene = Scene::new();
        scene.live(0, 20_000, &[THERE]);
        let leases = Leases { living: [HERE].into(), ..Leases::default() };
        let (asked, answered) = (scene.at(21_000), scene.at(22_500));
        assert_eq!(scene.monitor.poll(asked, answered, &leases), LeasePoll::default());
        scene.live(23_000, 40_000, &[THERE]);
        let now = scene.at(41_000);
        assert_eq!(scene.monitor.poll(now, now, &Leases::default()), LeasePoll::default());
    }

    #[test]
    fn who_was_heard_of_first_a_moment_ago_is_not_judged() {
        let mut scene = Scene::new();
        scene.live(0, 20_000, &[]);
        assert!(scene.monitor.accept(THERE, scene.at(20_000)));
        assert_eq!(scene.live(21_000, 25_000, &[]), LeasePoll::default());
        assert_eq!(scene.live(26_000, 26_000, &[]).died, [THERE]);
    }

    #[test]
    fn a_run_that_slept_past_its_lease_is_another_and_hears_nothing_of_the_one_before() {
        let mut scene = Scene::new();
        assert!(!scene.monitor.is_leased());
        scene.live(0, 10_000, &[THERE]);
        assert!(!scene.monitor.is_overdue(scene.at(15_999)));
        assert!(scene.monitor.is_overdue(scene.at(30_000)));
        let other = Uuid::from_u128(3);
        assert_eq!(scene.monitor.start_new_incarnation(other), HERE);
        assert!(!scene.monitor.is_leased() && !scene.monitor.is_overdue(scene.at(90_000)));
        assert_eq!(scene.monitor.renewal(scene.at(30_000)), Some(Renewal::First));
        assert!(!scene.monitor.accept(HERE, scene.at(30_000)));
        assert!(!scene.monitor.accept(other, scene.at(30_000)));
    }

    #[test]
    fn a_run_that_was_judged_wrongly_lives_again() {
        let mut scene = Scene::new();
        scene.live(0, 10_000, &[THERE]);
        assert_eq!(scene.poll(11_000, &[], &[]).died, [THERE]);
        scene.poll(12_000, &[THERE], &[]);
        assert!(scene.monitor.accept(THERE, scene.at(12_000)));
        assert_eq!(scene.poll(13_000, &[], &[]), LeasePoll::default());
    }
}
