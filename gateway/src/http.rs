//! What a node answers over HTTP: the page, the WebSocket, the API.
//!
//! | route | answer |
//! |---|---|
//! | `GET /` | the page to chat in |
//! | `GET /assets/…` | its style and script |
//! | `GET /ws` | the native protocol, see `PROTOCOL.md` |
//! | `/api/…` | the API of the application's backend, see `docs/API.md` |

mod api;
mod assets;
mod upgrade;
mod credentials;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use shared::contract::limits::{HEADER_BYTES_MAX, HEADER_TIMEOUT_MS, HEADERS_MAX};
use tokio::net::TcpStream;

use crate::node::Node;

/// What every answer is.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Serves one TCP connection; where it is upgraded, it goes on as a [`crate::connection`].
pub(crate) async fn serve(socket: TcpStream, peer: SocketAddr, node: Arc<Node>) {
    // A node that leaves waits for the answers under way.
    let _under_way = node.exchanges.token();
    let leaving = node.leaving.clone();
    let service = service_fn(move |request| {
        let node = Arc::clone(&node);
        async move { Ok::<_, Infallible>(route(request, peer, &node).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEADER_TIMEOUT_MS))
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = leaving.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = %error, "http connection ended early");
    }
}

async fn route(request: Request<Incoming>, peer: SocketAddr, node: &Arc<Node>) -> Answer {
    match request.uri().path() {
        "/ws" => upgrade::answer(request, peer, node).await,
        path if path == api::PREFIX || path.starts_with("/api/") => {
            api::answer(request, node).await
        }
        path => assets::answer(request.method(), path),
    }
}

/// A short text.
fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
