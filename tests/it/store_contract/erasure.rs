//! What is erased, or expires, and what stays of it.

use std::sync::Arc;

use shared::contract::position::Position;
use shared::contract::timestamp::Timestamp;
use shared::log::LogId;
use shared::store::{Erased, Row, Store};

use super::feed::{
    Feed, LONG_AGO, counts, dead_letter, delete, edit, id, identity, message, metadata, room, user,
};
use super::ledger::{movement, priced};

fn at(seq: u64) -> Position {
    Position::new(1, seq)
}

/// Erases in small steps; says how many messages it were and the rooms they stood in.
async fn erase(store: &Arc<dyn Store>, whose: &Erased) -> (u64, Vec<String>) {
    let (mut messages, mut rooms, mut after) = (0, Vec::new(), Position::ZERO);
    loop {
        let step = store.erase(whose, after, 3).await.unwrap();
        assert!(step.messages <= 3);
        messages += step.messages;
        rooms.extend(step.rooms.iter().map(ToString::to_string));
        let Some(more) = step.more else {
            rooms.sort();
            rooms.dedup();
            return (messages, rooms);
        };
        assert_eq!(step.messages, 3);
        after = more;
    }
}

/// Ann's and Bob's in two rooms; one of Ann's under a derived id, one edited, one deleted before.
async fn talk(store: &Arc<dyn Store>) -> [Feed; 2] {
    let mut feeds = [Feed::begin(store, "a").await, Feed::begin(store, "b").await];
    let mut rows: Vec<Row> = (1..=6)
        .map(|seq| (if seq % 2 == 0 { "bob" } else { "ann" }, seq))
        .map(|(who, seq)| {
            let mut message = message(&format!("a/{who}/m{seq}"), at(seq));
            message.metadata = metadata(r#"{"mood":"secret"}"#);
            Row::Message(message)
        })
        .collect();
    rows.push(edit("a/ann/m1", "e1", at(7), "a secret"));
    rows.push(delete("a/ann/m3", "d3", at(8)));
    feeds[0].commit(&rows).await;
    // Under a derived id.
    let twin = Row::Message(message("b/ann/m2", at(1)));
    let done = feeds[1].commit(&[twin, Row::Message(message("b/bob/n2", at(2)))]).await;
    assert_eq!(counts(done), [1, 0, 1, 0]);
    feeds
}

pub(super) async fn of_an_erased_person_only_places_and_ids_are_left(store: Arc<dyn Store>) {
    let mut feeds = talk(&store).await;
    let before = feeds[0].all("a").await;
    let places = [identity("a", "ann", "m1"), identity("b", "ann", "m2")];
    let found = store.find(&places).await.unwrap();

    let ann = Erased::User(user("ann"));
    assert_eq!(erase(&store, &ann).await, (3, vec!["a".to_owned(), "b".to_owned()]));
    // Whoever was interrupted and begins again is told where to look.
    assert_eq!(erase(&store, &ann).await, (0, vec!["a".to_owned(), "b".to_owned()]));

    let after = feeds[0].all("a").await;
    for (was, is) in before.iter().zip(&after) {
        assert_eq!((&was.id, was.position, &was.user_id), (&is.id, is.position, &is.user_id));
        if is.user_id == user("ann") {
            assert_eq!((is.content.as_str(), is.metadata.as_str()), ("", "{}"));
            assert!(is.deleted_at.is_some());
        } else {
            assert_eq!((was.content.as_str(), is.deleted_at), (is.content.as_str(), None));
        }
    }
    let twin = &feeds[1].all("b").await[0];
    assert_eq!((twin.id.as_str(), twin.content.as_str(), twin.metadata.as_str()), ("m2", "", "{}"));
    assert_eq!(store.find(&places).await.unwrap(), found);
    // Nothing brings it back, and the room goes on.
    let again = [Row::Message(message("a/ann/m1", at(9))), edit("a/ann/m1", "e9", at(10), "back")];
    assert_eq!(counts(feeds[0].commit(&again).await), [0, 1, 0, 0]);
    assert_eq!(counts(feeds[0].commit(&[Row::Message(message("a/ann/m9", at(11)))]).await)[0], 1);
}

pub(super) async fn an_erased_room_leaves_others_alone(store: Arc<dyn Store>) {
    let feeds = talk(&store).await;
    let elsewhere = feeds[1].all("b").await;
    assert_eq!(erase(&store, &Erased::Room(room("a"))).await, (5, vec!["a".to_owned()]));
    let all = feeds[0].all("a").await;
    assert_eq!(all.len(), 6);
    assert!(all.iter().all(|m| m.content.is_empty() && m.deleted_at.is_some()));
    assert_eq!(feeds[1].all("b").await, elsewhere);
    assert_eq!(store.heads(&[room("a")]).await.unwrap(), [at(8)]);
}

pub(super) async fn dead_letters_are_erased_but_not_movements_of_credits(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let letter = |n, who: &str, in_room: &str, kind: u8| {
        let mut letter = dead_letter(LogId { epoch: 1, n });
        letter.user = Some(user(who));
        letter.room = Some(room(in_room));
        letter.raw = vec![1, kind, 0].into();
        letter
    };
    let mut batch = feed.batch(&[]);
    batch.dead = vec![
        letter(1, "ann", "a", 1),
        letter(2, "ann", "b", 2),
        letter(3, "ann", "a", 7),
        letter(4, "bob", "a", 1),
        letter(5, "bob", "b", 1),
    ];
    feed.try_commit(&batch).await.unwrap();
    let left = async || -> Vec<u64> {
        store.dead_letters().await.unwrap().iter().map(|letter| letter.log_id.n).collect()
    };
    erase(&store, &Erased::User(user("ann"))).await;
    assert_eq!(left().await, [3, 4, 5]);
    erase(&store, &Erased::Room(room("a"))).await;
    assert_eq!(left().await, [3, 5]);

    let place = |n| LogId { epoch: 1, n };
    let places = store.dead_places(feed.shard, place(3), place(9)).await.unwrap();
    assert_eq!(places, [(place(5), "22021".to_owned())]);
    assert_eq!(store.dead_places(feed.shard, place(0), place(4)).await.unwrap().len(), 1);
    let elsewhere = room("b").shard();
    assert_eq!(store.dead_places(elsewhere, place(0), place(9)).await.unwrap(), []);
}

pub(super) async fn the_oldest_messages_expire_and_the_newest_of_a_room_stays(
    store: Arc<dyn Store>,
) {
    let mut feeds = [Feed::begin(&store, "a").await, Feed::begin(&store, "b").await];
    let aged = |name: &str, seq: u64, hours: i64| {
        let mut message = message(name, at(seq));
        message.created_at = Timestamp(LONG_AGO.0 + hours * 3_600_000);
        Row::Message(message)
    };
    let rows: Vec<Row> =
        (1..=8).map(|seq| aged(&format!("a/ann/m{seq}"), seq, seq.cast_signed())).collect();
    feeds[0].commit(&rows).await;
    feeds[0].commit(&[edit("a/ann/m8", "e8", at(9), "edited")]).await;
    feeds[1].commit(&[aged("b/bob/n1", 1, 1), aged("b/bob/n2", 2, 2)]).await;
    let heads = store.heads(&[room("a"), room("b")]).await.unwrap();

    let before = Timestamp(LONG_AGO.0 + 6 * 3_600_000);
    let mut steps = Vec::new();
    loop {
        let gone = store.expire(before, 4).await.unwrap();
        steps.push(gone);
        if gone < 4 {
            break;
        }
    }
    assert_eq!(steps, [4, 2], "m1 to m5 and n1");
    let names = |messages: &[shared::contract::message::Message]| -> Vec<String> {
        messages.iter().map(|message| message.id.to_string()).collect()
    };
    assert_eq!(names(&feeds[0].all("a").await), ["m6", "m7", "m8"]);
    assert_eq!(names(&feeds[1].all("b").await), ["n2"], "older than asked, and all there is");
    assert_eq!(store.heads(&[room("a"), room("b")]).await.unwrap(), heads);
    // Changes are remembered as long as messages.
    assert_eq!(store.find_changes(&[identity("a", "ann", "e8")]).await.unwrap(), [None]);
    assert_eq!(store.expire(Timestamp(0), 4).await.unwrap(), 0);
    feeds[0].commit(&[Row::Message(message("a/ann/m9", at(10)))]).await;
    assert_eq!(feeds[0].all("a").await.last().unwrap().id, id("m9"));
}

pub(super) async fn a_ledger_agrees_with_messages_that_expired_or_were_erased(
    store: Arc<dyn Store>,
) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut rows = priced("a/bot/m1", at(1), 5, "ann").to_vec();
    rows.extend(priced("a/bot/m2", at(2), 7, "ann"));
    rows.push(Row::Credit(movement("c1", "ann", 100)));
    rows.push(Row::Message(message("a/ann/m3", at(3))));
    feed.commit(&rows).await;
    erase(&store, &Erased::User(user("bot"))).await;
    let found = store.reconcile().await.unwrap();
    assert_eq!((found.messages, found.differences), (2, Vec::<String>::new()));
    assert_eq!(store.expire(Timestamp(LONG_AGO.0 + 1), 9).await.unwrap(), 2);
    let found = store.reconcile().await.unwrap();
    assert_eq!((found.ledger_rows, found.users, found.messages), (3, 1, 0));
    assert_eq!(found.differences, Vec::<String>::new());
    assert_eq!(store.balance(&user("ann")).await.unwrap(), 88);
}
