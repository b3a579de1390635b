//! Random traffic, cut at random places.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Message {
    text: String,
    /// Where it is cut into fragments, as shares of its length.
    cuts: Vec<prop::sample::Index>,
    mask: [u8; 4],
    /// A ping's payload after each fragment but the last.
    pings: Vec<Vec<u8>>,
}

fn message() -> impl Strategy<Value = Message> {
    let text = prop_oneof![
        4 => any::<String>(),
        1 => "[a-zé🦀]{120,130}",
        1 => (65_530..65_545_usize).prop_map(|len| "m".repeat(len)),
    ];
    let cuts = vec(any::<prop::sample::Index>(), 0..8);
    let pings = vec(vec(any::<u8>(), 0..126), 0..4);
    (text, cuts, any::<[u8; 4]>(), pings).prop_map(|(text, cuts, mask, pings)| Message {
        text,
        cuts,
        mask,
        pings,
    })
}

/// The message on the wire and what must come out for it.
fn encode(message: &Message) -> (Vec<u8>, Vec<Incoming>) {
    let bytes = message.text.as_bytes();
    let mut cuts: Vec<usize> = message.cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut wire = Vec::new();
    let mut expected = Vec::new();
    let mut start = 0;
    for (number, &end) in cuts.iter().enumerate() {
        let opcode = if number == 0 { TEXT } else { CONTINUATION };
        wire.extend(masked(opcode, message.mask, &bytes[start..end]));
        start = end;
        if let Some(payload) = message.pings.get(number) {
            wire.extend(frame(FIN | PING, payload));
            expected.push(ping(payload));
        }
    }
    let opcode = if cuts.is_empty() { TEXT } else { CONTINUATION };
    wire.extend(masked(FIN | opcode, message.mask, &bytes[start..]));
    expected.push(text(&message.text));
    (wire, expected)
}

proptest! {
    #[test]
    fn any_messages_come_out_whole_however_they_are_cut(
        messages in vec(message(), 0..6),
        chunk_sizes in vec(prop_oneof![1..20_usize, 1..40_000_usize], 1..20),
    ) {
        let (wire, expected): (Vec<_>, Vec<_>) = messages.iter().map(encode).unzip();
        let (wire, expected) = (wire.concat(), expected.concat());
        let mut rest = &wire[..];
        let mut chunks = Vec::new();
        for &size in chunk_sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(size.min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        prop_assert_eq!(read(MAX, chunks), (expected, None));
    }

    #[test]
    fn random_bytes_never_panic_and_never_depend_on_the_cut(
        bytes in vec(any::<u8>(), 0..2000),
        size in 1..50_usize,
    ) {
        prop_assert_eq!(read(1000, bytes.chunks(size)), read(1000, [&bytes[..]]));
    }

    #[test]
    fn random_frames_never_panic_and_never_depend_on_the_cut(
        frames in vec(
            (
                prop::sample::select(vec![
                    TEXT, FIN | TEXT, CONTINUATION, FIN, FIN | PING, FIN | CLOSE, FIN | BINARY,
                ]),
                any::<[u8; 4]>(),
                prop_oneof![
                    vec(any::<u8>(), 0..10),
                    vec(prop::sample::select("aé🦀".as_bytes().to_vec()), 0..4),
                    any::<String>().prop_map(String::into_bytes),
                ],
            ),
            0..20,
        ),
        size in 1..50_usize,
    ) {
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(first, mask, payload)| masked(*first, *mask, payload))
            .collect();
        prop_assert_eq!(read(1000, bytes.chunks(size)), read(1000, [&bytes[..]]));
    }
}
