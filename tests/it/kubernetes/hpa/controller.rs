//! The horizontal pod autoscaler of Kubernetes, version 2, as its controller computes.
//!
//! A ratio of what pods have to what they should have, for each metric; the largest proposal; the
//! windows, within which it does not go down below, or up above, an earlier one; and the policies,
//! which say how far it may go within their periods. Times are seconds.

use serde_json::Value;

use crate::kubernetes::render::{Manifest, list};

/// How far a ratio may be from 1 without anything being done, by default.
const TOLERANCE: f64 = 0.1;

/// What is known of a pod when the autoscaler looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reading {
    Value(f64),
    /// It runs, and nothing was read of it.
    Missing,
    /// It does not run yet, or what it uses while it starts does not count.
    Unready,
}

/// What a metric of pods is aimed at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// So much on average.
    AverageValue(f64),
    /// So many hundredths of what pods request.
    Utilization(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amount {
    Pods(u64),
    Percent(u64),
}

/// How many pods may come or go within a period.
#[derive(Debug, Clone, Copy)]
struct Policy {
    amount: Amount,
    period_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// What holds for one direction.
#[derive(Debug)]
struct Rules {
    window_s: u64,
    policies: Vec<Policy>,
    /// Whether the policy that allows most holds, not that which allows least.
    takes_most: bool,
}

/// So many pods, at a time: proposed, added or taken away.
type Record = (u64, u64);

/// The autoscaler of one Deployment, and what its controller remembers.
#[derive(Debug)]
pub(crate) struct Controller {
    min: u64,
    max: u64,
    pub(crate) targets: Vec<Target>,
    up: Rules,
    down: Rules,
    proposals: Vec<Record>,
    added: Vec<Record>,
    taken: Vec<Record>,
}

impl Rules {
    fn new(rules: &Value) -> Rules {
        let number = |value: &Value| value.as_u64().expect("a number");
        let policies = list(&rules["policies"]).iter().map(|policy| Policy {
            amount: match policy["type"].as_str() {
                Some("Pods") => Amount::Pods(number(&policy["value"])),
                Some("Percent") => Amount::Percent(number(&policy["value"])),
                other => panic!("an unknown policy: {other:?}"),
            },
            period_s: number(&policy["periodSeconds"]),
        });
        let takes_most = match rules["selectPolicy"].as_str() {
            None | Some("Max") => true,
            Some("Min") => false,
            other => panic!("an unknown selectPolicy: {other:?}"),
        };
        let window_s = number(&rules["stabilizationWindowSeconds"]);
        Rules { window_s, policies: policies.collect(), takes_most }
    }
}

impl Target {
    fn new(metric: &Value) -> Target {
        let text = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        let (pods, resource) = (&metric["pods"]["target"], &metric["resource"]["target"]);
        match metric["type"].as_str() {
            Some("Pods") => {
                Target::AverageValue(text(&pods["averageValue"]).expect("a whole number"))
            }
            Some("Resource") => {
                Target::Utilization(resource["averageUtilization"].as_f64().expect("a number"))
            }
            other => panic!("an unknown metric: {other:?}"),
        }
    }

    /// What pods have to what they should have.
    fn ratio(self, values: &[f64]) -> f64 {
        let mean = values.iter().sum::<f64>() / count(values.len() as u64);
        match self {
            Target::AverageValue(target) => mean / target,
            // Hundredths are cut to whole ones.
            Target::Utilization(target) => mean.floor() / target,
        }
    }

    /// What a pod of which nothing was read is taken to have, where pods may go.
    fn of_missing(self) -> f64 {
        match self {
            Target::AverageValue(target) => target,
            Target::Utilization(target) => target.max(100.0),
        }
    }

    /// How many pods this metric wants; none where nothing was read of any.
    fn proposal(self, current: u64, readings: &[Reading]) -> Option<u64> {
        let of = |wanted: Reading| readings.iter().filter(|one| **one == wanted).count();
        let (missing, unready) = (of(Reading::Missing), of(Reading::Unready));
        let mut values: Vec<f64> = Vec::new();
        values.extend(readings.iter().filter_map(|reading| match reading {
            Reading::Value(value) => Some(*value),
            Reading::Missing | Reading::Unready => None,
        }));
        if values.is_empty() {
            return None;
        }
        let first = self.ratio(&values);
        let counts_unready = unready > 0 && first > 1.0;
        if missing == 0 && !counts_unready {
            return Some(if is_tolerated(first) { current } else { pods(first, values.len()) });
        }
        let of_missing = if first < 1.0 { self.of_missing() } else { 0.0 };
        values.extend(std::iter::repeat_n(of_missing, missing));
        if counts_unready {
            values.extend(std::iter::repeat_n(0.0, unready));
        }
        let ratio = self.ratio(&values);
        let is_turned = (first < 1.0 && ratio > 1.0) || (first > 1.0 && ratio < 1.0);
        if is_tolerated(ratio) || is_turned {
            return Some(current);
        }
        let wanted = pods(ratio, values.len());
        let is_other_way = (ratio < 1.0 && wanted > current) || (ratio > 1.0 && wanted < current);
        Some(if is_other_way { current } else { wanted })
    }
}

#[expect(clippy::cast_precision_loss, reason = "pods are far fewer than 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}

fn is_tolerated(ratio: f64) -> bool {
    (ratio - 1.0).abs() <= TOLERANCE
}

/// So many times what there is, rounded up.
fn pods(ratio: f64, there_are: usize) -> u64 {
    whole((ratio * count(there_are as u64)).ceil())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is no less than 0, and the controller cuts it as well"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// How many came or went after a time.
fn since(records: &[Record], after_s: Option<u64>) -> u64 {
    let is_after = |at_s: u64| after_s.is_none_or(|after_s| at_s > after_s);
    records.iter().filter(|(at_s, _)| is_after(*at_s)).map(|(_, pods)| pods).sum()
}

impl Controller {
    pub(crate) fn new(autoscaler: &Manifest) -> Controller {
        Controller {
            min: autoscaler.number("/spec/minReplicas"),
            max: autoscaler.number("/spec/maxReplicas"),
            targets: list(autoscaler.at("/spec/metrics")).iter().map(Target::new).collect(),
            up: Rules::new(autoscaler.at("/spec/behavior/scaleUp")),
            down: Rules::new(autoscaler.at("/spec/behavior/scaleDown")),
            proposals: Vec::new(),
            added: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// The fewest pods there may be.
    pub(crate) fn fewest(&self) -> u64 {
        self.min
    }

    /// Another process takes over, and remembers nothing.
    pub(crate) fn restart(&mut self) {
        self.proposals.clear();
        self.added.clear();
        self.taken.clear();
    }

    /// How many pods there shall be, by what was read for each metric; called every 15 s.
    pub(crate) fn step(&mut self, at_s: u64, current: u64, readings: &[Vec<Reading>]) -> u64 {
        let pairs = self.targets.iter().zip(readings);
        let proposals = pairs.map(|(target, readings)| target.proposal(current, readings));
        let proposals: Vec<Option<u64>> = proposals.collect();
        let is_blind = proposals.iter().any(Option::is_none);
        match proposals.into_iter().flatten().max() {
            // With a metric that cannot be read, pods may come and none may go.
            Some(wanted) if !is_blind || wanted > current => self.settle(at_s, current, wanted),
            Some(_) | None => current,
        }
    }

    /// What becomes of a proposal by the windows and the policies.
    pub(crate) fn settle(&mut self, at_s: u64, current: u64, wanted: u64) -> u64 {
        if self.proposals.is_empty() {
            self.proposals.push((at_s, current));
        }
        let within = |window_s: u64| {
            let is_recent = move |record: &&Record| record.0 + window_s > at_s;
            self.proposals.iter().filter(is_recent).map(|(_, pods)| *pods)
        };
        let at_least = within(self.up.window_s).fold(wanted, u64::min);
        let at_most = within(self.down.window_s).fold(wanted, u64::max);
        let stable = current.max(at_least).min(at_most);
        self.proposals.push((at_s, wanted));
        self.forget(at_s);

        let next = if stable > current {
            let limit = self.limit(at_s, current, Direction::Up).max(current);
            stable.min(limit).min(self.max)
        } else if stable < current {
            let limit = self.limit(at_s, current, Direction::Down).min(current);
            stable.max(limit).max(self.min)
        } else {
            current
        };
        if next > current {
            self.added.push((at_s, next - current));
        } else if next < current {
            self.taken.push((at_s, current - next));
        }
        next
    }

    /// Drops what is older than every window and period.
    fn forget(&mut self, at_s: u64) {
        let longest_s = self.up.window_s.max(self.down.window_s);
        self.proposals.retain(|(then_s, _)| then_s + longest_s > at_s);
        let policies = self.up.policies.iter().chain(&self.down.policies);
        let longest_s = policies.map(|policy| policy.period_s).max().unwrap_or(0);
        for records in [&mut self.added, &mut self.taken] {
            records.retain(|(then_s, _)| then_s + longest_s > at_s);
        }
    }

    /// The most, or the fewest, pods that the policies allow now.
    fn limit(&self, at_s: u64, current: u64, direction: Direction) -> u64 {
        let rules = if direction == Direction::Up { &self.up } else { &self.down };
        let allowed = rules.policies.iter().map(|policy| {
            let after_s = at_s.checked_sub(policy.period_s);
            let (added, taken) = (since(&self.added, after_s), since(&self.taken, after_s));
            let at_start = (current + taken).saturating_sub(added);
            match (direction, policy.amount) {
                (Direction::Up, Amount::Pods(pods)) => at_start + pods,
                (Direction::Down, Amount::Pods(pods)) => at_start.saturating_sub(pods),
                (Direction::Up, Amount::Percent(percent)) => {
                    whole((count(at_start) * (1.0 + count(percent) / 100.0)).ceil())
                }
                // What is left is rounded down: of 11 pods, 10 percent are two.
                (Direction::Down, Amount::Percent(percent)) => {
                    whole(count(at_start) * (1.0 - count(percent) / 100.0))
                }
            }
        });
        // Down, the fewest pods are the largest step.
        let takes_largest = (direction == Direction::Up) == rules.takes_most;
        let limit = if takes_largest { allowed.max() } else { allowed.min() };
        limit.expect("there is a policy")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Aims at 6000 connections; as the files say it, but for what differs in a case.
    fn controller(percent: u64) -> Controller {
        let target = json!({ "type": "AverageValue", "averageValue": "6000" });
        let policies = json!([
            { "type": "Pods", "value": 1, "periodSeconds": 120 },
            { "type": "Percent", "value": percent, "periodSeconds": 600 },
        ]);
        Controller::new(&Manifest(json!({ "spec": {
            "minReplicas": 3,
            "maxReplicas": 50,
            "metrics": [{ "type": "Pods", "pods": { "target": target } }],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "policies": [{ "type": "Percent", "value": 100, "periodSeconds": 30 }],
                },
                "scaleDown": {
                    "stabilizationWindowSeconds": 900,
                    "selectPolicy": "Min",
                    "policies": policies,
                },
            },
        }})))
    }

    /// How many pods there are after each change, where ever fewer are wanted.
    fn changes(percent: u64, from: u64, wanted: u64, until_s: u64) -> Vec<Record> {
        let mut controller = controller(percent);
        let mut pods = from;
        let mut changes = Vec::new();
        for at_s in (0..until_s).step_by(15) {
            let next = controller.settle(at_s, pods, wanted);
            if next != pods {
                changes.push((at_s, next));
            }
            pods = next;
        }
        changes
    }

    fn all(count: usize, value: f64) -> Vec<Reading> {
        vec![Reading::Value(value); count]
    }

    /// Four pods of 6500 are within the tolerance (1.08), and stay four. With 20000 each, the ratio
    /// is 3.33 and ceil(3.33 × 4) = 14; 100 % in 30 s allow 8, at 15 s. At 30 s the period began
    /// with four pods, so that 8 stay 8; at 45 s it began with eight, and 10000 each want
    /// ceil(1.67 × 8) = 14, of the 16 that are allowed.
    #[test]
    fn pods_are_added_by_the_ratio_as_far_as_the_policy_allows() {
        let mut controller = controller(4);
        assert_eq!(controller.step(0, 4, &[all(4, 6500.0)]), 4);
        assert_eq!(controller.step(15, 4, &[all(4, 20_000.0)]), 8);
        assert_eq!(controller.step(30, 8, &[all(8, 10_000.0)]), 8);
        assert_eq!(controller.step(45, 8, &[all(8, 10_000.0)]), 14);
    }

    /// Ten pods, of which eight have 3000 and two are not read. The ratio of the eight is 0.5, so
    /// the two are taken to have the target: (8 × 3000 + 2 × 6000) / 10 = 3600, ratio 0.6, six.
    /// The first 900 s the ten from the beginning hold; then one goes, and 600 s later another.
    /// Were the eight at 9000 (ratio 1.5), the two would count as 0: mean 7200, 1.2, twelve pods.
    #[test]
    fn pods_that_are_not_read_hold_it_back() {
        let mut readings = all(8, 3000.0);
        readings.extend([Reading::Missing; 2]);
        let target = Target::AverageValue(6000.0);
        assert_eq!(target.proposal(10, &readings), Some(6));
        assert_eq!(changes(4, 10, 6, 2400), [(900, 9), (1500, 8), (2100, 7)]);
        let mut readings = all(8, 9000.0);
        readings.extend([Reading::Missing; 2]);
        assert_eq!(target.proposal(10, &readings), Some(12));
        // Two that do not run yet count as 0 as well: 7200 again, but nothing without a rise.
        let mut readings = all(8, 9000.0);
        readings.extend([Reading::Unready; 2]);
        assert_eq!(target.proposal(10, &readings), Some(12));
        assert_eq!(target.proposal(10, &[Reading::Missing; 10]), None);
    }

    /// 4 % of 50 pods leave 48: two may go in 600 s, one each 120 s, at 900 and 1020 s. At 1500 s
    /// the first is forgotten: the 600 s began with 49, of which 47.04, cut to 47, may be left.
    /// Of 26 pods 24.96, cut to 24, may be left: two, and after the second is forgotten the next.
    /// Of 25 pods 24: one, then one each 600 s.
    /// 10 % of 11 leave 9.9, cut to 9: two go, which is why it is not 10 %.
    #[test]
    fn percents_take_away_more_than_they_say() {
        assert_eq!(changes(4, 50, 3, 1700), [(900, 49), (1020, 48), (1500, 47), (1620, 46)]);
        assert_eq!(changes(4, 26, 3, 1700), [(900, 25), (1020, 24), (1620, 23)]);
        assert_eq!(changes(4, 25, 3, 1700), [(900, 24), (1500, 23)]);
        assert_eq!(changes(10, 11, 3, 1500), [(900, 10), (1020, 9)]);
    }
}
