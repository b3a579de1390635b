//! Checks that a request for `/ws` is an acceptable WebSocket handshake (RFC 6455).
//!
//! fastwebsockets' upgrade looks at the key's presence and at the version only, and hyper lets pass
//! what is not its business. Everything else RFC 6455, section 4.2.1, asks is checked here, before
//! anything is upgraded. Refusals never repeat what the client sent: it may end up in a log.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use shared::contract::protocol::SUBPROTOCOL;

use super::origin::{AllowedOrigins, Authority, Origin};

#[cfg(test)]
mod tests;

/// A handshake that may be answered with 101.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// Whether the client offered [`SUBPROTOCOL`]: the answer then selects it, and must not
    /// otherwise.
    pub(crate) subprotocol: bool,
}

impl Handshake {
    /// The answer 101, of what fastwebsockets answers.
    pub(crate) fn answer<B>(self, response: Response<B>) -> Response<Full<Bytes>> {
        let mut answer = response.map(|_| Full::default());
        if self.subprotocol {
            let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
            answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        answer
    }
}

/// Why a handshake is refused. The text is for the developer who reads the answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeRefusal {
    #[error("a WebSocket is opened with GET")]
    Method,
    #[error("a WebSocket is opened over HTTP/1.1, not an older version")]
    HttpTooOld,
    #[error("a WebSocket is opened over HTTP/1.1, not a newer version")]
    HttpTooNew,
    #[error("Host must be sent exactly once")]
    HostCount,
    #[error("Host must be a host name or address, with at most a port")]
    HostInvalid,
    #[error("Origin must be sent at most once")]
    OriginRepeated,
    #[error("Origin must be this host's own or on the list of allowed origins")]
    OriginForbidden,
    #[error("Upgrade must contain `websocket`")]
    Upgrade,
    #[error("Connection must contain `upgrade`")]
    Connection,
    #[error("Sec-WebSocket-Version must be 13, sent exactly once")]
    Version,
    #[error("Sec-WebSocket-Key must be sent exactly once")]
    KeyCount,
    #[error("Sec-WebSocket-Key must be the base64 form of 16 bytes")]
    KeyInvalid,
    #[error("Content-Length must be absent or 0: a handshake has no body")]
    ContentLength,
    #[error("Transfer-Encoding must be absent: a handshake has no body")]
    TransferEncoding,
    #[error("Sec-WebSocket-Protocol must be a list of tokens in visible ASCII")]
    SubprotocolInvalid,
    #[error("Sec-WebSocket-Protocol must be absent or contain `{SUBPROTOCOL}`")]
    SubprotocolUnsupported,
}

impl HandshakeRefusal {
    /// The answer, with the reason as its text.
    pub(crate) fn answer(self) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::from(format!("{self}\n")));
        *answer.status_mut() = self.status();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, plain);
        for (name, value) in self.headers() {
            let name = HeaderName::from_static(name);
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer
    }

    /// The status to answer with.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HttpTooNew => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::OriginForbidden => StatusCode::FORBIDDEN,
            Self::Upgrade | Self::Connection | Self::Version => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The headers that the status demands: they tell the client what would have been right.
    pub(crate) fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Method => &[("allow", "GET")],
            Self::Upgrade | Self::Connection => {
                &[("connection", "upgrade"), ("upgrade", "websocket")]
            }
            Self::Version => &[
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
            ],
            _ => &[],
        }
    }
}

/// The page that opens the socket, in the plain form of its origin; `None` where no browser says.
pub(crate) fn origin_of(headers: &HeaderMap) -> Option<String> {
    plain_origin(only(headers, ORIGIN)?.to_str().ok()?)
}

/// An origin as it is compared: in lower case, with its port; `None` if it is none.
pub(crate) fn plain_origin(text: &str) -> Option<String> {
    Origin::parse(text).map(|origin| origin.to_string())
}

