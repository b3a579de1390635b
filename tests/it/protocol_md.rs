//! `PROTOCOL.md` is true: its examples are read with the types of the contract, and written back
//! the same; its tables have every code.

use std::collections::{BTreeMap, BTreeSet};

use gateway::config::GatewaySettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, from_value, json, to_value};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::limits::{CONTENT_BYTES_MAX, METADATA_BYTES_MAX, PAGE_ROWS_MAX};
use shared::contract::message::{Message, Metadata};
use shared::contract::position::Position;
use shared::contract::protocol::{
    Auth, AuthReply, ChangeReply, CommandName, Credits, CreditsGet, CreditsTrack, Done, EventName,
    Heartbeat, HistoryGet, HistoryReply, JoinReply, MessageDelete, MessageEdit, MessageSend,
    MessageStream, Persisted, PresenceChanged, PresenceList, PresenceUpdate, REF_MAX,
    ReceiptChanged, ReceiptList, ReceiptReply, ReceiptUpdate, Reconnect, Rejected, RoomError,
    RoomErrorCode, RoomJoin, RoomLeave, SUBPROTOCOL, SendReply, StreamAppend, StreamEnd,
    StreamReply, StreamStart, TrackReply, Typing, TypingChanged, Welcome,
};
use shared::contract::refusal::{CloseReason, Refusal, RefusalCode};
use shared::contract::timestamp::Timestamp;
use shared::process::settings::specs;

const PAGE: &str = include_str!("../../shared/PROTOCOL.md");

/// Any frame, of either side.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    event: String,
    #[serde(rename = "ref")]
    reference: Option<u64>,
    data: Option<Value>,
    error: Option<Value>,
}

/// The blocks of JSON, each one value.
fn blocks() -> Vec<Value> {
    let texts = PAGE.split("```json\n").skip(1).map(|rest| rest.split("```").next());
    let read = |text: &str| {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
    };
    texts.flatten().map(read).collect()
}

/// Reads the value as a `T` and expects the same when it is written back: nothing is unknown,
/// misspelt or left out.
fn expect<T: DeserializeOwned + Serialize>(value: &Value) -> T {
    let read: T = from_value(value.clone()).unwrap_or_else(|error| panic!("{error} in\n{value}"));
    assert_eq!(&to_value(&read).expect("it is JSON"), value);
    read
}

/// A reply whose messages are spliced in behind the rest.
fn expect_with_messages<T: DeserializeOwned + Serialize>(value: &Value) {
    let mut rest = value.clone();
    let messages = rest.as_object_mut().and_then(|object| object.remove("messages"));
    let messages: Vec<Message> = expect(&messages.expect("such a reply has messages"));
    assert!(messages.iter().all(|message| message.position.is_some()));
    expect::<T>(&rest);
}

/// A command's data, by the type that the gateway reads them with, which refuses unknown fields.
fn read_command(name: CommandName, data: Value) {
    let outcome = match name {
        CommandName::Auth => from_value::<Auth>(data.clone()).map(drop),
        CommandName::RoomJoin => from_value::<RoomJoin>(data.clone()).map(drop),
        CommandName::RoomLeave => from_value::<RoomLeave>(data.clone()).map(drop),
        CommandName::MessageSend => from_value::<MessageSend>(data.clone()).map(drop),
        CommandName::MessageEdit => from_value::<MessageEdit>(data.clone()).map(drop),
        CommandName::MessageDelete => from_value::<MessageDelete>(data.clone()).map(drop),
        CommandName::StreamStart => from_value::<StreamStart>(data.clone()).map(drop),
        CommandName::StreamAppend => from_value::<StreamAppend>(data.clone()).map(drop),
        CommandName::StreamEnd => from_value::<StreamEnd>(data.clone()).map(drop),
        CommandName::TypingStart | CommandName::TypingStop => {
            from_value::<Typing>(data.clone()).map(drop)
        }
        CommandName::ReceiptUpdate => from_value::<ReceiptUpdate>(data.clone()).map(drop),
        CommandName::PresenceUpdate => from_value::<PresenceUpdate>(data.clone()).map(drop),
        CommandName::CreditsGet => from_value::<CreditsGet>(data.clone()).map(drop),
        CommandName::CreditsTrack => from_value::<CreditsTrack>(data.clone()).map(drop),
        CommandName::HistoryGet => from_value::<HistoryGet>(data.clone()).map(drop),
        CommandName::Heartbeat => from_value::<Heartbeat>(data.clone()).map(drop),
    };
    outcome.unwrap_or_else(|error| panic!("{error} in {name:?}\n{data}"));
}

