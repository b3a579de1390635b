//! Pods and the clients on them.

use super::controller::{Reading, Target};

/// How long after it is wanted a pod runs, and takes clients.
const STARTS_AFTER_S: u64 = 20;
const READY_AFTER_S: u64 = 45;

/// How long what a pod uses while it starts does not count as CPU.
const CPU_COUNTS_AFTER_S: u64 = 300;

/// Over how many steps a pod that leaves sends its clients away: `ROOMCAST_DRAIN_SPREAD_MS`.
const DRAIN_STEPS: u64 = 2;

/// CPU in hundredths of the request, by what the pod does.
const CPU_IDLE: f64 = 4.0;
const CPU_OF_CONNECTIONS: f64 = 0.004;
const CPU_OF_HANDSHAKES: f64 = 0.03;

#[derive(Debug, Clone)]
pub(crate) struct Pod {
    born_s: u64,
    pub(crate) clients: u64,
    /// Clients that came in this step.
    came: u64,
    /// What was scraped last, a step ago.
    scraped: Option<(u64, u64)>,
    /// Steps until it is gone, where it leaves.
    leaving: Option<u64>,
}

/// All pods, and what became of clients.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) pods: Vec<Pod>,
    connections_max: u64,
    pub(crate) turned_away: u64,
    /// Clients of this step that were told to go because their pod was taken away.
    pub(crate) moved: u64,
    pub(crate) rebalanced: u64,
}

impl Pod {
    fn is_ready(&self, at_s: u64) -> bool {
        self.leaving.is_none() && at_s >= self.born_s + READY_AFTER_S
    }
}

impl Fleet {
    /// Pods that have been there for long, with as many clients each.
    pub(crate) fn new(pods: u64, clients: u64, connections_max: u64) -> Fleet {
        let (turned_away, moved, rebalanced) = (0, 0, 0);
        let mut fleet = Fleet { pods: Vec::new(), connections_max, turned_away, moved, rebalanced };
        fleet.grow_to(pods, 0);
        for pod in &mut fleet.pods {
            pod.clients = clients / pods;
        }
        fleet
    }

    pub(crate) fn staying(&self) -> u64 {
        self.pods.iter().filter(|pod| pod.leaving.is_none()).count() as u64
    }

    pub(crate) fn clients(&self) -> u64 {
        self.pods.iter().map(|pod| pod.clients).sum()
    }

    pub(crate) fn fullest(&self) -> u64 {
        self.pods.iter().map(|pod| pod.clients).max().unwrap_or(0)
    }

    /// Begins as many pods as are missing: after a decision, and after a loss.
    pub(crate) fn grow_to(&mut self, wanted: u64, at_s: u64) {
        while self.staying() < wanted {
            let pod = Pod { born_s: at_s, clients: 0, came: 0, scraped: None, leaving: None };
            self.pods.push(pod);
        }
    }

    /// Has the youngest leave, as Kubernetes does: those that are not ready first.
    pub(crate) fn shrink_to(&mut self, wanted: u64) {
        while self.staying() > wanted {
            let staying = self.pods.iter_mut().filter(|pod| pod.leaving.is_none());
            let youngest = staying.max_by_key(|pod| pod.born_s).expect("there are some");
            youngest.leaving = Some(DRAIN_STEPS);
        }
    }

    /// Pods are gone at once, the oldest of them; says how many clients have to come again.
    pub(crate) fn lose(&mut self, pods: usize) -> u64 {
        let lost: Vec<Pod> = self.pods.drain(..pods.min(self.pods.len())).collect();
        lost.iter().map(|pod| pod.clients).sum()
    }

