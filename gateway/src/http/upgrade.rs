//! From an HTTP request to a WebSocket.

use std::sync::Arc;

use bytes::Bytes;
use fastwebsockets::upgrade::UpgradeFut;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL, WWW_AUTHENTICATE,
};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use shared::contract::id::UserId;
use shared::contract::protocol::SUBPROTOCOL;
use tokio::net::TcpStream;
use tracing::debug;

use super::{Answer, text};
use crate::auth::{Authenticator, Identity};
use crate::connection;
use crate::handshake;
use crate::node::Node;

/// Checks the handshake and who is asking, answers 101, and starts the connection.
pub(super) fn answer(mut request: Request<Incoming>, node: &Arc<Node>) -> Answer {
    match accept(&mut request, node) {
        Ok(answer) => answer,
        Err(refusal) => {
            node.metrics.handshakes_refused_total.inc();
            *refusal
        }
    }
}

fn accept(request: &mut Request<Incoming>, node: &Arc<Node>) -> Result<Answer, Box<Answer>> {
    let handshake = handshake::check(request, &node.origins).map_err(|refusal| {
        let mut answer = text(refusal.status(), format!("{refusal}\n"));
        for (name, value) in refusal.headers() {
            let name = HeaderName::from_static(name);
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        Box::new(answer)
    })?;
    let identity = identity(request, node)?;
    if node.leaving.is_cancelled() {
        return Err(busy("this node is leaving\n"));
    }
    if node.connections.len() >= node.settings.connections_max {
        return Err(busy("this node has all the connections it may have\n"));
    }
    let (response, upgraded) = fastwebsockets::upgrade::upgrade(request)
        .map_err(|_| text(StatusCode::BAD_REQUEST, "the WebSocket handshake is not valid\n"))
        .map_err(Box::new)?;
    tokio::spawn(begin(upgraded, Arc::clone(node), identity));
    let mut answer = response.map(|_| Full::default());
    if handshake.subprotocol {
        let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    Ok(answer)
}

/// Takes the socket out of hyper before anything is read from it, with what hyper had read already.
async fn begin(upgraded: UpgradeFut, node: Arc<Node>, identity: Option<Identity>) {
    let upgraded = match upgraded.await {
        Ok(websocket) => websocket.into_inner().into_inner(),
        Err(error) => return debug!(error = %error, "client left during the handshake"),
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return debug!("the upgraded connection is no TCP socket");
    };
    // An empty buffer would still hold on to hyper's memory.
    let early = Bytes::copy_from_slice(&parts.read_buf);
    drop(parts.read_buf);
    connection::run(parts.io.into_inner(), early, node, identity).await;
}

/// Who is asking, where the handshake says so; a wrong proof is refused, an absent one may follow.
fn identity(request: &Request<Incoming>, node: &Node) -> Result<Option<Identity>, Box<Answer>> {
    let mut headers = request.headers().get_all(AUTHORIZATION).iter();
    if let Some(header) = headers.next() {
        // Of two, a proxy on the way may have looked at the other one.
        let alone = headers.next().is_none();
        let token = header.to_str().ok().and_then(bearer).filter(|_| alone);
        let token =
            token.ok_or_else(|| unauthorized("Authorization is not Bearer and one token\n"))?;
        let proven = node.authenticator.token(token, node.clock.now_ms());
        return proven.map(Some).map_err(|error| unauthorized(&format!("{error}\n")));
    }
    if !node.authenticator.dev {
        return Ok(None);
    }
    let Some(user) = user_of(request.uri().query().unwrap_or_default()) else {
        return Ok(None);
    };
    let user = UserId::parse(&user)
        .map_err(|error| Box::new(text(StatusCode::BAD_REQUEST, format!("user: {error}\n"))))?;
    Ok(Some(Authenticator::anybody(user)))
}

/// RFC 6750: the scheme's case does not matter.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn user_of(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("user="))?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn unauthorized(why: &str) -> Box<Answer> {
    let mut answer = text(StatusCode::UNAUTHORIZED, why.to_owned());
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Box::new(answer)
}

fn busy(why: &'static str) -> Box<Answer> {
    let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, why);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    Box::new(answer)
}
