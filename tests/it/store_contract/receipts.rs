//! How far users have read, and what is left to read.

use std::sync::Arc;

use shared::contract::position::Position;
use shared::contract::signal::ReadMark;
use shared::contract::timestamp::Timestamp;
use shared::store::{Row, Store};

use super::feed::{Feed, LONG_AGO, delete, id, message, room, user};

fn at(seq: u64) -> Position {
    Position::new(1, seq)
}

fn mark(who: &str, position: Position, n: i64) -> ReadMark {
    ReadMark {
        user: user(who),
        position,
        message_id: (n % 2 == 0).then(|| id(&format!("m{n}"))),
        read_at: Timestamp(LONG_AGO.0 + n),
    }
}

fn receipt(mark: &ReadMark) -> Row {
    Row::Receipt { room: room("a"), mark: mark.clone() }
}

pub(super) async fn a_receipt_only_moves_on(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let stands = async || store.receipt(&room("a"), &user("ann")).await.unwrap();
    assert_eq!(stands().await, None);
    let first = mark("ann", at(5), 1);
    assert_eq!(feed.commit(&[receipt(&first)]).await.read, 1);
    assert_eq!(stands().await, Some(first.clone()));
    // Neither what is behind it nor what is level with it is anything new.
    for late in [mark("ann", at(4), 2), mark("ann", at(5), 3), mark("ann", Position::new(0, 9), 4)]
    {
        assert_eq!(feed.commit(&[receipt(&late)]).await.read, 0);
        assert_eq!(stands().await, Some(first.clone()));
    }
    let next = mark("ann", Position::new(2, 1), 6);
    assert_eq!(feed.commit(&[receipt(&next)]).await.read, 1);
    assert_eq!(stands().await, Some(next));
}

pub(super) async fn of_a_batch_the_furthest_receipt_of_each_reader_counts(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let marks =
        [(1, "ann", 3), (2, "ann", 7), (3, "bob", 2), (4, "ann", 5), (5, "ann", 7), (6, "cy", 9)];
    let marks = marks.map(|(n, who, seq)| mark(who, at(seq), n));
    let rows: Vec<Row> = marks.iter().map(receipt).collect();
    assert_eq!(feed.commit(&rows).await.read, 3);
    assert_eq!(feed.commit(&rows).await.read, 0);
    let [_, anns, bobs, _, _, cys] = marks;
    let furthest = async |limit| store.receipts(&room("a"), limit).await.unwrap();
    assert_eq!(furthest(9).await, [cys.clone(), anns.clone(), bobs]);
    assert_eq!(furthest(2).await, [cys, anns]);
    assert_eq!(store.receipts(&room("b"), 9).await.unwrap(), []);
}

pub(super) async fn unread_is_what_others_said_and_stands(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut rows: Vec<Row> = (1..=8)
        .map(|seq| (if seq % 2 == 0 { "ann" } else { "bob" }, seq))
        .map(|(who, seq)| Row::Message(message(&format!("a/{who}/m{seq}"), at(seq))))
        .collect();
    rows.push(delete("a/bob/m5", "d5", at(9)));
    feed.commit(&rows).await;
    let unread = async |who: &str, after, upto, at_most| {
        store.unread(&room("a"), &user(who), (after, upto), at_most).await.unwrap()
    };
    assert_eq!(unread("ann", Position::ZERO, Position::MAX, 100).await, 3, "1, 3 and 7");
    assert_eq!(unread("bob", Position::ZERO, Position::MAX, 100).await, 4);
    assert_eq!(unread("cy", Position::ZERO, Position::MAX, 100).await, 7);
    assert_eq!(unread("cy", Position::ZERO, Position::MAX, 5).await, 5);
    assert_eq!(unread("ann", at(1), at(7), 100).await, 2, "above 1, and 7 itself");
    assert_eq!(unread("ann", at(7), at(7), 100).await, 0);
    assert_eq!(unread("ann", at(7), at(1), 100).await, 0);
}
