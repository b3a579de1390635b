//! The HTTP server of a node: the page, the WebSocket, the API.
//!
//! | route | answer |
//! |---|---|
//! | `GET /` | the page to chat in |
//! | `GET /assets/…` | its style and script |
//! | `GET /client.js` | the client, for anybody's page |
//! | `GET /ws` | the native protocol, see `PROTOCOL.md` |
//! | `/api/…` | the API of the application's backend, see `docs/API.md` |

pub(crate) mod listening;
mod api;
mod assets;
mod upgrade;
mod credentials;
mod timed_socket;
mod encoding;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use shared::contract::limits::{CLOSE_LINGER_MS, HEADER_BYTES_MAX, HEADERS_MAX};
use shared::process::loopback_host::{self, HostError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::timed_socket::{ExchangeProgress, TimedSocket};
use crate::auth::unproven::{Crowded, UnprovenPlace};
use crate::metrics::HandshakeFault;
use crate::node::Node;

/// When whoever finds no place may come again, in seconds.
const RETRY_AFTER_S: u64 = 5;

/// How long whoever has connected when the node begins to leave may take to ask, before they are
/// cut like any idle connection.
const FIRST_REQUEST_PATIENCE: Duration = Duration::from_secs(1);

/// How long whoever finds no place may take to ask before they are told.
const ASKING_PATIENCE: Duration = Duration::from_millis(200);

/// What every answer is.
pub(crate) type HttpResponse = Response<Full<Bytes>>;

/// A TCP connection that speaks HTTP, as whoever answers its requests sees it.
#[derive(Debug)]
struct Visitor {
    peer: SocketAddr,
    progress: Arc<ExchangeProgress>,
    /// Its place among those who have not said who they are; a WebSocket takes it along.
    place: Mutex<Option<UnprovenPlace>>,
}

/// Serves one TCP connection; where it is upgraded, it goes on as a [`crate::connection`].
pub(crate) async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    place: UnprovenPlace,
    node: Arc<Node>,
) {
    // A node that leaves waits for the answers under way.
    let _under_way = node.exchanges.token();
    let leaving = node.leaving.clone();
    let idle_timeout = node.settings.http_idle_timeout_ms.duration();
    let (socket, progress) = TimedSocket::new(socket, idle_timeout);
    let visitor = Visitor { peer, progress: Arc::clone(&progress), place: Mutex::new(Some(place)) };
    let visitor = Arc::new(visitor);
    let service = service_fn(move |request| {
        let (visitor, node) = (Arc::clone(&visitor), Arc::clone(&node));
        async move {
            visitor.progress.begin().await;
            let answer = route(request, &visitor, &node).await;
            visitor.progress.answered();
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        // It would run while a connection is idle, too.
        .header_read_timeout(None)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    tokio::pin!(connection);
    let overdue = progress.overdue();
    tokio::pin!(overdue);
    let last_request = async {
        leaving.cancelled().await;
        progress.leave();
        // hyper would close what has only been opened, on somebody who is about to ask.
        let _ = tokio::time::timeout(FIRST_REQUEST_PATIENCE, progress.asked()).await;
    };
    tokio::pin!(last_request);
    let mut is_leaving = false;
    let ended = loop {
        tokio::select! {
            served = connection.as_mut() => break served.map_err(|error| error.to_string()),
            phase = &mut overdue => break Err(format!("{phase:?} took too long")),
            () = &mut last_request, if !is_leaving => {
                is_leaving = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "http connection ended early");
    }
}

/// Answers a connection for which there is no place, unread. Those that would have to be waited
/// for are just closed, when there are many.
pub(crate) async fn turn_away(mut socket: TcpStream, crowded: Crowded, node: Arc<Node>) {
    let Some(_telling) = node.unproven.turn_away() else { return };
    let retry_after_s = if crowded == Crowded::Leaving { 1 } else { RETRY_AFTER_S };
    let (status, why) = match crowded {
        Crowded::Leaving => ("503 Service Unavailable", "this node is leaving"),
        Crowded::Node => ("503 Service Unavailable", "this node has all the sockets it may have"),
        Crowded::Address => {
            ("429 Too Many Requests", "this address has all the sockets it may have")
        }
    };
    let length = why.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\nretry-after: {retry_after_s}\r\nconnection: close\r\n\
         content-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\r\n{why}\n"
    );
    let told = async {
        // Many clients take an answer that comes before they have asked for an error.
        let mut first = [0];
        let asking = tokio::time::timeout(ASKING_PATIENCE, socket.peek(&mut first));
        let _ = asking.await;
        socket.write_all(answer.as_bytes()).await?;
        socket.shutdown().await?;
        // Closing before what it sends is read would reset the connection, and lose the answer.
        let mut ignored = [0; 1024];
        while socket.read(&mut ignored).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let _ = tokio::time::timeout(Duration::from_millis(CLOSE_LINGER_MS), told).await;
}

async fn route(request: Request<Incoming>, visitor: &Visitor, node: &Arc<Node>) -> HttpResponse {
    // Whatever the development mode opens, it opens to this machine.
    if node.settings.is_dev()
        && let Err(error) = loopback_host::check(request.uri(), request.headers())
    {
        return elsewhere(request.uri().path(), error, node);
    }
    if node.leaving.is_cancelled() {
        return busy("this node is leaving\n");
    }
    match request.uri().path() {
        "/ws" => upgrade::answer(request, visitor, node).await,
        path if is_api(path) => api::answer(request, node).await,
        path => {
            let asks_for_token = !node.settings.is_dev();
            assets::answer(request.method(), path, request.headers(), asks_for_token)
        }
    }
}

/// The answer to a request that was sent to a name of another machine.
fn elsewhere(path: &str, error: HostError, node: &Node) -> HttpResponse {
    if is_api(path) {
        return api::elsewhere(error, node);
    }
    if path == "/ws" {
        node.metrics.handshakes_refused_total.inc(HandshakeFault::of(error.status()));
    }
    text(error.status(), format!("{error}\n"))
}

fn is_api(path: &str) -> bool {
    path.strip_prefix(api::PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The node does not do it now, and another may.
fn busy(why: &'static str) -> HttpResponse {
    let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, why);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// A short text.
fn text(status: StatusCode, body: impl Into<Bytes>) -> HttpResponse {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> HttpResponse {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
