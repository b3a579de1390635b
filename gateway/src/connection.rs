//! The life of one connection: authenticate, welcome, run the session, close.

pub mod echo;
mod reader;
pub(crate) mod decoder;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::contract::limits::LEAVE_ANSWER_TIMEOUT_MS;
use shared::contract::limits::{AUTH_TIMEOUT_MS, CLOSE_LINGER_MS, CONTENT_BYTES_MAX};
use shared::contract::limits::{COMMANDS_IN_FLIGHT_MAX, METADATA_BYTES_MAX, PAGE_ROWS_MAX};
use shared::contract::limits::{UNPROVEN_FRAME_BYTES_MAX, UNPROVEN_FRAMES_MAX};
use shared::contract::protocol::WelcomeLimits;
use shared::contract::protocol::{Command, EventName, Reconnect, SUBPROTOCOL, Welcome};
use shared::contract::refusal::{CloseReason, Refusal, RefusalCode};
use shared::contract::timestamp::Timestamp;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tracing::{Instrument, debug, debug_span};

use crate::auth::Identity;
use crate::auth::unproven::UnprovenPlace;
use crate::command;
use crate::command::reply::Reply;
use crate::command::session::Session;
use crate::metrics::ReconnectReason;
use crate::node::Node;
use crate::operation::authenticate::AuthError;
use crate::wire::codec::{self, ParsedCommand};
use crate::wire::connections::Handle;
use crate::wire::frame::Frame;
use crate::wire::send_queue::Ending;

use self::decoder::Incoming;
use self::reader::Reader;

/// How long the answers that are still to come may hold up a leaving node.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Who is on a connection when it begins.
#[derive(Debug)]
pub(crate) enum Caller {
    /// Somebody whose proof came with the handshake; boxed, because it is handed from one future to
    /// the next, each of which has a place for it.
    Known(Box<Identity>),
    /// Nobody yet, in their place among those.
    Unproven(Option<UnprovenPlace>),
}

/// Lives through one connection. `early` is what the client sent behind its handshake.
pub(crate) async fn run(socket: TcpStream, early: Bytes, node: Arc<Node>, caller: Caller) {
    let (read_half, write_half) = socket.into_split();
    let handle = node.connections.open(node.flushers.queue(write_half));
    // Opened and closed are counted in a pair.
    node.metrics.connections_opened_total.inc();
    let span = debug_span!("connection", connection.id = handle.number);
    let reason = serve(read_half, early, &node, &handle, caller).instrument(span).await;
    node.connections.close(&handle);
    node.metrics.connections_closed_total.inc(reason);
}

async fn serve(
    socket: OwnedReadHalf,
    early: Bytes,
    node: &Arc<Node>,
    handle: &Arc<Handle>,
    caller: Caller,
) -> CloseReason {
    let bytes_max = node.settings.message_bytes_max;
    let first_bytes_max = match caller {
        Caller::Known(_) => bytes_max,
        Caller::Unproven(_) => bytes_max.min(UNPROVEN_FRAME_BYTES_MAX),
    };
    let mut reader = Reader::new(socket, early, first_bytes_max, node.reading.share());
    let reason = run_session(&mut reader, node, handle, caller).await;
    handle.queue.close(reason);
    let reason = handle.queue.closing().unwrap_or(reason);
    debug!(reason = reason.label(), "connection ends");
    // What is queued is written before; the client's own close may take a moment, and closing the
    // socket before it would reset the connection and lose what is on the way.
    tokio::select! {
        () = handle.queue.ended() => {}
        () = left_behind(node) => handle.queue.abandon(reason),
    }
    let linger = Duration::from_millis(CLOSE_LINGER_MS);
    let _ = tokio::time::timeout(linger, reader.until_closed()).await;
    reason
}

/// Until a leaving node waits no longer for somebody to read.
async fn left_behind(node: &Node) {
    node.leaving.cancelled().await;
    tokio::time::sleep(Duration::from_millis(LEAVE_ANSWER_TIMEOUT_MS)).await;
}

/// Everything between the handshake and the close.
async fn run_session(
    reader: &mut Reader,
    node: &Arc<Node>,
    handle: &Arc<Handle>,
    caller: Caller,
) -> CloseReason {
    let identity = match caller {
        Caller::Known(identity) => identity,
        // Its place is given back as soon as it is somebody's, or gone.
        Caller::Unproven(_place) => match Box::pin(authenticate(reader, node, handle)).await {
            Ok(identity) => Box::new(identity),
            Err(reason) => return reason,
        },
    };
    reader.allow(node.settings.message_bytes_max);
    node.connections.identify(handle, &identity);
    // Taken back between the look at it and the moment from which a revocation finds it.
    if node.revocations.cover(&identity.subject()) {
        return CloseReason::Unauthenticated;
    }
    handle.queue.push(welcome(node, handle, &identity));
    node.limiter.load_block(&identity);
    let mut session = Session::new(*identity, Arc::clone(handle));
    // Whoever comes in while the node leaves may have been missed by it.
    if node.leaving.is_cancelled() {
        handle.queue.send_elsewhere();
    }
    loop {
        tokio::select! {
            ending = handle.queue.ending() => match ending {
                Ending::Closed(reason) => return reason,
                Ending::SentElsewhere => return Box::pin(leave(&session, node)).await,
            },
            incoming = next(reader, node, handle) => {
                let incoming = match incoming {
                    Ok(incoming) => incoming,
                    Err(reason) => return reason,
                };
                match incoming {
                    Incoming::Text(text) => answer(&mut session, node, &text.into_bytes()).await,
                    Incoming::Ping(payload) => handle.queue.push(Frame::pong(&payload)),
                    Incoming::Pong(_) => {}
                    Incoming::Close { .. } => return CloseReason::Normal,
                }
            }
        }
    }
}

