//! The task from broker deliveries to the hub.

use std::sync::Arc;

use shared::log::Delivery;
use tokio::sync::mpsc;

use crate::node::Node;

/// Hands on what the broker delivers, until the broker is gone.
pub(crate) async fn run(node: Arc<Node>, mut deliveries: mpsc::Receiver<Delivery>) {
    while let Some(delivery) = deliveries.recv().await {
        if let Delivery::Watermark(watermark) = &delivery {
            node.appender.release(watermark);
        }
        node.hub.take(delivery);
    }
}
