use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use super::*;
use crate::contract::id::{MessageId, RoomId, UserId};
use crate::contract::message::{Message, MessageType, Metadata};
use crate::contract::position::Position;
use crate::contract::timestamp::Timestamp;
use crate::log::LogId;
use crate::store::{Messages, Span};

struct Subject {
    store: Arc<SqliteStore>,
    clock: Clock,
    folder: tempfile::TempDir,
}

fn open() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let store = SqliteStore::open(folder.path(), clock.clone()).unwrap();
    Subject { store: Arc::new(store), clock, folder }
}

/// A second way into the file, beside the store.
fn shell(subject: &Subject) -> Connection {
    Connection::open(subject.folder.path().join(FILE)).unwrap()
}

fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

fn message(name: &str, id: &str, seq: u64) -> Message {
    Message {
        room_id: room(name),
        id: MessageId::parse(id).unwrap(),
        user_id: UserId::parse("ann").unwrap(),
        kind: MessageType::User,
        content: id.to_owned(),
        metadata: Metadata::default(),
        created_at: Timestamp(1_700_000_000_000),
        edited_at: None,
        deleted_at: None,
        credits: None,
        changed_position: None,
        change_id: None,
        position: Some(Position::new(1, seq)),
    }
}

/// The first batch of a room's shard, with one message.
async fn first_batch(store: &SqliteStore, name: &str, id: &str) -> Batch {
    let shard = room(name).shard();
    let epoch = store.mint(shard, Uuid::now_v7(), 0).await.unwrap().number;
    Batch {
        shard,
        epoch,
        after: store.cursor(shard).await.unwrap().upto,
        upto: LogId { epoch, n: 1 },
        lease: None,
        rows: vec![Row::Message(message(name, id, 1))],
        dead: Vec::new(),
        heads: vec![(room(name), Position::new(1, 1))],
        refusals: Vec::new(),
    }
}

async fn stands(store: &SqliteStore, name: &str) -> bool {
    !store.messages(&room(name), Span::After(Position::ZERO), 9).await.unwrap().is_empty()
}

/// Keeps the writer at work until the sender is dropped, so that what is asked meanwhile becomes
/// one group.
async fn occupy(store: &Arc<SqliteStore>) -> std_mpsc::Sender<()> {
    let (release, released) = std_mpsc::channel::<()>();
    let (start, started) = tokio::sync::oneshot::channel();
    let occupied = Arc::clone(store);
    tokio::spawn(async move {
        let work = move |_: &Connection| {
            start.send(()).unwrap();
            let _dropped = released.recv();
            Ok(())
        };
        occupied.write(work).await.unwrap();
    });
    started.await.unwrap();
    release
}

fn poison(subject: &Subject, how: &str) {
    let trigger = format!(
        "CREATE TRIGGER poison BEFORE INSERT ON team_chat_messages
         WHEN new.content = 'poison' BEGIN SELECT RAISE({how}, 'poisoned'); END"
    );
    shell(subject).execute_batch(&trigger).unwrap();
}

#[tokio::test]
async fn a_folder_has_one_store_at_a_time() {
    let subject = open();
    let refused = SqliteStore::open(subject.folder.path(), Clock::system()).unwrap_err();
    assert!(matches!(&refused, OpenError::Locked { folder } if folder == subject.folder.path()));
    assert!(refused.to_string().contains(&subject.folder.path().display().to_string()));
    drop(subject.store);
    SqliteStore::open(subject.folder.path(), Clock::system()).unwrap();
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = SqliteStore::open(&file.join("data"), Clock::system()).unwrap_err();
    assert!(matches!(&refused, OpenError::Folder { folder, .. } if folder.starts_with(&file)));
}

#[test]
fn a_file_of_another_make_is_refused() {
    let subject = open();
    let change = |sql: &str| shell(&subject).execute_batch(sql).unwrap();
    let path = subject.folder.path().to_owned();
    let reopen = || SqliteStore::open(&path, Clock::system());
    subject.store.take().unwrap().stop();

    change("UPDATE meta SET value = '128' WHERE key = 'shards'");
    let refused = reopen().unwrap_err();
    assert_eq!(refused.to_string(), "the database has 128 shards, this program has 64");
    change("UPDATE meta SET value = '64'; PRAGMA user_version = 99;");
    let newer = ForeignTables::Newer { found: 99, known: 3 };
    assert!(matches!(reopen(), Err(OpenError::Foreign(found)) if found == newer));
    change("PRAGMA user_version = 3");
    drop(reopen().unwrap());
    std::fs::write(path.join(FILE), "no database").unwrap();
    assert!(matches!(reopen(), Err(OpenError::Database { .. })));
}

