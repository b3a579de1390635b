//! The Redis subscription: a connection of its own, never shared with commands, reopened for ever.
//!
//! What is published while it is away is lost, so every return ends with a gap, after which every
//! room reads what it missed. What comes in goes into a bounded queue; what does not fit is made
//! up for by a gap too, because Redis cannot be slowed down.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::IntCounter;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisError, Value};
use serde::de::DeserializeOwned;
use shared::contract::id::Shard;
use shared::contract::keys::{Channels, Purpose};
use shared::contract::limits::DEAF_MS_MAX;
use shared::contract::position::Position;
use shared::contract::signal::Addressed;
use shared::dependency::Hearing;
use shared::log::deliveries::{self, Deliveries, DeliveryReceiver};
use shared::log::redis::connection::RedisConnection;
use shared::log::{Delivery, LogError, RingEntry};
use shared::process::backoff::Backoff;
use shared::process::changes;
use shared::process::tasks::Tasks;
use shared::trouble;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};

/// Channels named in one SUBSCRIBE.
const CHANNELS_PER_CALL: usize = 256;
/// Subscriptions that may wait for the task.
const REQUESTS_MAX: usize = 4096;
/// How long confirmations may take before the connection is given up.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often something is published that has to come back.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// After how long without a probe coming back the connection is given up.
const PROBE_TIMEOUT: Duration = Duration::from_millis(DEAF_MS_MAX);

/// The way to the task that listens.
#[derive(Debug)]
pub(super) struct Subscriber {
    requests: mpsc::Sender<SubscriberRequest>,
    inbox: Arc<Inbox>,
}

#[derive(Debug)]
enum SubscriberRequest {
    Subscribe { channel: String, confirmed: oneshot::Sender<()> },
    Unsubscribe { channel: String },
}

/// The task is gone, and with it the process's reason to be.
#[derive(Debug, thiserror::Error)]
#[error("the subscriber has ended")]
struct Ended;

impl Subscriber {
    /// Starts the task, which ends when the subscriber is dropped.
    pub(super) fn start(
        connection: RedisConnection,
        node: &str,
        hearing: Arc<Hearing>,
        (tasks, foreign, bytes_max): (&Tasks, IntCounter, usize),
    ) -> (Subscriber, DeliveryReceiver) {
        let (requests, waiting) = mpsc::channel(REQUESTS_MAX);
        let (deliveries, receiver) = deliveries::channel(bytes_max);
        let inbox = Arc::new(Inbox { deliveries, open: AtomicBool::default(), foreign });
        let (node, wanted, own) = (node.to_owned(), HashSet::new(), Arc::clone(&inbox));
        let task = Task { connection, waiting, inbox: own, wanted, node, hearing };
        tasks.spawn("subscriber", task.run());
        (Subscriber { requests, inbox }, receiver)
    }

    /// Delivers something that did not come from Redis.
    pub(super) fn put(&self, delivery: Delivery) {
        self.inbox.deliveries.put(delivery);
    }

    /// Whether there is a connection that listens.
    pub(super) fn hears(&self) -> bool {
        self.inbox.open.load(Ordering::Acquire)
    }

    /// Listens to a channel from now on; confirmed by Redis when it returns.
    pub(super) async fn subscribe(&self, channel: String) -> Result<(), LogError> {
        let (confirmed, answer) = oneshot::channel();
        let ended = |()| LogError::Unavailable(Box::new(Ended));
        let request = SubscriberRequest::Subscribe { channel, confirmed };
        self.requests.send(request).await.map_err(|_| ended(()))?;
        answer.await.map_err(|_| ended(()))
    }

    /// Listens to it no more.
    pub(super) async fn unsubscribe(&self, channel: String) -> Result<(), LogError> {
        let sent = self.requests.send(SubscriberRequest::Unsubscribe { channel }).await;
        sent.map_err(|_| LogError::Unavailable(Box::new(Ended)))
    }
}

/// Where deliveries go, over all connections.
#[derive(Debug)]
struct Inbox {
    deliveries: Deliveries,
    /// A connection listens.
    open: AtomicBool,
    /// What came in and was another deployment's.
    foreign: IntCounter,
}

