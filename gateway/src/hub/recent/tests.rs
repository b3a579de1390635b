use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::timestamp::Timestamp;
use shared::log::RingEntry;

use super::*;

fn entry(seq: u64, content: &str) -> Arc<Logged> {
    let envelope = Envelope {
        kind: EntryKind::Message,
        room: RoomId::parse("r").unwrap(),
        user: UserId::parse("u").unwrap(),
        id: MessageId::parse(&format!("m{seq}")).unwrap(),
        change_id: None,
        accepted_at: Timestamp(0),
        body: Bytes::from(format!("{{\"content\":\"{content}\"}}")),
    };
    let raw = Bytes::from(envelope.encode().unwrap());
    let position = Position::new(1, seq);
    Arc::new(Logged::from_entry(&RingEntry { position, raw }).unwrap().1)
}

fn cursor(seq: u64, key: &str) -> Cursor {
    let key = MessageId::parse(key).ok();
    Cursor { position: Position::new(1, seq), key }
}

#[test]
fn the_oldest_are_forgotten_and_the_floor_follows() {
    let mut recent = Recent::new(Cursor::ZERO);
    for seq in 1..=RECENT_ENTRIES_MAX as u64 + 10 {
        recent.push(entry(seq, "x"));
    }
    assert_eq!(recent.floor(), Position::new(1, 10));
    assert!(!recent.knows(&cursor(9, "m9")));
    assert!(recent.knows(&cursor(10, "m10")));
    assert!(!recent.knows(&cursor(10, "other")));
    assert!(recent.knows(&cursor(11, "m11")));
    assert!(!recent.knows(&cursor(11, "other")));
    assert!(recent.knows(&Cursor { position: Position::new(1, 11), key: None }));
    assert!(!recent.knows(&cursor(9999, "m9999")));
    assert_eq!(recent.after(Position::new(1, 500)).count(), 22);
    assert_eq!(recent.latest(3).len(), 3);
    assert!(recent.latest(1)[0].ends_with(b"\"position\":{\"epoch\":1,\"seq\":522}}"));
}

#[test]
fn memory_is_bounded_in_bytes_too() {
    let mut recent = Recent::new(Cursor::ZERO);
    for seq in 1..=40 {
        recent.push(entry(seq, &"x".repeat(RECENT_BYTES_MAX / 20)));
    }
    assert!(recent.floor() >= Position::new(1, 20));
    assert!(recent.bytes <= RECENT_BYTES_MAX);
}

#[test]
fn a_page_stops_at_its_bytes_but_has_at_least_one() {
    let large = Bytes::from(vec![b'x'; PAGE_BYTES_MAX / 3]);
    assert_eq!(fitting([&large, &large, &large, &large].into_iter()), 2);
    let huge = Bytes::from(vec![b'x'; PAGE_BYTES_MAX]);
    assert_eq!(fitting([&huge, &huge].into_iter()), 1);
}
