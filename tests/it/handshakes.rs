//! Requests that open a WebSocket, and those that must not.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

mod malformed;
mod origins;
mod rebinding;
mod upgrades;

use crate::fixtures::one_gateway::SOON;
use harness::RawSocket;
use harness::raw::{HttpAnswer, upgrade_request};

/// What is changed in a request that is right.
type Edit<'a> = (&'a str, &'a str);

/// The request of a well-behaved client with some of its text replaced. Each replacement has to
/// find its place, or the case would prove nothing.
fn edited(port: u16, edits: &[Edit<'_>]) -> String {
    let request = upgrade_request(port, "/ws?user=ann");
    edits.iter().fold(request, |request, (from, to)| {
        assert!(request.contains(from), "{from:?} is not in the request");
        request.replacen(from, to, 1)
    })
}

/// The answer to a request on a connection of its own.
async fn answer_to(port: u16, request: &[u8]) -> Result<HttpAnswer, String> {
    let mut socket = RawSocket::open(port).await.map_err(|error| error.to_string())?;
    // A server that has seen enough may close before it has read all; what it said counts.
    let _sent = socket.send(request).await;
    socket.answer(SOON).await.map_err(|error| error.to_string())
}

/// Compares many cases and names all that are wrong at once.
#[derive(Debug, Default)]
struct Findings {
    cases: usize,
    wrong: Vec<String>,
}

impl Findings {
    /// A request, and the status it has to be answered with.
    async fn expect(&mut self, port: u16, name: &str, request: &[u8], status: u16) {
        self.cases += 1;
        let answer = answer_to(port, request).await;
        if answer.as_ref().map(|answer| answer.status) != Ok(status) {
            self.wrong.push(format!("{name}: {answer:?} and not {status}"));
        }
    }

    fn assert_none(&self) {
        let Findings { cases, wrong } = self;
        assert!(wrong.is_empty(), "{} of {cases}:\n{}", wrong.len(), wrong.join("\n"));
    }
}