fn read_reply(name: CommandName, data: &Value) {
    match name {
        CommandName::Auth => drop(expect::<AuthReply>(data)),
        CommandName::RoomJoin => expect_with_messages::<JoinReply>(data),
        CommandName::RoomLeave => drop(expect::<Done>(data)),
        CommandName::MessageSend | CommandName::StreamEnd => drop(expect::<SendReply>(data)),
        CommandName::MessageEdit | CommandName::MessageDelete => drop(expect::<ChangeReply>(data)),
        CommandName::StreamStart | CommandName::StreamAppend => drop(expect::<StreamReply>(data)),
        CommandName::TypingStart | CommandName::TypingStop | CommandName::PresenceUpdate => {
            let _: Done = expect(data);
        }
        CommandName::ReceiptUpdate => drop(expect::<ReceiptReply>(data)),
        CommandName::CreditsGet => drop(expect::<Credits>(data)),
        CommandName::CreditsTrack => drop(expect::<TrackReply>(data)),
        CommandName::HistoryGet => expect_with_messages::<HistoryReply>(data),
        CommandName::Heartbeat => drop(expect::<Heartbeat>(data)),
    }
}

fn read_event(name: EventName, data: &Value) {
    match name {
        EventName::Welcome => read_welcome(data),
        EventName::MessageNew => {
            assert!(expect::<Message>(data).position.is_some(), "{data}");
        }
        EventName::MessagePending => {
            assert!(expect::<Message>(data).position.is_none(), "{data}");
        }
        EventName::MessagePersisted => drop(expect::<Persisted>(data)),
        EventName::MessageRejected => drop(expect::<Rejected>(data)),
        EventName::Heartbeat => drop(expect::<Heartbeat>(data)),
        EventName::RoomError => read_room_error(data),
        EventName::Reconnect => drop(expect::<Reconnect>(data)),
        EventName::Reply => panic!("a reply has a ref: {data}"),
        EventName::MessageUpdate | EventName::MessageDelete => read_change(name, data),
        EventName::MessageStream => drop(expect::<MessageStream>(data)),
        EventName::PresenceList => drop(expect::<PresenceList>(data)),
        EventName::PresenceUpdate => drop(expect::<PresenceChanged>(data)),
        EventName::TypingStart | EventName::TypingStop => drop(expect::<TypingChanged>(data)),
        EventName::ReceiptList => drop(expect::<ReceiptList>(data)),
        EventName::ReceiptUpdate => drop(expect::<ReceiptChanged>(data)),
        EventName::UserCredits => drop(expect::<Credits>(data)),
    }
}

/// The gateway writes these in pieces, and has no type for the whole.
fn read_change(name: EventName, data: &Value) {
    #[derive(Debug, Deserialize, Serialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Update {
        room_id: RoomId,
        id: MessageId,
        user_id: UserId,
        change_id: MessageId,
        content: String,
        metadata: Metadata,
        edited_at: Timestamp,
        position: Position,
    }
    #[derive(Debug, Deserialize, Serialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Delete {
        room_id: RoomId,
        id: MessageId,
        user_id: UserId,
        change_id: MessageId,
        deleted_at: Timestamp,
        position: Position,
    }
    if name == EventName::MessageUpdate {
        expect::<Update>(data);
    } else {
        expect::<Delete>(data);
    }
}

fn read_welcome(data: &Value) {
    let welcome: Welcome = expect(data);
    assert_eq!(welcome.protocol, SUBPROTOCOL);
    assert_eq!(welcome.limits.content_bytes, CONTENT_BYTES_MAX);
    assert_eq!(welcome.limits.metadata_bytes, METADATA_BYTES_MAX);
    assert_eq!(welcome.limits.page_rows, PAGE_ROWS_MAX);
    let default = |name: &str| {
        let mut specs = specs::<GatewaySettings>().into_iter();
        let spec = specs.find(|spec| spec.name == name).expect("there is such a setting");
        spec.default.parse::<usize>().expect("it is a number")
    };
    assert_eq!(welcome.limits.frame_bytes, default("message_bytes_max"));
    assert_eq!(welcome.limits.rooms_per_user, default("rooms_per_user"));
    assert_eq!(welcome.heartbeat_ms, default("heartbeat_interval_ms") as u64);
}

/// The type borrows and is only written; so it is written from what was read.
fn read_room_error(data: &Value) {
    let mut rest = data.clone();
    let object = rest.as_object_mut().expect("data are an object");
    let room: Option<RoomId> = object.remove("roomId").map(|id| expect(&id));
    let code: RoomErrorCode = expect(&object["code"]);
    if let RoomErrorCode::Notice(_) = code {
        // A notice is no refusal; any code of one lets the other fields be read.
        object.insert("code".to_owned(), json!(RefusalCode::Internal));
    }
    let refusal: Refusal = expect(&rest);
    let written = RoomError {
        room_id: room.as_ref(),
        code,
        message: &refusal.message,
        field: refusal.field.as_deref(),
        limit: refusal.limit,
        retry_after_ms: refusal.retry_after_ms,
        server_time: refusal.server_time,
    };
    assert_eq!(&to_value(&written).expect("it is JSON"), data);
}

