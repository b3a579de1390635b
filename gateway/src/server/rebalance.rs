//! Sends people elsewhere from a node that has far more of them than the others, as the old ones
//! have after a new one was added: people who are connected do not move by themselves.

use std::sync::Arc;
use std::time::Duration;

use shared::process::error_chain::error_chain;
use tokio::time::MissedTickBehavior;
use tracing::{debug, info};

use crate::node::Node;

/// How often a node says how many it has, and looks at the others.
const LOOK: Duration = Duration::from_secs(5);

/// How often in a row it has to have too many: a node that has just come, or is about to go, is
/// none to go by.
const LOOKS: u32 = 3;

/// Smallest fleet in which anybody is sent elsewhere.
const NODES_MIN: usize = 3;

/// By how many the mean is passed at least: among some dozens, nobody has to move.
const SURPLUS_MIN: u64 = 100;

/// Which part of a node's people are sent away within a second, at most.
const PART_PER_SECOND: u64 = 100;

/// Runs as long as the node; in the embedded mode there is nowhere to go.
pub(super) async fn run(node: Arc<Node>) {
    let percent = u64::from(node.settings.rebalance_percent);
    if percent == 0 || !node.settings.is_cluster() {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = 0;
    loop {
        ticks.tick().await;
        if node.leaving.is_cancelled() {
            return std::future::pending().await;
        }
        let own = node.connections.len() as u64;
        let surplus = match node.hub.loads(own).await {
            Ok(fleet) => surplus(own, &fleet, percent),
            Err(error) => {
                debug!(error = error_chain(&error), "other nodes' connections are not known");
                0
            }
        };
        looks = if surplus == 0 { 0 } else { looks + 1 };
        if looks >= LOOKS {
            info!(own, surplus, "this node has far more connections than the others; some move");
            send_elsewhere(&node, own, surplus).await;
        }
    }
}

/// Sends at most `surplus` away until the next look, at most a hundredth of `own` each second.
async fn send_elsewhere(node: &Node, own: u64, surplus: u64) {
    let within_a_look = (own * LOOK.as_secs() / PART_PER_SECOND).max(1);
    let most = usize::try_from(surplus.min(within_a_look)).unwrap_or(usize::MAX);
    node.connections.send_elsewhere(most, LOOK).await;
}

/// How many of a node's connections are too many: down to half-way between the mean and what is
/// allowed, so that it does not begin again with the next one that comes.
fn surplus(own: u64, fleet: &[u64], percent: u64) -> u64 {
    if fleet.len() < NODES_MIN {
        return 0;
    }
    let mean = fleet.iter().sum::<u64>() / fleet.len() as u64;
    let is_far_above = own * 100 > mean * percent && own - mean >= SURPLUS_MIN;
    if is_far_above { own - mean * (100 + percent) / 200 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_far_above_the_mean_has_some_to_spare() {
        assert_eq!(surplus(1000, &[1000, 1000, 1000, 0], 120), 175, "down to 825, of 750");
        assert_eq!(surplus(900, &[900, 900, 900, 300], 120), 0, "exactly 120 percent of 750");
        assert_eq!(surplus(0, &[1000, 1000, 1000, 0], 120), 0);
        assert_eq!(surplus(1000, &[1000, 0], 120), 0, "two nodes are no fleet");
        assert_eq!(surplus(120, &[120, 0, 0, 30], 120), 0, "nor are 120 people many");
        assert_eq!(surplus(160, &[160, 0, 0], 120), 102);
    }
}
