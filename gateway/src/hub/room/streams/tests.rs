use serde_json::Value;
use shared::contract::message::Metadata;

use super::*;

fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

fn id(number: usize) -> MessageId {
    MessageId::parse(&format!("a{number}")).unwrap()
}

fn user() -> UserId {
    UserId::parse("bot").unwrap()
}

fn part(number: usize, offset: u64, delta: &str) -> StreamPart {
    let (kind, state) = (MessageType::Assistant, StreamState::Streaming);
    StreamPart { id: id(number), user: user(), kind, offset, delta: delta.to_owned(), state }
}

fn open(number: usize, text: &str) -> (MessageId, StoredStream) {
    let (kind, metadata) = (MessageType::Assistant, Metadata::default());
    let beginning = StreamHeader { user: user(), kind, metadata };
    (id(number), StoredStream { beginning, text: text.to_owned(), mine: false })
}

/// Offset and delta of an event.
fn said(frame: &Frame) -> (u64, String) {
    let event: Value = serde_json::from_slice(frame.payload()).unwrap();
    let data = &event["data"];
    (data["offset"].as_u64().unwrap(), data["delta"].as_str().unwrap().to_owned())
}

fn told(told: StreamEffect) -> (u64, String) {
    match told {
        StreamEffect::Part(frame) => said(&frame),
        other => panic!("{other:?}"),
    }
}

fn so_far(board: &mut RoomStreams) -> Vec<(u64, String)> {
    board.so_far(&room()).iter().map(said).collect()
}

#[test]
fn members_are_told_what_is_new_and_late_ones_the_whole() {
    let mut board = RoomStreams::default();
    assert_eq!(told(board.apply(&room(), part(1, 0, "it 👍"))), (0, "it 👍".to_owned()));
    assert_eq!(board.apply(&room(), part(1, 3, "👍")), StreamEffect::Nothing);
    assert_eq!(told(board.apply(&room(), part(1, 3, "👍 is"))), (5, " is".to_owned()));
    assert_eq!(told(board.apply(&room(), part(2, 0, "other"))), (0, "other".to_owned()));
    let both = [(0, "it 👍 is".to_owned()), (0, "other".to_owned())];
    assert_eq!(so_far(&mut board), both);
    assert_eq!(told(board.apply(&room(), part(1, 8, "!"))), (8, "!".to_owned()));
    assert_eq!(so_far(&mut board)[0], (0, "it 👍 is!".to_owned()), "not the one made before");
}

#[test]
fn a_gap_asks_the_shelf_once_and_the_whole_is_told_again() {
    let mut board = RoomStreams::default();
    board.apply(&room(), part(1, 0, "one "));
    assert_eq!(board.apply(&room(), part(1, 8, "three ")), StreamEffect::Gap);
    assert_eq!(
        board.apply(&room(), part(1, 14, "four ")),
        StreamEffect::Nothing,
        "it is being asked"
    );
    board.begin_reading();
    let frames = board.load(&room(), vec![open(1, "one two three ")]);
    assert_eq!(frames.iter().map(said).collect::<Vec<_>>(), [(0, "one two three ".to_owned())]);
    assert_eq!(told(board.apply(&room(), part(1, 8, "three four "))), (14, "four ".to_owned()));
    // Where the stream store does not answer, the next gap asks it again.
    assert_eq!(board.apply(&room(), part(1, 99, "x")), StreamEffect::Gap);
    board.begin_reading();
    board.give_up();
    assert_eq!(board.apply(&room(), part(1, 99, "x")), StreamEffect::Gap);
}

#[test]
fn an_answer_of_which_nothing_was_heard_is_a_gap() {
    let mut board = RoomStreams::default();
    assert_eq!(board.apply(&room(), part(1, 5, "middle")), StreamEffect::Gap);
    assert!(so_far(&mut board).is_empty());
}

#[test]
fn what_came_while_the_shelf_was_asked_is_not_set_back() {
    let mut board = RoomStreams::default();
    board.apply(&room(), part(2, 0, "gone"));
    board.apply(&room(), part(6, 0, "ends meanwhile"));
    board.begin_reading();
    board.apply(&room(), part(1, 0, "one two"));
    board.apply(&room(), part(5, 0, "begins meanwhile"));
    board.settle(&id(6));
    let had = vec![open(1, "one "), open(3, ""), open(4, "new"), open(6, "ends meanwhile")];
    let frames = board.load(&room(), had);
    assert_eq!(frames.iter().map(said).collect::<Vec<_>>(), [(0, "new".to_owned())]);
    let texts = ["one two", "new", "begins meanwhile"].map(|text| (0, text.to_owned()));
    assert_eq!(so_far(&mut board), texts);
    // What was not heard of since then is gone with the next reading.
    board.begin_reading();
    assert!(board.load(&room(), vec![open(4, "new")]).is_empty());
    assert_eq!(so_far(&mut board), [(0, "new".to_owned())]);
}

#[test]
fn the_message_and_the_last_state_end_it() {
    let mut board = RoomStreams::default();
    board.apply(&room(), part(1, 0, "one"));
    board.apply(&room(), part(2, 0, "two"));
    board.settle(&id(1));
    let last = StreamPart { state: StreamState::Aborted, ..part(2, 3, "") };
    let StreamEffect::Last(last) = board.apply(&room(), last) else {
        panic!("the end is for everybody")
    };
    assert_eq!(said(&last), (3, String::new()));
    assert!(so_far(&mut board).is_empty());
}

#[test]
fn a_room_shows_so_many_answers() {
    let mut board = RoomStreams::default();
    for number in 0..STREAMS_PER_ROOM_MAX {
        board.apply(&room(), part(number, 0, "x"));
    }
    assert_eq!(board.apply(&room(), part(99, 0, "x")), StreamEffect::Nothing);
    assert_eq!(so_far(&mut board).len(), STREAMS_PER_ROOM_MAX);
}
