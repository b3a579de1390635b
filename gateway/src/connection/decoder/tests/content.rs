//! Fragments, text and closes: what is inside the frames.

use super::*;

// Fragments.

#[test]
fn fragments_are_joined() {
    let frames = [frame(TEXT, b"one "), frame(CONTINUATION, b"two "), frame(FIN, b"three")];
    accepts(&frames, &[text("one two three")]);
}

#[test]
fn control_frames_between_fragments_come_at_once() {
    let frames = [
        frame(TEXT, b"a"),
        frame(FIN | PING, b"1"),
        frame(CONTINUATION, b"b"),
        frame(FIN | PONG, b"2"),
        frame(FIN, b"c"),
    ];
    let expected = [ping(b"1"), Incoming::Pong(Bytes::from_static(b"2")), text("abc")];
    accepts(&frames, &expected);
    let closed = [frame(TEXT, b"a"), frame(FIN | CLOSE, &[0x03, 0xe9])];
    accepts(&closed, &[close_of(1001, "")]);
}

#[test]
fn a_continuation_needs_a_beginning() {
    refuses(&[frame(FIN, b"x")], Violation::UnexpectedContinuation);
    refuses(&[frame(CONTINUATION, b"x")], Violation::UnexpectedContinuation);
    let after_the_end = [frame(TEXT, b"a"), frame(FIN, b"b"), frame(FIN, b"c")];
    refuses(&after_the_end, Violation::UnexpectedContinuation);
    let after_whole = [frame(FIN | TEXT, b"a"), frame(FIN, b"b")];
    refuses(&after_whole, Violation::UnexpectedContinuation);
}

#[test]
fn a_message_must_end_before_the_next_begins() {
    for first in [TEXT, FIN | TEXT, BINARY, FIN | BINARY] {
        let frames = [frame(TEXT, b"aa"), frame(first, b"bb"), frame(FIN, b"cc")];
        refuses(&frames, Violation::InterleavedMessage);
    }
    let after_empty = [frame(TEXT, b""), frame(FIN | TEXT, b"bb")];
    refuses(&after_empty, Violation::InterleavedMessage);
}

// UTF-8.

#[test]
fn invalid_text_is_refused() {
    let table: [&[u8]; 14] = [
        b"\x80",
        b"\xff",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xed\xb0\x80",
        b"\xf0\x80\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"abc\xe2\x82",
        b"\xce\xba\xe1\xbd\xb9\xcf",
        b"\xc3x",
        b"ok \xf0\x9f\xa6",
    ];
    for payload in table {
        refuses(&[frame(FIN | TEXT, payload)], Violation::InvalidUtf8);
        for cut in 0..=payload.len() {
            let (first, second) = payload.split_at(cut);
            refuses(&[frame(TEXT, first), frame(FIN, second)], Violation::InvalidUtf8);
        }
    }
}

#[test]
fn a_character_may_be_cut_by_fragments_but_not_by_the_end() {
    let crab = "🦀".as_bytes();
    for cut in 1..4 {
        let (first, second) = crab.split_at(cut);
        accepts(&[frame(TEXT, first), frame(FIN, second)], &[text("🦀")]);
        refuses(&[frame(TEXT, b"x"), frame(FIN, first)], Violation::InvalidUtf8);
        refuses(&[frame(TEXT, first), frame(FIN, b"")], Violation::InvalidUtf8);
    }
    let single: Vec<_> = crab[..3].iter().map(|&byte| [byte]).collect();
    let frames = [
        frame(TEXT, &single[0]),
        frame(CONTINUATION, &single[1]),
        frame(FIN | PING, b"between"),
        frame(CONTINUATION, b""),
        frame(CONTINUATION, &single[2]),
        frame(FIN, &crab[3..]),
    ];
    accepts(&frames, &[ping(b"between"), text("🦀")]);
}

#[test]
fn characters_at_every_edge_of_utf8_pass() {
    let edges = "\0\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}";
    accepts(&[frame(FIN | TEXT, edges.as_bytes())], &[text(edges)]);
    for cut in 0..=edges.len() {
        let (first, second) = edges.as_bytes().split_at(cut);
        accepts(&[frame(TEXT, first), frame(FIN, second)], &[text(edges)]);
    }
}

#[test]
fn invalid_text_is_refused_at_its_first_bad_byte() {
    // The bad byte is the fifth of a thousand, and of a message that never ends.
    for first in [FIN | TEXT, TEXT] {
        let mut payload = vec![b'a'; 1000];
        payload[..5].copy_from_slice(b"abc\xf4\x90");
        let bytes = frame(first, &payload);
        let payload_at = bytes.len() - payload.len();
        let good = &bytes[..payload_at + 4];
        assert_eq!(read(MAX, [good]), (vec![], None));
        let bad = &bytes[..payload_at + 5];
        assert_eq!(read(MAX, [bad]), (vec![], Some(Violation::InvalidUtf8)));
        assert_eq!(read(MAX, bad.chunks(1)), (vec![], Some(Violation::InvalidUtf8)));
    }
}

// Close.

#[test]
fn close_codes_that_may_be_sent_pass() {
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999]
        .into_iter()
        .chain([4000, 4999])
    {
        accepts(&[frame(FIN | CLOSE, &u16::to_be_bytes(code))], &[close_of(code, "")]);
        let payload = [&u16::to_be_bytes(code), "tschüß".as_bytes()].concat();
        accepts(&[frame(FIN | CLOSE, &payload)], &[close_of(code, "tschüß")]);
    }
}

#[test]
fn close_codes_that_must_not_be_sent_are_refused() {
    for code in
        [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535].map(u16::to_be_bytes)
    {
        refuses(&[frame(FIN | CLOSE, &code)], Violation::InvalidClose);
    }
    refuses(&[frame(FIN | CLOSE, &[0x03])], Violation::InvalidClose);
}

#[test]
fn a_close_reason_must_be_valid_text() {
    let longest = [&[0x03, 0xe8][..], &[b'r'; 123]].concat();
    accepts(&[frame(FIN | CLOSE, &longest)], &[close_of(1000, &"r".repeat(123))]);
    for reason in [&b"\xff"[..], b"abc\xe2\x82", b"\xed\xa0\x80"] {
        let payload = [&[0x03, 0xe8], reason].concat();
        refuses(&[frame(FIN | CLOSE, &payload)], Violation::InvalidUtf8);
    }
}

#[test]
fn every_violation_has_its_close_code_and_a_reason_that_fits() {
    let table = [
        (Violation::Unmasked, 1002),
        (Violation::ReservedBits, 1002),
        (Violation::ReservedOpcode, 1002),
        (Violation::FragmentedControl, 1002),
        (Violation::ControlTooLarge, 1002),
        (Violation::UnexpectedContinuation, 1002),
        (Violation::InterleavedMessage, 1002),
        (Violation::InvalidLength, 1002),
        (Violation::InvalidClose, 1002),
        (Violation::Binary, 1003),
        (Violation::InvalidUtf8, 1007),
        (Violation::TooManyFragments, 1008),
        (Violation::MessageTooLarge, 1009),
    ];
    for (violation, code) in table {
        assert_eq!(violation.close_code(), code, "{violation}");
        assert!(violation.to_string().len() <= 123, "{violation}");
    }
}
