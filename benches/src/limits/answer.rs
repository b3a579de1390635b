//! What a limit understands and says: as long as what Roomcast says, and no more.

use crate::dialect::scan::{number_after, text_after};
use crate::dialect::wire_name::wire_name;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The first word.
pub(super) const WELCOME: &[u8] =
    br#"{"event":"welcome","data":{"protocol":"roomcast.v1","connectionId":"1","userId":"u"}}"#;

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// To be in a room.
    Join { room: &'a [u8], reference: u64 },
    /// That all members of a room get this.
    Send { room: &'a [u8], reference: u64, content: &'a [u8], message_id: &'a [u8] },
}

/// What a text asks for, if it is one of the two.
pub(super) fn command(text: &[u8]) -> Option<Command<'_>> {
    let name = text_after(text, b"\"event\":\"")?;
    let room = text_after(text, b"\"roomId\":\"")?;
    let reference = number_after(text, b"\"ref\":")?;
    if name == wire_name!(room:join).as_bytes() {
        return Some(Command::Join { room, reference });
    }
    if name != wire_name!(message:send).as_bytes() {
        return None;
    }
    let content = text_after(text, b"\"content\":\"")?;
    let message_id = text_after(text, b"\"id\":\"")?;
    Some(Command::Send { room, reference, content, message_id })
}

/// The answer to a handshake; none if it has no key.
pub(super) fn switching(head: &[u8]) -> Option<Vec<u8>> {
    let head = str::from_utf8(head).ok()?;
    let is_key = |name: &str| name.eq_ignore_ascii_case("sec-websocket-key");
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let key = fields.find(|(name, _)| is_key(name))?.1.trim();
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes());
    let accept = STANDARD.encode(accept);
    let text = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Some(text.into_bytes())
}

pub(super) fn joined(reference: u64) -> Vec<u8> {
    format!(r#"{{"event":"reply","ref":{reference},"data":{{"recovered":true,"messages":[]}}}}"#)
        .into_bytes()
}

pub(super) fn acked(reference: u64, id: &[u8], seq: u64) -> Vec<u8> {
    let id = String::from_utf8_lossy(id);
    let position = format!(r#"{{"epoch":1,"seq":{seq}}}"#);
    let rest = r#""duplicate":false,"persisted":false,"durability":"log""#;
    let data = format!(r#"{{"id":"{id}","position":{position},{rest}}}"#);
    format!(r#"{{"event":"reply","ref":{reference},"data":{data}}}"#).into_bytes()
}

pub(super) fn message(room: usize, id: &[u8], content: &[u8], seq: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 256);
    out.extend_from_slice(br#"{"event":""#);
    out.extend_from_slice(wire_name!(message:new).as_bytes());
    out.extend_from_slice(br#"","data":{"roomId":"load-00000000-"#);
    out.extend_from_slice(format!("{room:03}").as_bytes());
    out.extend_from_slice(br#"","id":""#);
    out.extend_from_slice(id);
    out.extend_from_slice(br#"","userId":"u00000000-1234","type":"user","content":""#);
    out.extend_from_slice(content);
    out.extend_from_slice(
        br#"","metadata":{},"createdAt":"2026-11-22T17:04:06.001Z","position":{"epoch":1,"seq":"#,
    );
    out.extend_from_slice(seq.to_string().as_bytes());
    out.extend_from_slice(b"}}}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Dialect, Incoming};

    #[test]
    fn the_generator_and_the_limit_understand_each_other() {
        let mut text = String::new();
        Dialect::Roomcast.join(&mut text, "r7", None);
        assert_eq!(command(text.as_bytes()), Some(Command::Join { room: b"r7", reference: 1 }));
        assert_eq!(Dialect::Roomcast.read(&joined(1)), Incoming::Joined { is_recovered: true });

        let mut text = String::new();
        Dialect::Roomcast.send(&mut text, "r7", (7, 9), 200);
        let Some(Command::Send { room, reference, content, message_id }) = command(text.as_bytes())
        else {
            panic!("{text} is not understood");
        };
        assert_eq!((room, content.len(), message_id.len()), (b"r7".as_slice(), 200, 36));
        let expected = Incoming::Acked { room: 7, message: 9, seq: 3, is_persisted: false };
        assert_eq!(Dialect::Roomcast.read(&acked(reference, message_id, 3)), expected);
        let text = message(0, message_id, content, 3);
        let expected = Incoming::Message { room: 7, message: 9 };
        assert_eq!(Dialect::Roomcast.read(&text), expected);
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["data"]["position"]["seq"], 3);
        assert_eq!(Dialect::Roomcast.read(WELCOME), Incoming::Welcome);
    }

    #[test]
    fn the_handshake_is_answered_as_the_rfc_says() {
        let head = b"GET /ws HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        let text = String::from_utf8(switching(head).unwrap()).unwrap();
        assert!(text.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{text}");
        assert!(switching(b"GET /ws HTTP/1.1").is_none());
    }
}
