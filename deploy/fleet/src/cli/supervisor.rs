//! Follows the parts of a running fleet, says what changes, and does what it is told.

use super::control::{Client, Control};
use super::{Signals, say};
use crate::{AnyNode, Fleet, FleetError};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often the parts are asked how they are.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long each group of parts may take to end.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    NotReady,
    Ended,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Ready => "ready",
            State::NotReady => "not ready",
            State::Ended => "ended",
        })
    }
}

#[derive(Debug)]
pub(super) struct Supervisor {
    fleet: Fleet,
    control: Control,
    states: BTreeMap<String, State>,
}

impl Supervisor {
    /// Takes over a fleet that is ready.
    pub(super) fn new(mut fleet: Fleet) -> Result<Supervisor, FleetError> {
        let control = Control::open(fleet.folder())?;
        let names = fleet.nodes_mut().into_iter().map(|node| node.name().to_owned());
        let states = names.map(|name| (name, State::Ready)).collect();
        Ok(Supervisor { fleet, control, states })
    }

    /// Until a signal comes.
    pub(super) async fn follow(&mut self, signals: &mut Signals) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = signals.next() => return,
                accepted = self.control.accept() => match accepted {
                    Ok(client) => self.serve(client).await,
                    Err(error) => say(&format!("the control socket is broken: {error}")),
                },
                _ = ticks.tick() => {}
            }
            self.look().await;
        }
    }

    pub(super) async fn shut_down(&mut self) -> Result<(), FleetError> {
        self.fleet.shut_down(GRACE).await
    }

    /// All parts, where they are and how they are.
    pub(super) async fn table(&mut self) -> String {
        self.look().await;
        let mut lines = vec![format!("{:<11}{:<9}{:<11}{}", "part", "pid", "state", "address")];
        if let Some(port) = self.fleet.balancer_port() {
            lines.push(format!("{:<31}http://127.0.0.1:{port}/", "balancer"));
        }
        let states = &self.states;
        lines.extend(self.fleet.nodes_mut().into_iter().map(|node| {
            let pid = node.pid().map_or("-".to_owned(), |pid| pid.to_string());
            let state = states.get(node.name()).unwrap_or(&State::Ended);
            format!("{:<11}{pid:<9}{state:<11}{}", node.name(), node.address())
        }));
        lines.join("\n")
    }

    async fn look(&mut self) {
        let mut nodes = self.fleet.nodes_mut();
        for node in &mut nodes {
            match node.ended() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    say(&format!(
                        "{} ended: {status}; its log is {}",
                        node.name(),
                        node.log().display()
                    ));
                    self.states.insert(node.name().to_owned(), State::Ended);
                }
                Err(error) => say(&error.to_string()),
            }
        }
        let nodes = &nodes;
        let states = join_all(nodes.iter().map(|node| state(&**node))).await;
        for (node, state) in nodes.iter().zip(states) {
            let before = self.states.insert(node.name().to_owned(), state);
            if before != Some(state) {
                say(&format!("{} is {state}", node.name()));
            }
        }
    }

    async fn serve(&mut self, mut client: Client) {
        let Some(request) = client.request().await else { return };
        let answer = match request.split_once(' ') {
            None if request == "status" => Ok(self.table().await),
            Some((verb, part)) => self.act(verb, part).await,
            None => Err(format!("what is {request:?}?")),
        };
        client.answer(answer).await;
    }

    async fn act(&mut self, verb: &str, part: &str) -> Result<String, String> {
        let node = self.fleet.node_mut(part).map_err(|error| error.to_string())?;
        let pid = node.pid().map_or("none".to_owned(), |pid| pid.to_string());
        let (done, word) = match verb {
            "kill" => (node.kill_9().await.map(|_status| ()), "killed"),
            "stop" => (node.stop().await, "stopped"),
            "cont" => (node.cont(), "continued"),
            "start" if node.pid().is_some() => {
                (Err(FleetError::AlreadyRuns { name: part.to_owned() }), "started")
            }
            "start" => (node.start(), "started"),
            _ => return Err(format!("what is {verb:?}?")),
        };
        done.map_err(|error| error.to_string())?;
        let pid = if verb == "start" { node.pid().map_or(pid, |pid| pid.to_string()) } else { pid };
        let text = format!("{part} {word} (pid {pid})");
        say(&text);
        Ok(text)
    }
}

async fn state(node: &dyn AnyNode) -> State {
    match node.pid() {
        None => State::Ended,
        Some(_) if node.is_ready().await => State::Ready,
        Some(_) => State::NotReady,
    }
}
