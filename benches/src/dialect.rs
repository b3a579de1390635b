//! What clients say and hear: the texts of commands, and the few fields of events that matter.
//!
//! A message's content begins with a tag, `@`, the room's and the message's number in hexadecimal,
//! so that a delivery is known by one search and sixteen digits. Numbers are those of the run.

pub(crate) mod wire_name;
pub(crate) mod scan;

use crate::clock;
use scan::{hex, number_after};
use std::fmt::Write;
use wire_name::wire_name;

/// The start of every content that is a message of a run.
const TAG: &str = r#""content":"@"#;
/// Bytes of a tag with its `@` and `;`.
const TAG_BYTES: usize = 18;
/// The `ref` of a join; sends are numbered from the room's number shifted, so above it.
const JOIN_REF: u64 = 1;

const NEW: &[u8] = wire_name!(message:new).as_bytes();
const PERSISTED: &[u8] = wire_name!(message:persisted).as_bytes();
const REJECTED: &[u8] = wire_name!(message:rejected).as_bytes();
const ROOM_ERROR: &[u8] = wire_name!(room:error).as_bytes();

/// Which protocol the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// `roomcast.v1`, and the peers that were written to speak like it.
    Roomcast,
    /// The same events and commands in packets of Socket.IO 5 over Engine.IO 4.
    SocketIo,
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// The connection can be used now.
    Welcome,
    /// Engine.IO is open, and the client has to open Socket.IO.
    Opened,
    /// The answer to a join; whether the server found where the client stood.
    Joined {
        /// `recovered` of the reply.
        is_recovered: bool,
    },
    /// A message of this room.
    Message {
        /// The room's number.
        room: u32,
        /// The message's.
        message: u32,
    },
    /// The answer to a send.
    Acked {
        /// The room's number.
        room: u32,
        /// The message's.
        message: u32,
        /// `seq` of its position; 0 where the server has none.
        seq: u64,
        /// Whether it is in the database already.
        is_persisted: bool,
    },
    /// All up to this `seq` is in the database.
    Persisted {
        /// `seq` of `upTo`.
        seq: u64,
    },
    /// A refusal of whatever was asked.
    Refused,
    /// Engine.IO asks for a sign of life.
    Probe,
    /// Something that no scenario waits for.
    Other,
}

/// Where a member stands in its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    epoch: u64,
    seq: u64,
    message_id: String,
}

/// What a member says in its room without waiting for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// Types.
    Typing,
    /// Does something, or nothing.
    Presence {
        /// Something.
        is_active: bool,
    },
    /// Has read up to this `seq` of an epoch.
    Read {
        /// The epoch.
        epoch: u64,
        /// The place in it.
        seq: u64,
    },
}