impl Inbox {
    /// Takes what is published, where it is this deployment's.
    fn message(&self, channels: &Channels, channel: &str, payload: Vec<u8>) -> Option<u64> {
        match channels.purpose(channel) {
            Some(Purpose::Probe(_)) => {
                return std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok());
            }
            Some(Purpose::Watermark(_)) => {
                if let Some(watermark) = self.addressed(channels, &payload) {
                    self.deliveries.put(Delivery::Watermark(watermark));
                }
            }
            Some(Purpose::Nodes) => self.signal(channels, &payload),
            Some(Purpose::Room(_)) if payload.first() == Some(&b'{') => {
                self.signal(channels, &payload);
            }
            Some(Purpose::Room(_)) => match entry(payload) {
                Some(entry) => self.deliveries.put(Delivery::Entry(entry)),
                None => warn!("publication has no position"),
            },
            None => self.foreign.inc(),
        }
        None
    }

    fn signal(&self, channels: &Channels, payload: &[u8]) {
        if let Some(signal) = self.addressed(channels, payload) {
            self.deliveries.put(Delivery::Signal(signal));
        }
    }

    /// What is told, unless it bears another's name.
    fn addressed<T: DeserializeOwned>(&self, channels: &Channels, payload: &[u8]) -> Option<T> {
        match serde_json::from_slice::<Addressed<T>>(payload) {
            Ok(Addressed { owner, told }) if owner == channels.owner() => Some(told),
            Ok(_) => {
                self.foreign.inc();
                None
            }
            Err(error) => {
                warn!(%error, "publication cannot be read");
                None
            }
        }
    }
}

/// What the listening end of one connection knows.
#[derive(Debug, Default)]
struct Line {
    confirmed: Mutex<HashSet<String>>,
    changed: Notify,
    broken: AtomicBool,
    /// The last probe that came back.
    probed: AtomicU64,
}

impl Line {
    /// Waits until all channels are confirmed; `false` when the connection broke or took too long.
    async fn confirms(&self, channels: &[String]) -> bool {
        let all = changes::until(&self.changed, || {
            let confirmed = |channel| self.confirmed.lock().contains(channel);
            match self.broken.load(Ordering::Acquire) {
                true => Some(false),
                false => channels.iter().all(confirmed).then_some(true),
            }
        });
        tokio::time::timeout(CONFIRM_TIMEOUT, all).await.unwrap_or(false)
    }

    async fn breaks(&self) {
        let broken = || self.broken.load(Ordering::Acquire).then_some(());
        changes::until(&self.changed, broken).await;
    }

