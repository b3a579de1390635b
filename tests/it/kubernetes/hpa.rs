//! The autoscaler, replayed: what the files say is right for a day of clients.
//!
//! `controller` computes as Kubernetes does, with the behaviour that the rendered files have;
//! `fleet` are the pods and their clients; `day` is what happens to them; `report` writes
//! docs/autoscaling.md.

mod report;
mod day;
mod fleet;
mod controller;

use super::render::{Overlay, file, overlay, root};
use controller::Controller;
use day::{Day, Departure};

/// Ten minutes, in which few may leave.
const WINDOW_S: u64 = 600;

/// What scales by connections and CPU.
fn production() -> Option<Overlay> {
    overlay("overlays/prod")
}

fn controller(overlay: &Overlay) -> Controller {
    let autoscaler = overlay.find("HorizontalPodAutoscaler", "gateway").expect("it has one");
    Controller::new(autoscaler)
}

fn grace_s(overlay: &Overlay) -> u64 {
    let gateway = overlay.workload("gateway");
    gateway.number("/spec/template/spec/terminationGracePeriodSeconds")
}

/// Up to this many pods, one leaves at a time.
const FEW_PODS: u64 = 20;

/// How many leave in the ten minutes that begin with a departure.
fn left_in_window(departures: &[Departure]) -> u64 {
    let end_s = departures[0].at_s + WINDOW_S;
    departures.iter().take_while(|one| one.at_s < end_s).map(|one| one.left).sum()
}

/// What is wrong with the departures: more in ten minutes than may be, or while others drain.
fn complaints(departures: &[Departure], grace_s: u64) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, first) in departures.iter().enumerate() {
        let next = departures.get(number + 1);
        if first.left > 1 || next.is_some_and(|next| next.at_s < first.at_s + grace_s) {
            complaints.push(format!("{first:?}: another leaves while one drains"));
        }
        let left = left_in_window(&departures[number..]);
        let most = if first.pods <= FEW_PODS { 1 } else { first.pods / 10 };
        if left > most {
            complaints.push(format!("{first:?}: {left} leave in ten minutes, {most} at most"));
        }
    }
    complaints
}

/// How many departures are of few pods, and how many begin ten minutes in which several leave.
fn regimes(departures: &[Departure]) -> (usize, usize) {
    let few = departures.iter().filter(|one| one.pods <= FEW_PODS).count();
    let windows = (0..departures.len()).map(|number| left_in_window(&departures[number..]));
    (few, windows.filter(|left| *left > 1).count())
}

#[test]
fn a_day_moves_few_clients_at_a_time() {
    let Some(overlay) = production() else { return };
    let connections_max = overlay.setting("gateway", "ROOMCAST_CONNECTIONS_MAX");
    let day = Day::live(controller(&overlay), connections_max);
    assert_eq!(complaints(&day.departures, grace_s(&overlay)), Vec::<String>::new());
    let (few, many) = regimes(&day.departures);
    assert!(few >= 5 && many >= 3, "the day has both: {few} of few, {many} of many");
    for (at_s, moved, clients, pods) in day.moved_within(WINDOW_S) {
        let is_few = 10 * moved <= clients || pods <= FEW_PODS;
        assert!(is_few, "at {at_s} s {moved} of {clients} clients on {pods} pods were moved");
    }
    assert_eq!(day.turned_away, 0, "there was always a pod with a place");
    let last = day.samples.last().expect("the day has an end");
    assert_eq!(last.pods, day.fewest_pods, "it comes back down at night");
}

/// Numbers that look like chance and are the same every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

#[test]
fn no_load_makes_many_leave_at_a_time() {
    let Some(overlay) = production() else { return };
    for seed in 0..10 {
        let (mut controller, mut chance) = (controller(&overlay), Chance(seed));
        let (mut pods, mut wanted, mut departures) = (controller.fewest(), 3, Vec::new());
        for at_s in (0..200_000).step_by(15) {
            // Loads last, so that windows run out; and they are low more often than high.
            if chance.below(400) == 0 {
                wanted = chance.below(60) * chance.below(60) / 60;
            }
            if chance.below(2000) == 0 {
                controller.restart();
            }
            let next = controller.settle(at_s, pods, wanted);
            if next < pods {
                departures.push(Departure { at_s, pods, left: pods - next });
            }
            pods = next;
        }
        let found = complaints(&departures, grace_s(&overlay));
        assert_eq!(found, Vec::<String>::new(), "seed {seed}");
        let (few, many) = regimes(&departures);
        assert!(few > 10 && many > 10, "seed {seed}: {few} of few, {many} of many");
    }
}

#[test]
fn departures_that_are_too_many_are_found() {
    let departure = |at_s, pods, left| Departure { at_s, pods, left };
    let found = |departures: &[Departure]| complaints(departures, 90).len();
    let of_few = [departure(0, 20, 1), departure(600, 19, 1), departure(1200, 18, 1)];
    assert_eq!(found(&of_few), 0);
    assert_eq!(found(&[departure(0, 21, 1), departure(90, 20, 1)]), 0);
    assert_eq!(found(&[departure(0, 40, 2)]), 1, "two at once");
    assert_eq!(found(&[departure(0, 40, 1), departure(75, 39, 1)]), 1, "one while another drains");
    assert_eq!(found(&[departure(0, 10, 1), departure(585, 9, 1)]), 1, "two of few");
    let three = [departure(0, 29, 1), departure(120, 28, 1), departure(240, 27, 1)];
    assert_eq!(found(&three), 1, "three of 29");
}

#[test]
fn the_day_in_the_documents_is_that_of_the_files() {
    let Some(overlay) = production() else { return };
    let connections_max = overlay.setting("gateway", "ROOMCAST_CONNECTIONS_MAX");
    let day = Day::live(controller(&overlay), connections_max);
    let target = overlay.gateways().connections.expect("it scales by connections");
    let page = report::with_tables(&file("docs/autoscaling.md"), &day, connections_max);
    let picture = report::picture(&day, target);
    let wanted = [("docs/autoscaling.md", page), ("docs/autoscaling.svg", picture)];
    for (name, text) in wanted {
        if std::env::var_os("UPDATE_AUTOSCALING").is_some() {
            std::fs::write(root().join(name), text).expect("it can be written");
        } else {
            assert!(
                file(name) == text,
                "{name} shows another day; write it anew with\n\
                 UPDATE_AUTOSCALING=1 cargo test -p tests --test it kubernetes"
            );
        }
    }
}
