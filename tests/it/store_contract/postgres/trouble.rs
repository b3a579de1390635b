//! A database that refuses, is slow, is away, or has someone in front of it.

use std::sync::Arc;
use std::time::Duration;

use fleet::{ClusterOptions, Fleet};
use shared::contract::id::MessageId;
use shared::contract::position::Position;
use shared::process::settings::Secret;
use shared::store::postgres::{MigrateError, PostgresStore, Settings};
use shared::store::{
    Batch, Batches, DeadLetters, ForeignTables, Lease, Messages, Row, Span, Store, StoreError,
};

use super::super::feed::{Feed, counts, edit, message, metadata, room};
use super::{connect, fresh_database, shell};

const SOON: Duration = Duration::from_secs(10);

fn unavailable<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    let Err(StoreError::Unavailable(why)) = answer else { panic!("{answer:?}") };
    why.to_string()
}

#[tokio::test]
async fn many_processes_migrate_at_once_and_again() {
    let (url, _guard) = fresh_database().await;
    let processes = (0..6).map(|_| {
        let store = connect(&url);
        tokio::spawn(async move {
            store.migrate().await.unwrap();
            store.ping().await.unwrap();
        })
    });
    for process in processes.collect::<Vec<_>>() {
        process.await.unwrap();
    }
    // Nothing is locked or changed when nothing is to be done: not even the right is needed.
    let shell = shell(&url).await;
    shell.batch_execute("BEGIN; LOCK team_chat_messages IN ACCESS EXCLUSIVE MODE").await.unwrap();
    connect(&url).migrate().await.unwrap();
}

#[tokio::test]
async fn a_database_of_another_make_is_refused_by_name() {
    let (url, _guard) = fresh_database().await;
    let store = connect(&url);
    assert!(unavailable(store.ping().await).contains("42P01"));
    store.migrate().await.unwrap();
    let shell = shell(&url).await;
    let set = async |key: &str, value: &str| {
        let update = "UPDATE roomcast_meta SET value = $2 WHERE key = $1";
        shell.execute(update, &[&key, &value]).await.unwrap();
    };
    set("shards", "128").await;
    let refused = store.migrate().await.unwrap_err();
    assert_eq!(refused.to_string(), "the database has 128 shards, this program has 64");
    set("schema", "99").await;
    let refused = store.migrate().await;
    let newer = ForeignTables::Newer { found: 99, known: 7 };
    assert!(matches!(refused, Err(MigrateError::Foreign(found)) if found == newer));
}

#[tokio::test]
async fn a_table_that_may_not_be_written_is_no_fault_of_the_data() {
    let (url, _guard) = fresh_database().await;
    let admin = shell(&url).await;
    connect(&url).migrate().await.unwrap();
    let role = format!("worker{}", std::process::id());
    let grant = format!(
        "CREATE ROLE {role} LOGIN;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
    );
    admin.batch_execute(&grant).await.unwrap();
    let store = connect(&url.replacen("postgres@", &format!("{role}@"), 1));
    // Whoever may only write need not be the one who migrates.
    store.migrate().await.unwrap();
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    let rows = [Row::Message(message("a/ann/m1", Position::new(1, 1)))];
    let batch = feed.batch(&rows);

    let revoke = format!("REVOKE INSERT ON team_chat_messages FROM {role}");
    admin.batch_execute(&revoke).await.unwrap();
    assert!(unavailable(feed.try_commit(&batch).await).contains("42501"));
    assert!(unavailable(store.probe(&rows).await).contains("42501"));
    admin.batch_execute("ALTER TABLE dead_letters RENAME TO gone").await.unwrap();
    assert!(unavailable(store.dead_letters().await).contains("42P01"));
    admin.batch_execute("ALTER TABLE gone RENAME TO dead_letters").await.unwrap();

    let grant = format!("GRANT INSERT ON team_chat_messages TO {role}");
    admin.batch_execute(&grant).await.unwrap();
    assert_eq!(counts(feed.try_commit(&batch).await.unwrap()), [1, 0, 0, 0]);
    let forget = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    store.close();
    admin.batch_execute(&forget).await.unwrap();
}

#[tokio::test]
async fn connections_that_are_cut_are_made_anew() {
    let (url, _guard) = fresh_database().await;
    let store = connect(&url);
    store.migrate().await.unwrap();
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    let shell = shell(&url).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE application_name = 'roomcast' AND datname = current_database()";
    for seq in 1..=5 {
        let cut: i64 = shell.query_one(cut, &[]).await.unwrap().get(0);
        assert!(cut > 0);
        let rows = [Row::Message(message(&format!("a/ann/m{seq}"), Position::new(1, seq)))];
        let batch = feed.batch(&rows);
        // Whether the one in the pool was known to be cut is a matter of luck.
        let mut committed = feed.try_commit(&batch).await;
        while matches!(committed, Err(StoreError::Unavailable(_))) {
            committed = feed.try_commit(&batch).await;
        }
        assert_eq!(counts(committed.unwrap()), [1, 0, 0, 0]);
    }
    store.close();
    unavailable(store.ping().await);
}

