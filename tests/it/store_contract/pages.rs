//! Reading by position.

use std::sync::Arc;

use shared::contract::message::Message;
use shared::contract::position::Position;
use shared::store::{Row, Span, Store};

use super::feed::{Feed, delete, edit, id, message, room};

const ZERO: Position = Position::ZERO;
const END: Position = Position::new(u64::MAX, u64::MAX);

fn positions(messages: &[Message]) -> Vec<(u64, u64)> {
    let position = |message: &Message| message.position.map(|place| (place.epoch, place.seq));
    messages.iter().map(|message| position(message).unwrap()).collect()
}

pub(super) async fn pages_are_read_in_both_directions_across_epochs(store: Arc<dyn Store>) {
    let places = [(1, 2), (1, 10), (2, 1), (2, 11), (3, 4), (10, 1)];
    let mut feed = Feed::begin(&store, "a").await;
    // Not in the order of the places, which a table might keep by chance.
    for (epoch, seq) in [places[3], places[0], places[5], places[1], places[4], places[2]] {
        let name = format!("a/ann/m{epoch}-{seq}");
        feed.commit(&[Row::Message(message(&name, Position::new(epoch, seq)))]).await;
    }
    let a = room("a");
    let at = |index: usize| Position::new(places[index].0, places[index].1);
    assert_eq!(positions(&store.messages(&a, Span::After(ZERO), 100).await.unwrap()), places);
    assert_eq!(positions(&store.messages(&a, Span::Before(END), 100).await.unwrap()), places);

    assert_eq!(positions(&store.messages(&a, Span::Before(END), 2).await.unwrap()), places[4..]);
    assert_eq!(positions(&store.messages(&a, Span::Before(at(4)), 2).await.unwrap()), places[2..4]);
    assert_eq!(positions(&store.messages(&a, Span::Before(at(2)), 5).await.unwrap()), places[..2]);
    assert!(store.messages(&a, Span::Before(at(0)), 5).await.unwrap().is_empty());
    assert_eq!(positions(&store.messages(&a, Span::After(ZERO), 2).await.unwrap()), places[..2]);
    assert_eq!(positions(&store.messages(&a, Span::After(at(1)), 2).await.unwrap()), places[2..4]);
    assert_eq!(
        positions(&store.messages(&a, Span::After(Position::new(1, 5)), 2).await.unwrap()),
        places[1..3]
    );
    assert_eq!(
        positions(&store.messages(&a, Span::Before(Position::new(2, 5)), 2).await.unwrap()),
        places[1..3]
    );
    assert!(store.messages(&a, Span::After(at(5)), 5).await.unwrap().is_empty());
    assert!(store.messages(&a, Span::After(ZERO), 0).await.unwrap().is_empty());
}

pub(super) async fn changes_give_each_message_once_as_it_is_now(store: Arc<dyn Store>) {
    let a = room("a");
    let at = |seq| Position::new(1, seq);
    let mut feed = Feed::begin(&store, "a").await;
    let mut rows: Vec<Row> =
        (1..=5).map(|seq| Row::Message(message(&format!("a/ann/m{seq}"), at(seq)))).collect();
    rows.push(edit("a/ann/m2", "e1", at(6), "first"));
    rows.push(delete("a/ann/m4", "d1", at(7)));
    rows.push(edit("a/ann/m2", "e2", Position::new(2, 8), "second"));
    feed.commit(&rows).await;

    let names = |messages: &[Message]| {
        messages.iter().map(|message| message.id.to_string()).collect::<Vec<_>>()
    };
    let all = store.messages(&a, Span::Changes(ZERO), 100).await.unwrap();
    assert_eq!(names(&all), ["m1", "m3", "m5", "m4", "m2"]);
    assert_eq!((all[3].content.as_str(), all[3].changed_position), ("", Some(at(7))));
    assert!(all[3].deleted_at.is_some());
    assert_eq!((all[4].content.as_str(), all[4].position), ("second", Some(at(2))));
    assert_eq!(all[4].changed_position, Some(Position::new(2, 8)));
    assert_eq!(all[0].changed_position, None);

    assert_eq!(names(&store.messages(&a, Span::Changes(ZERO), 2).await.unwrap()), ["m1", "m3"]);
    assert_eq!(names(&store.messages(&a, Span::Changes(at(3)), 2).await.unwrap()), ["m5", "m4"]);
    assert_eq!(names(&store.messages(&a, Span::Changes(at(1)), 2).await.unwrap()), ["m3", "m5"]);
    assert_eq!(names(&store.messages(&a, Span::Changes(at(7)), 9).await.unwrap()), ["m2"]);
    assert!(store.messages(&a, Span::Changes(END), 9).await.unwrap().is_empty());

    for (after, at_most, count) in [(ZERO, 100, 5), (ZERO, 3, 3), (at(5), 100, 2), (END, 9, 0)] {
        assert_eq!(store.count_changes(&a, after, at_most).await.unwrap(), count);
    }
}

pub(super) async fn what_stood_at_a_position_is_known(store: Arc<dyn Store>) {
    let a = room("a");
    let at = |seq| Position::new(1, seq);
    let mut feed = Feed::begin(&store, "a").await;
    let rows = [
        Row::Message(message("a/ann/m1", at(1))),
        edit("a/ann/m1", "e1", at(2), "first"),
        edit("a/ann/m1", "e2", at(3), "second"),
        delete("a/ann/m4", "d4", at(4)),
    ];
    feed.commit(&rows).await;
    let expected = [
        (at(1), None, true),
        (at(1), Some("m1"), true),
        (at(1), Some("e1"), false),
        // A change that was superseded has left no trace.
        (at(2), None, false),
        (at(2), Some("e1"), false),
        (at(3), None, true),
        (at(3), Some("e2"), true),
        // In a replay a message carries its own id at the place of its last change.
        (at(3), Some("m1"), true),
        (at(4), None, true),
        (at(4), Some("d4"), true),
        (at(4), Some("m4"), true),
        (at(5), None, false),
        (Position::new(2, 1), None, false),
        (ZERO, None, false),
        (END, None, false),
    ];
    for (position, key, stood) in expected {
        let key = key.map(id);
        let answer = store.stood(&a, position, key.as_ref()).await.unwrap();
        assert_eq!(answer, stood, "{position} {key:?}");
    }
    assert!(!store.stood(&room("b"), at(1), None).await.unwrap());
}

pub(super) async fn rooms_do_not_mix(store: Arc<dyn Store>) {
    let mut feeds = [Feed::begin(&store, "a").await, Feed::begin(&store, "b").await];
    for seq in 1..=20 {
        for (feed, name) in feeds.iter_mut().zip(["a", "b"]) {
            let name = format!("{name}/ann/{name}{seq}");
            feed.commit(&[Row::Message(message(&name, Position::new(1, seq)))]).await;
        }
    }
    for name in ["a", "b"] {
        let room = room(name);
        for page in [
            store.messages(&room, Span::After(ZERO), 100).await.unwrap(),
            store.messages(&room, Span::Before(END), 100).await.unwrap(),
            store.messages(&room, Span::Changes(ZERO), 100).await.unwrap(),
        ] {
            assert_eq!(page.len(), 20);
            assert!(page.iter().all(|message| message.room_id == room));
        }
        assert_eq!(store.count_changes(&room, ZERO, 100).await.unwrap(), 20);
    }
}
