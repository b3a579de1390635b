use shared::contract::envelope::{EntryKind, Envelope};
use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::timestamp::Timestamp;
use shared::log::RingEntry;

use super::*;

fn entry(seq: u64, content: &str) -> Arc<RoomEntry> {
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
    Arc::new(RoomEntry::from_entry(&RingEntry { position, raw }).unwrap().1)
}

fn cursor(seq: u64, key: &str) -> Cursor {
    let key = MessageId::parse(key).ok();
    Cursor { position: Position::new(1, seq), key }
}

#[test]
fn the_oldest_are_forgotten_and_the_floor_follows() {
    let mut recent = RoomCache::new(Cursor::ZERO, &ByteBudget::new(256 * 1024 * 1024));
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
    let mut recent = RoomCache::new(Cursor::ZERO, &ByteBudget::new(256 * 1024 * 1024));
    for seq in 1..=40 {
        recent.push(entry(seq, &"x".repeat(RECENT_BYTES_MAX / 20)));
    }
    assert!(recent.floor() >= Position::new(1, 20));
    assert!(recent.bytes.bytes() <= RECENT_BYTES_MAX);
}

#[test]
fn where_all_rooms_remember_too_much_one_that_goes_on_gives_way() {
    let budget = ByteBudget::new(4 * RECENT_BYTES_LEAST);
    let text = "x".repeat(RECENT_BYTES_LEAST / 10);
    let mut rooms: Vec<RoomCache> = (0..8).map(|_| RoomCache::new(Cursor::ZERO, &budget)).collect();
    for seq in 1..=100 {
        rooms.iter_mut().for_each(|recent| recent.push(entry(seq, &text)));
    }
    assert!(budget.used() <= 8 * RECENT_BYTES_LEAST, "what is left is what each may have");
    assert!(rooms.iter().all(|recent| recent.floor() > Position::new(1, 80)));
    assert!(rooms.iter().all(|recent| recent.latest(5).len() == 5));
    drop(rooms);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_page_stops_at_its_bytes_but_has_at_least_one() {
    let large = Bytes::from(vec![b'x'; PAGE_BYTES_MAX / 3]);
    assert_eq!(fitting([&large, &large, &large, &large].into_iter()), 2);
    let huge = Bytes::from(vec![b'x'; PAGE_BYTES_MAX]);
    assert_eq!(fitting([&huge, &huge].into_iter()), 1);
}

/// An entry of any kind about message `m` of `user`.
fn about(seq: u64, kind: EntryKind, user: &str, content: &str) -> Arc<RoomEntry> {
    by(user, seq, kind, user, content)
}

/// An entry of any kind by `changer` about message `m` of `user`.
fn by(changer: &str, seq: u64, kind: EntryKind, user: &str, content: &str) -> Arc<RoomEntry> {
    let body = match kind {
        EntryKind::Message => format!(
            r#"{{"roomId":"r","id":"m","userId":"{user}","type":"user","content":"{content}",
                "metadata":{{"a":1}},"createdAt":"2026-11-22T17:04:05.123Z"}}"#
        ),
        EntryKind::Edit => format!(
            r#"{{"roomId":"r","id":"m","userId":"{user}","changeId":"c{seq}","content":"{content}",
                "metadata":{{}},"editedAt":"2026-11-22T17:05:05.123Z"}}"#
        ),
        _ => format!(
            r#"{{"roomId":"r","id":"m","userId":"{user}","changeId":"c{seq}",
                "deletedAt":"2026-11-22T17:06:05.123Z"}}"#
        ),
    };
    let change_id = MessageId::parse(&format!("c{seq}")).ok();
    let envelope = Envelope {
        kind,
        room: RoomId::parse("r").unwrap(),
        user: UserId::parse(changer).unwrap(),
        id: MessageId::parse("m").unwrap(),
        change_id: change_id.filter(|_| kind != EntryKind::Message),
        accepted_at: Timestamp(0),
        body: Bytes::from(body),
    };
    let raw = Bytes::from(envelope.encode().unwrap());
    let position = Position::new(1, seq);
    Arc::new(RoomEntry::from_entry(&RingEntry { position, raw }).unwrap().1)
}

fn memory(entries: &[Arc<RoomEntry>]) -> RoomCache {
    let mut recent = RoomCache::new(Cursor::ZERO, &ByteBudget::new(256 * 1024 * 1024));
    for entry in entries {
        let entry = recent.fold(Arc::clone(entry));
        recent.push(entry);
    }
    recent
}

