//! A database that an application has filled for years.

use std::sync::Arc;

use fleet::Fleet;
use shared::contract::position::Position;
use shared::contract::signal::ReadMark;
use shared::contract::timestamp::Timestamp;
use shared::log::LogId;
use shared::store::postgres::{PostgresStore, Redriven};
use shared::store::{Batches, Messages, Row, Span, Store, StoreError};
use tokio_postgres::Client;

use super::super::feed::{
    Feed, counts, dead_letter, delete, edit, id, identity, message, room, user,
};
use super::super::ledger::movement;
use super::{connect, fresh_database, shell};

const TABLES: &str = "
    CREATE TABLE users (id text PRIMARY KEY);
    CREATE TABLE team_chats (id text PRIMARY KEY);
    CREATE TABLE team_chat_messages (
        id text PRIMARY KEY NOT NULL,
        team_chat_id text NOT NULL REFERENCES team_chats (id) ON DELETE CASCADE,
        user_id text NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        content text,
        message_type text DEFAULT 'user',
        metadata jsonb DEFAULT '{}',
        accessed_at timestamptz DEFAULT now() NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        updated_at timestamptz DEFAULT now() NOT NULL
    );
    CREATE TABLE credits (
        id text PRIMARY KEY, user_id text NOT NULL REFERENCES users (id), message_id text,
        amount integer NOT NULL, timestamp timestamptz DEFAULT now(), metadata jsonb
    );
    CREATE TABLE user_credits (
        id text PRIMARY KEY, user_id text NOT NULL REFERENCES users (id),
        balance integer DEFAULT 0, last_updated timestamptz
    );
    INSERT INTO users VALUES ('ann'), ('bob');
    INSERT INTO team_chats VALUES ('a'), ('b'), ('empty');
    INSERT INTO credits VALUES ('c1', 'ann', NULL, 5), ('c2', 'ann', NULL, 7);
    INSERT INTO user_credits VALUES ('u1', 'ann', 10, now()), ('u2', 'ann', 2, now());";

/// Room `a`: two rows of every tenth second share their time; ids do not follow the time.
const ROWS: &str = "
    INSERT INTO team_chat_messages (id, team_chat_id, user_id, content, created_at)
    SELECT md5(n::text), 'a', CASE n % 2 WHEN 0 THEN 'ann' ELSE 'bob' END, 'old ' || n,
           timestamptz '2020-01-01T00:00:00.123456Z' + (n - CASE n % 10 WHEN 0 THEN 1 ELSE 0 END)
               * interval '1 second'
    FROM generate_series(1, 10000) AS n;";

async fn old_database() -> (Arc<PostgresStore>, Client, Fleet) {
    let (url, guard) = fresh_database().await;
    let shell = shell(&url).await;
    shell.batch_execute(TABLES).await.unwrap();
    shell.batch_execute(ROWS).await.unwrap();
    let store = connect(&url);
    store.migrate().await.unwrap();
    (store, shell, guard)
}