#[tokio::test]
async fn a_database_that_is_away_or_silent_is_not_waited_for_long() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = fleet::free_port().unwrap();
    for port in [away, silent.local_addr().unwrap().port()] {
        let url = Secret::from(format!("postgres://ann:s3cret@127.0.0.1:{port}/chat").as_str());
        let settings =
            Settings { connect_timeout: Duration::from_millis(300), ..Settings::default() };
        let store = PostgresStore::connect(&url, settings).unwrap();
        let asked = async {
            unavailable(store.ping().await);
            let refused = store.migrate().await;
            assert!(matches!(refused, Err(MigrateError::Unavailable(_))));
            format!("{refused:?} {store:?}")
        };
        let said = tokio::time::timeout(SOON, asked).await.unwrap();
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[tokio::test]
async fn a_lock_that_is_not_given_is_waited_for_no_longer_than_allowed() {
    let (url, _guard) = fresh_database().await;
    let brief = Settings {
        connections_max: 1,
        statement_timeout: Duration::from_millis(200),
        ..Settings::default()
    };
    let store = Arc::new(PostgresStore::connect(&Secret::from(url.as_str()), brief).unwrap());
    store.migrate().await.unwrap();
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    let batch = feed.batch(&[Row::Message(message("a/ann/m1", Position::new(1, 1)))]);
    let shell = shell(&url).await;
    shell.batch_execute("BEGIN; LOCK team_chat_messages, shards").await.unwrap();
    assert!(unavailable(feed.try_commit(&batch).await).contains("57014"));
    assert!(
        unavailable(store.messages(&room("a"), Span::After(Position::ZERO), 1).await)
            .contains("57014")
    );
    // A part of a round may need nothing of what others hold, and holds its own for no longer than
    // its lease.
    let lease = Lease { owner: "w".to_owned(), ms: 300 };
    let round = [Arc::new(Batch { lease: Some(lease), ..batch.clone() })];
    let held = store.commit_round(&round).await.unwrap_err();
    assert!(held.may_pass_in_parts() && unavailable::<()>(Err(held)).contains("55P03"));
    // Nor does one who stops waiting leave anything behind.
    let impatient = tokio::time::timeout(Duration::from_millis(50), feed.try_commit(&batch));
    assert!(impatient.await.is_err());
    shell.batch_execute("COMMIT").await.unwrap();
    assert_eq!(counts(feed.try_commit(&batch).await.unwrap()), [1, 0, 0, 0]);
}

#[tokio::test]
async fn what_the_database_cannot_keep_is_an_error_of_the_data() {
    let (url, _guard) = fresh_database().await;
    let store = connect(&url);
    store.migrate().await.unwrap();
    let good = message("a/ann/m1", Position::new(1, 1));
    let mut rows = vec![good.clone(); 4];
    rows[0].content = "a\0b".to_owned();
    rows[1].metadata = serde_json::from_str(r#"{"a":"\u0000"}"#).unwrap();
    rows[2].position = Some(Position::new(1, u64::MAX));
    rows[3].created_at.0 = i64::MIN / 2000;
    for (row, expected) in rows.into_iter().zip(["22021", "22P05", "22003", "22008"]) {
        let refused = store.probe(&[Row::Message(row)]).await;
        let Err(StoreError::Data { code, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(code, expected);
    }
    // Our key in the metadata is indexed, however long what a client writes there.
    let mut long = good;
    let noise: String = (0..250_u128)
        .map(|n| {
            MessageId::from_uuid(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &n.to_be_bytes()))
                .to_string()
        })
        .collect();
    long.metadata = metadata(&format!(r#"{{"roomcast.id":"{noise}"}}"#));
    store.probe(&[Row::Message(long)]).await.unwrap();
}

#[tokio::test]
async fn every_page_is_read_through_an_index() {
    const ROWS: u64 = 20_000;
    let (url, _guard) = fresh_database().await;
    connect(&url).migrate().await.unwrap();
    let shell = shell(&url).await;
    let fill = format!(
        "INSERT INTO team_chat_messages (id, team_chat_id, user_id, content, send_time, epoch, seq,
             changed_epoch, changed_seq)
         SELECT 'm' || n, 'room' || n % 5, 'ann', repeat('x', 100), now(), 1, n, 1, n
         FROM generate_series(1, {ROWS}) AS n"
    );
    shell.batch_execute(&fill).await.unwrap();
    shell.batch_execute("VACUUM ANALYZE").await.unwrap();
    let count = async || -> [i64; 3] {
        shell.batch_execute("SELECT pg_stat_clear_snapshot()").await.unwrap();
        let question = "SELECT seq_scan, idx_scan, idx_tup_fetch + coalesce((
                SELECT sum(idx_tup_read) FROM pg_stat_user_indexes
                WHERE relname = 'team_chat_messages'), 0)::bigint
             FROM pg_stat_user_tables WHERE relname = 'team_chat_messages'";
        let row = shell.query_one(question, &[]).await.unwrap();
        [row.get(0), row.get(1), row.get(2)]
    };
    let alone = async || -> bool {
        let others = "SELECT count(*) FROM pg_stat_activity
                      WHERE application_name = 'roomcast' AND datname = current_database()";
        shell.query_one(others, &[]).await.unwrap().get::<_, i64>(0) == 0
    };
    harness::eventually(SOON, "the migration has left", &alone).await;
    let [scans_before, searches_before, rows_before] = count().await;

    let store = connect(&url);
    let (a, middle) = (room("room1"), Position::new(1, ROWS / 2));
    assert_eq!(store.messages(&a, Span::Before(middle), 50).await.unwrap().len(), 50);
    assert_eq!(store.messages(&a, Span::After(middle), 50).await.unwrap().len(), 50);
    assert_eq!(store.messages(&a, Span::Changes(middle), 50).await.unwrap().len(), 50);
    assert_eq!(store.messages(&a, Span::LatestChanges(middle), 50).await.unwrap().len(), 50);
    assert_eq!(store.count_changes(&a, middle, 100).await.unwrap(), 100);
    assert!(store.stood(&a, Position::new(1, 6), None).await.unwrap());
    let asked: Vec<_> = (0..50)
        .map(|n| super::super::feed::identity("room1", "ann", &format!("m{}", 5 * n + 1)))
        .collect();
    assert!(store.find(&asked).await.unwrap().iter().all(Option::is_some));
    assert_eq!(store.heads(&[a]).await.unwrap(), [Position::ZERO]);
    // A session tells what it did when it ends.
    store.close();
    harness::eventually(SOON, "the reader has left", &alone).await;
    let [scans, searches, rows] = count().await;
    assert!(searches > searches_before);
    assert_eq!(scans - scans_before, 0, "the whole table was read");
    // A page of a room that was sorted first would touch 4,000.
    assert!(rows - rows_before < 1500, "{} rows", rows - rows_before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pgbouncer_in_transaction_mode_makes_no_difference() {
    let installed = std::path::Path::new("/usr/sbin/pgbouncer");
    if !installed.exists() {
        println!("SKIPPED: no pgbouncer here (apt-get install pgbouncer)");
        return;
    }
    // Two servers for many clients: whatever a session kept would meet the wrong one.
    let pooled = ClusterOptions { pg_bouncer: Some(2), ..ClusterOptions::only_servers() };
    let servers = Fleet::cluster(pooled).await.unwrap();
    let store = connect(&servers.database_url());
    store.migrate().await.unwrap();
    talk(store).await;
}

/// Everything a store does, from many tasks at once.
async fn talk(store: Arc<PostgresStore>) {
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let runs = (0..16).map(|n| {
        let (all, name) = (Arc::clone(&all), format!("room{n}"));
        tokio::spawn(async move {
            let owner = Lease { owner: name.clone(), ms: 60_000 };
            let mut feed = Feed::begin(&all, &name).await;
            for seq in (1..40).step_by(2) {
                let sent = message(&format!("{name}/ann/{name}-{seq}"), Position::new(1, seq));
                let change = format!("e{seq}");
                let rows = [
                    Row::Message(sent),
                    edit(&format!("{name}/ann/{name}-1"), &change, Position::new(1, seq + 1), "x"),
                ];
                // Rooms of one shard are each other's rivals here.
                let mut batch = feed.batch(&rows);
                batch.lease = Some(owner.clone());
                while let Err(error) = feed.try_commit(&batch).await {
                    assert!(matches!(error, StoreError::Fenced { .. }), "{error:?}");
                    let cursor = all.cursor(feed.shard).await.unwrap();
                    feed.cursor = cursor.upto;
                    feed.epoch = cursor.epoch;
                    batch = feed.batch(&rows);
                }
                let taken = message(&format!("{name}/ann/{name}-{seq}x"), Position::new(1, seq));
                let faulty = all.probe(&[Row::Message(taken)]).await;
                assert!(matches!(faulty, Err(StoreError::Data { .. })), "{faulty:?}");
                all.lease(&owner).await.unwrap();
            }
            assert_eq!(feed.all(&name).await.len(), 20);
            all.release(&name).await.unwrap();
            assert_eq!(all.heads(&[room(&name)]).await.unwrap(), [Position::new(1, 40)]);
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap();
    }
    assert!(store.dead_letters().await.unwrap().is_empty());
    store.ping().await.unwrap();
}
