//! The codec of the native protocol: JSON in text frames.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::contract::id::RoomId;
use shared::contract::limits::METADATA_LEVELS_MAX;
use shared::contract::message::TextError;
use shared::contract::position::Position;
use shared::contract::protocol::{
    Command, CommandName, EventName, REF_MAX, RoomError, RoomErrorCode, RoomNotice,
};
use shared::contract::refusal::{Refusal, RefusalCode};

use crate::wire::frame::Frame;

/// What a client sent, as far as it could be understood.
#[derive(Debug)]
pub(crate) struct ParsedCommand {
    /// Under which the answer is expected; without it a refusal becomes a `room:error`.
    pub(crate) reference: Option<u64>,
    /// What is asked, or why it is not done.
    pub(crate) command: Result<Command, Refusal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(rename = "ref", default)]
    reference: Option<u64>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// Of a frame that is no command, only where the answer goes.
#[derive(Deserialize)]
struct Reference {
    #[serde(rename = "ref")]
    reference: u64,
}

/// Reads one text frame.
pub(crate) fn read(text: &[u8]) -> ParsedCommand {
    // serde would also take the fields in their order from an array.
    if text.trim_ascii_start().first() != Some(&b'{') {
        let text = "a command is an object of event, ref and data";
        let command = Err(Refusal::new(RefusalCode::BadRequest, text));
        return ParsedCommand { reference: None, command };
    }
    match serde_json::from_slice::<Outer<'_>>(text) {
        Ok(outer) => {
            let reference = outer.reference.filter(|reference| *reference <= REF_MAX);
            let command = if reference == outer.reference {
                command(&outer.event, outer.data.map_or("{}", RawValue::get))
            } else {
                let text = "ref is an integer from 0 to 2^53 - 1";
                Err(Refusal::new(RefusalCode::BadRequest, text).field("ref"))
            };
            ParsedCommand { reference, command }
        }
        Err(error) => {
            let reference = serde_json::from_slice::<Reference>(text).ok().map(|r| r.reference);
            let refusal = Refusal::new(
                RefusalCode::BadRequest,
                format!("a command is an object of event, ref and data: {}", plain(&error)),
            );
            let reference = reference.filter(|reference| *reference <= REF_MAX);
            ParsedCommand { reference, command: Err(refusal) }
        }
    }
}

fn command(event: &str, data: &str) -> Result<Command, Refusal> {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};
    let name: StrDeserializer<'_, Error> = event.into_deserializer();
    let Ok(name) = CommandName::deserialize(name) else {
        let shown: String = event.chars().filter(|c| !c.is_control()).take(64).collect();
        let refusal = Refusal::new(RefusalCode::UnknownEvent, format!("no command is {shown:?}"));
        return Err(refusal.field("event"));
    };
    match name {
        CommandName::Auth => parse(data).map(Command::Auth),
        CommandName::RoomJoin => parse(data).map(Command::RoomJoin),
        CommandName::RoomLeave => parse(data).map(Command::RoomLeave),
        CommandName::MessageSend => parse(data).map(Command::MessageSend),
        CommandName::MessageEdit => parse(data).map(Command::MessageEdit),
        CommandName::MessageDelete => parse(data).map(Command::MessageDelete),
        CommandName::StreamStart => parse(data).map(Command::StreamStart),
        CommandName::StreamAppend => parse(data).map(Command::StreamAppend),
        CommandName::StreamEnd => parse(data).map(Command::StreamEnd),
        CommandName::HistoryGet => parse(data).map(Command::HistoryGet),
        CommandName::TypingStart => parse(data).map(Command::TypingStart),
        CommandName::TypingStop => parse(data).map(Command::TypingStop),
        CommandName::ReceiptUpdate => parse(data).map(Command::ReceiptUpdate),
        CommandName::PresenceUpdate => parse(data).map(Command::PresenceUpdate),
        CommandName::CreditsGet => parse(data).map(Command::CreditsGet),
        CommandName::CreditsTrack => parse(data).map(Command::CreditsTrack),
        CommandName::Heartbeat => parse(data).map(Command::Heartbeat),
    }
}

/// Reads a command's data; only where that fails, again, to learn which field it was.
pub(crate) fn parse<T: DeserializeOwned>(data: &str) -> Result<T, Refusal> {
    if !data.starts_with('{') {
        let refusal = Refusal::new(RefusalCode::InvalidField, "data is an object");
        return Err(refusal.field("data"));
    }
    if let Ok(value) = serde_json::from_str(data) {
        return Ok(value);
    }
    let mut json = serde_json::Deserializer::from_str(data);
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Ok(value) => Ok(value),
        Err(error) => Err(invalid_field(&error)),
    }
}

