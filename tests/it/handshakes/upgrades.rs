//! What a handshake has to say, by RFC 6455 and RFC 9110.

use super::{Edit, Findings, answer_to, edited};
use crate::fixtures::one_gateway::{SOON, assert_no_panic, gateway, metric};
use harness::RawSocket;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const PROTOCOL: &str = "Sec-WebSocket-Protocol: roomcast.v1\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\n";
const CONNECTION: &str = "Connection: Upgrade\r\n";

/// The name of a case, what it changes in a right request, and the status of the answer.
type Case<'a> = (&'a str, &'a [Edit<'a>], u16);

const METHODS_AND_VERSIONS: &[Case<'_>] = &[
    ("nothing changed", &[], 101),
    ("POST", &[("GET ", "POST ")], 405),
    ("PUT", &[("GET ", "PUT ")], 405),
    ("HEAD", &[("GET ", "HEAD ")], 405),
    ("OPTIONS", &[("GET ", "OPTIONS ")], 405),
    ("DELETE", &[("GET ", "DELETE ")], 405),
    ("an unknown method", &[("GET ", "BREW ")], 405),
    ("HTTP/1.0", &[("HTTP/1.1", "HTTP/1.0")], 400),
    ("another path", &[("/ws", "/wsx")], 404),
    ("the path and more", &[("/ws", "/ws/room")], 404),
    ("a path in capitals", &[("/ws", "/WS")], 404),
    ("no Upgrade", &[(UPGRADE, "")], 426),
    ("Upgrade to something else", &[("websocket\r\n", "h2c\r\n")], 426),
    ("Upgrade in other letters", &[("websocket\r\n", "WebSocket\r\n")], 101),
    ("Upgrade as a list", &[("websocket\r\n", "h2c, websocket\r\n")], 101),
    ("no Connection", &[(CONNECTION, "")], 426),
    ("Connection: close", &[(CONNECTION, "Connection: close\r\n")], 426),
    ("Connection as a list", &[(CONNECTION, "Connection: keep-alive, Upgrade\r\n")], 101),
    ("Connection in small letters", &[(CONNECTION, "connection: upgrade\r\n")], 101),
    ("Connection: upgraded", &[(CONNECTION, "Connection: upgraded\r\n")], 426),
    ("no version", &[(VERSION, "")], 426),
    ("version 12", &[(": 13", ": 12")], 426),
    ("version 8", &[(": 13", ": 8")], 426),
    ("version 013", &[(": 13", ": 013")], 426),
    ("two versions in a line", &[(": 13", ": 13, 8")], 426),
    (
        "the version twice",
        &[(VERSION, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n")],
        426,
    ),
];

const KEYS_AND_BODIES: &[Case<'_>] = &[
    ("no key", &[(KEY, "")], 400),
    ("an empty key", &[("dGhlIHNhbXBsZSBub25jZQ==", "")], 400),
    ("a key of 5 characters", &[("dGhlIHNhbXBsZSBub25jZQ==", "aGVsb")], 400),
    ("a key of 15 bytes", &[("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j")], 400),
    ("a key of 17 bytes", &[("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWU=")], 400),
    ("a key without padding", &[("ZQ==", "ZQ")], 400),
    ("a key with bits left over", &[("ZQ==", "ZR==")], 400),
    ("a key in the other alphabet", &[("dGhl", "-_-_")], 400),
    (
        "two keys",
        &[(
            KEY,
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        )],
        400,
    ),
    ("two keys in a line", &[("ZQ==", "ZQ==, dGhlIHNhbXBsZSBub25jZQ==")], 400),
    (
        "no body, said so",
        &[(KEY, "Content-Length: 0\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")],
        101,
    ),
    ("a body", &[(VERSION, "Content-Length: 5\r\nSec-WebSocket-Version: 13\r\n")], 400),
    (
        "a chunked body",
        &[(VERSION, "Transfer-Encoding: chunked\r\nSec-WebSocket-Version: 13\r\n")],
        400,
    ),
    (
        "length and chunks",
        &[(
            VERSION,
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nSec-WebSocket-Version: 13\r\n",
        )],
        400,
    ),
    (
        "two lengths",
        &[(VERSION, "Content-Length: 0\r\nContent-Length: 5\r\nSec-WebSocket-Version: 13\r\n")],
        400,
    ),
    ("a user with a space", &[("user=ann", "user=a%20b")], 400),
    ("a user with a brace", &[("user=ann", "user=%7Bann")], 400),
    ("an empty user", &[("user=ann", "user=")], 400),
    (
        "a token where none is checked",
        &[(KEY, "Authorization: Bearer x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")],
        401,
    ),
];

const HOSTS_AND_PROTOCOLS: &[Case<'_>] = &[
    ("an empty Host", &[("Host: 127.0.0.1", "Host: \r\nX: ")], 400),
    ("a Host with a user", &[("Host: ", "Host: ann@")], 400),
    ("a Host with a path", &[("Host: ", "Host: a/")], 400),
    ("a Host with a space", &[("Host: ", "Host: a b")], 400),
    ("a Host whose port begins with 0", &[("Host: 127.0.0.1:", "Host: 127.0.0.1:0")], 400),
    ("two Hosts", &[(UPGRADE, "Host: other\r\nUpgrade: websocket\r\n")], 400),
    ("a second Host that is empty", &[(UPGRADE, "Host:\r\nUpgrade: websocket\r\n")], 400),
    (
        "two Origins",
        &[(UPGRADE, "Origin: http://a\r\nOrigin: http://a\r\nUpgrade: websocket\r\n")],
        400,
    ),
    ("another subprotocol", &[("roomcast.v1", "roomcast.v2")], 400),
    ("the subprotocol in capitals", &[("roomcast.v1", "ROOMCAST.V1")], 400),
    ("a subprotocol that is no token", &[("roomcast.v1", "roomcast.v1, b@d")], 400),
    ("a subprotocol beyond ASCII", &[("roomcast.v1", "roomcast.v1, räume")], 400),
    ("an empty list of subprotocols", &[("roomcast.v1", "")], 400),
];

#[tokio::test]
async fn a_handshake_is_judged_by_its_first_line_and_headers() {
    let fleet = gateway().await;
    let port = fleet.gateway().port();
    let mut findings = Findings::default();
    for (name, edits, status) in
        [METHODS_AND_VERSIONS, KEYS_AND_BODIES, HOSTS_AND_PROTOCOLS].concat()
    {
        findings.expect(port, name, edited(port, edits).as_bytes(), status).await;
    }
    let host = format!("Host: 127.0.0.1:{port}\r\n");
    findings.expect(port, "no Host", edited(port, &[(&host, "")]).as_bytes(), 400).await;
    let twice = format!("{host}{host}");
    let twice = edited(port, &[(&host, &twice)]);
    findings.expect(port, "the same Host twice", twice.as_bytes(), 400).await;
    findings.assert_none();
    assert!(findings.cases >= 60, "{}", findings.cases);
    assert!(metric(&fleet, "roomcast_handshakes_refused_total").await > 40.0);
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_refused_handshake_says_what_would_have_been_right() {
    let fleet = gateway().await;
    let port = fleet.gateway().port();
    let cases: [(&[Edit<'_>], &str, &str); 4] = [
        (&[("GET ", "POST ")], "allow", "GET"),
        (&[(UPGRADE, "")], "upgrade", "websocket"),
        (&[(CONNECTION, "")], "upgrade", "websocket"),
        (&[(": 13", ": 12")], "sec-websocket-version", "13"),
    ];
    for (edits, header, value) in cases {
        let answer = answer_to(port, edited(port, edits).as_bytes()).await.unwrap();
        assert_eq!(answer.header(header), Some(value), "{answer:?}");
    }
}

#[tokio::test]
async fn the_subprotocol_is_selected_where_it_is_offered_and_not_otherwise() {
    let fleet = gateway().await;
    let port = fleet.gateway().port();
    let cases: [(&str, Option<&str>); 4] = [
        (PROTOCOL, Some("roomcast.v1")),
        ("Sec-WebSocket-Protocol: other, roomcast.v1\r\n", Some("roomcast.v1")),
        (
            "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: roomcast.v1\r\n",
            Some("roomcast.v1"),
        ),
        ("", None),
    ];
    for (offered, selected) in cases {
        let request = edited(port, &[(PROTOCOL, offered)]);
        let mut socket = RawSocket::open(port).await.unwrap();
        socket.send(request.as_bytes()).await.unwrap();
        let answer = socket.answer(SOON).await.unwrap();
        assert_eq!(answer.status, 101, "{offered:?}: {answer:?}");
        assert_eq!(answer.header("sec-websocket-protocol"), selected, "{offered:?}");
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(answer.header("sec-websocket-extensions"), None);
        let welcome = socket.next_frame(SOON).await.unwrap();
        assert!(welcome.text().contains("\"userId\":\"ann\""), "{}", welcome.text());
    }
}

#[tokio::test]
async fn extensions_are_not_taken_up() {
    let fleet = gateway().await;
    let port = fleet.gateway().port();
    let extensions = "Sec-WebSocket-Extensions: permessage-deflate\r\nUpgrade: websocket\r\n";
    let request = edited(port, &[(UPGRADE, extensions)]);
    let answer = answer_to(port, request.as_bytes()).await.unwrap();
    assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None));
}
