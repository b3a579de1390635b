use bytes::{Bytes, BytesMut};

use super::*;

mod content;
mod random;

const MAX: usize = 1 << 20;
const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked frame; `first` is the whole first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    masked(first, MASK, payload)
}

fn masked(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len());
    bytes[1] |= 0x80;
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [header(first, payload.len()), payload.to_vec()].concat()
}

/// A header without mask, with the shortest length.
fn header(first: u8, len: usize) -> Vec<u8> {
    match len {
        0..=125 => vec![first, len as u8],
        126..=65_535 => [&[first, 126][..], &(len as u16).to_be_bytes()].concat(),
        _ => [&[first, 127][..], &(len as u64).to_be_bytes()].concat(),
    }
}

/// A masked header with sixteen or sixty-four bits of length, as given.
fn header_16(first: u8, len: u16) -> Vec<u8> {
    [&[first, 0xfe][..], &len.to_be_bytes(), &MASK].concat()
}

fn header_64(first: u8, len: u64) -> Vec<u8> {
    [&[first, 0xff][..], &len.to_be_bytes(), &MASK].concat()
}

fn text(text: &str) -> Incoming {
    Incoming::Text(Utf8Bytes(Bytes::copy_from_slice(text.as_bytes())))
}

fn ping(payload: &[u8]) -> Incoming {
    Incoming::Ping(Bytes::copy_from_slice(payload))
}

fn close_of(code: u16, reason: &str) -> Incoming {
    let reason = Utf8Bytes(Bytes::copy_from_slice(reason.as_bytes()));
    Incoming::Close { code: Some(code), reason }
}

type Outcome = (Vec<Incoming>, Option<Violation>);

/// What comes out when the bytes arrive in these chunks.
fn read<'a>(max: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::new(max);
    let mut input = BytesMut::new();
    let mut seen = Vec::new();
    for chunk in chunks {
        input.extend_from_slice(chunk);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(incoming)) => seen.push(incoming),
                Ok(None) => break,
                Err(violation) => return (seen, Some(violation)),
            }
        }
    }
    (seen, None)
}

/// What comes out of these frames, which must not depend on how they are cut.
fn outcome(max: usize, frames: &[Vec<u8>]) -> Outcome {
    let bytes = frames.concat();
    let whole = read(max, [&bytes[..]]);
    for size in [1, 3, 7, 1000] {
        assert_eq!(read(max, bytes.chunks(size)), whole, "in pieces of {size} bytes");
    }
    whole
}

fn accepts(frames: &[Vec<u8>], expected: &[Incoming]) {
    assert_eq!(outcome(MAX, frames), (expected.to_vec(), None), "{frames:x?}");
}

fn refuses(frames: &[Vec<u8>], expected: Violation) {
    assert_eq!(outcome(MAX, frames).1, Some(expected), "{frames:x?}");
}

// Frames.

#[test]
fn text_of_every_length_form_arrives() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
        let payload = "x".repeat(len);
        accepts(&[frame(FIN | TEXT, payload.as_bytes())], &[text(&payload)]);
    }
}

#[test]
fn the_example_of_the_rfc_is_hello() {
    let bytes = vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    accepts(&[bytes], &[text("Hello")]);
}

#[test]
fn messages_in_one_buffer_come_out_one_by_one() {
    let frames = [
        frame(FIN | TEXT, b"one"),
        frame(FIN | PING, b"p"),
        frame(FIN | TEXT, b""),
        frame(FIN | PONG, b""),
        frame(FIN | TEXT, "zwölf".as_bytes()),
        frame(FIN | CLOSE, b""),
    ];
    let expected = [
        text("one"),
        ping(b"p"),
        text(""),
        Incoming::Pong(Bytes::new()),
        text("zwölf"),
        Incoming::Close { code: None, reason: Utf8Bytes::default() },
    ];
    accepts(&frames, &expected);
}