#[test]
fn every_example_is_what_the_types_say() {
    let mut asked: BTreeMap<u64, CommandName> = BTreeMap::new();
    let mut answered: BTreeSet<u64> = BTreeSet::new();
    let mut told: Vec<EventName> = Vec::new();
    for block in blocks() {
        let frame: Frame = expect_frame(&block);
        let is_reply = frame.data.is_none() || frame.event == "reply";
        let command = from_value::<CommandName>(json!(frame.event));
        match (command, frame.reference) {
            (Ok(name), Some(reference)) => {
                assert!(reference <= REF_MAX && frame.error.is_none(), "{block}");
                read_command(name, frame.data.unwrap_or_else(|| json!({})));
                assert_eq!(asked.insert(reference, name), None, "ref {reference} asks twice");
            }
            (Err(_), Some(reference)) => {
                let event: EventName = expect(&json!(frame.event));
                assert!(is_reply && event == EventName::Reply, "{block}");
                let name = asked.get(&reference).expect("a reply answers a command shown before");
                match (frame.data, frame.error) {
                    (Some(data), None) => {
                        read_reply(*name, &data);
                        answered.insert(reference);
                    }
                    (None, Some(error)) => drop(expect::<Refusal>(&error)),
                    (data, error) => panic!("not one of the two: {data:?}, {error:?}"),
                }
            }
            (_, None) => {
                let event: EventName = expect(&json!(frame.event));
                read_event(event, &frame.data.expect("an event has data"));
                told.push(event);
            }
        }
    }
    assert_eq!(asked.keys().copied().collect::<BTreeSet<_>>(), answered, "commands and replies");
    expect_all_are_shown(&asked.into_values().collect::<Vec<_>>(), &told);
}

fn expect_frame(block: &Value) -> Frame {
    from_value(block.clone()).unwrap_or_else(|error| panic!("{error} in\n{block}"))
}

fn expect_all_are_shown(asked: &[CommandName], told: &[EventName]) {
    let commands = [
        CommandName::Auth,
        CommandName::RoomJoin,
        CommandName::RoomLeave,
        CommandName::MessageSend,
        CommandName::MessageEdit,
        CommandName::MessageDelete,
        CommandName::StreamStart,
        CommandName::StreamAppend,
        CommandName::StreamEnd,
        CommandName::HistoryGet,
        CommandName::TypingStart,
        CommandName::TypingStop,
        CommandName::ReceiptUpdate,
        CommandName::PresenceUpdate,
        CommandName::CreditsGet,
        CommandName::CreditsTrack,
        CommandName::Heartbeat,
    ];
    for command in commands {
        assert!(asked.contains(&command), "{command:?} is not shown");
    }
    let events = [
        EventName::Welcome,
        EventName::MessageNew,
        EventName::MessageUpdate,
        EventName::MessageDelete,
        EventName::MessageStream,
        EventName::PresenceList,
        EventName::PresenceUpdate,
        EventName::TypingStart,
        EventName::TypingStop,
        EventName::ReceiptList,
        EventName::ReceiptUpdate,
        EventName::UserCredits,
        EventName::MessagePersisted,
        EventName::MessageRejected,
        EventName::Heartbeat,
        EventName::RoomError,
        EventName::Reconnect,
    ];
    for event in events {
        assert!(told.contains(&event), "{event:?} is not shown");
    }
}

/// The rows of the table below a heading, without its two first lines, by their first cells.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let section = PAGE.split(heading).nth(1).unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells =
        |row: &'static str| row.split('|').skip(1).map(|cell| cell.trim_matches([' ', '`']));
    rows.map(|row| cells(row).collect()).collect()
}

#[test]
fn the_table_of_refusals_has_every_code() {
    let codes: Vec<RefusalCode> =
        table("\n## Refusals\n").iter().map(|row| expect(&json!(row[0]))).collect();
    // A new code has to be counted here, because this match has to meet it.
    let number = |code: &RefusalCode| match code {
        RefusalCode::BadRequest => 0,
        RefusalCode::UnknownEvent => 1,
        RefusalCode::InvalidField => 2,
        RefusalCode::BadId => 3,
        RefusalCode::TooLarge => 4,
        RefusalCode::Unauthenticated => 5,
        RefusalCode::Forbidden => 6,
        RefusalCode::NotJoined => 7,
        RefusalCode::NotFound => 8,
        RefusalCode::Conflict => 9,
        RefusalCode::RateLimited => 10,
        RefusalCode::Blocked => 11,
        RefusalCode::TooManyRooms => 12,
        RefusalCode::InsufficientCredits => 13,
        RefusalCode::Backpressure => 14,
        RefusalCode::Unavailable => 15,
        RefusalCode::Rejected => 16,
        RefusalCode::Internal => 17,
    };
    let numbers: BTreeSet<u32> = codes.iter().map(number).collect();
    assert_eq!(numbers, (0..18).collect(), "{codes:?}");
    assert_eq!(codes.len(), 18);
}

#[test]
fn the_table_of_close_codes_has_every_reason() {
    let rows = table("\n## Close codes\n");
    let shown: BTreeSet<(&str, &str)> = rows.iter().map(|row| (row[0], row[1])).collect();
    let reasons = CloseReason::ALL.map(|reason| (reason.code().to_string(), reason.label()));
    let wanted = reasons.iter().map(|(code, label)| (code.as_str(), *label)).collect();
    assert_eq!(shown, wanted);
}