    /// What the connection pushes; runs on its reading task and must not wait. Says whether a probe
    /// came back.
    fn take(&self, push: PushInfo, inbox: &Inbox, channels: &Channels) -> bool {
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                return self.message(push.data, inbox, channels);
            }
            PushKind::Subscribe | PushKind::SSubscribe => {
                if let Some(channel) = push.data.into_iter().next().and_then(text) {
                    self.confirmed.lock().insert(channel);
                    self.changed.notify_waiters();
                }
            }
            PushKind::Unsubscribe | PushKind::SUnsubscribe => {
                if let Some(channel) = push.data.into_iter().next().and_then(text) {
                    self.confirmed.lock().remove(&channel);
                }
            }
            PushKind::Disconnection => {
                self.broken.store(true, Ordering::Release);
                self.changed.notify_waiters();
            }
            PushKind::PMessage
            | PushKind::PSubscribe
            | PushKind::PUnsubscribe
            | PushKind::Invalidate
            | PushKind::Other(_) => {}
            // The crate may learn of more.
            _ => {}
        }
        false
    }

    fn message(&self, data: Vec<Value>, inbox: &Inbox, channels: &Channels) -> bool {
        let mut data = data.into_iter();
        let (Some(channel), Some(Value::BulkString(payload))) =
            (data.next().and_then(text), data.next())
        else {
            return false;
        };
        let probe = inbox.message(channels, &channel, payload);
        self.probed.fetch_max(probe.unwrap_or(0), Ordering::AcqRel);
        probe.is_some()
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// `<epoch>-<seq> <envelope>`, as the append script publishes it.
fn entry(payload: Vec<u8>) -> Option<RingEntry> {
    let payload = Bytes::from(payload);
    let end = payload.iter().position(|byte| *byte == b' ')?;
    let (epoch, seq) = std::str::from_utf8(&payload[..end]).ok()?.split_once('-')?;
    let position = Position::new(epoch.parse().ok()?, seq.parse().ok()?);
    Some(RingEntry { position, raw: payload.slice(end + 1..) })
}

struct Task {
    connection: RedisConnection,
    waiting: mpsc::Receiver<SubscriberRequest>,
    inbox: Arc<Inbox>,
    /// Channels, beside what every node listens to.
    wanted: HashSet<String>,
    node: String,
    hearing: Arc<Hearing>,
}

impl Task {
    async fn run(mut self) {
        let mut pauses = Backoff::new(PAUSE, PAUSE_MAX);
        loop {
            match self.connect().await {
                Ok((connection, line)) => {
                    pauses.reset();
                    info!("listening to redis");
                    self.inbox.open.store(true, Ordering::Release);
                    if self.listen(connection, &line).await {
                        return;
                    }
                    trouble!("redis no longer heard");
                }
                Err(error) => trouble!(%error, "redis cannot be listened to"),
            }
            self.inbox.open.store(false, Ordering::Release);
            // Where Redis takes it, this node is deaf.
            self.send_probe(0);
            if self.waiting.is_closed() {
                return;
            }
            tokio::time::sleep(pauses.next_delay()).await;
        }
    }

    /// A connection that listens to everything that is wanted, and a gap for what it missed.
    async fn connect(&mut self) -> Result<(MultiplexedConnection, Arc<Line>), RedisError> {
        let line = Arc::new(Line::default());
        let channels = self.connection.named_channels().await.clone();
        let mut wanted: Vec<String> = self.wanted.iter().cloned().collect();
        wanted.extend(Shard::all().map(|shard| channels.watermark(shard)));
        wanted.extend([channels.probe(&self.node), channels.nodes()]);
        let (pushed, inbox) = (Arc::clone(&line), Arc::clone(&self.inbox));
        let hearing = Arc::clone(&self.hearing);
        let take = move |push: PushInfo| -> Result<(), std::convert::Infallible> {
            if pushed.take(push, &inbox, &channels) {
                hearing.came_back();
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONFIRM_TIMEOUT))
            .set_push_sender(take);
        let client = self.connection.client();
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        subscribe(&mut connection, &line, &wanted).await?;
        self.inbox.deliveries.lose();
        self.inbox.deliveries.tell_gap();
        Ok((connection, line))
    }

    /// Until the connection breaks; `true` when nobody needs it any more.
    async fn listen(&mut self, mut connection: MultiplexedConnection, line: &Arc<Line>) -> bool {
        let mut probes = tokio::time::interval(PROBE_INTERVAL);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sent, mut heard, mut heard_at) = (0, 0, Instant::now());
        let mut requests = Vec::new();
        let mut drops = self.connection.drops();
        loop {
            tokio::select! {
                () = line.breaks() => return false,
                // Redis is no longer where it was.
                _ = drops.changed() => return false,
                count = self.waiting.recv_many(&mut requests, CHANNELS_PER_CALL) => {
                    if count == 0 {
                        return true;
                    }
                    let asked = std::mem::take(&mut requests);
                    if let Err(error) = self.serve(&mut connection, line, asked).await {
                        trouble!(%error, "redis cannot be subscribed to");
                        return false;
                    }
                }
                _ = probes.tick() => {
                    // What did not fit may be told now.
                    self.inbox.deliveries.tell_gap();
                    let back = line.probed.load(Ordering::Acquire);
                    if back > heard || sent == 0 {
                        (heard, heard_at) = (back, Instant::now());
                    } else if heard_at.elapsed() > PROBE_TIMEOUT {
                        warn!("what is published does not come back");
                        return false;
                    }
                    sent += 1;
                    self.send_probe(sent);
                }
            }
        }
    }

    /// Published like everything else; not waited for.
    fn send_probe(&self, number: u64) {
        let (connection, node) = (self.connection.clone(), self.node.clone());
        let hearing = Arc::clone(&self.hearing);
        tokio::spawn(async move {
            let probe = connection.named_channels().await.probe(&node);
            let mut pipe = redis::pipe();
            pipe.cmd("PUBLISH").arg(probe).arg(number).ignore();
            let taken: Result<(), RedisError> = connection.pipeline(&pipe).await;
            hearing.published(taken.is_ok());
        });
    }

    async fn serve(
        &mut self,
        connection: &mut MultiplexedConnection,
        line: &Arc<Line>,
        requests: Vec<SubscriberRequest>,
    ) -> Result<(), RedisError> {
        let mut confirmations = Vec::new();
        let mut channels = Vec::new();
        for request in requests {
            match request {
                SubscriberRequest::Subscribe { channel, confirmed } => {
                    self.wanted.insert(channel.clone());
                    channels.push(channel);
                    confirmations.push(confirmed);
                }
                SubscriberRequest::Unsubscribe { channel } => {
                    // In order: what was asked before it is done before it.
                    subscribe(connection, line, &channels).await?;
                    channels.clear();
                    self.wanted.remove(&channel);
                    connection.unsubscribe(channel.as_str()).await?;
                    line.confirmed.lock().remove(&channel);
                }
            }
        }
        subscribe(connection, line, &channels).await?;
        for confirmed in confirmations {
            // Whoever asked may have given up; the channel is wanted until it is given up too.
            let _ = confirmed.send(());
        }
        Ok(())
    }
}

/// Subscribes in bounded batches, each confirmed channel by channel.
async fn subscribe(
    connection: &mut MultiplexedConnection,
    line: &Line,
    channels: &[String],
) -> Result<(), RedisError> {
    for batch in channels.chunks(CHANNELS_PER_CALL) {
        connection.subscribe(batch).await?;
        if !line.confirms(batch).await {
            let kind = std::io::ErrorKind::TimedOut;
            return Err(std::io::Error::new(kind, "subscription was not confirmed").into());
        }
    }
    Ok(())
}
