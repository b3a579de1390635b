//! Edits and deletes, in any order.

use std::sync::Arc;

use shared::contract::message::Message;
use shared::contract::position::Position;
use shared::contract::timestamp::Timestamp;
use shared::store::{Row, Store};

use super::feed::{
    Feed, LONG_AGO, counts, delete, edit, edit_metadata, id, identity, message, metadata, values,
};

const CHANGED_AT: Timestamp = Timestamp(LONG_AGO.0 + 1000);

fn at(seq: u64) -> Position {
    Position::new(1, seq)
}

/// The only message of the room.
async fn only(feed: &Feed, room: &str) -> Message {
    let [message] = feed.all(room).await.try_into().unwrap();
    message
}

pub(super) async fn an_edit_replaces_the_content_and_keeps_metadata_it_does_not_name(
    store: Arc<dyn Store>,
) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut sent = message("a/ann/m1", at(1));
    sent.metadata = metadata(r#"{"k":1}"#);
    feed.commit(&[Row::Message(sent.clone())]).await;

    let done = feed.commit(&[edit("a/ann/m1", "e1", at(2), "better")]).await;
    assert_eq!(counts(done), [0, 0, 0, 1]);
    sent.content = "better".to_owned();
    sent.edited_at = Some(CHANGED_AT);
    sent.changed_position = Some(at(2));
    assert_eq!(values(&[only(&feed, "a").await]), values(std::slice::from_ref(&sent)));

    feed.commit(&[edit_metadata("a/ann/m1", "e2", at(3), r#"{"k":2}"#)]).await;
    sent.content = "edited".to_owned();
    sent.metadata = metadata(r#"{"k":2}"#);
    sent.changed_position = Some(at(3));
    assert_eq!(values(&[only(&feed, "a").await]), values(std::slice::from_ref(&sent)));
}

pub(super) async fn an_older_change_is_ignored(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    feed.commit(&[
        Row::Message(message("a/ann/m1", at(1))),
        edit("a/ann/m1", "e2", at(5), "newer"),
    ])
    .await;
    for late in [at(4), at(5), Position::new(0, 9)] {
        assert_eq!(counts(feed.commit(&[edit("a/ann/m1", "e1", late, "older")]).await), [0; 4]);
        assert_eq!(counts(feed.commit(&[delete("a/ann/m1", "d1", late)]).await), [0; 4]);
    }
    let stands = only(&feed, "a").await;
    assert_eq!((stands.content.as_str(), stands.changed_position), ("newer", Some(at(5))));
    // Positions are compared by epoch first.
    let next = Position::new(2, 1);
    assert_eq!(counts(feed.commit(&[edit("a/ann/m1", "e3", next, "newest")]).await), [0, 0, 0, 1]);
    assert_eq!(only(&feed, "a").await.content, "newest");
}

pub(super) async fn nothing_revives_a_deleted_message(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut sent = message("a/ann/m1", at(1));
    sent.metadata = metadata(r#"{"k":1}"#);
    feed.commit(&[Row::Message(sent.clone())]).await;
    let done = feed.commit(&[delete("a/ann/m1", "d1", at(2))]).await;
    assert_eq!(counts(done), [0, 0, 0, 1]);
    sent.content = String::new();
    sent.metadata = metadata("{}");
    sent.deleted_at = Some(CHANGED_AT);
    sent.changed_position = Some(at(2));
    assert_eq!(values(&[only(&feed, "a").await]), values(std::slice::from_ref(&sent)));

    let done = feed.commit(&[edit("a/ann/m1", "e1", at(3), "back")]).await;
    assert_eq!(counts(done), [0; 4]);
    let again = feed.commit(&[Row::Message(message("a/ann/m1", at(4)))]).await;
    assert_eq!(counts(again), [0, 1, 0, 0]);
    assert_eq!(values(&[only(&feed, "a").await]), values(std::slice::from_ref(&sent)));
}

pub(super) async fn a_delete_of_an_unknown_message_takes_its_id(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let done = feed.commit(&[delete("a/ann/m1", "d1", at(2))]).await;
    assert_eq!(counts(done), [0, 0, 0, 1]);
    let tombstone = only(&feed, "a").await;
    assert_eq!((tombstone.id.clone(), tombstone.content.as_str()), (id("m1"), ""));
    assert_eq!((tombstone.position, tombstone.deleted_at), (Some(at(2)), Some(CHANGED_AT)));
    assert_eq!(tombstone.changed_position, Some(at(2)));

    assert_eq!(store.find(&[identity("a", "ann", "m1")]).await.unwrap(), [Some(at(2))]);
    let late = feed.commit(&[Row::Message(message("a/ann/m1", at(3)))]).await;
    assert_eq!(counts(late), [0, 1, 0, 0]);
    assert_eq!(counts(feed.commit(&[edit("a/ann/m1", "e1", at(4), "back")]).await), [0; 4]);
    assert_eq!(counts(feed.commit(&[delete("a/ann/m1", "d1", at(2))]).await), [0; 4]);
    assert_eq!(only(&feed, "a").await, tombstone);
}

pub(super) async fn a_moderators_delete_takes_the_id_from_its_sender(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    feed.commit(&[delete("a/mod/m1", "d1", at(1))]).await;
    feed.commit(&[delete("a/mod/m1", "d2", at(2))]).await;
    assert_eq!(store.find(&[identity("a", "ann", "m1")]).await.unwrap(), [Some(at(1))]);
    let late = feed.commit(&[Row::Message(message("a/ann/m1", at(3)))]).await;
    assert_eq!(counts(late), [0, 1, 0, 0]);
    assert!(only(&feed, "a").await.deleted_at.is_some());
    // Deleting what one knows is another matter: the id stays its sender's.
    feed.commit(&[Row::Message(message("a/ann/m2", at(4))), delete("a/mod/m2", "d3", at(5))]).await;
    let other = feed.commit(&[Row::Message(message("a/bob/m2", at(6)))]).await;
    assert_eq!(counts(other), [0, 0, 1, 0]);
}

pub(super) async fn a_delete_of_an_id_known_elsewhere_leaves_its_tombstone_here(
    store: Arc<dyn Store>,
) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut elsewhere = Feed::begin(&store, "b").await;
    elsewhere.commit(&[Row::Message(message("b/ann/m1", at(1)))]).await;
    let done = feed.commit(&[delete("a/mod/m1", "d1", at(1))]).await;
    assert_eq!(counts(done), [0, 0, 0, 1]);
    assert_eq!(only(&feed, "a").await.id, id("m1"));
    assert_eq!(only(&elsewhere, "b").await.content, "m1");
    let late = feed.commit(&[Row::Message(message("a/ann/m1", at(2)))]).await;
    assert_eq!(counts(late), [0, 1, 0, 0]);
}

pub(super) async fn an_edit_of_an_unknown_message_changes_nothing(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    assert_eq!(counts(feed.commit(&[edit("a/ann/m1", "e1", at(1), "x")]).await), [0; 4]);
    assert!(feed.all("a").await.is_empty());
    let late = feed.commit(&[Row::Message(message("a/ann/m1", at(2)))]).await;
    assert_eq!(counts(late), [1, 0, 0, 0]);
    assert_eq!(only(&feed, "a").await.content, "m1");
}

pub(super) async fn a_change_stays_in_its_room(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut elsewhere = Feed::begin(&store, "b").await;
    feed.commit(&[Row::Message(message("a/ann/m1", at(1)))]).await;
    let done = elsewhere.commit(&[edit("b/ann/m1", "e1", at(2), "x")]).await;
    assert_eq!(counts(done), [0; 4]);
    elsewhere.commit(&[delete("b/ann/m1", "d1", at(3))]).await;
    assert_eq!(only(&feed, "a").await, message("a/ann/m1", at(1)));
}

pub(super) async fn batches_of_any_size_lead_to_one_state(store: Arc<dyn Store>) {
    let rows = |room: &str| {
        let name = |id: &str| format!("{room}/ann/{room}-{id}");
        vec![
            Row::Message(message(&name("m1"), at(1))),
            edit(&name("m1"), "e1", at(2), "one"),
            Row::Message(message(&name("m2"), at(3))),
            delete(&name("m3"), "d3", at(4)),
            edit(&name("m1"), "e2", at(5), "two"),
            Row::Message(message(&name("m3"), at(6))),
            delete(&name("m2"), "d2", at(7)),
            edit(&name("m2"), "e4", at(8), "back"),
            Row::Message(message(&name("m1"), at(9))),
            edit(&name("m4"), "e5", at(10), "too early"),
            Row::Message(message(&name("m4"), at(11))),
        ]
    };
    let mut states = Vec::new();
    for (name, size) in [("a", 1), ("b", 2), ("c", 3), ("d", 11)] {
        let mut feed = Feed::begin(&store, name).await;
        let mut total = [0; 4];
        for batch in rows(name).chunks(size) {
            let done = counts(feed.commit(batch).await);
            total.iter_mut().zip(done).for_each(|(sum, one)| *sum += one);
        }
        assert_eq!(total, [3, 2, 0, 4], "{size}");
        let all = feed.all(name).await;
        let state = |message: &Message| {
            let id = message.id.as_str().replacen(name, "", 1);
            let content = message.content.replacen(&format!("{name}-"), "-", 1);
            (id, content, message.position, message.changed_position, message.deleted_at)
        };
        states.push(all.iter().map(state).collect::<Vec<_>>());
    }
    assert_eq!(states[0].len(), 4);
    assert!(states.iter().all(|state| *state == states[0]), "{states:#?}");
}
