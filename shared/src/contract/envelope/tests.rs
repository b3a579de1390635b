use proptest::prelude::*;

use super::*;

/// The same layout as `Wire`, for the crate that would take over.
#[derive(wincode::SchemaWrite, wincode::SchemaRead)]
struct Twin {
    kind: u8,
    room: String,
    user: String,
    id: String,
    change_id: Option<String>,
    accepted_at_ms: i64,
    body: Vec<u8>,
}

fn envelope(change_id: Option<&str>, body: &str) -> Envelope {
    Envelope {
        kind: if change_id.is_some() { EntryKind::Edit } else { EntryKind::Message },
        room: RoomId::parse("lobby").unwrap(),
        user: UserId::parse("ann").unwrap(),
        id: MessageId::parse("m1").unwrap(),
        change_id: change_id.map(|id| MessageId::parse(id).unwrap()),
        accepted_at: Timestamp(1_795_367_045_123),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn twin_bytes(envelope: &Envelope) -> Vec<u8> {
    let twin = Twin {
        kind: envelope.kind.number(),
        room: envelope.room.to_string(),
        user: envelope.user.to_string(),
        id: envelope.id.to_string(),
        change_id: envelope.change_id.as_ref().map(ToString::to_string),
        accepted_at_ms: envelope.accepted_at.0,
        body: envelope.body.to_vec(),
    };
    let config = wincode::config::Configuration::default().with_varint_encoding();
    wincode::config::serialize(&twin, config).unwrap()
}

#[test]
fn the_bytes_on_disk_are_these() {
    let bytes = envelope(None, "{}").encode().unwrap();
    let golden = b"\x01\x01\x05lobby\x03ann\x02m1\x00\xfd\x06\x10n\x08D\x03\x00\x00\x02{}";
    assert_eq!(bytes, golden, "{:?}", Bytes::from(bytes.clone()));
    let bytes = envelope(Some("c1"), "{\"a\":1}").encode().unwrap();
    let golden =
        b"\x01\x02\x05lobby\x03ann\x02m1\x01\x02c1\xfd\x06\x10n\x08D\x03\x00\x00\x07{\"a\":1}";
    assert_eq!(bytes, golden, "{:?}", Bytes::from(bytes.clone()));
}

#[test]
fn wincode_writes_and_reads_the_same_bytes() {
    for envelope in [envelope(None, "{}"), envelope(Some("c1"), &"x".repeat(70_000))] {
        let bytes = envelope.encode().unwrap();
        assert_eq!(bytes[1..], twin_bytes(&envelope));
        let config = wincode::config::Configuration::default().with_varint_encoding();
        let twin: Twin = wincode::config::deserialize(&bytes[1..], config).unwrap();
        assert_eq!(twin.body, envelope.body);
    }
}

#[test]
fn foreign_bytes_are_refused_by_reason() {
    let good = envelope(None, "{}").encode().unwrap();
    let decode = |bytes: &[u8]| Envelope::decode(&Bytes::copy_from_slice(bytes));
    assert!(decode(&good).is_ok());
    assert!(matches!(decode(b""), Err(EnvelopeError::Version(0))));
    let mut other = good.clone();
    other[0] = 9;
    assert!(matches!(decode(&other), Err(EnvelopeError::Version(9))));
    let mut other = good.clone();
    other[1] = 77;
    assert!(matches!(decode(&other), Err(EnvelopeError::Kind(77))));
    let mut other = good.clone();
    other.push(0);
    assert!(matches!(decode(&other), Err(EnvelopeError::Trailing)));
    let mut other = good;
    other[3] = b' ';
    assert!(matches!(decode(&other), Err(EnvelopeError::Id(_))));
    // A length prefix of 2^40 must not allocate.
    assert!(matches!(
        decode(b"\x01\x01\xfd\x00\x00\x00\x00\x00\x01\x00\x00abc"),
        Err(EnvelopeError::Malformed(_))
    ));
    let large = envelope(None, &"x".repeat(ENVELOPE_BYTES_MAX));
    assert!(matches!(large.encode(), Err(EnvelopeError::TooLarge)));
}

proptest! {
    #[test]
    fn every_envelope_comes_back(
        body in "\\PC{0,300}",
        user in "[a-z0-9:é]{1,40}",
        change in any::<bool>(),
    ) {
        let mut envelope = envelope(change.then_some("c-1"), &body);
        envelope.user = UserId::parse(&user).unwrap();
        let bytes = Bytes::from(envelope.encode().unwrap());
        prop_assert_eq!(Envelope::decode(&bytes).unwrap(), envelope);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Envelope::decode(&Bytes::from(bytes));
    }
}

#[test]
fn the_kind_is_read_from_the_first_two_bytes() {
    let whole = envelope(None, "{}").encode().unwrap();
    assert_eq!(Envelope::kind_of(&whole[..2]), Some(EntryKind::Message));
    assert_eq!(Envelope::kind_of(&[1, 7]), Some(EntryKind::Usage));
    for none in [&[][..], &[1], &[9, 7], &[1, 77]] {
        assert_eq!(Envelope::kind_of(none), None);
    }
}

#[test]
fn what_a_later_version_wrote_is_told_from_rubbish() {
    assert!(Envelope::is_later(&[VERSION + 1, 1]) && Envelope::is_later(&[VERSION, 9]));
    for raw in [&[][..], &[0], &[VERSION], &[VERSION, 0], &[VERSION, 1], &[VERSION, 8]] {
        assert!(!Envelope::is_later(raw), "{raw:?}");
    }
}
