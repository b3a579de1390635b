//! One gateway of its own for each scenario, and what its process shows from outside.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

use fleet::{Fleet, GatewayOptions};
use std::time::Duration;

/// How long anything may take that is not itself about time.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// A gateway that believes `?user=`.
pub(crate) async fn gateway() -> Fleet {
    gateway_with(GatewayOptions::default()).await
}

/// A gateway with these options.
pub(crate) async fn gateway_with(options: GatewayOptions) -> Fleet {
    Fleet::embedded(options).await.unwrap()
}

/// Everything the gateway wrote so far.
pub(crate) fn log_of(fleet: &Fleet) -> String {
    std::fs::read_to_string(fleet.gateway().log()).unwrap()
}

/// Fails where a thread of the gateway panicked; one that is caught shows nowhere else.
pub(crate) fn assert_no_panic(fleet: &Fleet) {
    let log = log_of(fleet);
    assert!(!log.contains("panicked"), "{log}");
}

/// Memory of the gateway that is in RAM, in bytes.
pub(crate) fn resident_bytes(fleet: &Fleet) -> u64 {
    let pid = fleet.gateway().pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// One sample of the metrics page; 0 where there is none.
pub(crate) async fn metric(fleet: &Fleet, name_and_labels: &str) -> f64 {
    fleet.gateway().metrics().await.unwrap().get(name_and_labels).unwrap_or(0.0)
}

/// Waits until the gateway has ended exactly so many connections for this reason: it counts one
/// only when the client has closed too, or has had its time to.
pub(crate) async fn assert_closed_for(fleet: &Fleet, reason: &str, connections: usize) {
    let counted = || async {
        let count = closed_for(fleet, reason).await;
        let equal = (count - connections as f64).abs() < 0.5;
        if equal { Ok(()) } else { Err(format!("{count} of {connections}")) }
    };
    harness::eventually(SOON, reason, counted).await;
}

/// How many connections the gateway ended for this reason.
pub(crate) async fn closed_for(fleet: &Fleet, reason: &str) -> f64 {
    metric(fleet, &format!("roomcast_connections_closed_total{{reason=\"{reason}\"}}")).await
}
