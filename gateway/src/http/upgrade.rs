//! Upgrades an HTTP request to a WebSocket.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use fastwebsockets::upgrade::UpgradeFut;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use shared::contract::timestamp::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

use super::credentials::{self, Credentials};
use super::timed_socket::TimedSocket;
use super::{HttpResponse, Visitor, busy, text};
use crate::auth::client_address::AddressPlace;
use crate::auth::unproven::UnprovenPlace;
use crate::auth::{Identity, handshake};
use crate::connection::{self, Caller};
use crate::metrics::HandshakeFault;
use crate::node::Node;
use crate::operation::authenticate::{self, AuthError};

/// For how many seconds at most a client is told to wait where too many connect at once.
const DEFERRED_S_MAX: u64 = 5;

/// Checks the handshake and who is asking, answers 101, and starts the connection.
pub(super) async fn answer(
    request: Request<Incoming>,
    visitor: &Visitor,
    node: &Arc<Node>,
) -> HttpResponse {
    match accept(request, visitor, node).await {
        Ok(answer) => answer,
        Err(refusal) => {
            node.metrics.handshakes_refused_total.inc(HandshakeFault::of(refusal.status()));
            *refusal
        }
    }
}

async fn accept(
    mut request: Request<Incoming>,
    visitor: &Visitor,
    node: &Arc<Node>,
) -> Result<HttpResponse, Box<HttpResponse>> {
    let handshake =
        handshake::check(&request, &node.origins).map_err(|refusal| Box::new(refusal.answer()))?;
    let place = place(&request, visitor.peer, node)?;
    let identity = identity(&request, node)?;
    let identity = identity.await?;
    if node.leaving.is_cancelled() {
        return Err(Box::new(busy("this node is leaving\n")));
    }
    // Of those who have proven who they are, and of those who have not yet: whoever has no proof
    // takes no turn of somebody who has one.
    let rate = if identity.is_some() { &node.connect_rate } else { &node.unproven_connect_rate };
    if !rate.take() {
        return Err(Box::new(deferred()));
    }
    let of_node = node.connections.place();
    let of_node =
        of_node.ok_or_else(|| Box::new(busy("this node has all the connections it may have\n")))?;
    let (response, upgraded) = fastwebsockets::upgrade::upgrade(&mut request)
        .map_err(|_| text(StatusCode::BAD_REQUEST, "the WebSocket handshake is not valid\n"))
        .map_err(Box::new)?;
    let caller = match identity {
        Some(identity) => Caller::Known(Box::new(identity)),
        None => Caller::Unproven(unproven(&request, visitor, node)?),
    };
    let places = Places { _of_address: place, _of_node: of_node };
    tokio::spawn(begin(upgraded, Arc::clone(node), caller, places));
    Ok(handshake.answer(response))
}

/// Counts a connection where its client is, from before its proof is looked at.
fn place(
    request: &Request<Incoming>,
    peer: SocketAddr,
    node: &Node,
) -> Result<AddressPlace, Box<HttpResponse>> {
    let address = node.proxies.client(peer, request.headers());
    let max = node.settings.connections_per_address;
    node.addresses.enter(address, max).ok_or_else(crowded)
}

/// Others come at the same time: each is told another second of the next few.
fn deferred() -> HttpResponse {
    let mut answer = busy("too many connect at the same time\n");
    let seconds = HeaderValue::from(1 + RandomState::new().hash_one(()) % DEFERRED_S_MAX);
    answer.headers_mut().insert(RETRY_AFTER, seconds);
    answer
}

fn crowded() -> Box<HttpResponse> {
    let why = "this address has all the connections it may have\n";
    let mut answer = text(StatusCode::TOO_MANY_REQUESTS, why);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
    Box::new(answer)
}

/// What a connection holds until its end.
struct Places {
    _of_address: AddressPlace,
    _of_node: OwnedSemaphorePermit,
}

/// The place of a socket that goes on without a proof; behind a proxy it is its client's.
fn unproven(
    request: &Request<Incoming>,
    visitor: &Visitor,
    node: &Node,
) -> Result<Option<UnprovenPlace>, Box<HttpResponse>> {
    let mut place = visitor.place.lock();
    if node.proxies.contains(visitor.peer.ip().to_canonical())
        && let Some(place) = place.as_mut()
    {
        let address = node.proxies.client(visitor.peer, request.headers());
        let of_client = node.unproven.enter_address(address).map_err(|_| crowded())?;
        place.belongs_to(of_client);
    }
    Ok(place.take())
}

/// Takes the socket out of hyper before anything is read from it, with what hyper had read already.
async fn begin(upgraded: UpgradeFut, node: Arc<Node>, caller: Caller, places: Places) {
    let upgraded = match upgraded.await {
        Ok(websocket) => websocket.into_inner().into_inner(),
        Err(error) => return debug!(error = %error, "client left during the handshake"),
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<TimedSocket>>() else {
        return debug!("the upgraded connection is no TCP socket");
    };
    // An empty buffer would still hold on to hyper's memory.
    let early = Bytes::copy_from_slice(&parts.read_buf);
    drop(parts.read_buf);
    let socket = parts.io.into_inner().into_inner();
    connection::run(socket, early, node, caller).await;
    drop(places);
}

/// Who is asking, or nobody yet; or what is answered instead.
type Proven = Result<Option<Identity>, Box<HttpResponse>>;

/// Who is asking, where the handshake says so; a wrong proof is refused, an absent one may follow.
/// What the request says is read at once, so that nothing of it is held while a proof is checked.
fn identity(
    request: &Request<Incoming>,
    node: &Arc<Node>,
) -> Result<impl Future<Output = Proven> + use<>, Box<HttpResponse>> {
    let credentials = credentials::read(request, node.authenticator.dev).map_err(|error| {
        let mut answer = error.answer();
        if error.status() == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Box::new(answer)
    })?;
    let origin = handshake::origin_of(request.headers());
    let node = Arc::clone(node);
    Ok(async move {
        let proven = match credentials {
            Credentials::Nothing => return Ok(None),
            Credentials::User(user) => {
                return Ok(Some(Identity::anybody(user, Timestamp(node.clock.now_ms()))));
            }
            Credentials::Token(token) => authenticate::token(&node, &token).await,
            Credentials::Ticket(ticket) => {
                authenticate::ticket(&node, &ticket, origin.as_deref()).await
            }
        };
        proven.map(Some).map_err(|error| match error {
            AuthError::Invalid => unauthorized(&format!("{error}\n")),
            AuthError::Unavailable => Box::new(busy("who you are cannot be checked now\n")),
        })
    })
}

fn unauthorized(why: &str) -> Box<HttpResponse> {
    let mut answer = text(StatusCode::UNAUTHORIZED, why.to_owned());
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Box::new(answer)
}