/// The next thing from the client, once there is room for what it is answered. Everything that a
/// client can have queued for itself is bounded here: whoever does not read is not read either.
async fn next(reader: &mut Reader, node: &Node, handle: &Handle) -> Result<Incoming, CloseReason> {
    handle.queue.accepting().await;
    reader.next(|| node.connections.touch(handle)).await
}

async fn answer(session: &mut Session, node: &Arc<Node>, text: &[u8]) {
    let (reply, command) = read(node, &session.handle, text);
    match command {
        // In memory of its own: an idle connection has none for it.
        Ok(command) => Box::pin(command::execute(session, node, reply, command)).await,
        Err(refusal) => reply.refuse(None, &refusal),
    }
}

fn read(node: &Node, handle: &Handle, text: &[u8]) -> (Reply, Result<Command, Refusal>) {
    node.metrics.commands_total.inc();
    let ParsedCommand { reference, command } = codec::read(text);
    let (queue, metrics) = (Arc::clone(&handle.queue), Arc::clone(&node.metrics));
    (Reply::new(queue, reference, metrics), command)
}

/// The first frame has to say who is asking, where the handshake did not. Anything else is refused,
/// a few times. Whose proof could not be looked at is sent away to come again, and not for another
/// proof.
async fn authenticate(
    reader: &mut Reader,
    node: &Arc<Node>,
    handle: &Arc<Handle>,
) -> Result<Identity, CloseReason> {
    let patience = tokio::time::sleep(Duration::from_millis(AUTH_TIMEOUT_MS));
    tokio::pin!(patience);
    let mut too_late = CloseReason::Unauthenticated;
    for _ in 0..UNPROVEN_FRAMES_MAX {
        let incoming = tokio::select! {
            ending = handle.queue.ending() => return Err(ending.reason()),
            () = &mut patience => return Err(too_late),
            () = node.leaving.cancelled() => return Err(CloseReason::Restart),
            incoming = next(reader, node, handle) => incoming?,
        };
        let text = match incoming {
            Incoming::Text(text) => text.into_bytes(),
            Incoming::Ping(payload) => {
                handle.queue.push(Frame::pong(&payload));
                continue;
            }
            Incoming::Pong(_) => continue,
            Incoming::Close { .. } => return Err(CloseReason::Normal),
        };
        match read(node, handle, &text) {
            (reply, Ok(Command::Auth(data))) => {
                match command::first_auth(node, &reply, &data).await {
                    Ok(identity) => return Ok(identity),
                    Err(AuthError::Invalid) => return Err(CloseReason::Unauthenticated),
                    // It may ask again while its time lasts.
                    Err(AuthError::Unavailable) => too_late = CloseReason::TryLater,
                }
            }
            (reply, Ok(_)) => {
                let text = "the first command says who you are: auth";
                reply.refuse(None, &Refusal::new(RefusalCode::Unauthenticated, text));
            }
            (reply, Err(refusal)) => reply.refuse(None, &refusal),
        }
    }
    Err(too_late)
}

fn welcome(node: &Node, handle: &Handle, identity: &Identity) -> Frame {
    let settings = &node.settings;
    let limits = WelcomeLimits {
        frame_bytes: settings.message_bytes_max,
        content_bytes: CONTENT_BYTES_MAX,
        metadata_bytes: METADATA_BYTES_MAX,
        rooms_per_user: settings.rooms_per_user,
        page_rows: PAGE_ROWS_MAX,
    };
    let welcome = Welcome {
        protocol: SUBPROTOCOL.into(),
        connection_id: handle.number.to_string(),
        user_id: identity.user.clone(),
        heartbeat_ms: settings.heartbeat_interval_ms.0,
        limits,
        server_time: Timestamp(node.clock.now_ms()),
    };
    codec::event(EventName::Welcome, &welcome)
}

/// What was asked is answered, then the client is sent elsewhere.
async fn leave(session: &Session, node: &Node) -> CloseReason {
    let all = u32::try_from(COMMANDS_IN_FLIGHT_MAX).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(LEAVE_TIMEOUT, session.in_flight.acquire_many(all)).await;
    let why = match node.leaving.is_cancelled() {
        true => ReconnectReason::Drain,
        false => ReconnectReason::Rebalance,
    };
    node.metrics.reconnects_advised_total.inc(why);
    let reconnect = Reconnect { after_ms: node.connections.reconnect_after_ms() };
    session.handle.queue.push(codec::event(EventName::Reconnect, &reconnect));
    CloseReason::Restart
}