#[tokio::test]
async fn what_was_there_before_is_the_beginning_of_its_room() {
    let (store, shell, _guard) = old_database().await;
    assert_eq!(store.heads(&[room("a")]).await.unwrap(), [Position::new(0, 10_000)]);
    let asked = [room("empty"), room("a"), room("b")];
    let heads = [Position::ZERO, Position::new(0, 10_000), Position::ZERO];
    assert_eq!(store.heads(&asked).await.unwrap(), heads);

    let all = store.messages(&room("a"), Span::After(Position::ZERO), 20_000).await.unwrap();
    let expected = shell
        .query(
            "SELECT id FROM team_chat_messages WHERE team_chat_id = 'a'
             ORDER BY created_at, id COLLATE \"C\"",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((all.len(), expected.len()), (10_000, 10_000));
    for (n, (message, row)) in (1..).zip(all.iter().zip(&expected)) {
        assert_eq!(message.id.as_str(), row.get::<_, &str>(0));
        assert_eq!(message.position, Some(Position::new(0, n)));
    }
    assert_eq!(all[0].created_at, Timestamp::parse("2020-01-01T00:00:01.123Z").unwrap());
    assert_eq!((all[0].content.as_str(), all[0].metadata.as_str()), ("old 1", "{}"));
    assert_eq!((all[0].edited_at, all[0].deleted_at, all[0].changed_position), (None, None, None));

    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    let rows = [
        Row::Message(message("a/ann/m1", Position::new(1, 10_001))),
        edit(&format!("a/bob/{}", md5_of_1(&shell).await), "e1", Position::new(1, 10_002), "new"),
    ];
    assert_eq!(counts(feed.commit(&rows).await), [1, 0, 0, 1]);
    let latest = store.messages(&room("a"), Span::Before(Position::MAX), 2).await.unwrap();
    assert_eq!(latest[0].position, Some(Position::new(0, 10_000)));
    assert_eq!(latest[1].id, id("m1"));
    let changed = store.messages(&room("a"), Span::Changes(Position::new(1, 0)), 9).await.unwrap();
    assert_eq!((changed.len(), changed[1].content.as_str()), (2, "new"));
    assert_eq!(store.heads(&[room("a")]).await.unwrap(), [Position::new(1, 10_002)]);
    let balance = shell.query_one("SELECT balance FROM user_credits", &[]).await.unwrap();
    assert_eq!(balance.get::<_, i32>(0), 12);
}

async fn md5_of_1(shell: &Client) -> String {
    shell.query_one("SELECT md5('1')", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn many_who_ask_for_an_old_room_at_once_get_one_answer() {
    let (store, _shell, _guard) = old_database().await;
    let asks = (0..8).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.heads(&[room("a")]).await.unwrap() })
    });
    for asked in asks.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap(), [Position::new(0, 10_000)]);
    }
    let after = Position::new(0, 9_999);
    assert_eq!(store.messages(&room("a"), Span::After(after), 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_application_still_writes_is_found_when_its_room_is_asked_for() {
    let (store, shell, _guard) = old_database().await;
    let write = async |id: &str| {
        let insert = "INSERT INTO team_chat_messages (id, team_chat_id, user_id, content)
                      VALUES ($1, 'b', 'ann', NULL)";
        shell.execute(insert, &[&id]).await.unwrap();
    };
    write("o1").await;
    assert_eq!(store.heads(&[room("b")]).await.unwrap(), [Position::new(0, 1)]);
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "b").await;
    feed.commit(&[Row::Message(message("b/ann/m1", Position::new(1, 2)))]).await;
    for unreadable in ["o 2", "o{3}", "o\u{2003}4", "o\u{85}5", &"o".repeat(129)] {
        write(unreadable).await;
    }
    write("ö6").await;
    // The room has a head: a worker gives what comes now its place, before those who are there.
    assert_eq!(store.heads(&[room("b")]).await.unwrap(), [Position::new(1, 2)]);
    let names: Vec<String> = feed.all("b").await.iter().map(|m| m.id.to_string()).collect();
    assert_eq!(names, ["o1", "m1"]);
    // Its sender is known, though not by our column: nobody else's message is a duplicate of it.
    let asked = [identity("b", "ann", "o1"), identity("b", "bob", "o1")];
    assert_eq!(store.find(&asked).await.unwrap(), [Some(Position::new(0, 1)), None]);
    feed.commit(&[delete("b/bob/o1", "d1", Position::new(1, 3))]).await;
    assert_eq!(store.find(&asked).await.unwrap(), [Some(Position::new(0, 1)), None]);
    let bobs = [Row::Message(message("b/bob/o1", Position::new(1, 4)))];
    assert_eq!(counts(feed.commit(&bobs).await), [0, 0, 1, 0]);
}

#[tokio::test]
async fn a_row_that_breaks_a_key_is_at_fault_and_stored_once_the_key_is_there() {
    let (store, shell, _guard) = old_database().await;
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    let mut strange = message("a/eve/m2", Position::new(1, 2));
    strange.content = "a secret".to_owned();
    let rows = [
        Row::Message(message("a/ann/m1", Position::new(1, 1))),
        Row::Message(strange),
        Row::Message(message("nowhere/ann/m3", Position::new(1, 3))),
    ];
    let batch = feed.batch(&rows);
    let at_fault = [feed.try_commit(&batch).await.map(drop), store.probe(&rows[1..2]).await];
    for refused in at_fault {
        let Err(StoreError::Data { code, detail }) = refused else { panic!("{refused:?}") };
        assert_eq!(code, "23503");
        assert!(detail.contains("team_chat_messages_user_id_fkey"), "{detail}");
        assert!(!detail.contains("eve") && !detail.contains("secret"), "{detail}");
    }
    assert!(matches!(store.probe(&rows[2..]).await, Err(StoreError::Data { .. })));
    store.probe(&rows[..1]).await.unwrap();

    shell.batch_execute("INSERT INTO users VALUES ('eve')").await.unwrap();
    assert_eq!(counts(feed.commit(&rows[..2]).await), [2, 0, 0, 0]);
    assert_eq!(counts(feed.commit(&rows[1..2]).await), [0, 1, 0, 0]);
}

#[tokio::test]
async fn a_key_that_is_checked_at_the_end_is_found_by_probing_too() {
    let (store, shell, _guard) = old_database().await;
    let defer = "ALTER TABLE team_chat_messages ALTER CONSTRAINT team_chat_messages_user_id_fkey
                 DEFERRABLE INITIALLY DEFERRED";
    shell.batch_execute(defer).await.unwrap();
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    let rows = [Row::Message(message("a/eve/m1", Position::new(1, 1)))];
    let batch = feed.batch(&rows);
    for refused in [feed.try_commit(&batch).await.map(drop), store.probe(&rows).await] {
        assert!(matches!(refused, Err(StoreError::Data { code, .. }) if code == "23503"));
    }
}

#[tokio::test]
async fn a_dead_letter_is_driven_once_and_stays_while_its_row_is_refused() {
    let (store, shell, _guard) = old_database().await;
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    let mut batch = feed.batch(&[]);
    batch.dead = vec![dead_letter(LogId { epoch: 1, n: 1 }), dead_letter(LogId { epoch: 1, n: 2 })];
    feed.try_commit(&batch).await.unwrap();
    let letters = store.numbered_dead_letters(0, 9).await.unwrap();
    let [first, second] = [letters[0].number, letters[1].number];
    assert_eq!(store.numbered_dead_letters(first, 9).await.unwrap(), letters[1..]);
    assert_eq!(store.dead_letter(second).await.unwrap().as_ref(), letters.last());

    let row = Row::Message(message("a/eve/m9", Position::new(1, 9)));
    let refused = store.redrive(first, &row).await;
    assert!(matches!(refused, Err(StoreError::Data { code, .. }) if code == "23503"));
    assert_eq!(store.numbered_dead_letters(0, 9).await.unwrap(), letters);

    shell.batch_execute("INSERT INTO users VALUES ('eve')").await.unwrap();
    assert_eq!(store.redrive(first, &row).await.unwrap(), Redriven::Stored);
    assert_eq!(store.redrive(first, &row).await.unwrap(), Redriven::Gone);
    assert_eq!(store.redrive(second, &row).await.unwrap(), Redriven::Stood);
    assert_eq!(store.numbered_dead_letters(0, 9).await.unwrap(), []);
    let latest = store.messages(&room("a"), Span::Before(Position::MAX), 1).await.unwrap();
    assert_eq!((latest[0].id.as_str(), latest[0].position), ("m9", Some(Position::new(1, 9))));
}

#[tokio::test]
async fn the_old_ledger_goes_on_and_a_movement_that_breaks_a_key_is_at_fault() {
    let (store, shell, _guard) = old_database().await;
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    // What the application had spread over two rows is one balance.
    assert_eq!(all.balance(&user("ann")).await.unwrap(), 12);
    let known = [movement("c1", "ann", 5), movement("c3", "ann", -2), movement("c4", "bob", 9)];
    let done = feed.commit(&known.map(Row::Credit)).await;
    assert_eq!((done.credited, done.quarantined), (2, 0));
    assert_eq!(done.balances, [(user("ann"), 10), (user("bob"), 9)]);
    assert_eq!(all.reconcile().await.unwrap().differences, Vec::<String>::new());

    let at_fault = [
        (Row::Credit(movement("c5", "eve", 3)), "23503"),
        (Row::Credit(movement("c6", "ann", 1 << 40)), "22003"),
    ];
    for (row, wanted) in &at_fault {
        let refused = all.probe(std::slice::from_ref(row)).await;
        assert!(
            matches!(&refused, Err(StoreError::Data { code, .. }) if code == wanted),
            "{refused:?}"
        );
    }
    let mut batch = feed.batch(&[]);
    batch.dead = vec![dead_letter(LogId { epoch: 1, n: 1 })];
    feed.try_commit(&batch).await.unwrap();
    let number = store.numbered_dead_letters(0, 9).await.unwrap()[0].number;
    assert!(store.redrive(number, &at_fault[0].0).await.is_err());
    shell.batch_execute("INSERT INTO users VALUES ('eve')").await.unwrap();
    assert_eq!(store.redrive(number, &at_fault[0].0).await.unwrap(), Redriven::Stored);
    assert_eq!(all.balance(&user("eve")).await.unwrap(), 3);
    assert_eq!(store.numbered_dead_letters(0, 9).await.unwrap(), []);
}

#[tokio::test]
async fn each_kind_of_letter_is_driven_again_and_an_edit_without_its_message_stays() {
    let (store, _shell, _guard) = old_database().await;
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    let mut batch = feed.batch(&[Row::Credit(movement("c9", "ann", 4))]);
    batch.dead = (1..=6).map(|n| dead_letter(LogId { epoch: 1, n })).collect();
    feed.try_commit(&batch).await.unwrap();
    let numbers = store.numbered_dead_letters(0, 9).await.unwrap();
    let mut numbers = numbers.iter().map(|letter| letter.number);
    let first = numbers.next().unwrap();
    let early = edit("a/ann/m9", "e1", Position::new(1, 9), "edited");
    assert_eq!(store.redrive(first, &early).await.unwrap(), Redriven::Orphaned);
    assert_eq!(store.numbered_dead_letters(0, 9).await.unwrap().len(), 6, "it stays");
    let mark = ReadMark {
        user: user("ann"),
        position: Position::new(1, 3),
        message_id: None,
        read_at: Timestamp(1_700_000_000_000),
    };
    let receipt = Row::Receipt { room: room("a"), mark };
    let driven = [
        (Row::Message(message("a/ann/m9", Position::new(1, 8))), Redriven::Stored),
        (receipt.clone(), Redriven::Stored),
        (receipt, Redriven::Stood),
        (Row::Credit(movement("c9", "ann", 4)), Redriven::Stood),
        (Row::Credit(movement("c9", "ann", 5)), Redriven::Quarantined),
    ];
    for ((row, wanted), number) in driven.iter().zip(numbers) {
        assert_eq!(store.redrive(number, row).await.unwrap(), *wanted, "{row:?}");
    }
    assert_eq!(store.redrive(first, &early).await.unwrap(), Redriven::Stored);
    assert_eq!(store.numbered_dead_letters(0, 9).await.unwrap(), []);
}
