//! The operator port: health, metrics and stats over HTTP/1.1.
//!
//! | route | answer |
//! |---|---|
//! | `GET /livez` | 200 `ok`: the process runs and its runtime turns |
//! | `GET /readyz` | 200 `ok`, 200 `degraded` or 503; a line `condition: reason` for each not met |
//! | `GET /metrics` | the registry as Prometheus text, this process's own figures included |
//! | `GET /stats` | 200 and JSON: what the process knows about itself |
//! | anything else | 404 |
//!
//! A head is asked for like the whole; another method on one of the four is 405.
//!
//! There is no authentication: the port is for the loopback, where it answers to names of this
//! machine only, or the cluster's own network. One request per connection, which has to be over
//! within [`CONNECTION_TIMEOUT_MS`], and at most [`CONNECTIONS_MAX`] at a time: whoever stalls here
//! can neither stay nor take the file descriptors that clients need.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::process::loopback_host;
use crate::process::readiness::{Readiness, ReadinessState};
use crate::process::telemetry;

/// Until here a client has to have sent its whole request head.
pub const HEADER_TIMEOUT_MS: u64 = 5_000;
/// Until here a connection has to be over.
pub const CONNECTION_TIMEOUT_MS: u64 = 10_000;
/// The next connection waits in the system's backlog until one of these is over.
pub const CONNECTIONS_MAX: usize = 128;
/// The wait after an `accept` that failed for want of something only time can give.
const ACCEPT_PAUSE_MS: u64 = 500;
const REQUEST_HEAD_BYTES_MAX: usize = 16 * 1024;
const REQUEST_HEADERS_MAX: usize = 64;

const _: () = assert!(HEADER_TIMEOUT_MS < CONNECTION_TIMEOUT_MS);

/// What `/stats` answers.
pub type Stats = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// Sets figures that are only looked at when somebody asks.
pub type Refresh = Arc<dyn Fn() + Send + Sync>;

/// What the operator port speaks for.
#[derive(Clone)]
pub struct Operator {
    /// Asked by `/readyz`.
    pub readiness: Readiness,
    /// Gathered by `/metrics`; [`Operator::bind`] adds the process's own figures to it.
    pub registry: Registry,
    /// Called before `/metrics` is gathered.
    pub refresh: Option<Refresh>,
    /// Asked by `/stats`, to which `readiness` is added.
    pub stats: Stats,
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// A port that is taken, or not allowed.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}, set by {settings}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// The settings that chose it, their variables and flags.
    pub settings: &'static str,
    /// Why.
    pub source: io::Error,
}

impl Operator {
    /// Takes the port; 0 takes a free one. Nothing is answered before [`BoundOperator::serve`].
    pub async fn bind(self, address: SocketAddr) -> Result<BoundOperator, BindError> {
        let settings = "ROOMCAST_OPERATOR_PORT (--operator-port) and ROOMCAST_OPERATOR_BIND \
                        (--operator-bind)";
        let refused = |source| BindError { address, settings, source };
        #[cfg(target_os = "linux")]
        telemetry::process_figures::register(&self.registry);
        telemetry::register(&self.registry);
        self.readiness.register(&self.registry);
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(BoundOperator { operator: Arc::new(self), listener, address })
    }

    fn answer(&self, request: &Parts, is_loopback: bool) -> Response<Full<Bytes>> {
        if is_loopback && let Err(error) = loopback_host::check(&request.uri, &request.headers) {
            return text(error.status(), error.to_string());
        }
        let route = match request.uri.path() {
            "/livez" => Self::livez,
            "/readyz" => Self::readyz,
            "/metrics" => Self::metrics,
            "/stats" => Self::stats,
            _ => return text(StatusCode::NOT_FOUND, "no such route"),
        };
        // The server sends no body with the head of an answer.
        if request.method == Method::GET || request.method == Method::HEAD {
            return route(self);
        }
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        refusal
    }

    fn livez(&self) -> Response<Full<Bytes>> {
        text(StatusCode::OK, "ok")
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        let state = self.readiness.state();
        let lines = state.unmet().iter().map(|(name, reason)| format!("{name}: {reason}\n"));
        let lines: String = lines.collect();
        match state {
            ReadinessState::Ready => text(StatusCode::OK, "ok"),
            ReadinessState::Degraded(_) => text(StatusCode::OK, format!("degraded\n{lines}")),
            ReadinessState::Unready(_) => text(StatusCode::SERVICE_UNAVAILABLE, lines),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        if let Some(refresh) = &self.refresh {
            refresh();
        }
        match prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(exposition) => response(StatusCode::OK, prometheus::TEXT_FORMAT, exposition),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written")
            }
        }
    }

    fn stats(&self) -> Response<Full<Bytes>> {
        let mut stats = (self.stats)();
        stats["readiness"] = self.readiness.state().to_json();
        response(StatusCode::OK, "application/json", stats.to_string())
    }
}

/// The operator port, taken and not yet answering.
#[derive(Debug)]
pub struct BoundOperator {
    operator: Arc<Operator>,
    listener: TcpListener,
    address: SocketAddr,
}

impl BoundOperator {
    /// Where it listens; the port that was taken if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`, then lets the requests under way end.
    ///
    /// Cancel it last: a node that drains should still say so.
    pub async fn serve(self, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let next = async || {
            // The semaphore is never closed, so there always is a slot in the end.
            let slot = slots.clone().acquire_owned().await;
            (slot, accept(&self.listener).await)
        };
        while let Some((slot, (stream, _))) = shutdown.run_until_cancelled(next()).await {
            let operator = self.operator.clone();
            let is_loopback = self.address.ip().is_loopback();
            let conversation = converse(operator, stream, is_loopback, shutdown.clone());
            connections.spawn(async move {
                conversation.await;
                drop(slot);
            });
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }
}

/// The next connection, whatever becomes of the ones that fail.
///
/// An error of one connection is its own affair. Anything else, such as no file descriptor left,
/// would come again at once, so it is logged, waited out and tried anew: it must not end the
/// server. Safe to cancel.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    accept_from(|| listener.accept()).await
}

async fn accept_from<T, F>(mut accept: impl FnMut() -> F) -> T
where
    F: Future<Output = io::Result<T>>,
{
    loop {
        match accept().await {
            Ok(connection) => return connection,
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "connection ended before it was accepted");
            }
            Err(error) => {
                tracing::warn!(%error, pause_ms = ACCEPT_PAUSE_MS, "cannot accept connections");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

async fn converse(
    operator: Arc<Operator>,
    stream: TcpStream,
    is_loopback: bool,
    shutdown: CancellationToken,
) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (parts, _body) = request.into_parts();
        let answer = operator.answer(&parts, is_loopback);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEADER_TIMEOUT_MS))
        .keep_alive(false)
        .max_buf_size(REQUEST_HEAD_BYTES_MAX)
        .max_headers(REQUEST_HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let conversation = async {
        tokio::select! {
            result = connection.as_mut() => return result,
            () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    let limit = Duration::from_millis(CONNECTION_TIMEOUT_MS);
    match tokio::time::timeout(limit, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "operator connection failed"),
        Err(_) => tracing::debug!("operator connection took too long"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", body)
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
