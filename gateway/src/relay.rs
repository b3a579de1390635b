//! The task from broker deliveries to the hub, and to whatever else of the node they are for.

use std::sync::Arc;

use shared::contract::signal::{NodeSignal, Signal};
use shared::log::Delivery;
use tokio::sync::mpsc;

use crate::node::Node;

/// Hands on what the broker delivers, until the broker is gone.
pub(crate) async fn run(node: Arc<Node>, mut deliveries: mpsc::Receiver<Delivery>) {
    while let Some(delivery) = deliveries.recv().await {
        match &delivery {
            Delivery::Watermark(watermark) => node.appender.release(watermark),
            Delivery::Signal(Signal::Nodes(signal)) => heed(&node, signal),
            Delivery::Signal(Signal::Room { .. }) | Delivery::Entry(_) | Delivery::Gap => {}
        }
        node.hub.take(delivery);
    }
}

/// What every node has to know.
fn heed(node: &Arc<Node>, signal: &NodeSignal) {
    match signal {
        NodeSignal::Erased { room } => node.hub.erased(room),
        NodeSignal::Disconnect { .. }
        | NodeSignal::Revoked
        | NodeSignal::Blocked { .. }
        | NodeSignal::Reaped { .. } => {}
    }
}
