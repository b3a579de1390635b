//! What the comparison of ledger, balances and messages finds, when somebody has meddled.

use std::sync::Arc;

use shared::contract::position::Position;
use shared::log::LogId;
use shared::store::{Row, Store};

use super::feed::{Feed, dead_letter, id, message, user};
use super::ledger::{movement, priced};

fn at(seq: u64) -> Position {
    Position::new(1, seq)
}

async fn differences(store: &Arc<dyn Store>) -> Vec<String> {
    store.reconcile().await.unwrap().differences
}

/// The one difference, which says all of `parts`.
async fn finds(store: &Arc<dyn Store>, parts: &[&str]) {
    let found = differences(store).await;
    let [one] = &found[..] else { panic!("{found:?}") };
    assert!(parts.iter().all(|part| one.contains(part)), "{one}");
}

/// `meddle` does what it is told to the database, beside the store.
pub(super) async fn every_difference_is_found(store: Arc<dyn Store>, meddle: impl AsyncFn(&str)) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut elsewhere = Feed::begin(&store, "b").await;
    assert_eq!(differences(&store).await, Vec::<String>::new());
    let mut rows = priced("a/bot/m1", at(1), 5, "ann").to_vec();
    rows.extend(priced("a/bot/m2", at(2), 7, "bob"));
    rows.push(Row::Message(message("a/ann/m3", at(3))));
    rows.push(Row::Credit(movement("c1", "ann", 100)));
    feed.commit(&rows).await;
    // Under a random id; and the cost of one that was deleted before it came.
    let mut rows = priced("b/bot/m1", at(1), 9, "ann").to_vec();
    rows.push(super::feed::delete("b/mod/m5", "d5", at(2)));
    rows.extend(priced("b/bot/m5", at(3), 1, "ann"));
    assert_eq!(elsewhere.commit(&rows).await.renamed, 1);
    let found = store.reconcile().await.unwrap();
    assert_eq!((found.ledger_rows, found.users, found.messages), (5, 2, 3), "{found:?}");
    assert_eq!(found.differences, Vec::<String>::new());

    meddle("UPDATE user_credits SET balance = balance + 1 WHERE user_id = 'ann'").await;
    finds(&store, &["the balance of ann is 86", "add up to 85"]).await;
    meddle("UPDATE user_credits SET balance = balance - 1 WHERE user_id = 'ann'").await;
    meddle("UPDATE user_credits SET user_id = 'eve' WHERE user_id = 'bob'").await;
    let found = differences(&store).await;
    assert_eq!(found.len(), 2, "{found:?}");
    meddle("UPDATE user_credits SET user_id = 'bob' WHERE user_id = 'eve'").await;

    meddle("UPDATE team_chat_messages SET credits = 6 WHERE id = 'm1'").await;
    finds(&store, &["message m1 of room a cost 6", "-5"]).await;
    meddle("UPDATE team_chat_messages SET credits = NULL WHERE id = 'm1'").await;
    finds(&store, &["message m1 of room a", "which cost nothing"]).await;
    meddle("UPDATE team_chat_messages SET credits = 5 WHERE id = 'm1'").await;
    meddle("UPDATE team_chat_messages SET credits = 3 WHERE id = 'm3'").await;
    finds(&store, &["message m3 of room a cost 3", "no row"]).await;
    meddle("UPDATE team_chat_messages SET credits = NULL WHERE id = 'm3'").await;
    meddle("UPDATE team_chat_messages SET client_id = 'elsewhere' WHERE id = 'm2'").await;
    let found = differences(&store).await;
    assert!(found.len() == 2 && found[1].contains("message m2 of room a, which is not there"));
    meddle("UPDATE team_chat_messages SET client_id = 'm2' WHERE id = 'm2'").await;
    assert_eq!(differences(&store).await, Vec::<String>::new());

    feed.commit(&[Row::Credit(movement("c1", "ann", 99))]).await;
    finds(&store, &["c1", "ann", "99", "quarantine"]).await;
    meddle("DELETE FROM credit_conflicts").await;
    let mut batch = feed.batch(&[]);
    let mut letter = dead_letter(LogId { epoch: 1, n: 50 });
    (letter.user, letter.id) = (Some(user("bob")), Some(id("c7")));
    letter.raw = vec![1, 7, 0].into();
    batch.dead = vec![letter, dead_letter(LogId { epoch: 1, n: 51 })];
    feed.try_commit(&batch).await.unwrap();
    finds(&store, &["c7", "bob", "dead letters"]).await;
}
