//! Several workers, several gateways.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fleet::Fleet;
use shared::contract::id::Shard;
use shared::contract::position::Position;
use shared::store::postgres::PostgresStore;
use shared::store::{Lease, Row, Shards, Store, StoreError};
use tokio_postgres::Client;
use uuid::Uuid;

use super::super::feed::{Feed, counts, delete, edit, identity, message, room};
use super::{connect, fresh_database, shell};

async fn open() -> (Arc<PostgresStore>, Client, Fleet) {
    let (url, guard) = fresh_database().await;
    let store = connect(&url);
    store.migrate().await.unwrap();
    (store, shell(&url).await, guard)
}

fn lease(owner: &str) -> Lease {
    Lease { owner: owner.to_owned(), ms: 600_000 }
}

/// Lets everything that `owner` holds lapse, as time would.
async fn lapse(shell: &Client, owner: &str) {
    for table in [
        "shards SET lease_until = now() WHERE lease_owner",
        "sync_workers SET until = now() WHERE owner",
    ] {
        shell.execute(&format!("UPDATE {table} = $1"), &[&owner]).await.unwrap();
    }
}

#[tokio::test]
async fn workers_share_evenly_and_take_over_what_lapses() {
    let (store, shell, _guard) = open().await;
    let all: Vec<Shard> = Shard::all().collect();
    assert_eq!(store.lease(&lease("w1")).await.unwrap(), all);
    // The second finds nothing until the first has given up its surplus.
    assert!(store.lease(&lease("w2")).await.unwrap().is_empty());
    let first = store.lease(&lease("w1")).await.unwrap();
    let second = store.lease(&lease("w2")).await.unwrap();
    assert_eq!((first.len(), second.len()), (32, 32));
    assert_eq!([&first[..], &second[..]].concat().into_iter().collect::<BTreeSet<_>>().len(), 64);
    // What one has, one keeps.
    assert_eq!(store.lease(&lease("w1")).await.unwrap(), first);
    assert_eq!(store.lease(&lease("w2")).await.unwrap(), second);

    store.lease(&lease("w3")).await.unwrap();
    for owner in ["w1", "w2", "w3"] {
        store.lease(&lease(owner)).await.unwrap();
    }
    let mut held = Vec::new();
    for (owner, share) in [("w1", 22), ("w2", 22), ("w3", 20)] {
        let own = store.lease(&lease(owner)).await.unwrap();
        assert_eq!(own.len(), share, "{owner}");
        held.extend(own);
    }
    assert_eq!(held.into_iter().collect::<BTreeSet<_>>().len(), 64);

    // One dies, one leaves: the third has everything.
    lapse(&shell, "w1").await;
    assert_eq!(store.lease(&lease("w3")).await.unwrap().len(), 32);
    store.release("w2").await.unwrap();
    assert_eq!(store.lease(&lease("w3")).await.unwrap(), all);
    // And the dead one that wakes is a newcomer.
    assert!(store.lease(&lease("w1")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_renews_its_shards_lease_and_nobody_elses() {
    let (store, shell, _guard) = open().await;
    let shard = room("a").shard();
    let number = i16::try_from(shard.number()).unwrap();
    store.lease(&lease("w1")).await.unwrap();
    let until = async || -> (String, bool) {
        let question = "SELECT lease_owner, lease_until > now() FROM shards WHERE shard = $1";
        let row = shell.query_one(question, &[&number]).await.unwrap();
        (row.get(0), row.get(1))
    };
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    lapse(&shell, "w1").await;
    for (owner, lasts) in [("w2", false), ("w1", true)] {
        let mut batch = feed.batch(&[]);
        batch.lease = Some(lease(owner));
        feed.try_commit(&batch).await.unwrap();
        assert_eq!(until().await, ("w1".to_owned(), lasts), "{owner}");
    }
    // Only that shard was renewed, and only that is left.
    lapse(&shell, "w2").await;
    shell.execute("UPDATE sync_workers SET until = 'infinity'", &[]).await.unwrap();
    let taken = store.lease(&lease("w2")).await.unwrap();
    assert!(taken.len() == 32 && !taken.contains(&shard));
}

#[tokio::test]
async fn a_shard_with_a_batch_in_it_is_waited_for_by_nobody() {
    let (store, shell, _guard) = open().await;
    let all: Vec<Shard> = Shard::all().collect();
    store.lease(&lease("w1")).await.unwrap();
    shell
        .batch_execute("BEGIN; SELECT FROM shards WHERE shard IN (3, 60) FOR UPDATE")
        .await
        .unwrap();
    assert_eq!(store.lease(&lease("w1")).await.unwrap(), all);
    assert!(store.lease(&lease("w2")).await.unwrap().is_empty());
    // A surplus that is locked is given up later, and not taken before.
    assert_eq!(store.lease(&lease("w1")).await.unwrap(), all[..32]);
    let second = store.lease(&lease("w2")).await.unwrap();
    assert_eq!(second.len(), 31);
    assert!(!second.iter().any(|shard| shard.number() == 60));
    shell.batch_execute("COMMIT").await.unwrap();
    assert_eq!(store.lease(&lease("w1")).await.unwrap(), all[..32]);
    assert_eq!(store.lease(&lease("w2")).await.unwrap(), all[32..]);
}

#[tokio::test]
async fn epochs_asked_for_at_once_are_dense_and_their_own() {
    let (store, _shell, _guard) = open().await;
    let shard = room("a").shard();
    let tokens: Vec<Uuid> = (0..40).map(|n| Uuid::from_u128(n / 2)).collect();
    let asks = tokens.into_iter().map(|token| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { (token, store.mint(shard, token, 0).await.unwrap()) })
    });
    let mut minted = Vec::new();
    for asked in asks.collect::<Vec<_>>() {
        let (token, epoch) = asked.await.unwrap();
        minted.push((epoch.number, token, epoch.minted_at));
    }
    minted.sort();
    minted.dedup();
    let numbers: Vec<u64> = minted.iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    assert!(minted.is_sorted_by_key(|(_, _, at)| *at));
    let above = store.mint(shard, Uuid::now_v7(), 100).await.unwrap();
    assert_eq!(above.number, 100);
    let next = store.mint(shard, Uuid::now_v7(), 7).await.unwrap();
    assert_eq!(next.number, 101);
}

#[tokio::test]
async fn an_epoch_minted_while_a_batch_waited_fences_it() {
    let (store, shell, _guard) = open().await;
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    let number = i16::try_from(feed.shard.number()).unwrap();
    shell.batch_execute("BEGIN").await.unwrap();
    shell.execute("SELECT FROM shards WHERE shard = $1 FOR UPDATE", &[&number]).await.unwrap();
    let batch = feed.batch(&[Row::Message(message("a/ann/m1", Position::new(1, 1)))]);
    let waiting = tokio::spawn(async move { feed.try_commit(&batch).await });
    let blocked = async || -> bool {
        let question = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)";
        shell.query_one(question, &[]).await.unwrap().get(0)
    };
    harness::eventually(Duration::from_secs(5), "the batch waits", blocked).await;
    let mint = "INSERT INTO epochs VALUES ($1, 2, gen_random_uuid(), now(), true)";
    shell.execute(mint, &[&number]).await.unwrap();
    shell.batch_execute("COMMIT").await.unwrap();
    let refused = waiting.await.unwrap();
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_row_taken_while_a_batch_waits_for_it_costs_the_batch_nothing() {
    let (store, shell, _guard) = open().await;
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    let blocked = async || -> bool {
        let question = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)";
        shell.query_one(question, &[]).await.unwrap().get(0)
    };
    // Another's message of that id; another program's row of the very same message.
    for (seq, whose, wanted) in [(1, ("b", "ann"), [1, 0, 1, 1]), (11, ("a", "ann"), [1, 1, 0, 1])]
    {
        let (taken, free) = (format!("m{seq}"), format!("n{seq}"));
        let insert =
            "INSERT INTO team_chat_messages (id, team_chat_id, user_id) VALUES ($1, $2, $3)";
        shell.batch_execute("BEGIN").await.unwrap();
        shell.execute(insert, &[&taken, &whose.0, &whose.1]).await.unwrap();
        let rows = [
            Row::Message(message(&format!("a/ann/{taken}"), Position::new(1, seq))),
            Row::Message(message(&format!("a/ann/{free}"), Position::new(1, seq + 1))),
            edit(&format!("a/ann/{free}"), &format!("e{seq}"), Position::new(1, seq + 2), "edited"),
        ];
        let (batch, mut waiting) = (feed.batch(&rows), feed.clone());
        let committing = tokio::spawn(async move { waiting.try_commit(&batch).await });
        harness::eventually(Duration::from_secs(30), "the batch waits", &blocked).await;
        shell.batch_execute("COMMIT").await.unwrap();
        assert_eq!(counts(committing.await.unwrap().unwrap()), wanted);
        feed.cursor = all.cursor(feed.shard).await.unwrap().upto;
        let name = identity("a", "ann", &taken);
        assert!(all.find(&[name]).await.unwrap()[0].is_some());
    }
}

