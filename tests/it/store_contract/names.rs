//! Ids: whose message is which.

use std::sync::Arc;

use shared::contract::message::MessageType;
use shared::contract::position::Position;
use shared::store::{Row, Store, StoreError, derived_id};

use super::feed::{
    Feed, counts, delete, edit, edit_metadata, id, identity, message, metadata, room, values,
};

pub(super) async fn a_message_comes_back_as_it_was_sent(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "team/42:général").await;
    let kinds = [MessageType::User, MessageType::Assistant, MessageType::System];
    let mut sent = Vec::new();
    for (seq, kind) in (1..).zip(kinds) {
        let name = format!("team/42:général;'/änn\"/m%_{seq}");
        let mut message = message(&name.replacen('/', ":", 1), Position::new(1, seq));
        message.room_id = room("team/42:général");
        message.kind = kind;
        message.content = "it's \"👩‍💻\"\n\\ \u{7f} %s $1 ?1".to_owned();
        message.metadata = metadata(r#"{"a":{"b":[1.5,null,"ü\n\"'"]},"z":12345678901234567890}"#);
        message.created_at.0 += 123;
        sent.push(message);
    }
    let rows: Vec<Row> = sent.iter().cloned().map(Row::Message).collect();
    assert_eq!(counts(feed.commit(&rows).await), [3, 0, 0, 0]);
    assert_eq!(values(&feed.all("team/42:général").await), values(&sent));
}

pub(super) async fn a_taken_id_is_stored_under_another_and_read_under_its_own(
    store: Arc<dyn Store>,
) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut elsewhere = Feed::begin(&store, "b").await;
    feed.commit(&[Row::Message(message("a/ann/m1", Position::new(1, 1)))]).await;

    let mut bobs = message("a/bob/m1", Position::new(1, 2));
    bobs.metadata = metadata(r#"{"color":"red","n":1.50}"#);
    let anns = message("b/ann/m1", Position::new(1, 1));
    assert_eq!(counts(feed.commit(&[Row::Message(bobs.clone())]).await), [0, 0, 1, 0]);
    assert_eq!(counts(elsewhere.commit(&[Row::Message(anns.clone())]).await), [0, 0, 1, 0]);
    // The third offer of each is known as well.
    assert_eq!(counts(feed.commit(&[Row::Message(bobs.clone())]).await), [0, 1, 0, 0]);
    assert_eq!(counts(elsewhere.commit(&[Row::Message(anns.clone())]).await), [0, 1, 0, 0]);

    assert_eq!(values(&feed.all("a").await[1..]), values(&[bobs]));
    assert_eq!(elsewhere.all("b").await, std::slice::from_ref(&anns));
    assert_eq!(
        store.before(&room("b"), Position::new(9, 0), 9).await.unwrap(),
        std::slice::from_ref(&anns)
    );
    let (zero, all) = (Position::ZERO, Position::new(9, 0));
    assert_eq!(store.changes(&room("b"), zero, all, 9).await.unwrap(), [anns]);
    let here = Position::new(1, 1);
    assert!(store.stood(&room("b"), here, Some(&id("m1"))).await.unwrap());
    let derived = derived_id(&identity("b", "ann", "m1"));
    assert!(!store.stood(&room("b"), here, Some(&derived)).await.unwrap());
    let asked = [identity("b", "ann", "m1"), identity("a", "bob", "m1")];
    let found = store.find(&asked).await.unwrap();
    assert_eq!(found, [Some(here), Some(Position::new(1, 2))]);
}

