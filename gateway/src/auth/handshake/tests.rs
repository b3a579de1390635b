use hyper::header::HeaderValue;
use hyper::{Method, Request, Version};

use super::*;

const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";

/// A handshake that is accepted, for each test to spoil.
fn good() -> Request<()> {
    Request::get("/ws")
        .header("host", "chat.example.com")
        .header("upgrade", "websocket")
        .header("connection", "Upgrade")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", KEY)
        .body(())
        .unwrap()
}

/// The good handshake with this header sent with exactly these values.
fn with(name: &'static str, values: &[&[u8]]) -> Request<()> {
    let mut request = good();
    let headers = request.headers_mut();
    headers.remove(name);
    for value in values {
        headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    request
}

fn origins() -> AllowedOrigins {
    AllowedOrigins::parse(["https://app.example.com", "http://localhost:3001/chat"]).unwrap()
}

const PLAIN: Result<Handshake, HandshakeRefusal> = Ok(Handshake { subprotocol: false });
const SELECTED: Result<Handshake, HandshakeRefusal> = Ok(Handshake { subprotocol: true });

type Case = (&'static str, &'static [&'static [u8]], Result<Handshake, HandshakeRefusal>);

fn judge(table: &[Case]) {
    for (name, values, expected) in table {
        let shown: Vec<_> = values.iter().map(|value| value.escape_ascii().to_string()).collect();
        assert_eq!(check(&with(name, values), &origins()), *expected, "{name}: {shown:?}");
    }
}

#[test]
fn the_plain_handshake_is_accepted() {
    assert_eq!(check(&good(), &AllowedOrigins::default()), PLAIN);
}

#[test]
fn only_get_over_http_1_1_opens_a_socket() {
    for method in [
        Method::POST,
        Method::HEAD,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
        Method::CONNECT,
        Method::from_bytes(b"get").unwrap(),
    ] {
        let mut request = good();
        *request.method_mut() = method;
        assert_eq!(check(&request, &origins()), Err(HandshakeRefusal::Method));
    }
    for (version, refusal) in [
        (Version::HTTP_09, HandshakeRefusal::HttpTooOld),
        (Version::HTTP_10, HandshakeRefusal::HttpTooOld),
        (Version::HTTP_2, HandshakeRefusal::HttpTooNew),
        (Version::HTTP_3, HandshakeRefusal::HttpTooNew),
    ] {
        let mut request = good();
        *request.version_mut() = version;
        assert_eq!(check(&request, &origins()), Err(refusal));
    }
}

#[test]
fn there_is_exactly_one_host() {
    use HandshakeRefusal::{HostCount, HostInvalid};
    judge(&[
        ("host", &[], Err(HostCount)),
        ("host", &[b"chat.example.com", b"chat.example.com"], Err(HostCount)),
        ("host", &[b"chat.example.com", b"evil.example.com"], Err(HostCount)),
        ("host", &[b""], Err(HostInvalid)),
        ("host", &[b"ch\xc3\xa4t.example.com"], Err(HostInvalid)),
        ("host", &[b"chat.example.com\xff"], Err(HostInvalid)),
        ("host", &[b"chat.example.com, evil.example.com"], Err(HostInvalid)),
        ("host", &[b"chat.example.com/ws"], Err(HostInvalid)),
        ("host", &[b"user@chat.example.com"], Err(HostInvalid)),
        ("host", &[b"http://chat.example.com"], Err(HostInvalid)),
        ("host", &[b"chat.example.com:"], Err(HostInvalid)),
        ("host", &[b"chat.example.com:65536"], Err(HostInvalid)),
        ("host", &[b"chat.example.com:80:80"], Err(HostInvalid)),
        ("host", &[b"[::1"], Err(HostInvalid)),
        ("host", &[b"[::1]x"], Err(HostInvalid)),
        ("host", &[b"127.0.0.1:3001"], PLAIN),
        ("host", &[b"[::1]:3001"], PLAIN),
        ("host", &[b"[::1]"], PLAIN),
        ("host", &[b"LOCALHOST:3001"], PLAIN),
    ]);
}

#[test]
fn the_upgrade_must_be_asked_for() {
    use HandshakeRefusal::{Connection, Upgrade};
    judge(&[
        ("upgrade", &[], Err(Upgrade)),
        ("upgrade", &[b""], Err(Upgrade)),
        ("upgrade", &[b"h2c"], Err(Upgrade)),
        ("upgrade", &[b"websockets"], Err(Upgrade)),
        ("upgrade", &[b"web socket"], Err(Upgrade)),
        ("upgrade", &[b"websocket/13"], Err(Upgrade)),
        ("upgrade", &[b"\xffwebsocket"], Err(Upgrade)),
        ("upgrade", &[b"WebSocket"], PLAIN),
        ("upgrade", &[b"h2c , WEBSOCKET"], PLAIN),
        ("upgrade", &[b"h2c", b"websocket"], PLAIN),
        ("connection", &[], Err(Connection)),
        ("connection", &[b"keep-alive"], Err(Connection)),
        ("connection", &[b"close"], Err(Connection)),
        ("connection", &[b"upgraded"], Err(Connection)),
        ("connection", &[b"keep-alive, Upgrade"], PLAIN),
        ("connection", &[b",,\tUPGRADE\t,"], PLAIN),
        ("connection", &[b"keep-alive", b"upgrade"], PLAIN),
    ]);
}

#[test]
fn the_version_is_13_once() {
    use HandshakeRefusal::Version;
    judge(&[
        ("sec-websocket-version", &[], Err(Version)),
        ("sec-websocket-version", &[b""], Err(Version)),
        ("sec-websocket-version", &[b"8"], Err(Version)),
        ("sec-websocket-version", &[b"013"], Err(Version)),
        ("sec-websocket-version", &[b"13, 8"], Err(Version)),
        ("sec-websocket-version", &[b"13", b"13"], Err(Version)),
        ("sec-websocket-version", &[b"13", b"8"], Err(Version)),
    ]);
}

#[test]
fn the_key_is_base64_of_sixteen_bytes_once() {
    use HandshakeRefusal::{KeyCount, KeyInvalid};
    judge(&[
        ("sec-websocket-key", &[], Err(KeyCount)),
        ("sec-websocket-key", &[KEY, KEY], Err(KeyCount)),
        ("sec-websocket-key", &[b""], Err(KeyInvalid)),
        ("sec-websocket-key", &[b"12345"], Err(KeyInvalid)),
        // 15 and 17 bytes.
        ("sec-websocket-key", &[b"AAAAAAAAAAAAAAAAAAAA"], Err(KeyInvalid)),
        ("sec-websocket-key", &[b"AAAAAAAAAAAAAAAAAAAAAAA="], Err(KeyInvalid)),
        // No padding, too much of it, in the middle, and bits beyond the sixteenth byte.
        ("sec-websocket-key", &[b"dGhlIHNhbXBsZSBub25jZQ"], Err(KeyInvalid)),
        ("sec-websocket-key", &[b"dGhlIHNhbXBsZSBub25jZQ==="], Err(KeyInvalid)),
        ("sec-websocket-key", &[b"dGhlIHNhbXB=ZSBub25jZQ=="], Err(KeyInvalid)),
        ("sec-websocket-key", &[b"dGhlIHNhbXBsZSBub25jZR=="], Err(KeyInvalid)),
        // Other alphabets.
        ("sec-websocket-key", &[b"dGhlIHNhbXB_ZSBub25jZQ=="], Err(KeyInvalid)),
        ("sec-websocket-key", &[b"dGhlIHNhbXB ZSBub25jZQ=="], Err(KeyInvalid)),
        ("sec-websocket-key", &[b"dGhlIHNhbXB\xffZSBub25jZQ=="], Err(KeyInvalid)),
        ("sec-websocket-key", &[b"AAAAAAAAAAAAAAAAAAAAAA=="], PLAIN),
        ("sec-websocket-key", &[b"+/+/+/+/+/+/+/+/+/+/+w=="], PLAIN),
    ]);
}

#[test]
fn a_handshake_has_no_body() {
    use HandshakeRefusal::{ContentLength, TransferEncoding};
    judge(&[
        ("content-length", &[b"0"], PLAIN),
        ("content-length", &[b"1"], Err(ContentLength)),
        ("content-length", &[b""], Err(ContentLength)),
        ("content-length", &[b"-0"], Err(ContentLength)),
        ("content-length", &[b"0", b"5"], Err(ContentLength)),
        ("content-length", &[b"18446744073709551616"], Err(ContentLength)),
        ("transfer-encoding", &[b"chunked"], Err(TransferEncoding)),
        ("transfer-encoding", &[b"identity"], Err(TransferEncoding)),
        ("transfer-encoding", &[b""], Err(TransferEncoding)),
    ]);
    let mut both = with("content-length", &[b"0"]);
    both.headers_mut().append("transfer-encoding", HeaderValue::from_static("chunked"));
    assert_eq!(check(&both, &origins()), Err(TransferEncoding));
}

#[test]
fn the_subprotocol_is_absent_or_ours() {
    use HandshakeRefusal::{SubprotocolInvalid, SubprotocolUnsupported};
    judge(&[
        ("sec-websocket-protocol", &[b"roomcast.v1"], SELECTED),
        ("sec-websocket-protocol", &[b"bearer, a.b-c_d ,roomcast.v1"], SELECTED),
        ("sec-websocket-protocol", &[b"graphql-ws", b"roomcast.v1"], SELECTED),
        ("sec-websocket-protocol", &[b""], Err(SubprotocolUnsupported)),
        ("sec-websocket-protocol", &[b"roomcast.v2"], Err(SubprotocolUnsupported)),
        ("sec-websocket-protocol", &[b"Roomcast.V1"], Err(SubprotocolUnsupported)),
        ("sec-websocket-protocol", &[b"roomcast.v10"], Err(SubprotocolUnsupported)),
        ("sec-websocket-protocol", &[b"bearer"], Err(SubprotocolUnsupported)),
        ("sec-websocket-protocol", &[b"roomcast.v1, caf\xc3\xa9"], Err(SubprotocolInvalid)),
        ("sec-websocket-protocol", &[b"\xff"], Err(SubprotocolInvalid)),
        ("sec-websocket-protocol", &[b"roomcast.v1, two words"], Err(SubprotocolInvalid)),
        ("sec-websocket-protocol", &[b"roomcast.v1; q=1"], Err(SubprotocolInvalid)),
        ("sec-websocket-protocol", &[b"\"roomcast.v1\""], Err(SubprotocolInvalid)),
    ]);
}

#[test]
fn an_origin_is_absent_the_hosts_own_or_on_the_list() {
    use HandshakeRefusal::{OriginForbidden, OriginRepeated};
    judge(&[
        ("origin", &[], PLAIN),
        // The host's own.
        ("origin", &[b"https://chat.example.com"], PLAIN),
        ("origin", &[b"http://chat.example.com"], PLAIN),
        ("origin", &[b"https://chat.example.com:443"], PLAIN),
        ("origin", &[b"http://chat.example.com:80"], PLAIN),
        ("origin", &[b"HTTPS://CHAT.example.com"], PLAIN),
        ("origin", &[b"https://chat.example.com:8443"], Err(OriginForbidden)),
        ("origin", &[b"https://chat.example.com:80"], Err(OriginForbidden)),
        ("origin", &[b"http://chat.example.com:443"], Err(OriginForbidden)),
        ("origin", &[b"ws://chat.example.com"], Err(OriginForbidden)),
        ("origin", &[b"chat.example.com"], Err(OriginForbidden)),
        // On the list.
        ("origin", &[b"https://app.example.com"], PLAIN),
        ("origin", &[b"https://App.Example.Com:443"], PLAIN),
        ("origin", &[b"http://localhost:3001"], PLAIN),
        ("origin", &[b"http://app.example.com"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com:444"], Err(OriginForbidden)),
        ("origin", &[b"http://localhost"], Err(OriginForbidden)),
        ("origin", &[b"https://localhost:3001"], Err(OriginForbidden)),
        ("origin", &[b"http://127.0.0.1:3001"], Err(OriginForbidden)),
        // Tricks.
        ("origin", &[b"null"], Err(OriginForbidden)),
        ("origin", &[b""], Err(OriginForbidden)),
        ("origin", &[b"*"], Err(OriginForbidden)),
        ("origin", &[b"https://"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com.evil"], Err(OriginForbidden)),
        ("origin", &[b"https://evil-app.example.com"], Err(OriginForbidden)),
        ("origin", &[b"https://evil.app.example.com"], Err(OriginForbidden)),
        ("origin", &[b"https://example.com"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com."], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com/"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com/chat"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com?x"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com#x"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com@evil.com"], Err(OriginForbidden)),
        ("origin", &[b"https://user@app.example.com"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com:+443"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com:0443"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com:65979"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com:"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com https://evil.com"], Err(OriginForbidden)),
        ("origin", &[b"https://evil.com, https://app.example.com"], Err(OriginForbidden)),
        ("origin", &[b"https://app.example.com\\.evil"], Err(OriginForbidden)),
        ("origin", &[b"https://app\xef\xbc\x8eexample.com"], Err(OriginForbidden)),
        ("origin", &[b"https:app.example.com"], Err(OriginForbidden)),
        ("origin", &[b"file://"], Err(OriginForbidden)),
        // Repeated.
        ("origin", &[b"https://app.example.com", b"https://evil.com"], Err(OriginRepeated)),
        ("origin", &[b"https://app.example.com", b"https://app.example.com"], Err(OriginRepeated)),
    ]);
}

#[test]
fn the_port_of_host_belongs_to_the_origin() {
    let table = [
        ("localhost:3001", "http://localhost:3001", true),
        ("LocalHost:3001", "http://localhost:3001", true),
        ("localhost:3002", "http://localhost:3001", false),
        ("localhost:3002", "http://localhost", false),
        ("localhost:80", "http://localhost", true),
        ("localhost:80", "https://localhost", false),
        ("localhost:443", "https://localhost", true),
        ("[::1]:3001", "http://[::1]:3001", true),
        ("[0:0::1]:3001", "http://[::1]:3001", true),
        ("[::2]:3001", "http://[::1]:3001", false),
        ("127.0.0.1:3001", "http://localhost:3001", false),
    ];
    for (host, origin, allowed) in table {
        let mut request = with("host", &[host.as_bytes()]);
        request.headers_mut().append("origin", HeaderValue::from_static(origin));
        let expected = if allowed { PLAIN } else { Err(HandshakeRefusal::OriginForbidden) };
        assert_eq!(check(&request, &AllowedOrigins::default()), expected, "{host} {origin}");
    }
}

#[test]
fn every_refusal_has_its_status_and_says_what_would_be_right() {
    use HandshakeRefusal::*;
    let upgrade = "connection: upgrade; upgrade: websocket; ";
    let version = "connection: upgrade; upgrade: websocket; sec-websocket-version: 13; ";
    let table = [
        (Method, 405, "allow: GET; ", "GET"),
        (HttpTooOld, 400, "", "HTTP/1.1"),
        (HttpTooNew, 505, "", "HTTP/1.1"),
        (HostCount, 400, "", "Host"),
        (HostInvalid, 400, "", "Host"),
        (OriginRepeated, 400, "", "Origin"),
        (OriginForbidden, 403, "", "Origin"),
        (Upgrade, 426, upgrade, "Upgrade"),
        (Connection, 426, upgrade, "Connection"),
        (Version, 426, version, "Sec-WebSocket-Version"),
        (KeyCount, 400, "", "Sec-WebSocket-Key"),
        (KeyInvalid, 400, "", "Sec-WebSocket-Key"),
        (ContentLength, 400, "", "Content-Length"),
        (TransferEncoding, 400, "", "Transfer-Encoding"),
        (SubprotocolInvalid, 400, "", "Sec-WebSocket-Protocol"),
        (SubprotocolUnsupported, 400, "", "`roomcast.v1`"),
    ];
    for (refusal, status, headers, named) in table {
        assert_eq!(refusal.status().as_u16(), status, "{refusal}");
        let sent: String =
            refusal.headers().iter().map(|(name, value)| format!("{name}: {value}; ")).collect();
        assert_eq!(sent, headers, "{refusal}");
        assert!(refusal.to_string().contains(named), "{refusal}");
    }
}

#[test]
fn the_first_fault_is_the_answer() {
    let mut request = Request::post("/ws").body(()).unwrap();
    assert_eq!(check(&request, &origins()), Err(HandshakeRefusal::Method));
    *request.method_mut() = Method::GET;
    assert_eq!(check(&request, &origins()), Err(HandshakeRefusal::HostCount));
    request.headers_mut().insert("host", HeaderValue::from_static("localhost"));
    request.headers_mut().insert("origin", HeaderValue::from_static("https://evil.com"));
    assert_eq!(check(&request, &origins()), Err(HandshakeRefusal::OriginForbidden));
    request.headers_mut().remove("origin");
    assert_eq!(check(&request, &origins()), Err(HandshakeRefusal::Upgrade));
}
