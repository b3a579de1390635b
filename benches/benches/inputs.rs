//! What the micro-benchmarks and the count of instructions work on.

use bytes::{Bytes, BytesMut};
use serde_json::json;
use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::protocol::CommandName;
use shared::contract::timestamp::Timestamp;

/// When it all happens.
pub(crate) const NOW_MS: i64 = 1_764_460_800_000;

/// Bytes of what is said.
const CONTENT_BYTES: usize = 200;

const ID: &str = "019ad2c0-7c00-7000-8000-000000000001";

/// `message:send` in a client's frame, masked, so often.
pub(crate) fn frames(count: usize) -> BytesMut {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let content = "x".repeat(CONTENT_BYTES);
    let data = json!({ "roomId": "room-1", "id": ID, "content": content });
    let text = json!({ "event": CommandName::MessageSend, "ref": 7, "data": data }).to_string();
    let length = u16::try_from(text.len()).expect("a short text");
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend(length.to_be_bytes());
    frame.extend(MASK);
    frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    BytesMut::from(&frame.repeat(count)[..])
}

/// A message as it travels.
pub(crate) fn envelope() -> Envelope {
    let content = "x".repeat(CONTENT_BYTES);
    let body = json!({
        "roomId": "room-1", "id": ID, "userId": "ann", "type": "user", "content": content,
        "metadata": {}, "createdAt": "2025-11-30T00:00:00.000Z",
    });
    Envelope {
        kind: EntryKind::Message,
        room: RoomId::parse("room-1").expect("a room"),
        user: UserId::parse("ann").expect("a user"),
        id: MessageId::parse(ID).expect("an id"),
        change_id: None,
        accepted_at: Timestamp(NOW_MS),
        body: Bytes::from(body.to_string()),
    }
}