#[tokio::test]
async fn a_tombstone_whose_id_is_taken_while_its_batch_waits_is_left_under_another() {
    let (store, shell, _guard) = open().await;
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    let blocked = async || -> bool {
        let question = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)";
        shell.query_one(question, &[]).await.unwrap().get(0)
    };
    let insert =
        "INSERT INTO team_chat_messages (id, team_chat_id, user_id) VALUES ($1, 'b', 'ann')";
    // Of a message whose sender the delete names, and of one whose sender it does not.
    for (seq, name) in [(1, "a/mod/m1/eve"), (2, "a/mod/m2")] {
        shell.batch_execute("BEGIN").await.unwrap();
        shell.execute(insert, &[&format!("m{seq}")]).await.unwrap();
        let batch = feed.batch(&[delete(name, &format!("d{seq}"), Position::new(1, seq))]);
        let mut waiting = feed.clone();
        let committing = tokio::spawn(async move { waiting.try_commit(&batch).await });
        harness::eventually(Duration::from_secs(30), "the batch waits", &blocked).await;
        shell.batch_execute("COMMIT").await.unwrap();
        assert_eq!(counts(committing.await.unwrap().unwrap()), [0, 0, 0, 1]);
        feed.cursor = all.cursor(feed.shard).await.unwrap().upto;
    }
    let eves = [identity("a", "eve", "m1"), identity("a", "eve", "m2")];
    assert!(all.find(&eves).await.unwrap().iter().all(Option::is_some));
}

