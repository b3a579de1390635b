//! A database that an earlier version made, with rows in it.

use std::sync::Arc;

use shared::contract::position::Position;
use shared::store::{Erased, Row, Store};

use super::super::feed::{Feed, edit, id, identity, message, room, user};
use super::super::ledger::movement;
use super::{connect, fresh_database, shell};

macro_rules! migration {
    ($name:literal) => {
        include_str!(concat!("../../../../shared/src/store/migrations/postgres/", $name))
    };
}

const FIRST: &str = migration!("0001_tables.sql");

const SECOND_TO_SIXTH: [&str; 5] = [
    migration!("0002_beside_messages.sql"),
    migration!("0003_deployment.sql"),
    migration!("0004_identity.sql"),
    migration!("0005_metadata.sql"),
    migration!("0006_refusals.sql"),
];

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

/// One under its own id, one whose id another room had taken, and two of another program, of which
/// one has a place.
const IDENTITIES: &str = "
    UPDATE roomcast_meta SET value = '6' WHERE key = 'schema';
    UPDATE team_chat_messages SET client_id = id;
    INSERT INTO team_chat_messages (id, client_id, team_chat_id, user_id, content, send_time, epoch,
        seq, changed_epoch, changed_seq)
    VALUES ('random', 'm1', 'b', 'ann', 'hers', now(), 1, 1, 1, 1),
        ('old', NULL, 'b', 'cy', 'placed', now(), 0, 1, 0, 1);
    INSERT INTO team_chat_messages (id, team_chat_id, user_id, content)
    VALUES ('strange', 'b', 'cy', 'without a place');
    INSERT INTO room_heads VALUES ('b', 1, 1);";

#[tokio::test]
async fn every_message_is_known_by_its_identity_after_the_indexes_have_changed() {
    let (url, _guard) = fresh_database().await;
    let shell = shell(&url).await;
    for sql in [FIRST, ROWS].into_iter().chain(SECOND_TO_SIXTH).chain([IDENTITIES]) {
        shell.batch_execute(sql).await.unwrap();
    }
    let store = connect(&url);
    store.migrate().await.unwrap();
    let store = store as Arc<dyn Store>;
    let asked =
        [("a", "ann", "m1"), ("b", "ann", "m1"), ("b", "cy", "old"), ("b", "ann", "random")];
    let asked = asked.map(|(room, user, id)| identity(room, user, id));
    let places =
        [Some(Position::new(1, 1)), Some(Position::new(1, 1)), Some(Position::new(0, 1)), None];
    assert_eq!(store.find(&asked).await.unwrap(), places);
    let hers = store.message(&room("b"), &user("ann"), &id("m1")).await.unwrap().unwrap();
    assert_eq!(hers.content, "hers");
    assert!(store.message(&room("b"), &user("ann"), &id("random")).await.unwrap().is_none());
    let mut feed = Feed::begin(&store, "b").await;
    let again = [
        Row::Message(message("b/ann/m1", Position::new(1, 2))),
        Row::Message(message("b/bob/m1", Position::new(1, 3))),
        Row::Message(message("b/cy/old", Position::new(1, 4))),
        Row::Message(message("b/cy/strange", Position::new(1, 5))),
    ];
    let done = feed.commit(&again).await;
    assert_eq!((done.inserted, done.renamed), (0, 1), "bob's alone is new: {done:?}");
    let (mut erased, mut after) = (0, Position::ZERO);
    loop {
        let step = store.erase(&Erased::Room(room("b")), after, 2).await.unwrap();
        erased += step.messages;
        let Some(more) = step.more else { break };
        after = more;
    }
    assert_eq!(erased, 4);
    assert!(feed.all("b").await.iter().all(|message| message.content.is_empty()));
    // The database itself keeps whoever goes past the store from having one twice.
    let twice = "INSERT INTO team_chat_messages (id, client_id, team_chat_id, user_id)
        VALUES ('other', 'm1', 'b', 'ann')";
    assert!(shell.batch_execute(twice).await.is_err());
}

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