fn text(recent: &RoomCache) -> Vec<String> {
    let latest = recent.latest(10);
    let messages = latest.iter().map(|json| serde_json::from_slice::<Message>(json).unwrap());
    messages
        .map(|message| {
            let changed = message.changed_position.map_or(0, |position| position.seq);
            let deleted = message.deleted_at.is_some();
            format!("{} {} {changed} {deleted}", message.user_id, message.content)
        })
        .collect()
}

#[test]
fn a_message_is_remembered_once_in_its_last_state() {
    let entries = [
        about(1, EntryKind::Message, "ann", "first"),
        entry(2, "between"),
        about(3, EntryKind::Edit, "ann", "second"),
        by("bob", 4, EntryKind::Edit, "ann", "third"),
    ];
    // The other message is none that could be read; only its place counts here.
    let recent = memory(&[entries[0].clone(), entries[2].clone(), entries[3].clone()]);
    assert_eq!(text(&recent), ["ann third 4 false"]);
    // For whoever has it a change, for the others the whole, each once.
    let told = |base: u64| -> Vec<String> {
        let frames = recent.after(Position::new(1, base));
        let frames = frames.filter_map(|entry| entry.frame(Position::new(1, base)));
        frames.map(|frame| String::from_utf8_lossy(frame.payload())[10..21].to_owned()).collect()
    };
    assert_eq!(told(0), ["message:new"]);
    assert_eq!(told(1), ["message:upd"]);
    assert!(recent.knows(&cursor(1, "m")) && recent.knows(&cursor(3, "c3")));
    assert!(recent.knows(&cursor(4, "m")) && !recent.knows(&cursor(3, "c4")));

    let recent = memory(&entries);
    assert_eq!(recent.latest(10).len(), 2);
    let mut ended = memory(&[
        entries[0].clone(),
        about(2, EntryKind::Delete, "ann", ""),
        about(3, EntryKind::Edit, "ann", "too late"),
    ]);
    assert_eq!(text(&ended), ["ann  2 true"]);
    assert_eq!(ended.after(Position::new(1, 2)).filter(|entry| entry.is_shown()).count(), 0);
    // The bytes of what was overtaken are given back.
    let bytes: usize = ended.entries.iter().map(|entry| entry.bytes()).sum();
    assert_eq!(ended.bytes.bytes(), bytes);
    ended.push(about(4, EntryKind::Delete, "nobody", ""));
    assert_eq!(ended.unread(&UserId::parse("bob").unwrap(), Position::ZERO), 0);
}

#[test]
fn of_several_senders_messages_of_one_id_a_change_means_its_authors() {
    let both = [
        about(1, EntryKind::Message, "ann", "ann's"),
        about(2, EntryKind::Message, "bob", "bob's"),
    ];
    let edited = |user: &str| {
        let edit = by("moderator", 3, EntryKind::Edit, user, "edited");
        text(&memory(&[both[0].clone(), both[1].clone(), edit]))
    };
    assert_eq!(edited("bob"), ["ann ann's 0 false", "bob edited 3 false"]);
    assert_eq!(edited("ann"), ["ann edited 3 false", "bob bob's 0 false"]);
    assert_eq!(edited("zoe"), ["ann ann's 0 false", "bob bob's 0 false"]);
    let recent = memory(&both);
    let id = MessageId::parse("m").unwrap();
    let find = |user: &str| recent.find(&id, &UserId::parse(user).unwrap()).unwrap();
    assert_eq!((find("bob").0.content.as_str(), find("bob").1), ("bob's", true));
    assert_eq!((find("zoe").0.content.as_str(), find("zoe").1), ("ann's", false));
}

#[test]
fn what_was_read_elsewhere_is_brought_to_the_state_that_is_known_here() {
    let read = about(1, EntryKind::Message, "ann", "first").read_message().unwrap();
    let mut standing = vec![MessageView::from_message(&read).unwrap()];
    let mut recent = RoomCache::new(cursor(2, "floor"), &ByteBudget::new(256 * 1024 * 1024));
    recent.push(about(3, EntryKind::Edit, "ann", "second"));
    recent.push(about(4, EntryKind::Delete, "ann", ""));
    recent.renew(&mut standing);
    let message = standing[0].read().unwrap();
    assert_eq!((standing[0].changed.seq, message.content.as_str()), (4, ""));
    assert!(message.deleted_at.is_some() && message.edited_at.is_some());
    // Not twice, and never back.
    let before = standing[0].json.clone();
    recent.renew(&mut standing);
    assert_eq!(standing[0].json, before);
}