#[tokio::test]
async fn what_another_programs_unique_key_keeps_out_is_at_fault_and_alone() {
    let (store, shell, _guard) = open().await;
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&all, "a").await;
    shell.batch_execute("CREATE UNIQUE INDEX ON team_chat_messages (md5(content))").await.unwrap();
    let rows =
        [1, 2].map(|seq| Row::Message(message(&format!("a/ann/m{seq}"), Position::new(1, seq))));
    feed.commit(&rows).await;
    let mut twice = message("a/ann/m3", Position::new(1, 3));
    twice.content = "m1".to_owned();
    let twice = [Row::Message(twice)];
    for refused in
        [all.probe(&twice).await, feed.try_commit(&feed.clone().batch(&twice)).await.map(drop)]
    {
        assert!(matches!(refused, Err(StoreError::Data { code, .. }) if code == "23505"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_that_want_the_same_ids_do_not_deadlock() {
    const IDS: u64 = 200;
    let (store, _shell, _guard) = open().await;
    let all = Arc::clone(&store) as Arc<dyn Store>;
    let mut shards = BTreeSet::new();
    let names = (0..).map(|n| format!("room{n}")).filter(|name| shards.insert(room(name).shard()));
    let names: Vec<String> = names.take(8).collect();
    let mut runs = Vec::new();
    for (turn, name) in names.into_iter().enumerate() {
        let mut feed = Feed::begin(&all, &name).await;
        runs.push(tokio::spawn(async move {
            let mut sum = [0; 4];
            for part in 0..4 {
                let rows: Vec<Row> = (part * IDS..(part + 1) * IDS)
                    .map(|n| {
                        let id = if turn % 2 == 0 { n } else { (2 * part + 1) * IDS - 1 - n };
                        let at = Position::new(1, n + 1);
                        Row::Message(message(&format!("{name}/ann/m{id}"), at))
                    })
                    .collect();
                let done = counts(feed.commit(&rows).await);
                sum.iter_mut().zip(done).for_each(|(sum, one)| *sum += one);
            }
            assert_eq!(feed.all(&name).await.len() as u64, 4 * IDS);
            sum
        }));
    }
    let (mut inserted, mut renamed) = (0, 0);
    for run in runs {
        let [own, duplicates, other, changed] = run.await.unwrap();
        assert_eq!((own + other, duplicates, changed), (4 * IDS, 0, 0));
        inserted += own;
        renamed += other;
    }
    assert_eq!((inserted, renamed), (4 * IDS, 7 * 4 * IDS));
}
