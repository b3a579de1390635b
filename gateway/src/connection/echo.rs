//! A WebSocket echo server for public test suites: the gateway's own handshake, decoder and send
//! queue, and nothing else of it. No part of a node.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use http_body_util::Full;
use hyper::body::Incoming as Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use shared::contract::limits::CLOSE_LINGER_MS;
use shared::contract::refusal::CloseReason;
use shared::process::byte_budget::ByteBudget;
use shared::process::operator;
use shared::process::readiness::Readiness;
use shared::process::tasks::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tracing::debug;

use super::decoder::Incoming;
use super::reader::Reader;
use crate::auth::handshake;
use crate::auth::origin::AllowedOrigins;
use crate::metrics::Metrics;
use crate::wire::frame::Frame;
use crate::wire::send_queue::{Flushers, SendQueue};

/// How long a client that takes nothing is waited for.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

type HttpResponse = Response<Full<Bytes>>;

/// Echoes every text message of at most `message_bytes_max` bytes, for ever. Binary messages are
/// none of the protocol's: they end the connection with 1003, as a gateway would.
pub async fn serve(listener: TcpListener, message_bytes_max: usize) {
    let metrics = Metrics::register(&prometheus::Registry::new());
    let tasks = Tasks::new(&Readiness::new());
    let flushers = Arc::new(Flushers::start(&tasks, WRITE_PATIENCE, &metrics));
    loop {
        let (socket, _) = operator::accept(&listener).await;
        if socket.set_nodelay(true).is_ok() {
            tokio::spawn(converse(socket, Arc::clone(&flushers), message_bytes_max));
        }
    }
}

async fn converse(socket: TcpStream, flushers: Arc<Flushers>, message_bytes_max: usize) {
    let service = service_fn(move |request| {
        let answer = answer(request, Arc::clone(&flushers), message_bytes_max);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    if let Err(error) = connection.with_upgrades().await {
        debug!(%error, "http connection ended early");
    }
}

fn answer(
    mut request: Request<Body>,
    flushers: Arc<Flushers>,
    message_bytes_max: usize,
) -> HttpResponse {
    let handshake = match handshake::check(&request, &AllowedOrigins::default()) {
        Ok(handshake) => handshake,
        Err(refusal) => return refusal.answer(),
    };
    let Ok((response, upgraded)) = upgrade(&mut request) else {
        let mut answer = HttpResponse::default();
        *answer.status_mut() = StatusCode::BAD_REQUEST;
        return answer;
    };
    tokio::spawn(echo(upgraded, flushers, message_bytes_max));
    handshake.answer(response)
}

async fn echo(upgraded: UpgradeFut, flushers: Arc<Flushers>, message_bytes_max: usize) {
    let Ok(websocket) = upgraded.await else { return };
    let Ok(parts) = websocket.into_inner().into_inner().downcast::<TokioIo<TcpStream>>() else {
        return;
    };
    let (read_half, write_half) = parts.io.into_inner().into_split();
    let queue = Arc::new(flushers.queue(write_half));
    let held = ByteBudget::new(usize::MAX).share();
    let mut reader = Reader::new(read_half, parts.read_buf, message_bytes_max, held);
    queue.close(until_closed(&mut reader, &queue).await);
    queue.ended().await;
    let linger = Duration::from_millis(CLOSE_LINGER_MS);
    let _ = tokio::time::timeout(linger, reader.until_closed()).await;
}

async fn until_closed(reader: &mut Reader, queue: &Arc<SendQueue>) -> CloseReason {
    loop {
        queue.accepting().await;
        let incoming = tokio::select! {
            ending = queue.ending() => return ending.reason(),
            incoming = reader.next(|| {}) => incoming,
        };
        match incoming {
            Ok(Incoming::Text(text)) => queue.push(Frame::text_parts(&[&text.into_bytes()])),
            Ok(Incoming::Ping(payload)) => queue.push(Frame::pong(&payload)),
            Ok(Incoming::Pong(_)) => {}
            Ok(Incoming::Close { .. }) => return CloseReason::Normal,
            Err(reason) => return reason,
        }
    }
}