/// Judges a request for `/ws` by its first line and headers; the first fault found is the answer.
pub(crate) fn check<B>(
    request: &Request<B>,
    origins: &AllowedOrigins,
) -> Result<Handshake, HandshakeRefusal> {
    if request.method() != Method::GET {
        return Err(HandshakeRefusal::Method);
    }
    if request.version() < Version::HTTP_11 {
        return Err(HandshakeRefusal::HttpTooOld);
    }
    if request.version() > Version::HTTP_11 {
        return Err(HandshakeRefusal::HttpTooNew);
    }
    let headers = request.headers();
    check_origin(headers, &host(headers)?, origins)?;
    check_upgrade(headers)?;
    check_key(headers)?;
    check_no_body(headers)?;
    Ok(Handshake { subprotocol: offers_subprotocol(headers)? })
}

fn host(headers: &HeaderMap) -> Result<Authority, HandshakeRefusal> {
    let value = only(headers, HOST).ok_or(HandshakeRefusal::HostCount)?;
    value.to_str().ok().and_then(Authority::parse).ok_or(HandshakeRefusal::HostInvalid)
}

/// Absent is fine: only browsers send it, and only they act for somebody who did not ask.
fn check_origin(
    headers: &HeaderMap,
    host: &Authority,
    allowed: &AllowedOrigins,
) -> Result<(), HandshakeRefusal> {
    if !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let value = only(headers, ORIGIN).ok_or(HandshakeRefusal::OriginRepeated)?;
    let origin = value.to_str().ok().and_then(Origin::parse);
    match origin {
        Some(origin) if origin.is_at(host) || allowed.contains(&origin) => Ok(()),
        Some(_) | None => Err(HandshakeRefusal::OriginForbidden),
    }
}

fn check_upgrade(headers: &HeaderMap) -> Result<(), HandshakeRefusal> {
    let names =
        |name, token: &[u8]| list(headers, name).any(|element| element.eq_ignore_ascii_case(token));
    if !names(UPGRADE, b"websocket") {
        return Err(HandshakeRefusal::Upgrade);
    }
    if !names(CONNECTION, b"upgrade") {
        return Err(HandshakeRefusal::Connection);
    }
    match only(headers, SEC_WEBSOCKET_VERSION) {
        Some(version) if version == "13" => Ok(()),
        Some(_) | None => Err(HandshakeRefusal::Version),
    }
}

fn check_key(headers: &HeaderMap) -> Result<(), HandshakeRefusal> {
    let key = only(headers, SEC_WEBSOCKET_KEY).ok_or(HandshakeRefusal::KeyCount)?;
    if is_base64_of_16_bytes(key.as_bytes()) { Ok(()) } else { Err(HandshakeRefusal::KeyInvalid) }
}

/// Sixteen bytes are 22 digits, the last of which has only two bits to say, and two of padding.
fn is_base64_of_16_bytes(text: &[u8]) -> bool {
    let Ok(&[ref digits @ .., last, b'=', b'=']) = <&[u8; 24]>::try_from(text) else {
        return false;
    };
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    digits.iter().all(is_digit) && matches!(last, b'A' | b'Q' | b'g' | b'w')
}

/// Bytes of a body would be taken for the first frames, or the other way round.
fn check_no_body(headers: &HeaderMap) -> Result<(), HandshakeRefusal> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(HandshakeRefusal::TransferEncoding);
    }
    if headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0") {
        return Err(HandshakeRefusal::ContentLength);
    }
    Ok(())
}

fn offers_subprotocol(headers: &HeaderMap) -> Result<bool, HandshakeRefusal> {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(false);
    }
    let mut is_offered = false;
    for element in list(headers, SEC_WEBSOCKET_PROTOCOL) {
        if !element.iter().all(|&byte| is_token_byte(byte)) {
            return Err(HandshakeRefusal::SubprotocolInvalid);
        }
        is_offered |= element == SUBPROTOCOL.as_bytes();
    }
    if is_offered { Ok(true) } else { Err(HandshakeRefusal::SubprotocolUnsupported) }
}

/// RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The header's value if it was sent exactly once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { Some(first) }
}

/// The elements of a header that is a list, over all its lines; empty ones are skipped, as RFC
/// 9110, section 5.6.1, asks of a recipient.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(name).into_iter();
    values
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}
