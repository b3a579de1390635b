//! Frames that are too large, too many or too slow, and what they cost.

use super::{assert_endings, case, heartbeat, masked, reply, welcomed};
use crate::fixtures::one_gateway::{SOON, assert_no_panic, gateway, resident_bytes};
use harness::raw::opcode::{CONTINUATION, PING, PONG, TEXT};
use harness::raw::{RawSocket, frame_head};
use tokio::time::Instant;

/// The largest frame or message of a client, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Most fragments of a message.
const FRAGMENTS_MAX: usize = 64;

/// A heartbeat of exactly so many bytes: white space is nothing to JSON.
fn padded_heartbeat(bytes: usize) -> Vec<u8> {
    let mut text = heartbeat(9).into_bytes();
    text.resize(bytes, b' ');
    text
}

#[tokio::test]
async fn a_message_of_one_mebibyte_passes_and_a_byte_more_is_1009() {
    let fleet = gateway().await;
    let mut socket = welcomed(&fleet).await;
    socket.send(&masked(true, TEXT, &padded_heartbeat(MESSAGE_BYTES_MAX))).await.unwrap();
    assert_eq!(reply(&mut socket).await["ref"], 9);
    let whole = padded_heartbeat(MESSAGE_BYTES_MAX);
    let (first, rest) = whole.split_at(500_000);
    let parts = [masked(false, TEXT, first), masked(true, CONTINUATION, rest)];
    socket.send(&parts.concat()).await.unwrap();
    assert_eq!(reply(&mut socket).await["ref"], 9);

    let over = padded_heartbeat(MESSAGE_BYTES_MAX + 1);
    let (first, rest) = over.split_at(500_000);
    let fragments: Vec<Vec<u8>> = (0..17)
        .map(|n| masked(false, if n == 0 { TEXT } else { CONTINUATION }, &[b'x'; 65_000]))
        .collect();
    assert_endings(
        &fleet,
        &[
            case("one frame", &[masked(true, TEXT, &over)], 1009),
            case(
                "two fragments",
                &[masked(false, TEXT, first), masked(true, CONTINUATION, rest)],
                1009,
            ),
            case("17 fragments of 65,000 bytes", &fragments, 1009),
            case("a head that declares 2^62", &[frame_head(true, 0, TEXT, true, 1 << 62)], 1009),
            case("an unfinished 64 MiB", &[frame_head(false, 0, TEXT, true, 64 << 20)], 1009),
        ],
    )
    .await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn sixty_four_fragments_pass_and_one_more_is_1008() {
    let fleet = gateway().await;
    let mut socket = welcomed(&fleet).await;
    let empty = |n: usize| masked(false, if n == 0 { TEXT } else { CONTINUATION }, b"");
    let mut frames: Vec<Vec<u8>> = (0..FRAGMENTS_MAX - 1).map(empty).collect();
    let end = masked(true, CONTINUATION, heartbeat(1).as_bytes());
    socket.send(&[frames.concat(), end.clone()].concat()).await.unwrap();
    assert_eq!(reply(&mut socket).await["ref"], 1);

    frames.push(empty(FRAGMENTS_MAX));
    frames.push(end);
    let endless: Vec<Vec<u8>> = (0..50_000).map(empty).collect();
    assert_endings(
        &fleet,
        &[case("65 fragments", &frames, 1008), case("50,000 of them", &endless, 1008)],
    )
    .await;
}

#[tokio::test]
async fn a_flood_of_pings_or_pongs_is_1008() {
    let fleet = gateway().await;
    let flood = |opcode| vec![masked(true, opcode, b"flood"); 100];
    let inside: Vec<Vec<u8>> = [masked(false, TEXT, b"")].into_iter().chain(flood(PING)).collect();
    assert_endings(
        &fleet,
        &[
            case("pings", &flood(PING), 1008),
            case("pongs", &flood(PONG), 1008),
            case("pings inside a message", &inside, 1008),
        ],
    )
    .await;
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_length_that_is_only_declared_costs_no_memory() {
    let fleet = gateway().await;
    let before = resident_bytes(&fleet);
    let mut sockets: Vec<RawSocket> = Vec::new();
    for _ in 0..200 {
        let mut socket = welcomed(&fleet).await;
        let declared = frame_head(true, 0, TEXT, true, MESSAGE_BYTES_MAX as u64);
        socket.send(&declared).await.unwrap();
        socket.send(b"{").await.unwrap();
        sockets.push(socket);
    }
    let grown = resident_bytes(&fleet).saturating_sub(before);
    assert!(grown < 24 * 1024 * 1024, "200 sockets cost {grown} bytes");
    for socket in &mut sockets {
        // Closed by their own end: nothing of the declared megabyte will come.
        socket.finish().await.unwrap();
    }
    for giant in [64 << 20, 1 << 40, i64::MAX as u64] {
        let heads = vec![case("giant", &[frame_head(true, 0, TEXT, true, giant)], 1009); 67];
        assert_endings(&fleet, &heads).await;
    }
    let grown = resident_bytes(&fleet).saturating_sub(before);
    assert!(grown < 24 * 1024 * 1024, "201 giants cost {grown} bytes");
    assert_no_panic(&fleet);
}

#[tokio::test]
async fn a_message_that_does_not_go_on_is_1008_after_ten_seconds() {
    let fleet = gateway().await;
    let whole = masked(true, TEXT, heartbeat(1).as_bytes());
    let beginnings = [whole[..1].to_vec(), whole[..7].to_vec(), masked(false, TEXT, b"{")];
    let began = Instant::now();
    let mut sockets = Vec::new();
    for beginning in &beginnings {
        let mut socket = welcomed(&fleet).await;
        socket.send(beginning).await.unwrap();
        sockets.push(socket);
    }
    for socket in &mut sockets {
        assert_eq!(socket.close_code(SOON).await.unwrap(), Some(1008));
    }
    let took = began.elapsed();
    assert!((9..14).contains(&took.as_secs()), "{took:?}");
}
