//! Epochs, cursors, duplicates, faults, dead letters: a batch as a whole.

use std::sync::Arc;

use shared::contract::position::Position;
use shared::contract::timestamp::Timestamp;
use shared::log::LogId;
use shared::store::{Cursor, Row, Store, StoreError};
use uuid::Uuid;

use super::feed::{Feed, counts, dead_letter, identity, message, room};

pub(super) async fn an_epoch_is_minted_once_for_each_token(store: Arc<dyn Store>) {
    let (shard, other) = (room("a").shard(), room("b").shard());
    assert_ne!(shard, other);
    assert_eq!(store.cursor(shard).await.unwrap(), Cursor { upto: LogId::ZERO, epoch: 0 });
    let tokens = [Uuid::now_v7(), Uuid::now_v7()];
    let first = store.mint(shard, tokens[0], 0).await.unwrap();
    let second = store.mint(shard, tokens[1], 0).await.unwrap();
    assert_eq!((first.number, second.number), (1, 2));
    assert_eq!(store.mint(shard, tokens[0], 0).await.unwrap(), first);
    assert_eq!(store.mint(shard, tokens[1], 0).await.unwrap(), second);
    assert_eq!(store.mint(other, tokens[0], 0).await.unwrap().number, 1);

    assert_eq!(store.epoch(shard, 1).await.unwrap(), Some(first));
    assert_eq!(store.epoch(shard, 2).await.unwrap(), Some(second));
    assert_eq!(store.epoch(shard, 3).await.unwrap(), None);
    assert_eq!(store.cursor(shard).await.unwrap().epoch, 2);

    // Whoever asks for a token at the same time gets the same answer.
    let token = Uuid::now_v7();
    let asks = (0..8).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.mint(shard, token, 0).await.unwrap() })
    });
    for asked in asks.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap().number, 3);
    }
}

pub(super) async fn an_epoch_is_quiet_when_the_shard_has_nothing_young(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    assert!(store.epoch(feed.shard, 1).await.unwrap().unwrap().quiet);
    let now_ms = i64::try_from(Uuid::now_v7().get_timestamp().unwrap().to_unix().0).unwrap() * 1000;
    for (seq, age_min, quiet) in [(1, 60, true), (2, 16, true), (3, 14, false), (4, 60, false)] {
        let name = format!("a/ann/m{seq}");
        let mut message = message(&name, Position::new(feed.epoch, seq));
        message.created_at = Timestamp(now_ms - age_min * 60 * 1000);
        feed.commit(&[Row::Message(message)]).await;
        feed = Feed::begin(&store, "a").await;
        let epoch = store.epoch(feed.shard, feed.epoch).await.unwrap().unwrap();
        assert_eq!(epoch.quiet, quiet, "{age_min}");
        assert!((epoch.minted_at.0 - now_ms).abs() < 60_000);
    }
    let other = store.mint(room("b").shard(), Uuid::now_v7(), 0).await.unwrap();
    assert!(other.quiet);
}

pub(super) async fn a_batch_from_another_place_is_fenced(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut late = feed.clone();
    feed.commit(&[Row::Message(message("a/ann/m1", Position::new(1, 1)))]).await;
    let upto = feed.cursor;

    let batch = late.batch(&[Row::Message(message("a/ann/m2", Position::new(1, 2)))]);
    let refused = late.try_commit(&batch).await;
    assert!(matches!(refused, Err(StoreError::Fenced { shard }) if shard == feed.shard));
    let mut ahead = feed.batch(&batch.rows);
    ahead.after.n += 1;
    assert!(matches!(feed.try_commit(&ahead).await, Err(StoreError::Fenced { .. })));

    assert_eq!(feed.all("a").await.len(), 1);
    assert_eq!(store.cursor(feed.shard).await.unwrap().upto, upto);
    assert_eq!(store.heads(&[room("a")]).await.unwrap(), [Position::new(1, 1)]);
}

pub(super) async fn a_batch_under_an_older_epoch_is_fenced(store: Arc<dyn Store>) {
    let mut old = Feed::begin(&store, "a").await;
    let mut new = Feed::begin(&store, "a").await;
    let batch = old.batch(&[Row::Message(message("a/ann/m1", Position::new(1, 1)))]);
    assert!(matches!(old.try_commit(&batch).await, Err(StoreError::Fenced { .. })));
    let mut unborn = new.batch(&batch.rows);
    unborn.epoch += 1;
    assert!(matches!(new.try_commit(&unborn).await, Err(StoreError::Fenced { .. })));
    assert!(new.all("a").await.is_empty());
    assert_eq!(counts(new.commit(&batch.rows).await), [1, 0, 0, 0]);
}

pub(super) async fn a_message_offered_again_stands_once(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let first = message("a/ann/m1", Position::new(1, 1));
    let mut again = message("a/ann/m1", Position::new(1, 2));
    again.content = "something else".to_owned();
    let both = [Row::Message(first.clone()), Row::Message(again)];
    assert_eq!(counts(feed.commit(&both).await), [1, 1, 0, 0]);
    assert_eq!(counts(feed.commit(&both[..1]).await), [0, 1, 0, 0]);

    let mut feed = Feed::begin(&store, "a").await;
    let late = message("a/ann/m1", Position::new(2, 3));
    assert_eq!(counts(feed.commit(&[Row::Message(late)]).await), [0, 1, 0, 0]);
    assert_eq!(feed.all("a").await, [first]);
    // A duplicate has used its place nevertheless.
    assert_eq!(store.heads(&[room("a")]).await.unwrap(), [Position::new(2, 3)]);
}

