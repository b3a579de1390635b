use super::*;
use crate::limits::tests::{Harm, serve_in_thread};

/// The options of a scenario against an address, as a person writes them.
fn options(scenario: &str, more: &[&str]) -> Result<Options, clap::Error> {
    let start = ["load", scenario, "--quiet", "--seconds", "1", "--warmup", "0"];
    let arguments = Arguments::try_parse_from(start.iter().chain(more))?;
    match arguments.task {
        Task::Big(options)
        | Task::Rooms(options)
        | Task::Lat(options)
        | Task::Idle(options)
        | Task::Connect(options)
        | Task::Storm(options)
        | Task::Chain(options)
        | Task::Drain(options)
        | Task::Chat(options) => Ok(options),
        Task::Compare(_) | Task::Plan(_) | Task::LimitDirect(_) | Task::LimitCoalesce(_) => {
            panic!("no scenario")
        }
    }
}

fn play(scenario: Scenario, more: &[&str], harm: Option<Harm>) -> Report {
    let mode = if harm.is_some() { Mode::Direct } else { Mode::Coalesce };
    let url = format!("ws://{}/ws", serve_in_thread(mode, harm));
    let name = format!("{scenario:?}").to_lowercase();
    let options = options(&name, &[&["--url", &url], more].concat()).unwrap();
    scenario.check(&options).unwrap();
    let mut server = Server::new(&options).unwrap();
    scenario::run(scenario, &options, &mut server).unwrap()
}

#[test]
fn every_scenario_runs_clean_against_a_server_that_does_no_harm() {
    let small = ["--connections", "40", "--rooms", "4"];
    for scenario in [Scenario::Big, Scenario::Rooms, Scenario::Lat, Scenario::Storm] {
        let report = play(scenario, &small, None);
        assert!(report.is_clean(), "{}", report.text());
        let deliveries = report.get("deliveries").unwrap();
        assert!(scenario == Scenario::Storm || deliveries > 0.0, "{}", report.text());
    }
    for scenario in [Scenario::Idle, Scenario::Connect] {
        let report = play(scenario, &small, None);
        assert!(report.is_clean(), "{}", report.text());
    }
    // An open loop sends no more than is due, however fast the server is.
    let report = play(Scenario::Rooms, &[&small[..], &["--rate", "200"]].concat(), None);
    let sent = report.get("messages sent").unwrap();
    assert!((1.0..=205.0).contains(&sent), "{}", report.text());
}

#[test]
fn a_loss_a_double_and_a_swap_by_the_server_are_each_found() {
    let small = ["--connections", "20", "--rooms", "2", "--rate", "300"];
    // In whose words depends on whose was read first: the ledger's own tests hold those.
    for harm in [Harm::Lose, Harm::Double, Harm::Swap] {
        let report = play(Scenario::Rooms, &small, Some(harm));
        assert!(!report.is_clean(), "{harm:?}: {}", report.text());
    }
}

#[test]
fn options_that_cannot_be_are_refused_by_name() {
    let refused = |scenario, more: &[&str]| options(scenario, more).unwrap_err().to_string();
    assert!(refused("big", &["--connections", "0"]).contains("'--connections <N>': 0 is not in"));
    assert!(refused("big", &["--bytes", "5"]).contains("18..=200000"));
    assert!(
        refused("big", &["--start", "cluster", "--url", "ws://127.0.0.1:1/ws"]).contains("--url")
    );
    let checked = |scenario: Scenario, more: &[&str]| {
        let name = format!("{scenario:?}").to_lowercase();
        scenario.check(&options(&name, more).unwrap()).unwrap_err().to_string()
    };
    let text = checked(Scenario::Idle, &["--rate", "5"]);
    assert_eq!(text, "--rate 5: idle has no use for it");
    let text = checked(Scenario::Big, &["--rate", "5", "--outstanding", "2"]);
    assert_eq!(text, "--rate 5: with --outstanding there is no rate");
    let text = Server::new(&options("big", &[]).unwrap()).unwrap_err().to_string();
    assert!(text.contains("--start") && text.contains("--url"), "{text}");
}