    /// One step of time: pods that leave send clients away, and so many there shall be.
    pub(crate) fn step(&mut self, at_s: u64, wanted: u64) {
        for pod in &mut self.pods {
            pod.scraped = (at_s >= pod.born_s + STARTS_AFTER_S && pod.leaving.is_none())
                .then_some((pod.clients, pod.came));
            pod.came = 0;
        }
        self.moved = 0;
        for pod in &mut self.pods {
            let Some(steps) = pod.leaving else { continue };
            let portion = if steps > 1 { pod.clients / steps } else { pod.clients };
            pod.clients -= portion;
            self.moved += portion;
            pod.leaving = Some(steps.saturating_sub(1));
        }
        self.pods.retain(|pod| pod.leaving != Some(0) || pod.clients > 0);
        let shed = self.rebalance(at_s);
        self.rebalanced += shed;
        let there_are = self.clients();
        if wanted > there_are {
            self.connect(at_s, wanted - there_are);
        } else {
            self.disconnect(there_are - wanted);
        }
    }

    /// Pods send what they have above 120 % of the mean (`ROOMCAST_REBALANCE_PERCENT`) away, 1 % of
    /// their clients a second at most.
    fn rebalance(&mut self, at_s: u64) -> u64 {
        let ready = self.pods.iter().filter(|pod| pod.is_ready(at_s));
        let (count, sum) = ready.fold((0, 0), |(count, sum), pod| (count + 1, sum + pod.clients));
        let mean = u64::checked_div(sum, count).unwrap_or(0);
        let mut shed = 0;
        for pod in self.pods.iter_mut().filter(|pod| pod.is_ready(at_s)) {
            let above = pod.clients.saturating_sub(mean * 120 / 100);
            let portion = above.min(pod.clients * 15 / 100);
            pod.clients -= portion;
            shed += portion;
        }
        shed
    }

    /// A balancer that knows nothing of connections: every ready pod gets as many, until it is
    /// full.
    fn connect(&mut self, at_s: u64, clients: u64) {
        let mut left = clients;
        while left > 0 {
            let max = self.connections_max;
            let has_place = |pod: &&mut Pod| pod.is_ready(at_s) && pod.clients < max;
            let mut open: Vec<&mut Pod> = self.pods.iter_mut().filter(has_place).collect();
            if open.is_empty() {
                break;
            }
            let each = (left / open.len() as u64).max(1);
            for pod in &mut open {
                let portion = each.min(max - pod.clients).min(left);
                pod.clients += portion;
                pod.came += portion;
                left -= portion;
            }
        }
        self.turned_away += left;
    }

    /// Clients go as they please, from everywhere alike.
    fn disconnect(&mut self, clients: u64) {
        let there_are = self.clients().max(1);
        let mut left = clients;
        for pod in &mut self.pods {
            let portion = (pod.clients * clients / there_are).min(left);
            pod.clients -= portion;
            left -= portion;
        }
        for pod in &mut self.pods {
            let portion = left.min(pod.clients);
            pod.clients -= portion;
            left -= portion;
        }
    }

    /// What the autoscaler reads for a metric. `unread` pods are not scraped.
    pub(crate) fn readings(&self, at_s: u64, target: Target, unread: usize) -> Vec<Reading> {
        let staying = self.pods.iter().filter(|pod| pod.leaving.is_none());
        let read = staying.enumerate().map(|(number, pod)| {
            let is_cpu = matches!(target, Target::Utilization(_));
            let counts = at_s >= pod.born_s + if is_cpu { CPU_COUNTS_AFTER_S } else { 0 };
            match pod.scraped {
                _ if at_s < pod.born_s + STARTS_AFTER_S => Reading::Unready,
                _ if !counts && pod.born_s > 0 => Reading::Unready,
                _ if number < unread && !is_cpu => Reading::Missing,
                None => Reading::Missing,
                Some((clients, came)) => Reading::Value(match target {
                    Target::AverageValue(_) => figure(clients),
                    Target::Utilization(_) => {
                        let handshakes = CPU_OF_HANDSHAKES * figure(came);
                        CPU_IDLE + CPU_OF_CONNECTIONS * figure(clients) + handshakes
                    }
                }),
            }
        });
        read.collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "clients are far fewer than 2^52")]
fn figure(number: u64) -> f64 {
    number as f64
}