#[tokio::test]
async fn a_store_opened_again_has_everything() {
    let Subject { store, clock, folder } = open();
    let batch = first_batch(&store, "a", "m1").await;
    store.commit(&batch).await.unwrap();
    drop(store);

    let store = SqliteStore::open(folder.path(), clock).unwrap();
    assert!(stands(&store, "a").await);
    let cursor = store.cursor(batch.shard).await.unwrap();
    assert_eq!(cursor, Cursor { upto: batch.upto, epoch: 1 });
    assert_eq!(store.heads(&[room("a")]).await.unwrap(), [Position::new(1, 1)]);
    assert!(matches!(store.commit(&batch).await, Err(StoreError::Fenced { .. })));
    assert_eq!(store.mint(batch.shard, Uuid::now_v7(), 0).await.unwrap().number, 2);
}

#[tokio::test]
async fn closing_finishes_what_was_asked_and_leaves_one_file() {
    let Subject { store, clock, folder } = open();
    let batch = first_batch(&store, "a", "m1").await;
    let release = occupy(&store).await;
    let (committed, ()) = tokio::join!(store.commit(&batch), async {
        drop(release);
        store.close().await;
    });
    assert_eq!(committed.unwrap().inserted, 1);
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.commit(&batch).await, Err(StoreError::Unavailable(_))));
    store.close().await;

    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [LOCK, FILE]);
    assert!(stands(&SqliteStore::open(folder.path(), clock).unwrap(), "a").await);
}

#[tokio::test]
async fn a_faulty_request_does_not_harm_those_committed_with_it() {
    let subject = open();
    let store = &subject.store;
    poison(&subject, "ABORT");
    let first = first_batch(store, "a", "m1").await;
    let mut faulty = first_batch(store, "b", "m2").await;
    let Row::Message(poisonous) = &mut faulty.rows[0] else { unreachable!() };
    poisonous.content = "poison".to_owned();
    let last = first_batch(store, "c", "m3").await;

    let release = occupy(store).await;
    let (first, refused, probed, last, ()) = tokio::join!(
        store.commit(&first),
        store.commit(&faulty),
        store.probe(&faulty.rows),
        store.commit(&last),
        async { drop(release) },
    );
    assert_eq!((first.unwrap().inserted, last.unwrap().inserted), (1, 1));
    for refused in [refused.map(|_| ()), probed] {
        let Err(StoreError::Data { code, detail }) = refused else { panic!("{refused:?}") };
        assert_eq!((code.as_str(), detail.as_str()), ("SQLITE_CONSTRAINT_TRIGGER", "poisoned"));
    }
    assert!(stands(store, "a").await && stands(store, "c").await);
    assert!(!stands(store, "b").await);
    assert_eq!(store.cursor(faulty.shard).await.unwrap().upto, LogId::ZERO);
}

#[tokio::test]
async fn a_lost_transaction_fails_its_whole_group_and_the_next_one_goes_on() {
    let subject = open();
    let store = &subject.store;
    poison(&subject, "ROLLBACK");
    let first = first_batch(store, "a", "m1").await;
    let mut faulty = first_batch(store, "b", "m2").await;
    let Row::Message(poisonous) = &mut faulty.rows[0] else { unreachable!() };
    poisonous.content = "poison".to_owned();
    let last = first_batch(store, "c", "m3").await;

    let release = occupy(store).await;
    let (lost, refused, lost_too, ()) =
        tokio::join!(store.commit(&first), store.commit(&faulty), store.commit(&last), async {
            drop(release)
        },);
    assert!(matches!(lost, Err(StoreError::Unavailable(_))));
    assert!(matches!(lost_too, Err(StoreError::Unavailable(_))));
    assert!(matches!(refused, Err(StoreError::Data { .. })));
    assert!(matches!(store.probe(&faulty.rows).await, Err(StoreError::Data { .. })));
    assert!(!stands(store, "a").await);
    assert_eq!(store.commit(&first).await.unwrap().inserted, 1);
    assert_eq!(store.commit(&last).await.unwrap().inserted, 1);
}

#[tokio::test]
async fn numbers_beyond_the_database_are_an_error_of_the_data() {
    let subject = open();
    let mut batch = first_batch(&subject.store, "a", "m1").await;
    let Row::Message(far) = &mut batch.rows[0] else { unreachable!() };
    far.position = Some(Position::new(1, u64::MAX));
    let refused = subject.store.commit(&batch).await;
    assert!(matches!(refused, Err(StoreError::Data { code, .. }) if code == "SQLITE_MISMATCH"));
    let Row::Message(nowhere) = &mut batch.rows[0] else { unreachable!() };
    nowhere.position = None;
    let refused = subject.store.commit(&batch).await;
    assert!(matches!(refused, Err(StoreError::Data { code, .. }) if code == "no_position"));
}