pub(super) async fn a_renamed_message_is_changed_under_its_own_id(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "b").await;
    let mut other = Feed::begin(&store, "a").await;
    other.commit(&[Row::Message(message("a/ann/m1", Position::new(1, 1)))]).await;
    feed.commit(&[Row::Message(message("b/ann/m1", Position::new(1, 1)))]).await;

    let rows = [edit("b/ann/m1", "e1", Position::new(1, 2), "first")];
    assert_eq!(counts(feed.commit(&rows).await), [0, 0, 0, 1]);
    let rows = [edit_metadata("b/ann/m1", "e2", Position::new(1, 3), r#"{"k":"v"}"#)];
    assert_eq!(counts(feed.commit(&rows).await), [0, 0, 0, 1]);
    let [edited] = feed.all("b").await.try_into().unwrap();
    assert_eq!((&edited.id, edited.content.as_str()), (&id("m1"), "edited"));
    assert_eq!(values(&[edited])[0]["metadata"], serde_json::json!({"k": "v"}));

    // A moderator's delete finds it too.
    let rows = [delete("b/mod/m1", "d1", Position::new(1, 4))];
    assert_eq!(counts(feed.commit(&rows).await), [0, 0, 0, 1]);
    let [deleted] = feed.all("b").await.try_into().unwrap();
    assert_eq!((deleted.id, deleted.content.as_str()), (id("m1"), ""));
    assert_eq!(deleted.metadata, metadata("{}"));
    let again = [Row::Message(message("b/ann/m1", Position::new(1, 5)))];
    assert_eq!(counts(feed.commit(&again).await), [0, 1, 0, 0]);
    assert_eq!(other.all("a").await[0].content, "m1");
}

pub(super) async fn where_two_have_one_id_each_changes_their_own(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let both = ["a/ann/m1", "a/bob/m1"];
    for (seq, name) in (1..).zip(both) {
        feed.commit(&[Row::Message(message(name, Position::new(1, seq)))]).await;
    }
    for (seq, name) in (3..).zip(both) {
        let change_id = format!("e{seq}");
        let done = feed.commit(&[edit(name, &change_id, Position::new(1, seq), name)]).await;
        assert_eq!(counts(done), [0, 0, 0, 1]);
    }
    let contents = async || -> Vec<String> {
        feed.all("a").await.into_iter().map(|message| message.content).collect()
    };
    assert_eq!(contents().await, both);
    // Anyone else means the message that has the id itself.
    let mut feed = feed.clone();
    feed.commit(&[delete("a/mod/m1", "d1", Position::new(1, 5))]).await;
    assert_eq!(contents().await, ["", "a/bob/m1"]);
}

pub(super) async fn our_key_in_the_metadata_of_a_client_means_nothing(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut forged = message("a/eve/m2", Position::new(1, 1));
    forged.metadata = metadata(r#"{"roomcast.id":"m1"}"#);
    let mut odd = message("a/eve/m3", Position::new(1, 2));
    odd.metadata = metadata(r#"{"roomcast.id":{"not":["a",1]}}"#);
    let rows = [Row::Message(forged.clone()), Row::Message(odd.clone())];
    assert_eq!(counts(feed.commit(&rows).await), [2, 0, 0, 0]);
    let asked = [identity("a", "eve", "m1"), identity("a", "eve", "m2")];
    assert_eq!(store.find(&asked).await.unwrap(), [None, Some(Position::new(1, 1))]);
    assert_eq!(
        counts(feed.commit(&[edit("a/eve/m1", "e1", Position::new(1, 3), "x")]).await),
        [0; 4]
    );
    let anns = message("a/ann/m1", Position::new(1, 4));
    assert_eq!(counts(feed.commit(&[Row::Message(anns.clone())]).await), [1, 0, 0, 0]);
    assert_eq!(values(&feed.all("a").await), values(&[forged, odd, anns]));
}

pub(super) async fn a_derived_id_taken_on_purpose_loses_nobodys_message(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let derived = derived_id(&identity("a", "ann", "m1"));
    let theft = [
        Row::Message(message("a/eve/m1", Position::new(1, 1))),
        Row::Message(message(&format!("a/eve/{derived}"), Position::new(1, 2))),
    ];
    assert_eq!(counts(feed.commit(&theft).await), [2, 0, 0, 0]);
    // It cannot be kept, and its sender will be told; it is no duplicate.
    let rows = [Row::Message(message("a/ann/m1", Position::new(1, 3)))];
    let batch = feed.batch(&rows);
    assert!(matches!(feed.try_commit(&batch).await, Err(StoreError::Data { .. })));
    assert_eq!(store.find(&[identity("a", "ann", "m1")]).await.unwrap(), [None]);
}

pub(super) async fn identities_are_found_by_room_and_sender(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut lot = Vec::new();
    for seq in 1..=300 {
        lot.push(Row::Message(message(&format!("a/ann/m{seq}"), Position::new(1, seq))));
    }
    feed.commit(&lot).await;
    let mut asked = Vec::new();
    let mut expected = Vec::new();
    for seq in (1..=300).rev() {
        asked.push(identity("a", "ann", &format!("m{seq}")));
        expected.push(Some(Position::new(1, seq)));
        asked.push(identity("a", "bob", &format!("m{seq}")));
        expected.push(None);
        asked.push(identity("b", "ann", &format!("m{seq}")));
        expected.push(None);
    }
    assert_eq!(store.find(&asked).await.unwrap(), expected);
    assert!(store.find(&[]).await.unwrap().is_empty());
}
