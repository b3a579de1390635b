//! The task that hands broker deliveries to the hub and to the other parts they are for.

use std::sync::Arc;

use shared::contract::signal::{NodeSignal, Signal};
use shared::log::Delivery;
use shared::log::deliveries::DeliveryReceiver;
use tokio::sync::mpsc;

use crate::broker::append_queue::journaling::RefusedEntry;
use crate::node::Node;
use crate::operation::authenticate;
use crate::operation::credit::Moved;

/// Hands on what the broker delivers, until the broker is gone.
pub(crate) async fn run(
    node: Arc<Node>,
    deliveries: DeliveryReceiver,
    mut refusals: mpsc::Receiver<RefusedEntry>,
) {
    let moved = Moved::default();
    let refused = async {
        while let Some(refused) = refusals.recv().await {
            node.hub.refused(refused);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = deliver(&node, deliveries, &moved) => {}
        () = refused => {}
        // Reads what it tells, and holds up no delivery.
        () = moved.tell(&node) => {}
    }
}

async fn deliver(node: &Arc<Node>, mut deliveries: DeliveryReceiver, moved: &Moved) {
    while let Some(delivery) = deliveries.recv().await {
        match &delivery {
            Delivery::Watermark(watermark) => {
                node.append_queue.release(watermark);
                moved.note(node, &watermark.balances);
            }
            Delivery::Signal(Signal::Nodes(signal)) => heed(node, signal),
            Delivery::Gap => {
                moved.gap();
                // A signal may have been among what was missed.
                node.revocations.wake();
            }
            Delivery::Signal(Signal::Room { .. }) | Delivery::Entry(_) => {}
        }
        node.hub.take(delivery);
    }
}

/// What every node has to know.
fn heed(node: &Arc<Node>, signal: &NodeSignal) {
    match signal {
        NodeSignal::Blocked { user, until_ms } => node.limiter.apply_block(user, *until_ms),
        NodeSignal::Disconnect { user } => authenticate::cut(node, user),
        NodeSignal::Revoked => node.revocations.wake(),
        NodeSignal::Reaped { incarnation } => node.hub.reaped(*incarnation),
        NodeSignal::Erased { room } => node.hub.erased(room),
        NodeSignal::Hosted { room, users, incarnation, at } => {
            node.hub.overruled(room, users, (*incarnation, *at));
        }
    }
}