pub(super) async fn a_faulty_row_undoes_its_batch_and_is_found_by_probing(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let rows = [
        Row::Message(message("a/ann/m1", Position::new(1, 1))),
        Row::Message(message("a/ann/m2", Position::new(1, 2))),
        // A place cannot be used twice.
        Row::Message(message("a/ann/m3", Position::new(1, 2))),
    ];
    let batch = feed.batch(&rows);
    assert!(matches!(feed.try_commit(&batch).await, Err(StoreError::Data { .. })));
    assert!(feed.all("a").await.is_empty());
    assert_eq!(store.cursor(feed.shard).await.unwrap().upto, LogId::ZERO);
    assert_eq!(store.heads(&[room("a")]).await.unwrap(), [Position::ZERO]);

    assert!(store.probe(&rows[..2]).await.is_ok());
    assert!(matches!(store.probe(&rows[1..]).await, Err(StoreError::Data { .. })));
    assert_eq!(counts(feed.commit(&rows[..2]).await), [2, 0, 0, 0]);
    assert!(matches!(store.probe(&rows[2..]).await, Err(StoreError::Data { .. })));
}

pub(super) async fn probing_leaves_nothing_behind(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let stands = message("a/ann/m1", Position::new(1, 1));
    feed.commit(&[Row::Message(stands.clone())]).await;
    store
        .probe(&[
            Row::Message(message("a/ann/m2", Position::new(1, 2))),
            super::feed::edit("a/ann/m1", "e1", Position::new(1, 3), "edited"),
            super::feed::delete("a/ann/m4", "d1", Position::new(1, 4)),
        ])
        .await
        .unwrap();
    assert_eq!(feed.all("a").await, [stands]);
    let identities = [identity("a", "ann", "m2"), identity("a", "ann", "m4")];
    assert_eq!(store.find(&identities).await.unwrap(), [None, None]);
}

pub(super) async fn dead_letters_are_kept_with_their_batch_or_not_at_all(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let letters = [1, 2, 3].map(|n| dead_letter(LogId { epoch: 1, n }));
    let mut batch = feed.batch(&[Row::Message(message("a/ann/m1", Position::new(1, 1)))]);
    batch.dead = letters[..2].to_vec();
    batch.dead[1].position = None;
    batch.dead[1].room = None;
    feed.try_commit(&batch).await.unwrap();
    assert_eq!(store.dead_letters().await.unwrap(), batch.dead);
    let kept = batch.dead.clone();

    let mut fenced = batch.clone();
    fenced.dead = vec![letters[2].clone()];
    assert!(feed.try_commit(&fenced).await.is_err());
    let mut faulty = feed.batch(&[Row::Message(message("a/ann/m2", Position::new(1, 1)))]);
    faulty.dead = vec![letters[2].clone()];
    assert!(feed.try_commit(&faulty).await.is_err());
    assert_eq!(store.dead_letters().await.unwrap(), kept);

    // A batch may consist of nothing else, and it moves the room on.
    let mut alone = feed.batch(&[]);
    alone.dead = vec![letters[2].clone()];
    alone.heads = vec![(room("a"), Position::new(1, 7))];
    feed.try_commit(&alone).await.unwrap();
    assert_eq!(store.dead_letters().await.unwrap().len(), 3);
    assert_eq!(store.heads(&[room("a")]).await.unwrap(), [Position::new(1, 7)]);
    assert_eq!(store.cursor(feed.shard).await.unwrap().upto, alone.upto);
}

pub(super) async fn heads_only_grow(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    for (given, stands) in [((2, 5), (2, 5)), ((2, 4), (2, 5)), ((1, 9), (2, 5)), ((3, 1), (3, 1))]
    {
        let mut batch = feed.batch(&[]);
        batch.heads = vec![(room("a"), Position::new(given.0, given.1))];
        feed.try_commit(&batch).await.unwrap();
        let heads = store.heads(&[room("nobody"), room("a")]).await.unwrap();
        assert_eq!(heads, [Position::ZERO, Position::new(stands.0, stands.1)]);
    }
    assert!(store.heads(&[]).await.unwrap().is_empty());
}

pub(super) async fn shards_commit_side_by_side(store: Arc<dyn Store>) {
    const ROOMS: u64 = 16;
    const BATCHES: u64 = 10;
    const ROWS: u64 = 5;
    let mut feeds = Vec::new();
    let mut shards = std::collections::HashSet::new();
    for name in (0..).map(|n| format!("room{n}")) {
        if shards.insert(room(&name).shard()) {
            feeds.push((Feed::begin(&store, &name).await, name));
        }
        if feeds.len() as u64 == ROOMS {
            break;
        }
    }
    let runs = feeds.into_iter().map(|(mut feed, name)| {
        tokio::spawn(async move {
            for batch in 0..BATCHES {
                let rows: Vec<Row> = (batch * ROWS + 1..=(batch + 1) * ROWS)
                    .map(|seq| (format!("{name}/ann/{name}-{seq}"), Position::new(1, seq)))
                    .map(|(name, position)| Row::Message(message(&name, position)))
                    .collect();
                assert_eq!(counts(feed.commit(&rows).await), [ROWS, 0, 0, 0]);
                // What was answered is there for whoever reads now.
                let seen = feed.all(&name).await.len() as u64;
                assert_eq!(seen, (batch + 1) * ROWS);
            }
            assert_eq!(feed.store.cursor(feed.shard).await.unwrap().upto, feed.cursor);
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap();
    }
}

pub(super) async fn the_database_answers(store: Arc<dyn Store>) {
    store.ping().await.unwrap();
}
