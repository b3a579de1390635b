//! A page of another site, whose name leads to this machine, finds everything here closed.

use super::Findings;
use crate::fixtures::one_gateway::{gateway, gateway_with};
use fleet::{ClusterOptions, Fleet, GatewayOptions};
use harness::raw::upgrade_request;
use harness::token;
use serde_json::json;

/// A site's own name, and names that only look like ours.
const FOREIGN: [&str; 9] = [
    "evil.example",
    "evil.example:3001",
    "localhost.evil.example",
    "127.0.0.1.evil.example:3001",
    "localhost.",
    "10.0.0.7:3001",
    "0.0.0.0",
    "[fe80::1]:3001",
    "[::ffff:127.0.0.1]",
];

/// Names of this machine.
const OWN: [&str; 6] =
    ["localhost", "LOCALHOST:1", "127.0.0.1:9", "127.8.8.8", "[::1]", "[::1]:3001"];

/// A request for `path` whose `Host` lines are these.
fn request(path: &str, hosts: &[&str]) -> String {
    let lines: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n")
}

/// A handshake whose `Host` is this.
fn handshake(port: u16, path: &str, host: &str) -> String {
    upgrade_request(port, path).replacen(&format!("127.0.0.1:{port}"), host, 1)
}

/// The routes of a port, each with what it answers to somebody of this machine.
async fn is_for_this_machine(findings: &mut Findings, port: u16, routes: &[(&str, u16)]) {
    for (path, open) in routes {
        for host in FOREIGN {
            let name = format!("{path} at {host}");
            findings.expect(port, &name, request(path, &[host]).as_bytes(), 403).await;
        }
        for hosts in [&[][..], &["localhost", "localhost"], &["localhost", "evil.example"], &[""]] {
            let name = format!("{path} at {hosts:?}");
            findings.expect(port, &name, request(path, hosts).as_bytes(), 400).await;
        }
        for host in OWN {
            let name = format!("{path} at {host}");
            findings.expect(port, &name, request(path, &[host]).as_bytes(), *open).await;
        }
        let absolute = request(path, &["localhost"]).replacen(path, "http://evil.example/", 1);
        findings.expect(port, "another target", absolute.as_bytes(), 403).await;
    }
}

const OPERATOR_ROUTES: [(&str, u16); 5] =
    [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/stats", 200), ("/nothing", 404)];

#[tokio::test]
async fn what_the_development_mode_opens_it_opens_to_names_of_this_machine() {
    let fleet = gateway().await;
    let port = fleet.gateway().port();
    let mut findings = Findings::default();
    let routes = [
        ("/", 200),
        ("/assets/page.js", 200),
        ("/nothing", 404),
        ("/api/openapi.json", 200),
        ("/api/rooms/r/messages", 200),
        ("/api/nothing", 404),
    ];
    is_for_this_machine(&mut findings, port, &routes).await;
    is_for_this_machine(&mut findings, fleet.gateway().operator_port(), &OPERATOR_ROUTES).await;
    for path in ["/ws?user=ann", "/ws"] {
        for host in FOREIGN {
            let request = handshake(port, path, host);
            findings.expect(port, host, request.as_bytes(), 403).await;
        }
        for host in OWN {
            let request = handshake(port, path, host);
            findings.expect(port, host, request.as_bytes(), 101).await;
        }
    }
    findings.assert_none();
}

#[tokio::test]
async fn a_gateway_that_asks_for_proofs_answers_to_every_name() {
    let fleet = gateway_with(GatewayOptions::default().with_jwt_secret(crate::auth::SECRET)).await;
    let port = fleet.gateway().port();
    let mut findings = Findings::default();
    let host = "chat.example.com";
    findings.expect(port, "page", request("/", &[host]).as_bytes(), 200).await;
    let line =
        format!("Authorization: Bearer {}", token(crate::auth::SECRET, "ann", 600, &json!({})));
    let handshake = handshake(port, "/ws", host);
    let handshake = handshake.replacen("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"), 1);
    findings.expect(port, "socket", handshake.as_bytes(), 101).await;
    // Its operator port has no proof to ask for.
    is_for_this_machine(&mut findings, fleet.gateway().operator_port(), &OPERATOR_ROUTES).await;
    findings.assert_none();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_port_of_a_worker_is_for_this_machine_too() {
    let options = ClusterOptions { gateways: 1, workers: 1, ..ClusterOptions::default() };
    let fleet = Fleet::cluster(options).await.unwrap();
    let mut findings = Findings::default();
    let port = fleet.workers()[0].operator_port();
    is_for_this_machine(&mut findings, port, &OPERATOR_ROUTES).await;
    findings.assert_none();
}

#[tokio::test]
async fn an_operator_port_for_the_network_answers_to_every_name() {
    let options = GatewayOptions::default().with_env("ROOMCAST_OPERATOR_BIND", "0.0.0.0");
    let fleet = gateway_with(options).await;
    let mut findings = Findings::default();
    let port = fleet.gateway().operator_port();
    findings.expect(port, "a pod", request("/livez", &["10.2.0.7:9464"]).as_bytes(), 200).await;
    findings.assert_none();
}