impl Dialect {
    /// The request that opens a connection.
    pub fn request(self, path: &str, host: &str, token: Option<&str>) -> String {
        let path = match self {
            Dialect::SocketIo if path == "/ws" => "/socket.io/?EIO=4&transport=websocket",
            Dialect::Roomcast | Dialect::SocketIo => path,
        };
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: cm9vbWNhc3QgbG9hZCAxMg==\r\n"
        );
        if let (Dialect::Roomcast, Some(token)) = (self, token) {
            let _ = write!(request, "Authorization: Bearer {token}\r\n");
        }
        request.push_str("\r\n");
        request
    }

    /// What opens Socket.IO within Engine.IO.
    pub fn open(token: Option<&str>) -> String {
        token.map_or_else(|| "40".to_owned(), |token| format!("40{{\"token\":\"{token}\"}}"))
    }

    /// Enters a room, from where one stood before if that is known.
    pub fn join(self, out: &mut String, room: &str, since: Option<&Cursor>) {
        self.begin(out, wire_name!(room:join), Some(JOIN_REF));
        let _ = write!(out, r#"{{"roomId":"{room}""#);
        if let Some(Cursor { epoch, seq, message_id }) = since {
            let _ = write!(
                out,
                r#","since":{{"epoch":{epoch},"seq":{seq},"messageId":"{message_id}"}}"#
            );
        }
        out.push('}');
        self.end(out);
    }

    /// Sends a message of so many bytes.
    pub fn send(self, out: &mut String, room: &str, (number, message): (u32, u32), bytes: usize) {
        let reference = (u64::from(number) + 1) << 32 | u64::from(message);
        self.begin(out, wire_name!(message:send), Some(reference));
        let _ = write!(out, r#"{{"roomId":"{room}","id":""#);
        write_id(out, number, message);
        let _ = write!(out, r#"",{TAG}{number:08x}{message:08x};"#);
        out.extend(std::iter::repeat_n('x', bytes.saturating_sub(TAG_BYTES)));
        out.push_str("\"}");
        self.end(out);
    }

    /// Says something that is not a message.
    pub fn aside(self, out: &mut String, room: &str, aside: Aside) {
        let name = match aside {
            Aside::Typing => wire_name!(typing:start),
            Aside::Presence { .. } => wire_name!(presence:update),
            Aside::Read { .. } => wire_name!(receipt:update),
        };
        self.begin(out, name, None);
        let _ = write!(out, r#"{{"roomId":"{room}""#);
        let _ = match aside {
            Aside::Typing => Ok(()),
            Aside::Presence { is_active: true } => write!(out, r#","status":"active""#),
            Aside::Presence { is_active: false } => write!(out, r#","status":"idle""#),
            Aside::Read { epoch, seq } => {
                write!(out, r#","position":{{"epoch":{epoch},"seq":{seq}}}"#)
            }
        };
        out.push('}');
        self.end(out);
    }

    /// One part of an answer that is being written: its beginning, a delta at an offset, its end.
    pub fn stream(self, out: &mut String, room: &str, id: (u32, u32), part: Option<usize>) {
        let name = match part {
            None => wire_name!(message:stream:start),
            Some(_) => wire_name!(message:stream:append),
        };
        self.begin(out, name, None);
        let _ = write!(out, r#"{{"roomId":"{room}","id":""#);
        write_id(out, id.0, id.1);
        let _ = match part {
            None => write!(out, r#"","type":"assistant"}}"#),
            Some(offset) => write!(out, r#"","delta":"words of it ","offset":{offset}}}"#),
        };
        self.end(out);
    }

    /// The end of an answer, which is then a message like any other.
    pub fn end_stream(self, out: &mut String, room: &str, (number, message): (u32, u32)) {
        let reference = (u64::from(number) + 1) << 32 | u64::from(message);
        self.begin(out, wire_name!(message:stream:end), Some(reference));
        let _ = write!(out, r#"{{"roomId":"{room}","id":""#);
        write_id(out, number, message);
        let _ = write!(out, r#"",{TAG}{number:08x}{message:08x};"}}"#);
        self.end(out);
    }

    fn begin(self, out: &mut String, name: &str, reference: Option<u64>) {
        let _ = match (self, reference) {
            (Dialect::Roomcast, Some(reference)) => {
                write!(out, r#"{{"event":"{name}","ref":{reference},"data":"#)
            }
            (Dialect::Roomcast, None) => write!(out, r#"{{"event":"{name}","data":"#),
            (Dialect::SocketIo, Some(reference)) => write!(out, r#"42{reference}["{name}","#),
            (Dialect::SocketIo, None) => write!(out, r#"42["{name}","#),
        };
    }

    fn end(self, out: &mut String) {
        out.push(match self {
            Dialect::Roomcast => '}',
            Dialect::SocketIo => ']',
        });
    }

    /// What a text of the server says.
    #[inline]
    pub fn read(self, text: &[u8]) -> Incoming {
        match self {
            Dialect::Roomcast => read_roomcast(text),
            Dialect::SocketIo => read_socket_io(text),
        }
    }
}

#[inline]
fn read_roomcast(text: &[u8]) -> Incoming {
    let Some(name) = scan::text_after(text, b"\"event\":\"") else { return Incoming::Other };
    match name {
        NEW => message(text),
        b"reply" => {
            let Some(reference) = number_after(text, b"\"ref\":") else { return Incoming::Other };
            answer(reference, text)
        }
        PERSISTED => match number_after(text, b"\"seq\":") {
            Some(seq) => Incoming::Persisted { seq },
            None => Incoming::Other,
        },
        b"welcome" => Incoming::Welcome,
        REJECTED | ROOM_ERROR => Incoming::Refused,
        _ => Incoming::Other,
    }
}

fn read_socket_io(text: &[u8]) -> Incoming {
    match text {
        [b'4', b'2', b'[', b'"', rest @ ..] if rest.starts_with(NEW) => message(text),
        [b'4', b'3', rest @ ..] => match scan::leading_number(rest) {
            Some(reference) => answer(reference, rest),
            None => Incoming::Other,
        },
        [b'4', b'0', ..] => Incoming::Welcome,
        [b'4', b'4', ..] => Incoming::Refused,
        [b'0', ..] => Incoming::Opened,
        [b'2'] => Incoming::Probe,
        _ => Incoming::Other,
    }
}

#[inline]
fn message(text: &[u8]) -> Incoming {
    let Some(at) = scan::find_tag(text, TAG.as_bytes()) else { return Incoming::Other };
    match tag(&text[at + TAG.len()..]) {
        Some((room, message)) => Incoming::Message { room, message },
        None => Incoming::Other,
    }
}

#[inline]
fn tag(digits: &[u8]) -> Option<(u32, u32)> {
    Some((hex(digits.get(..8)?)?, hex(digits.get(8..16)?)?))
}

fn answer(reference: u64, text: &[u8]) -> Incoming {
    if scan::has(text, b"\"error\":") {
        return Incoming::Refused;
    }
    if reference == JOIN_REF {
        return Incoming::Joined { is_recovered: scan::has(text, b"\"recovered\":true") };
    }
    let room = u32::try_from((reference >> 32).saturating_sub(1)).unwrap_or(u32::MAX);
    let message = u32::try_from(reference & 0xffff_ffff).unwrap_or(u32::MAX);
    let seq = number_after(text, b"\"seq\":").unwrap_or(0);
    let is_persisted = scan::has(text, b"\"persisted\":true");
    Incoming::Acked { room, message, seq, is_persisted }
}

/// The messages of a run in a text, in order: in the reply to a join.
pub fn messages(text: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    scan::all(text, TAG.as_bytes()).filter_map(|at| tag(&text[at + TAG.len()..]))
}

/// Where a member stands that got this message last.
pub fn cursor(text: &[u8]) -> Option<Cursor> {
    let message_id = scan::text_after(text, b"\"id\":\"")?;
    Some(Cursor {
        epoch: number_after(text, b"\"epoch\":")?,
        seq: number_after(text, b"\"seq\":")?,
        message_id: String::from_utf8_lossy(message_id).into_owned(),
    })
}

impl Cursor {
    /// That one has read up to here.
    pub fn read(&self) -> Aside {
        Aside::Read { epoch: self.epoch, seq: self.seq }
    }
}

/// A `UUIDv7` of now for this message; an answer that is written bit by bit has the time of its
/// number instead, so that its parts agree.
fn write_id(out: &mut String, room: u32, message: u32) {
    let time = clock::run_ms();
    let (high, low) = (time >> 16, time & 0xffff);
    let _ = write!(out, "{high:08x}-{low:04x}-7000-8{:03x}-", room >> 20);
    let _ = write!(out, "{:04x}{message:08x}", room & 0xffff);
}

#[cfg(test)]
mod tests;
