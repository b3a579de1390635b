//! The few parts that every connection borrows.

use std::sync::Arc;

use shared::process::clock::Clock;
use shared::store::Store;
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;
use crate::broker::Broker;
use crate::broker::appender::Appender;
use crate::config::Settings;
use crate::connections::Connections;
use crate::handshake::AllowedOrigins;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::receipts::Receipts;
use crate::roster::Roster;
use crate::streams::desk::Desk;

/// One node.
pub(crate) struct Node {
    /// What it was told.
    pub(crate) settings: Settings,
    /// What time it is.
    pub(crate) clock: Clock,
    /// What it counts.
    pub(crate) metrics: Arc<Metrics>,
    /// Who is asking.
    pub(crate) authenticator: Authenticator,
    /// From where a browser may connect.
    pub(crate) origins: AllowedOrigins,
    /// Its sockets.
    pub(crate) connections: Connections,
    /// Who is in how many rooms.
    pub(crate) roster: Arc<Roster>,
    /// Its rooms.
    pub(crate) hub: Hub,
    /// The answers that are written through it.
    pub(crate) desk: Arc<Desk>,
    /// The way into the log.
    pub(crate) appender: Appender,
    /// Receipts on their way there.
    pub(crate) receipts: Receipts,
    /// Where ids are remembered.
    pub(crate) broker: Arc<dyn Broker>,
    /// The database.
    pub(crate) store: Arc<dyn Store>,
    /// Cancelled when the node leaves.
    pub(crate) leaving: CancellationToken,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("hub", &self.hub).finish_non_exhaustive()
    }
}