fn invalid_field(error: &serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    let why = plain(error.inner());
    if why.starts_with("recursion limit") {
        // Only metadata are read to any depth, and serde_json gives up before they are checked.
        let text = TextError::TooDeep.to_string();
        let refusal = Refusal::new(RefusalCode::TooLarge, text).field("metadata");
        return refusal.limit(METADATA_LEVELS_MAX);
    }
    let absent = why.starts_with("missing field") || why.starts_with("unknown field");
    let named = absent || why.starts_with("duplicate field");
    let field = fault(&error.path().to_string(), why.split('`').nth(1).filter(|_| named));
    let id = matches!(
        field.as_str(),
        "id" | "changeId" | "since.messageId" | "messageId" | "lastReadMessageId"
    );
    let code = if id && !absent { RefusalCode::BadId } else { RefusalCode::InvalidField };
    Refusal::new(code, why).field(field)
}

/// The path of the field at fault. One that is missing, unknown or doubled is named by serde itself
/// and may not be on the path.
fn fault(path: &str, named: Option<&str>) -> String {
    match (path, named) {
        (".", None) => "data".to_owned(),
        (".", Some(name)) => name.to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(name)) if path.rsplit('.').next() == Some(name) => path.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
    }
}

/// An error's words without its line and column, which mean nothing to a client's developer; cut,
/// since serde repeats what it was given.
pub(crate) fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The beginning of every frame of an event, up to its data.
fn prefix(event: EventName) -> Vec<u8> {
    let mut bytes = b"{\"event\":".to_vec();
    serde_json::to_writer(&mut bytes, &event).expect("an event name is JSON");
    bytes.extend_from_slice(b",\"data\":");
    bytes
}

/// An event whose data are JSON already.
pub(crate) fn raw_event(event: EventName, data: &[u8]) -> Frame {
    Frame::text_parts(&[&prefix(event), data, b"}"])
}

/// An event.
pub(crate) fn event(name: EventName, data: &impl Serialize) -> Frame {
    raw_event(name, &json(data))
}

/// The data within a frame that [`raw_event`] made; it shares the frame's memory.
pub(crate) fn data_of(frame: &Frame, event: EventName) -> Bytes {
    let payload = frame.payload();
    let begin = prefix(event).len();
    frame.as_bytes().slice_ref(&payload[begin..payload.len() - 1])
}

/// The answer to a command.
pub(crate) fn reply(reference: u64, data: &[u8]) -> Frame {
    answer(reference, b"data", data)
}

/// The refusal of a command: as its reply, or, where it had no `ref`, as a `room:error`.
pub(crate) fn refusal(reference: Option<u64>, room: Option<&RoomId>, refusal: &Refusal) -> Frame {
    match reference {
        Some(reference) => answer(reference, b"error", &json(refusal)),
        None => event(
            EventName::RoomError,
            &RoomError {
                room_id: room,
                code: RoomErrorCode::Refused(refusal.code),
                message: &refusal.message,
                field: refusal.field.as_deref(),
                limit: refusal.limit,
                retry_after_ms: refusal.retry_after_ms,
                server_time: refusal.server_time,
            },
        ),
    }
}

/// Tells that something happened to a room.
pub(crate) fn notice(room: &RoomId, notice: RoomNotice, message: &str) -> Frame {
    event(
        EventName::RoomError,
        &RoomError {
            room_id: Some(room),
            code: RoomErrorCode::Notice(notice),
            message,
            field: None,
            limit: None,
            retry_after_ms: None,
            server_time: None,
        },
    )
}

fn answer(reference: u64, key: &[u8], value: &[u8]) -> Frame {
    let event = serde_json::to_string(&EventName::Reply).expect("an event name is JSON");
    let head = format!("{{\"event\":{event},\"ref\":{reference},\"");
    Frame::text_parts(&[head.as_bytes(), key, b"\":", value, b"}"])
}

/// The JSON of what the protocol is made of.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    // The protocol's types have text keys and no fallible serializers.
    serde_json::to_vec(value).expect("the protocol's own types are JSON")
}

/// An object with its `messages`, which are JSON already, spliced in at its end.
pub(crate) fn with_messages(object: &impl Serialize, messages: &[Bytes]) -> Vec<u8> {
    let mut bytes = json(object);
    bytes.reserve_exact(16 + messages.iter().map(|message| message.len() + 1).sum::<usize>());
    bytes.pop();
    bytes.extend_from_slice(b",\"messages\":[");
    for (place, message) in messages.iter().enumerate() {
        if place > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(message);
    }
    bytes.extend_from_slice(b"]}");
    bytes
}

/// The body of a logged event with the place it was given.
pub(crate) fn with_position(body: &[u8], position: Position) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 64);
    bytes.extend_from_slice(body.strip_suffix(b"}").unwrap_or(body));
    bytes.extend_from_slice(b",\"position\":");
    bytes.extend_from_slice(&json(&position));
    bytes.push(b'}');
    bytes
}

#[cfg(test)]
mod tests;
