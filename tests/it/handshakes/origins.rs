//! Whose pages may open a socket.

use super::{Findings, edited};
use crate::fixtures::one_gateway::{gateway, gateway_with};
use fleet::GatewayOptions;

const NOT_OURS: [&str; 29] = [
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com:80",
    "https://app.example.com.evil",
    "https://app.example.com.",
    "https://evil-app.example.com",
    "https://evil.app.example.com",
    "https://example.com",
    "https://app.example.co",
    "https://app.example.com@evil.example",
    "https://evil.example#app.example.com",
    "https://evil.example/?https://app.example.com",
    "https://app.example.com/",
    "https://app.example.com/team",
    "https://app.example.com, https://evil.example",
    "https://app.example.com https://evil.example",
    "wss://app.example.com",
    "app.example.com",
    "//app.example.com",
    "https://аpp.example.com",
    "https://*.example.com",
    "file://",
    "chrome-extension://app.example.com",
    "capacitor://localhost",
    "tauri://localhost:1420",
    "tauri://localhost.evil",
    "tauri://127.0.0.1",
    "null",
    "",
];

#[tokio::test]
async fn an_origin_is_compared_whole_with_the_list_and_with_the_host() {
    let options = GatewayOptions::default()
        .with_env("NEXT_PUBLIC_APP_URL", "https://app.example.com/team/chat")
        .with_env(
            "ROOMCAST_ALLOWED_ORIGINS",
            "https://one.example, http://two.example:8080, tauri://localhost",
        );
    let fleet = gateway_with(options).await;
    let port = fleet.gateway().port();
    let request = |origin: &str| {
        let line = format!("Origin: {origin}\r\nUpgrade: websocket");
        edited(port, &[("Upgrade: websocket", &line)])
    };
    let mut findings = Findings::default();
    for origin in NOT_OURS {
        findings.expect(port, origin, request(origin).as_bytes(), 403).await;
    }
    let own = [
        format!("http://127.0.0.1:{port}.evil"),
        "http://127.0.0.1".to_owned(),
        format!("http://127.0.0.1:{}", port - 1),
        format!("http://localhost:{port}"),
    ];
    for origin in &own {
        findings.expect(port, origin, request(origin).as_bytes(), 403).await;
    }
    let ours = [
        "https://app.example.com".to_owned(),
        "https://app.example.com:443".to_owned(),
        "https://APP.example.com".to_owned(),
        "https://one.example".to_owned(),
        "http://two.example:8080".to_owned(),
        "tauri://localhost".to_owned(),
        format!("http://127.0.0.1:{port}"),
        format!("https://127.0.0.1:{port}"),
    ];
    for origin in &ours {
        findings.expect(port, origin, request(origin).as_bytes(), 101).await;
    }
    findings.expect(port, "absent", edited(port, &[]).as_bytes(), 101).await;
    findings.assert_none();
}

#[tokio::test]
async fn without_a_list_only_the_own_host_and_no_origin_at_all_pass() {
    let fleet = gateway().await;
    let port = fleet.gateway().port();
    let mut findings = Findings::default();
    for (origin, status) in [
        (format!("http://127.0.0.1:{port}"), 101),
        ("https://app.example.com".to_owned(), 403),
        ("null".to_owned(), 403),
    ] {
        let line = format!("Origin: {origin}\r\nUpgrade: websocket");
        let request = edited(port, &[("Upgrade: websocket", &line)]);
        findings.expect(port, &origin, request.as_bytes(), status).await;
    }
    findings.assert_none();
}