#[tokio::test]
async fn an_epoch_is_quiet_fifteen_minutes_after_the_last_message() {
    let subject = open();
    let mut batch = first_batch(&subject.store, "a", "m1").await;
    let Row::Message(young) = &mut batch.rows[0] else { unreachable!() };
    young.created_at = Timestamp(subject.clock.now_ms());
    subject.store.commit(&batch).await.unwrap();
    let mint = async || subject.store.mint(batch.shard, Uuid::now_v7(), 0).await.unwrap();
    assert!(!mint().await.quiet);
    subject.clock.advance(Duration::from_secs(14 * 60));
    assert!(!mint().await.quiet);
    subject.clock.advance(Duration::from_secs(60));
    assert!(mint().await.quiet);
}

#[tokio::test]
async fn every_page_is_read_through_an_index() {
    let subject = open();
    let shell = shell(&subject);
    let plan = |question: &str| {
        let mut statement = shell.prepare(&format!("EXPLAIN QUERY PLAN {question}")).unwrap();
        let bounds = vec![1; statement.parameter_count()];
        let steps = statement
            .query_map(rusqlite::params_from_iter(bounds), |row| row.get::<_, String>(3))
            .unwrap();
        steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let search = "SEARCH team_chat_messages USING";
    let position = "INDEX team_chat_messages_position (team_chat_id=? AND";
    let changed = "INDEX team_chat_messages_changed (team_chat_id=? AND";
    let chosen = "INDEX team_chat_messages_identity (team_chat_id=? AND client_id=?)";
    let above = "(changed_epoch,changed_seq)>(?,?)";
    let expected = [
        (query::BEFORE, format!("{search} {position} (epoch,seq)<(?,?))")),
        (query::AFTER, format!("{search} {position} (epoch,seq)>(?,?))")),
        (query::AT, format!("{search} {position} epoch=? AND seq=?)")),
        (query::CHANGES, format!("{search} {changed} {above})")),
        (query::COUNT_CHANGES, format!("{search} COVERING {changed} {above})")),
        (query::CHANGED_AT, format!("{search} {changed} changed_epoch=? AND changed_seq=?)")),
        (query::NAMED, format!("{search} {chosen}")),
        (receipts::UNREAD, format!("{search} {position} (epoch,seq)>(?,?)")),
        (erasure::OF_ROOM, format!("{search} INDEX team_chat_messages_of_room (team_chat_id=?)")),
        (
            erasure::OF_USER,
            format!("{search} INDEX team_chat_messages_of_user (user_id=? AND deleted_at=?)"),
        ),
        (place::STANDING, format!("{search} {chosen}")),
    ];
    for (question, step) in expected {
        let plan = plan(question);
        assert!(plan.contains(&step), "{plan}");
        // Sorting or reading the whole table would show here; a few of one id may be sorted.
        let sorts = plan.contains("TEMP B-TREE") && !plan.contains(chosen);
        assert!(!sorts && !plan.contains("SCAN team"), "{plan}");
    }
}

#[tokio::test]
async fn a_file_of_the_first_schema_goes_on_with_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let shell = Connection::open(folder.path().join(FILE)).unwrap();
    shell.execute_batch(include_str!("../migrations/sqlite/0001_tables.sql")).unwrap();
    for shard in Shard::all() {
        shell.execute("INSERT INTO shards (shard) VALUES (?1)", [shard.number()]).unwrap();
    }
    let rows = "
        INSERT INTO meta VALUES ('shards', '64');
        INSERT INTO team_chat_messages (id, team_chat_id, user_id, content, message_type, metadata,
            created_at, updated_at, accessed_at, send_time, epoch, seq, changed_epoch, changed_seq)
        VALUES ('m0', 'a', 'ann', 'zero', 'user', '{}', 1, 1, 1, 1, 0, 1, 0, 1);
        INSERT INTO credits VALUES ('c1', 'ann', NULL, 5, 1, '{}');
        INSERT INTO user_credits VALUES ('ann', 5, 1);
        PRAGMA user_version = 1;";
    shell.execute_batch(rows).unwrap();
    drop(shell);
    let store = SqliteStore::open(folder.path(), Clock::system()).unwrap();
    let batch = first_batch(&store, "a", "m1").await;
    assert_eq!(store.commit(&batch).await.unwrap().inserted, 1);
    let all = store.messages(&room("a"), Span::After(Position::ZERO), 9).await.unwrap();
    assert_eq!((all.len(), all[0].credits), (2, None));
    let ann = UserId::parse("ann").unwrap();
    assert_eq!(crate::store::Ledger::balance(&store, &ann).await.unwrap(), 5);
    let found = crate::store::Ledger::reconcile(&store).await.unwrap();
    assert_eq!((found.ledger_rows, found.differences), (1, Vec::<String>::new()));
}
