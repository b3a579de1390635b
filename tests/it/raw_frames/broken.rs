//! Frames that break the protocol.

use super::{assert_endings, case, masked};
use crate::fixtures::one_gateway::{assert_closed_for, assert_no_panic, gateway};
use harness::raw::frame;
use harness::raw::opcode::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT};

#[tokio::test]
async fn a_frame_whose_head_is_wrong_ends_the_connection_with_1002() {
    let fleet = gateway().await;
    let mut cases = Vec::new();
    for opcode in 0..16 {
        for rsv in [0b001, 0b010, 0b100, 0b111] {
            let name = format!("reserved bits {rsv:03b}, opcode {opcode:x}");
            cases.push(case(name, &[frame(true, rsv, opcode, true, b"")], 1002));
        }
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        for fin in [true, false] {
            let name = format!("reserved opcode {opcode:x}, final {fin}");
            cases.push(case(name, &[masked(fin, opcode, b"x")], 1002));
        }
    }
    for opcode in [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] {
        let name = format!("unmasked, opcode {opcode:x}");
        cases.push(case(name, &[frame(true, 0, opcode, false, b"")], 1002));
    }
    let unmasked = frame(true, 0, TEXT, false, super::heartbeat(1).as_bytes());
    cases.push(case("unmasked heartbeat", &[unmasked], 1002));
    // Lengths that would have fitted a shorter form, and one with its highest bit set.
    let length = |form: &[u8]| [&[0x81], form, &[0; 4]].concat();
    cases.push(case("125 in two bytes", &[length(&[0xfe, 0, 125])], 1002));
    cases.push(case("65535 in eight", &[length(&[0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff])], 1002));
    cases.push(case("2^63", &[length(&[0xff, 0x80, 0, 0, 0, 0, 0, 0, 0])], 1002));
    assert_endings(&fleet, &cases).await;
    assert_closed_for(&fleet, "protocol_error", cases.len()).await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_control_frame_that_is_none_ends_the_connection_with_1002() {
    let fleet = gateway().await;
    let mut cases = Vec::new();
    for (name, opcode) in [("ping", PING), ("pong", PONG), ("close", CLOSE)] {
        cases.push(case(format!("fragmented {name}"), &[masked(false, opcode, b"")], 1002));
        for bytes in [126, 127, 200, 302, 65_536] {
            let name = format!("{name} of {bytes} bytes");
            let mut payload = vec![b'x'; bytes];
            payload[..2].copy_from_slice(&1000_u16.to_be_bytes());
            cases.push(case(name, &[masked(true, opcode, &payload)], 1002));
        }
    }
    cases.push(case("close of one byte", &[masked(true, CLOSE, b"\x03")], 1002));
    for code in [0_u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        let close = masked(true, CLOSE, &code.to_be_bytes());
        cases.push(case(format!("close with {code}"), &[close], 1002));
    }
    assert_endings(&fleet, &cases).await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn fragments_out_of_order_end_the_connection_with_1002() {
    let fleet = gateway().await;
    let (a, b, end) = (masked(false, TEXT, b"aa"), masked(false, TEXT, b"bb"), b"cc");
    let last = masked(true, CONTINUATION, end);
    assert_endings(
        &fleet,
        &[
            case("two unfinished texts", &[a.clone(), b, last.clone()], 1002),
            case("a text inside a text", &[a.clone(), masked(true, TEXT, b"bb")], 1002),
            case("a binary inside a text", &[a.clone(), masked(true, BINARY, b"bb")], 1002),
            case("an end without a beginning", std::slice::from_ref(&last), 1002),
            case("a middle without a beginning", &[masked(false, CONTINUATION, b"")], 1002),
            case("a second end", &[a, last.clone(), last], 1002),
        ],
    )
    .await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn text_that_is_no_utf8_ends_the_connection_with_1007_and_binary_with_1003() {
    let fleet = gateway().await;
    let start = masked(false, TEXT, b"abc");
    let mut cases = vec![
        case("cut in the end", &[start.clone(), masked(true, CONTINUATION, b"\xe2\x82")], 1007),
        case("cut in one frame", &[masked(true, TEXT, b"abc\xe2\x82")], 1007),
        case(
            "cut by the next fragment",
            &[masked(false, TEXT, b"\xe2\x82"), masked(true, CONTINUATION, b"a")],
            1007,
        ),
        case("wrong before the end", &[masked(false, TEXT, b"\xff")], 1007),
        case("a close reason", &[masked(true, CLOSE, b"\x03\xe8\xff")], 1007),
        case("a cut close reason", &[masked(true, CLOSE, b"\x03\xe8\xe2\x82")], 1007),
        case("binary", &[masked(true, BINARY, b"abc")], 1003),
        case("empty binary", &[masked(true, BINARY, b"")], 1003),
        case("binary in fragments", &[masked(false, BINARY, b"abc")], 1003),
    ];
    let texts: [(&str, &[u8]); 5] = [
        ("a lone continuation byte", b"\x80"),
        ("an overlong form", b"\xc0\x80"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("beyond the last character", b"\xf4\x90\x80\x80"),
        ("a byte that is in no character", b"ok\xfe"),
    ];
    for (name, text) in texts {
        cases.push(case(name, &[masked(true, TEXT, text)], 1007));
        let rest = masked(true, CONTINUATION, text);
        cases.push(case(format!("{name}, in a fragment"), &[start.clone(), rest], 1007));
    }
    assert_endings(&fleet, &cases).await;
    assert_no_panic(&fleet);
}
