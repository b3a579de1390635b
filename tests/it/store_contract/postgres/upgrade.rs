//! A database that an earlier version made, with rows in it.

use std::sync::Arc;

use shared::contract::position::Position;
use shared::store::{Erased, Row, Store};

use super::super::feed::{Feed, edit, id, message, room, user};
use super::super::ledger::movement;
use super::{connect, fresh_database, shell};

const FIRST: &str =
    include_str!("../../../../shared/src/store/migrations/postgres/0001_tables.sql");

const ROWS: &str = "
    CREATE TABLE roomcast_meta (key text PRIMARY KEY, value text NOT NULL);
    INSERT INTO roomcast_meta VALUES ('schema', '1'), ('shards', '64');
    INSERT INTO shards (shard) SELECT generate_series(0, 63);
    INSERT INTO team_chat_messages (id, team_chat_id, user_id, content, send_time, epoch, seq,
        changed_epoch, changed_seq)
    VALUES ('m1', 'a', 'ann', 'one', now(), 1, 1, 1, 1),
        ('m2', 'a', 'bob', 'two', now(), 1, 2, 1, 2);
    INSERT INTO room_heads VALUES ('a', 1, 2);
    INSERT INTO credits (id, user_id, amount) VALUES ('c1', 'ann', 5);
    INSERT INTO user_credits (user_id, balance) VALUES ('ann', 5);
    INSERT INTO read_receipts VALUES ('a', 'bob', 1, 1, 'm1', now());
    INSERT INTO room_members VALUES ('a', 'ann', 'owner');";

#[tokio::test]
async fn a_database_of_the_first_schema_goes_on_with_its_rows() {
    let (url, _guard) = fresh_database().await;
    let shell = shell(&url).await;
    shell.batch_execute(FIRST).await.unwrap();
    shell.batch_execute(ROWS).await.unwrap();
    let store = connect(&url);
    store.migrate().await.unwrap();
    let store = store as Arc<dyn Store>;
    let mut feed = Feed::begin(&store, "a").await;
    let credits: Vec<_> = feed.all("a").await.iter().map(|message| message.credits).collect();
    assert_eq!(credits, [None, None]);
    assert_eq!(store.receipts(&room("a"), 9).await.unwrap().len(), 1);
    assert_eq!(store.members(&room("a"), None, 9).await.unwrap().len(), 1);
    let rows = [
        edit("a/ann/m1", "e1", Position::new(1, 3), "edited"),
        Row::Credit(movement("c1", "ann", 5)),
        Row::Credit(movement("c2", "ann", -2)),
        Row::Message(message("a/ann/m3", Position::new(1, 4))),
    ];
    let done = feed.commit(&rows).await;
    assert_eq!((done.inserted, done.changed, done.credited), (1, 1, 1));
    assert_eq!(done.balances, [(user("ann"), 3)]);
    let found = store.reconcile().await.unwrap();
    assert_eq!((found.ledger_rows, found.differences), (2, Vec::<String>::new()));
    let step = store.erase(&Erased::User(user("ann")), Position::ZERO, 9).await.unwrap();
    assert_eq!((step.messages, step.rooms), (2, vec![room("a")]));
    assert_eq!(feed.all("a").await[1].id, id("m2"));
}
