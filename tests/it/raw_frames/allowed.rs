//! Frames that are unusual and right.

use super::{assert_alive, assert_endings, case, ending_of, heartbeat, masked, reply, welcomed};
use crate::fixtures::one_gateway::{SOON, assert_closed_for, assert_no_panic, gateway};
use harness::raw::opcode::{CLOSE, CONTINUATION, PING, PONG, TEXT};
use harness::raw::{Ending, RawError, RawSocket, text, upgrade_request};

#[tokio::test]
async fn every_frame_may_come_one_byte_at_a_time_or_all_at_once() {
    let fleet = gateway().await;
    let mut socket = welcomed(&fleet).await;
    let (front, back) = ("{\"event\":\"heart", "beat\",\"ref\":2}");
    let frames = [
        text(&heartbeat(1)),
        masked(false, TEXT, front.as_bytes()),
        masked(true, PING, b"between"),
        masked(true, CONTINUATION, back.as_bytes()),
    ];
    for byte in frames.concat() {
        socket.send(&[byte]).await.unwrap();
    }
    assert_eq!(reply(&mut socket).await["ref"], 1);
    let pong = socket.next_frame(SOON).await.unwrap();
    assert_eq!((pong.opcode, pong.text().as_str()), (PONG, "between"));
    assert_eq!(reply(&mut socket).await["ref"], 2);

    let many: Vec<u8> = (10..210).flat_map(|reference| text(&heartbeat(reference))).collect();
    socket.send(&many).await.unwrap();
    for reference in 10..210 {
        assert_eq!(reply(&mut socket).await["ref"], reference);
    }
}

#[tokio::test]
async fn what_comes_behind_the_handshake_in_the_same_packet_is_not_lost() {
    let fleet = gateway().await;
    let port = fleet.gateway().port();
    let mut socket = RawSocket::open(port).await.unwrap();
    let request = upgrade_request(port, "/ws?user=raw");
    socket.send(&[request.as_bytes(), &text(&heartbeat(7))].concat()).await.unwrap();
    assert_eq!(socket.answer(SOON).await.unwrap().status, 101);
    assert_eq!(reply(&mut socket).await["event"], "welcome");
    assert_eq!(reply(&mut socket).await["ref"], 7);
}

#[tokio::test]
async fn ten_pings_in_a_row_are_answered_in_order_and_pongs_unasked_are_ignored() {
    let fleet = gateway().await;
    let mut socket = welcomed(&fleet).await;
    let longest = "y".repeat(125);
    let payloads: Vec<String> =
        (0..9).map(|n| format!("ping {n}")).chain([longest.clone()]).collect();
    for payload in &payloads {
        socket.send(&masked(true, PING, payload.as_bytes())).await.unwrap();
    }
    for payload in &payloads {
        let pong = socket.next_frame(SOON).await.unwrap();
        assert_eq!((pong.opcode, pong.text()), (PONG, payload.clone()));
    }
    socket.send(&masked(true, PONG, longest.as_bytes())).await.unwrap();
    socket.send(&masked(true, PONG, b"")).await.unwrap();
    assert_alive(&mut socket, 1).await;
}

#[tokio::test]
async fn pings_between_fragments_are_answered_before_the_message_is_whole() {
    let fleet = gateway().await;
    let mut socket = welcomed(&fleet).await;
    let command = heartbeat(3);
    let mut pieces = command.as_bytes().chunks(5);
    socket.send(&masked(false, TEXT, pieces.next().unwrap())).await.unwrap();
    for piece in pieces {
        socket.send(&masked(true, PING, piece)).await.unwrap();
        let pong = socket.next_frame(SOON).await.unwrap();
        assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, piece));
        socket.send(&masked(false, CONTINUATION, piece)).await.unwrap();
    }
    socket.send(&masked(true, CONTINUATION, b"")).await.unwrap();
    assert_eq!(reply(&mut socket).await["ref"], 3);
}

#[tokio::test]
async fn a_character_may_be_cut_by_fragments() {
    let fleet = gateway().await;
    let mut socket = welcomed(&fleet).await;
    let command = "{\"event\":\"room:join\",\"ref\":1,\"data\":{\"roomId\":\"räume-€-🦀\"}}";
    let bytes = command.as_bytes();
    for (place, byte) in bytes[..bytes.len() - 62].iter().enumerate() {
        let opcode = if place == 0 { TEXT } else { CONTINUATION };
        socket.send(&masked(false, opcode, &[*byte])).await.unwrap();
    }
    socket.send(&masked(true, CONTINUATION, &bytes[bytes.len() - 62..])).await.unwrap();
    let joined = reply(&mut socket).await;
    assert_eq!(joined["data"]["roomId"], "räume-€-🦀", "{joined}");
}

#[tokio::test]
async fn a_close_is_answered_in_order_whatever_code_the_client_chose() {
    let fleet = gateway().await;
    let mut cases = vec![case("close without a code", &[masked(true, CLOSE, b"")], 1000)];
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 4000, 4999] {
        let close = masked(true, CLOSE, &code.to_be_bytes());
        cases.push(case(format!("close with {code}"), &[close], 1000));
    }
    let longest = [&1000_u16.to_be_bytes()[..], &[b'z'; 123]].concat();
    cases.push(case("the longest close", &[masked(true, CLOSE, &longest)], 1000));
    let close = masked(true, CLOSE, &1000_u16.to_be_bytes());
    cases.push(case("frames behind a close", &[close, vec![0xff; 100_000]], 1000));
    assert_endings(&fleet, &cases).await;
    assert_closed_for(&fleet, "normal", cases.len()).await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn replies_that_were_asked_for_come_before_the_close_frame() {
    let fleet = gateway().await;
    let mut socket = welcomed(&fleet).await;
    let commands: Vec<u8> = (0..500).flat_map(|reference| text(&heartbeat(reference))).collect();
    let close = masked(true, CLOSE, &1000_u16.to_be_bytes());
    socket.send(&[commands, close].concat()).await.unwrap();
    for reference in 0..500 {
        assert_eq!(reply(&mut socket).await["ref"], reference);
    }
    assert_eq!(socket.ending(SOON).await.unwrap(), Ending::Close(Some(1000)));
    assert!(matches!(socket.next_frame(SOON).await, Err(RawError::Eof)));
}

#[tokio::test]
async fn a_client_that_ends_its_stream_without_a_close_gets_the_end_of_the_stream() {
    let fleet = gateway().await;
    let mut socket = welcomed(&fleet).await;
    socket.finish().await.unwrap();
    assert_eq!(socket.ending(SOON).await.unwrap(), Ending::Eof);
    let mut cut = welcomed(&fleet).await;
    cut.send(&masked(true, TEXT, b"never whole")[..8]).await.unwrap();
    cut.finish().await.unwrap();
    assert_eq!(cut.ending(SOON).await.unwrap(), Ending::Eof);
    assert_eq!(ending_of(&fleet, &masked(true, CLOSE, b"")).await, Ok(Some(1000)));
}