#[test]
fn every_kind_of_control_frame_is_judged_alike() {
    let mut cases = 0;
    for opcode in [CLOSE, PING, PONG] {
        for len in [0, 2, 125, 126, 200] {
            for fin in [FIN, 0] {
                for rsv in [0, 0x10, 0x20, 0x40, 0x70] {
                    for is_masked in [true, false] {
                        check_control(opcode, len, fin, rsv, is_masked);
                        cases += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cases, 300);
}

fn check_control(opcode: u8, len: usize, fin: u8, rsv: u8, is_masked: bool) {
    // A valid payload for a close too: 1000 and a reason.
    let payload = [&1000_u16.to_be_bytes()[..], &[b'r'; 200]].concat();
    let payload = &payload[..len];
    let first = fin | rsv | opcode;
    let bytes = if is_masked { frame(first, payload) } else { unmasked(first, payload) };
    let violation = if rsv != 0 {
        Violation::ReservedBits
    } else if !is_masked {
        Violation::Unmasked
    } else if fin == 0 {
        Violation::FragmentedControl
    } else if len > 125 {
        Violation::ControlTooLarge
    } else {
        let incoming = match opcode {
            PING => ping(payload),
            PONG => Incoming::Pong(Bytes::copy_from_slice(payload)),
            _ if len == 0 => Incoming::Close { code: None, reason: Utf8Bytes::default() },
            _ => close_of(1000, &"r".repeat(len - 2)),
        };
        return accepts(&[bytes], &[incoming]);
    };
    assert_eq!(violation.close_code(), 1002);
    refuses(&[bytes], violation);
}

#[test]
fn data_frames_must_be_masked_and_without_reserved_bits() {
    for opcode in [TEXT, BINARY, CONTINUATION] {
        for fin in [FIN, 0] {
            refuses(&[unmasked(fin | opcode, b"x")], Violation::Unmasked);
            for rsv in [0x10, 0x20, 0x40, 0x70] {
                refuses(&[frame(fin | rsv | opcode, b"x")], Violation::ReservedBits);
            }
        }
    }
}

#[test]
fn reserved_opcodes_are_refused() {
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        for fin in [FIN, 0] {
            refuses(&[frame(fin | opcode, b"")], Violation::ReservedOpcode);
        }
    }
}

#[test]
fn binary_messages_are_refused_from_their_header() {
    for fin in [FIN, 0] {
        refuses(&[frame(fin | BINARY, b"x")], Violation::Binary);
        refuses(&[frame(fin | BINARY, b"x")[..6].to_vec()], Violation::Binary);
    }
}

#[test]
fn two_bytes_are_enough_to_refuse_what_they_show() {
    let table = [
        ([FIN | TEXT | 0x40, 0x85], Violation::ReservedBits),
        ([FIN | 0x3, 0x85], Violation::ReservedOpcode),
        ([FIN | TEXT, 0x05], Violation::Unmasked),
        ([FIN | PING, 0xfe], Violation::ControlTooLarge),
        ([PING, 0x85], Violation::FragmentedControl),
        ([FIN | CONTINUATION, 0x85], Violation::UnexpectedContinuation),
        ([FIN | BINARY, 0x85], Violation::Binary),
    ];
    for (bytes, violation) in table {
        refuses(&[bytes.to_vec()], violation);
    }
}

#[test]
fn lengths_must_be_in_their_shortest_form() {
    let table = [
        header_16(FIN | TEXT, 0),
        header_16(FIN | TEXT, 125),
        header_64(FIN | TEXT, 0),
        header_64(FIN | TEXT, 125),
        header_64(FIN | TEXT, 126),
        header_64(FIN | TEXT, 65_535),
        header_64(FIN | TEXT, 1 << 63),
        header_64(FIN | TEXT, u64::MAX),
        header_64(TEXT, 65_535),
    ];
    for bytes in table {
        refuses(&[bytes], Violation::InvalidLength);
    }
    refuses(&[header_64(FIN | TEXT, i64::MAX as u64)], Violation::MessageTooLarge);
}

// Limits.

#[test]
fn a_message_of_exactly_the_limit_is_allowed_and_one_byte_more_is_not() {
    for max in [0, 5, 125, 126, 70_000] {
        let payload = "y".repeat(max + 1);
        let fits = &payload[..max];
        let expected = (vec![text(fits)], None);
        assert_eq!(outcome(max, &[frame(FIN | TEXT, fits.as_bytes())]), expected);
        let too_large = (vec![], Some(Violation::MessageTooLarge));
        assert_eq!(outcome(max, &[frame(FIN | TEXT, payload.as_bytes())]), too_large);
    }
}

#[test]
fn the_limit_counts_all_fragments() {
    let exact = [frame(TEXT, b"aaaa"), frame(CONTINUATION, b"bbbb"), frame(FIN, b"cc")];
    assert_eq!(outcome(10, &exact), (vec![text("aaaabbbbcc")], None));
    assert_eq!(outcome(9, &exact), (vec![], Some(Violation::MessageTooLarge)));
    let first = [frame(TEXT, b"aaaaaaaaaaa")];
    assert_eq!(outcome(10, &first), (vec![], Some(Violation::MessageTooLarge)));
}

#[test]
fn control_frames_do_not_count_towards_the_limit() {
    let frames = [frame(TEXT, b"aaaa"), frame(FIN | PING, &[1; 125]), frame(FIN, b"b")];
    assert_eq!(outcome(5, &frames), (vec![ping(&[1; 125]), text("aaaab")], None));
}

#[test]
fn size_is_judged_from_the_header_before_any_payload() {
    let mut decoder = Decoder::new(1000);
    let mut input = BytesMut::from(&frame(TEXT, &[b'a'; 900])[..]);
    assert_eq!(decoder.next(&mut input), Ok(None));
    input.extend_from_slice(&[CONTINUATION, 0xe5]);
    assert_eq!(decoder.next(&mut input), Err(Violation::MessageTooLarge));
}

#[test]
fn sixty_four_fragments_are_allowed_and_the_next_is_refused() {
    let mut frames = vec![frame(TEXT, b"a")];
    frames.extend((0..62).map(|_| frame(CONTINUATION, b"a")));
    let full = [&frames[..], &[frame(FIN, b"z")]].concat();
    accepts(&full, &[text(&format!("{}z", "a".repeat(63)))]);
    frames.push(frame(CONTINUATION, b"a"));
    accepts(&frames, &[]);
    frames.push(frame(FIN, b"z"));
    refuses(&frames, Violation::TooManyFragments);
}

#[test]
fn empty_fragments_are_legal_and_count() {
    let frames = [frame(TEXT, b""), frame(CONTINUATION, b""), frame(FIN, b"")];
    accepts(&frames, &[text("")]);
    let mut flood = vec![frame(TEXT, b"")];
    flood.extend((0..64).map(|_| frame(CONTINUATION, b"")));
    refuses(&flood, Violation::TooManyFragments);
}

#[test]
fn the_count_of_fragments_starts_anew_with_each_message() {
    let message = [frame(TEXT, b"a"), frame(CONTINUATION, b"b"), frame(FIN, b"c")].concat();
    let expected: Vec<_> = (0..100).map(|_| text("abc")).collect();
    accepts(&vec![message; 100], &expected);
}

// State and memory.

#[test]
fn a_violation_is_final() {
    let mut decoder = Decoder::new(MAX);
    let mut input = BytesMut::from(&unmasked(FIN | TEXT, b"x")[..]);
    assert_eq!(decoder.next(&mut input), Err(Violation::Unmasked));
    let mut input = BytesMut::from(&frame(FIN | TEXT, b"fine")[..]);
    assert_eq!(decoder.next(&mut input), Err(Violation::Unmasked));
}

#[test]
fn a_decoder_is_idle_only_between_messages() {
    let mut decoder = Decoder::new(MAX);
    let mut input = BytesMut::new();
    assert!(decoder.is_idle());
    for (bytes, idle) in [
        (frame(FIN | TEXT, b"abc")[..8].to_vec(), false),
        (frame(FIN | TEXT, b"abc")[8..].to_vec(), true),
        (frame(TEXT, b""), false),
        (frame(FIN | PING, b""), false),
        (frame(FIN, b""), true),
    ] {
        input.extend_from_slice(&bytes);
        decoder.next(&mut input).unwrap();
        assert_eq!(decoder.is_idle(), idle, "{bytes:x?}");
    }
    assert!(input.is_empty());
}

#[test]
fn a_declared_length_reserves_nothing() {
    for first in [FIN | TEXT, TEXT] {
        let mut decoder = Decoder::new(1 << 30);
        let mut input = BytesMut::from(&header_64(first, 1 << 30)[..]);
        let capacity = input.capacity();
        assert_eq!(decoder.next(&mut input), Ok(None));
        assert!(input.capacity() <= capacity);
        assert_eq!(decoder.message.map_or(0, |message| message.bytes.capacity()), 0);
    }
}

#[test]
fn a_fragmented_message_holds_what_has_arrived_and_lets_go_at_its_end() {
    let mut decoder = Decoder::new(MAX);
    let mut input = BytesMut::new();
    input.extend_from_slice(&frame(TEXT, &[b'a'; 10_000]));
    assert_eq!(decoder.next(&mut input), Ok(None));
    assert!(input.is_empty());
    assert!(decoder.message.as_ref().unwrap().bytes.capacity() < 20_000);
    input.extend_from_slice(&frame(FIN, b""));
    assert!(decoder.next(&mut input).unwrap().is_some());
    assert!(decoder.message.is_none());
    assert!(size_of::<Decoder>() <= 128, "a decoder stands for every idle connection");
}

#[test]
fn a_message_in_one_frame_is_not_copied() {
    let mut decoder = Decoder::new(MAX);
    let mut input = BytesMut::from(&frame(FIN | TEXT, b"where I lie")[..]);
    input.extend_from_slice(&frame(FIN | PING, b"me too"));
    let at = input.as_ptr() as usize;
    let Ok(Some(Incoming::Text(message))) = decoder.next(&mut input) else { panic!() };
    assert_eq!(message.as_str(), "where I lie");
    assert_eq!(message.into_bytes().as_ptr() as usize, at + 6);
    let Ok(Some(Incoming::Ping(payload))) = decoder.next(&mut input) else { panic!() };
    assert_eq!(payload.as_ptr() as usize, at + 6 + 11 + 6);
}

#[test]
fn debug_output_has_no_text() {
    assert_eq!(format!("{:?}", text("secret")), "Text(Utf8Bytes(6 bytes))");
}
