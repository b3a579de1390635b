//! Ids: whose message is which.

use std::sync::Arc;

use shared::contract::message::MessageType;
use shared::contract::position::Position;
use shared::store::{Row, Span, Store};
use uuid::Uuid;

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
        message.metadata = metadata(METADATA[usize::try_from(seq).unwrap() - 1]);
        message.created_at.0 += 123;
        sent.push(message);
    }
    let rows: Vec<Row> = sent.iter().cloned().map(Row::Message).collect();
    assert_eq!(counts(feed.commit(&rows).await), [3, 0, 0, 0]);
    assert_eq!(feed.all("team/42:général").await, sent);
    // An edit's are kept likewise, and one without any keeps those that stand.
    let name = format!("team{}", 42);
    let mut feed = Feed::begin(&store, &name).await;
    feed.commit(&[Row::Message(message(&format!("{name}/ann/e"), Position::new(1, 1)))]).await;
    for (seq, text) in (2..).zip(METADATA) {
        let change = edit_metadata(
            &format!("{name}/ann/e"),
            &format!("c{seq}"),
            Position::new(1, seq),
            text,
        );
        feed.commit(&[change]).await;
        assert_eq!(feed.all(&name).await[0].metadata.as_str(), text);
    }
    feed.commit(&[edit(&format!("{name}/ann/e"), "c9", Position::new(1, 9), "x")]).await;
    assert_eq!(feed.all(&name).await[0].metadata.as_str(), METADATA[2]);
    feed.commit(&[delete(&format!("{name}/ann/e"), "c10", Position::new(1, 10))]).await;
    assert_eq!(feed.all(&name).await[0].metadata.as_str(), "{}");
}

/// What jsonb would change: numbers, keys in another order or twice, white space and escapes; and
/// what it could not take.
const METADATA: [&str; 3] = [
    r#"{"z":{"b":[1.5,null,"ü\n\"'\/"]},"a":12345678901234567890123,"a":1e-400}"#,
    "{ \"wide\" : [1e308, -0.0, 1.50, 1E+2],\n\t\"\\u00e9\": \"\\ud83d\\ude00\" }",
    r#"{"far":1e999,"farther":-1E-999999999999,"e":1e131071}"#,
];

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
        store.messages(&room("b"), Span::Before(Position::new(9, 0)), 9).await.unwrap(),
        std::slice::from_ref(&anns)
    );
    let zero = Position::ZERO;
    assert_eq!(store.messages(&room("b"), Span::Changes(zero), 9).await.unwrap(), [anns]);
    let here = Position::new(1, 1);
    assert!(store.stood(&room("b"), here, Some(&id("m1"))).await.unwrap());
    assert!(!store.stood(&room("b"), here, Some(&id("m2"))).await.unwrap());
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
    // Anyone else who does not say whose means the first.
    let mut feed = feed.clone();
    feed.commit(&[delete("a/mod/m1", "d1", Position::new(1, 5))]).await;
    assert_eq!(contents().await, ["", "a/bob/m1"]);
    // Who says whose is believed, and nobody else's is changed.
    feed.commit(&[edit("a/mod/m1/bob", "e6", Position::new(1, 6), "moderated")]).await;
    assert_eq!(contents().await, ["", "moderated"]);
    let nobodys = edit("a/mod/m1/eve", "e7", Position::new(1, 7), "astray");
    assert_eq!(feed.commit(&[nobodys]).await.orphaned, 1);
    assert_eq!(contents().await, ["", "moderated"]);
}

pub(super) async fn a_delete_that_says_whose_takes_the_id_from_nobody_else(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    // Its message never came, or comes later.
    feed.commit(&[delete("a/mod/m1/eve", "d1", Position::new(1, 1))]).await;
    let rows =
        ["a/ann/m1", "a/eve/m1"].map(|name| Row::Message(message(name, Position::new(1, 2))));
    assert_eq!(counts(feed.commit(&rows[..1]).await), [0, 0, 1, 0]);
    assert_eq!(counts(feed.commit(&rows[1..]).await), [0, 1, 0, 0]);
    let contents: Vec<String> =
        feed.all("a").await.into_iter().map(|message| message.content).collect();
    assert_eq!(contents, ["", "m1"]);
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

/// The id that the first build derived for a message whose own was taken.
fn derived(room: &str, user: &str, id: &str) -> String {
    const DERIVED: Uuid = Uuid::from_u128(0x6b1c_3d52_0f0e_5c7a_9d8b_524f_4f4d_4341);
    Uuid::new_v5(&DERIVED, format!("{room} {user} {id}").as_bytes()).to_string()
}

pub(super) async fn whatever_ids_others_take_every_message_stands(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut faster = Feed::begin(&store, "b").await;
    let guessed = derived("a", "ann", "m1");
    let theft = ["m1", &guessed].map(|id| format!("b/eve/{id}"));
    for (seq, name) in (1..).zip(&theft) {
        faster.commit(&[Row::Message(message(name, Position::new(1, seq)))]).await;
    }
    // All at once, and one by one.
    let names = ["a/eve/m1", "a/ann/m1", "a/bob/m1", &format!("a/ann/{guessed}")];
    let rows: Vec<Row> = (1..)
        .zip(names)
        .map(|(seq, name)| Row::Message(message(name, Position::new(1, seq))))
        .collect();
    assert_eq!(counts(feed.commit(&rows[..2]).await), [0, 0, 2, 0]);
    for row in &rows[2..] {
        assert_eq!(counts(feed.commit(std::slice::from_ref(row)).await), [0, 0, 1, 0]);
    }
    for row in &rows {
        assert_eq!(counts(feed.commit(std::slice::from_ref(row)).await), [0, 1, 0, 0]);
    }
    let stand: Vec<(String, String)> = feed
        .all("a")
        .await
        .into_iter()
        .map(|message| (message.user_id.to_string(), message.id.to_string()))
        .collect();
    let wanted = [("eve", "m1"), ("ann", "m1"), ("bob", "m1"), ("ann", guessed.as_str())];
    assert_eq!(stand, wanted.map(|(user, id)| (user.to_owned(), id.to_owned())));
    assert!(store.dead_letters().await.unwrap().is_empty());
}

pub(super) async fn ids_of_any_form_are_themselves_and_nothing_else(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let forms = [
        "019ab123-8888-7abc-8def-0123456789ab",
        "019AB123-8888-7ABC-8DEF-0123456789AB",
        "019ab12388887abc8def0123456789ab",
        "ID",
        "id",
        "\u{e9}",
        "e\u{301}",
        "'--",
        "%",
        "null",
    ];
    let rows: Vec<Row> = (1..)
        .zip(forms)
        .map(|(seq, id)| Row::Message(message(&format!("a/ann/{id}"), Position::new(1, seq))))
        .collect();
    assert_eq!(counts(feed.commit(&rows).await), [forms.len() as u64, 0, 0, 0]);
    assert_eq!(counts(feed.commit(&rows).await), [0, forms.len() as u64, 0, 0]);
    let stand: Vec<String> =
        feed.all("a").await.into_iter().map(|message| message.id.to_string()).collect();
    assert_eq!(stand, forms);
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
