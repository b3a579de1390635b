//! How large messages and pages may be.

use super::client;
use crate::fixtures::one_gateway::{SOON, assert_no_panic, gateway, gateway_with};
use fleet::GatewayOptions;
use harness::client::ClientError;
use harness::raw::{RawSocket, text};
use harness::unique_id;
use serde_json::{Value, json};

/// Bytes of content.
const CONTENT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of metadata, as compact JSON.
const METADATA_BYTES_MAX: usize = 16 * 1024;

#[tokio::test]
async fn content_and_metadata_are_limited_in_bytes_and_levels() {
    let fleet = gateway().await;
    let mut ann = client(&fleet, "ann").await;
    ann.join("room", None).await.unwrap();
    let nested = |levels: usize| (1..levels).fold(json!(1), |inner, _| json!([inner]));
    let sized = |bytes: usize| json!({ "k": "m".repeat(bytes - "{\"k\":\"\"}".len()) });
    let cases: [(&str, String, Value, bool); 9] = [
        ("content at the limit", "x".repeat(CONTENT_BYTES_MAX), json!({}), true),
        ("content over it", "x".repeat(CONTENT_BYTES_MAX + 1), json!({}), false),
        ("fewer characters, more bytes", "é".repeat(CONTENT_BYTES_MAX / 2 + 1), json!({}), false),
        ("two bytes each, at the limit", "é".repeat(CONTENT_BYTES_MAX / 2), json!({}), true),
        ("no content", String::new(), json!({}), true),
        ("metadata at the limit", String::new(), sized(METADATA_BYTES_MAX), true),
        ("metadata over it", String::new(), sized(METADATA_BYTES_MAX + 1), false),
        ("16 levels", String::new(), json!({ "a": nested(16) }), true),
        ("17 levels", String::new(), json!({ "a": nested(17) }), false),
    ];
    for (name, content, metadata, fits) in cases {
        let id = unique_id();
        let data = json!({ "roomId": "room", "id": id, "content": content, "metadata": metadata });
        let sent = ann.command("message:send", data).await;
        assert_eq!(sent.is_ok(), fits, "{name}: {sent:?}");
        if fits {
            let heard = ann.wait_for("message:new", SOON).await.unwrap();
            assert_eq!(heard["id"], id.as_str(), "{name}");
            assert_eq!((&heard["content"], &heard["metadata"]), (&json!(content), &metadata));
        } else {
            assert_eq!(sent.unwrap_err().code(), Some("too_large"), "{name}");
        }
    }
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_message_that_grows_to_the_largest_frame_is_kept_and_told_whole() {
    let fleet = gateway().await;
    let mut ann = client(&fleet, "ann").await;
    ann.join("room", None).await.unwrap();
    // JSON has six characters for each of these.
    let content = "\u{1}".repeat(170_000);
    ann.send("room", &unique_id(), &content).await.unwrap();
    let heard = ann.wait_for("message:new", SOON).await.unwrap();
    assert_eq!(heard["content"], content.as_str());
    let page = ann.history("room", json!({})).await.unwrap();
    assert_eq!(page.messages[0].content, content);
    let again = client(&fleet, "bob").await.join("room", None).await.unwrap();
    assert_eq!(again.messages[0].content, content);
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_page_is_limited_in_rows_and_in_bytes() {
    let fleet = gateway().await;
    let ann = client(&fleet, "ann").await;
    ann.join("room", None).await.unwrap();
    for n in 0..201 {
        ann.send("room", &unique_id(), &format!("message {n}")).await.unwrap();
    }
    for limit in [json!(0), json!(201), json!(-1), json!(u64::MAX)] {
        let refused = ann.history("room", json!({ "limit": limit })).await.unwrap_err();
        let ClientError::Refused(refused) = refused else { panic!("{refused:?}") };
        let named = (refused.code.as_str(), refused.field.as_deref());
        assert_eq!(named, ("invalid_field", Some("limit")), "{limit}");
    }
    for (limit, rows) in [(1, 1), (50, 50), (200, 200)] {
        let page = ann.history("room", json!({ "limit": limit })).await.unwrap();
        assert_eq!((page.messages.len(), page.has_more), (rows, true));
        assert_eq!(page.messages[rows - 1].content, "message 200");
    }
    assert_eq!(ann.history("room", json!({})).await.unwrap().messages.len(), 50);

    for _ in 0..5 {
        ann.send("room", &unique_id(), &"x".repeat(CONTENT_BYTES_MAX)).await.unwrap();
    }
    let page = ann.history("room", json!({})).await.unwrap();
    let bytes: usize = page.messages.iter().map(|message| message.content.len()).sum();
    assert!(page.has_more && bytes <= 1024 * 1024, "{} with {bytes}", page.messages.len());
    assert!(!page.messages.is_empty());
    let joined = client(&fleet, "bob").await.join("room", None).await.unwrap();
    assert_eq!((joined.messages.len(), joined.has_more), (page.messages.len(), true));
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn the_largest_frame_is_a_setting() {
    let options = GatewayOptions::default().with_env("ROOMCAST_MESSAGE_BYTES_MAX", "1024");
    let fleet = gateway_with(options).await;
    let ann = client(&fleet, "ann").await;
    assert_eq!(ann.welcome()["limits"]["frameBytes"], 1024);
    let port = fleet.gateway().port();
    let padded = |bytes: usize| text(&format!("{:bytes$}", "{\"event\":\"heartbeat\",\"ref\":1}"));
    let mut socket = RawSocket::upgraded(port, "/ws?user=raw", SOON).await.unwrap();
    socket.send(&padded(1024)).await.unwrap();
    while !socket.next_frame(SOON).await.unwrap().text().contains("\"ref\":1") {}
    socket.send(&padded(1025)).await.unwrap();
    assert_eq!(socket.close_code(SOON).await.unwrap(), Some(1009));
}
