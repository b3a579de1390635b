//! Edits and deletes that come again, and messages by the ids that rooms know them under.

use std::sync::Arc;

use shared::contract::position::Position;
use shared::store::{Row, Store};

use super::feed::{Feed, counts, delete, edit, id, identity, message, room, user};

fn at(seq: u64) -> Position {
    Position::new(1, seq)
}

async fn content(feed: &Feed) -> String {
    feed.all("a").await[0].content.clone()
}

pub(super) async fn a_change_that_was_made_does_nothing_however_late_it_comes(
    store: Arc<dyn Store>,
) {
    let mut feed = Feed::begin(&store, "a").await;
    feed.commit(&[Row::Message(message("a/ann/m1", at(1)))]).await;
    feed.commit(&[edit("a/ann/m1", "e1", at(2), "one"), edit("a/ann/m1", "e2", at(3), "two")])
        .await;
    // The log has forgotten its id and gave it another place.
    for late in [at(4), at(5)] {
        let done = feed.commit(&[edit("a/ann/m1", "e1", late, "one")]).await;
        assert_eq!((counts(done.clone()), done.orphaned), ([0; 4], 0));
        assert_eq!(content(&feed).await, "two");
    }
    // Within one batch too; another changer's id is another id.
    let twice = [edit("a/ann/m1", "e3", at(6), "three"), edit("a/ann/m1", "e3", at(7), "again")];
    assert_eq!(counts(feed.commit(&twice).await), [0, 0, 0, 1]);
    assert_eq!(content(&feed).await, "three");
    assert_eq!(counts(feed.commit(&[delete("a/mod/m1", "e1", at(8))]).await), [0, 0, 0, 1]);
    let asked = [
        identity("a", "ann", "e3"),
        identity("a", "ann", "e1"),
        identity("a", "mod", "e1"),
        identity("a", "bob", "e1"),
        identity("b", "ann", "e1"),
        identity("a", "ann", "e9"),
    ];
    let places = [Some(at(6)), Some(at(2)), Some(at(8)), None, None, None];
    assert_eq!(store.find_changes(&asked).await.unwrap(), places);
    assert!(store.find_changes(&[]).await.unwrap().is_empty());
}

pub(super) async fn an_edit_without_its_message_can_come_again(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let done = feed.commit(&[edit("a/ann/m1", "e1", at(1), "edited")]).await;
    assert_eq!((counts(done.clone()), done.orphaned), ([0; 4], 1));
    assert_eq!(store.find_changes(&[identity("a", "ann", "e1")]).await.unwrap(), [None]);
    feed.commit(&[Row::Message(message("a/ann/m1", at(2)))]).await;
    let done = feed.commit(&[edit("a/ann/m1", "e1", at(3), "edited")]).await;
    assert_eq!((counts(done.clone()), done.orphaned), ([0, 0, 0, 1], 0));
    assert_eq!(content(&feed).await, "edited");
}

pub(super) async fn a_message_is_found_by_the_id_that_its_room_knows(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut elsewhere = Feed::begin(&store, "b").await;
    elsewhere.commit(&[Row::Message(message("b/ann/m2", at(1)))]).await;
    let mut bobs = message("a/bob/m1", at(2));
    bobs.content = "bob's".to_owned();
    let rows = [
        Row::Message(message("a/ann/m1", at(1))),
        Row::Message(bobs),
        Row::Message(message("a/cy/m2", at(3))),
        edit("a/cy/m2", "e1", at(4), "edited"),
    ];
    assert_eq!(counts(feed.commit(&rows).await), [1, 0, 2, 1]);
    let find = async |who: &str, name: &str| {
        let found = store.message(&room("a"), &user(who), &id(name)).await.unwrap();
        found.map(|message| {
            assert_eq!(message.id, id(name));
            (message.user_id.to_string(), message.content)
        })
    };
    let said = |who: &str, text: &str| Some((who.to_owned(), text.to_owned()));
    assert_eq!(find("ann", "m1").await, said("ann", "m1"));
    assert_eq!(find("bob", "m1").await, said("bob", "bob's"));
    assert_eq!(find("mod", "m1").await, said("ann", "m1"));
    assert_eq!(find("ann", "m2").await, said("cy", "edited"));
    assert_eq!(find("ann", "m3").await, None);
}
