//! A day: how many clients there are, and what happens to pods and to the autoscaler.

use super::controller::Controller;
use super::fleet::Fleet;

/// How often the autoscaler looks.
pub(crate) const STEP_S: u64 = 15;
pub(crate) const DAY_S: u64 = 24 * 3600;

/// Clients at a minute of the day; between them, the straight line.
const CLIENTS: [(u64, u64); 18] = [
    (0, 12_000),
    (300, 7_000),
    (420, 20_000),
    (540, 120_000),
    (600, 150_000),
    (720, 150_000),
    (750, 120_000),
    (810, 150_000),
    (840, 150_000),
    // All of a company at once.
    (845, 210_000),
    (900, 205_000),
    (930, 150_000),
    (1020, 140_000),
    (1080, 100_000),
    (1200, 50_000),
    (1290, 25_000),
    (1380, 15_000),
    (1440, 12_000),
];

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A node of the cluster is gone, with so many pods.
    PodsLost(usize),
    /// So many pods are not scraped for a while.
    PodsUnread(usize),
    /// Prometheus is back.
    PodsReadAgain,
    /// Another process of Kubernetes takes over.
    ControllerRestarts,
}

/// At which minute it does.
pub(crate) const TROUBLES: [(u64, Trouble, &str); 9] = [
    (200, Trouble::PodsLost(1), "A pod of the fewest is lost"),
    (630, Trouble::PodsLost(3), "A node is lost, with three pods"),
    (760, Trouble::PodsUnread(4), "Four pods are not scraped"),
    (775, Trouble::PodsReadAgain, "They are scraped again"),
    (960, Trouble::PodsUnread(usize::MAX), "Prometheus is away"),
    (990, Trouble::PodsReadAgain, "Prometheus is back"),
    (1050, Trouble::ControllerRestarts, "The autoscaler's process is another, and knows nothing"),
    (1130, Trouble::PodsLost(2), "A node is lost, with two pods"),
    (1260, Trouble::PodsLost(1), "A pod is lost"),
];

/// Pods that are taken away at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Departure {
    pub(crate) at_s: u64,
    /// How many there were.
    pub(crate) pods: u64,
    pub(crate) left: u64,
}

/// The fleet at one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at_s: u64,
    pub(crate) clients: u64,
    pub(crate) pods: u64,
    pub(crate) fullest: u64,
    /// Clients that were moved in this step because their pod was taken away.
    pub(crate) moved: u64,
    /// Clients that were moved since the day began so that pods have alike many.
    pub(crate) rebalanced: u64,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Day {
    pub(crate) samples: Vec<Sample>,
    pub(crate) departures: Vec<Departure>,
    pub(crate) turned_away: u64,
    pub(crate) fewest_pods: u64,
}

/// How many clients there are at a time.
fn clients_at(at_s: u64) -> u64 {
    let after = CLIENTS.iter().position(|(minute, _)| minute * 60 > at_s);
    let Some(after) = after else { return CLIENTS[CLIENTS.len() - 1].1 };
    let ((from, before), (to, then)) = (CLIENTS[after - 1], CLIENTS[after]);
    let (done, whole) = (at_s - from * 60, (to - from) * 60);
    (before * (whole - done) + then * done) / whole
}

impl Day {
    /// Lives a day, step by step.
    pub(crate) fn live(mut controller: Controller, connections_max: u64) -> Day {
        let fewest_pods = controller.fewest();
        let mut wanted = fewest_pods;
        let mut fleet = Fleet::new(wanted, clients_at(0), connections_max);
        let (mut samples, mut departures, mut unread) = (Vec::new(), Vec::new(), 0);
        // What was before is not the day's: it begins when pods are ready.
        for at_s in (60..DAY_S).step_by(usize::try_from(STEP_S).expect("a small number")) {
            for (_, trouble, _) in TROUBLES.iter().filter(|(minute, ..)| minute * 60 == at_s) {
                match trouble {
                    Trouble::PodsLost(pods) => drop(fleet.lose(*pods)),
                    Trouble::PodsUnread(pods) => unread = *pods,
                    Trouble::PodsReadAgain => unread = 0,
                    Trouble::ControllerRestarts => controller.restart(),
                }
            }
            fleet.grow_to(wanted, at_s);
            fleet.step(at_s, clients_at(at_s));
            let targets = controller.targets.iter();
            let readings: Vec<_> =
                targets.map(|target| fleet.readings(at_s, *target, unread)).collect();
            let next = controller.step(at_s, wanted, &readings);
            if next < wanted {
                departures.push(Departure { at_s, pods: wanted, left: wanted - next });
                fleet.shrink_to(next);
            }
            wanted = next;
            fleet.grow_to(wanted, at_s);
            samples.push(Sample {
                at_s,
                clients: fleet.clients(),
                pods: wanted,
                fullest: fleet.fullest(),
                moved: fleet.moved,
                rebalanced: fleet.rebalanced,
            });
        }
        Day { samples, departures, turned_away: fleet.turned_away, fewest_pods }
    }

    /// For each step: how many clients were moved within so many seconds from then, of how many
    /// clients and pods.
    pub(crate) fn moved_within(&self, window_s: u64) -> Vec<(u64, u64, u64, u64)> {
        let steps = usize::try_from(window_s / STEP_S).expect("a small number");
        let windows = self.samples.windows(steps);
        let moved = windows.map(|window| {
            let Sample { at_s, clients, pods, .. } = window[0];
            (at_s, window.iter().map(|sample| sample.moved).sum(), clients, pods)
        });
        moved.collect()
    }
}

#[test]
fn clients_come_and_go_along_straight_lines() {
    assert_eq!(clients_at(0), 12_000);
    assert_eq!(clients_at(540 * 60), 120_000);
    assert_eq!(clients_at(480 * 60), 70_000);
    assert_eq!(clients_at(DAY_S), 12_000);
}
