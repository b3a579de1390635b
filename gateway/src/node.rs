//! The parts of a node that every connection borrows.

use std::sync::Arc;

use shared::log::Log;
use shared::process::byte_budget::ByteBudget;
use shared::process::clock::Clock;
use shared::store::Store;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::api_keys::ApiKeys;
use crate::auth::client_address::{Addresses, TrustedProxies};
use crate::auth::origin::AllowedOrigins;
use crate::auth::unproven::Unproven;
use crate::auth::{Authenticator, Revocations, TokenStore};
use crate::broker::Broker;
use crate::broker::append_queue::AppendQueue;
use crate::broker::receipt_queue::ReceiptQueue;
use crate::config::GatewaySettings;
use crate::config::shares::MemoryShares;
use crate::hub::Hub;
use crate::hub::room_quota::RoomQuota;
use crate::metrics::Metrics;
use crate::rate_limit::RateLimiter;
use crate::spending::Spending;
use crate::stream::buffer::StreamBuffers;
use crate::wire::connect_rate::ConnectRate;
use crate::wire::connections::Connections;
use crate::wire::frame;
use crate::wire::send_queue::Flushers;

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    /// What it was told.
    pub(crate) settings: GatewaySettings,
    /// What time it is.
    pub(crate) clock: Clock,
    /// What it counts.
    pub(crate) metrics: Arc<Metrics>,
    /// Who is asking.
    pub(crate) authenticator: Authenticator,
    /// Which programs may use the API.
    pub(crate) api_keys: ApiKeys,
    /// Which proofs hold no longer.
    pub(crate) revocations: Revocations,
    /// Proofs that were given out here, or anywhere in the cluster.
    pub(crate) token_store: TokenStore,
    /// Who is believed about where a client is.
    pub(crate) proxies: TrustedProxies,
    /// How many connections there are from where.
    pub(crate) addresses: Arc<Addresses>,
    /// Sockets whose clients have not said who they are.
    pub(crate) unproven: Unproven,
    /// From where a browser may connect.
    pub(crate) origins: AllowedOrigins,
    /// How many sockets of clients there may be, of both kinds, by what the system lets it open.
    pub(crate) sockets_max: usize,
    /// How many handshakes may begin that say who is asking.
    pub(crate) connect_rate: ConnectRate,
    /// How many others.
    pub(crate) unproven_connect_rate: ConnectRate,
    /// What writes to its sockets.
    pub(crate) flushers: Flushers,
    /// Its sockets.
    pub(crate) connections: Connections,
    /// What its parts may have of its memory.
    pub(crate) memory: MemoryShares,
    /// Bodies of requests that are being read or done; beyond it whoever asks is told
    /// `backpressure`.
    pub(crate) bodies: Arc<ByteBudget>,
    /// Turns of those who read a page of history.
    pub(crate) pages: Semaphore,
    /// Messages that are read from sockets and are not whole.
    pub(crate) reading: Arc<ByteBudget>,
    /// Its other TCP connections, those that speak HTTP.
    pub(crate) exchanges: TaskTracker,
    /// Who is in how many rooms.
    pub(crate) room_quota: Arc<RoomQuota>,
    /// Whose turn it is to spend somebody's credits.
    pub(crate) spending: Spending,
    /// Who asks too often.
    pub(crate) limiter: Arc<RateLimiter>,
    /// Its rooms.
    pub(crate) hub: Hub,
    /// The answers that are written through it.
    pub(crate) streams: Arc<StreamBuffers>,
    /// The way into the log.
    pub(crate) append_queue: AppendQueue,
    /// Receipts on their way there.
    pub(crate) receipts: ReceiptQueue,
    /// Where ids are remembered.
    pub(crate) broker: Arc<dyn Broker>,
    /// What is on its way into the database.
    pub(crate) log: Arc<dyn Log>,
    /// The database.
    pub(crate) store: Arc<dyn Store>,
    /// Cancelled when the node leaves.
    pub(crate) leaving: CancellationToken,
}

impl Node {
    /// Bytes by which the frames that wait for clients are more than may be. What rooms remember
    /// waits for nobody, and has a bound of its own.
    pub(crate) fn excess_frames(&self) -> usize {
        let waiting = frame::alive_bytes().saturating_sub(self.hub.remembered_bytes());
        waiting.saturating_sub(self.memory.frames)
    }
}
