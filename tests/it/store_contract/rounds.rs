//! Rounds: the batches of several shards in one transaction.

use std::sync::Arc;

use shared::contract::position::Position;
use shared::store::{Batch, Cursor, RoundCommitted, Row, Store, StoreError};

use super::feed::{Feed, counts, edit, id, message, room, user};
use super::ledger::movement;

fn said(name: &str, seq: u64) -> Row {
    Row::Message(message(name, Position::new(1, seq)))
}

/// Feeds of rooms that lie in shards of their own.
async fn feeds<const N: usize>(store: &Arc<dyn Store>, rooms: [&str; N]) -> [Feed; N] {
    let mut feeds = Vec::with_capacity(N);
    for name in rooms {
        let feed = Feed::begin(store, name).await;
        assert!(feeds.iter().all(|other: &Feed| other.shard != feed.shard), "{name}");
        feeds.push(feed);
    }
    feeds.try_into().expect("as many feeds as rooms")
}

async fn commit(store: &Arc<dyn Store>, round: Vec<Batch>) -> Result<RoundCommitted, StoreError> {
    let round: Vec<Arc<Batch>> = round.into_iter().map(Arc::new).collect();
    store.commit_round(&round).await
}

pub(super) async fn a_round_stores_what_every_shard_has_and_leaves_out_who_has_moved(
    store: Arc<dyn Store>,
) {
    let [a, mut b, mut c] = feeds(&store, ["a", "b", "c"]).await;
    let late = b.batch(&[said("b/ann/b0", 1)]);
    b.commit(&[said("b/ann/b1", 1)]).await;
    // And one whose epoch has passed.
    let old = c.batch(&[said("c/ann/c0", 1)]);
    c = Feed::begin(&store, "c").await;
    let first = a.batch(&[said("a/ann/a1", 1), said("a/ann/a2", 2)]);
    let upto = first.upto;

    let RoundCommitted { done, mut fenced } =
        commit(&store, vec![late, first.clone(), old]).await.unwrap();
    assert_eq!(counts(done), [2, 0, 0, 0]);
    fenced.sort();
    let mut left_out = vec![b.shard, c.shard];
    left_out.sort();
    assert_eq!(fenced, left_out);
    assert_eq!(store.cursor(a.shard).await.unwrap(), Cursor { upto, epoch: a.epoch });
    assert_eq!(store.cursor(b.shard).await.unwrap().upto, b.cursor);
    assert_eq!((a.all("a").await.len(), b.all("b").await.len(), c.all("c").await.len()), (2, 1, 0));
    let heads = store.heads(&[room("a"), room("b"), room("c")]).await.unwrap();
    assert_eq!(heads, [Position::new(1, 2), Position::new(1, 1), Position::ZERO]);

    // All of them moved: nothing is done, and it is no error.
    let again = commit(&store, vec![first]).await.unwrap();
    assert_eq!((counts(again.done), again.fenced), ([0; 4], vec![a.shard]));
    let next = vec![b.batch(&[said("b/ann/b2", 2)]), c.batch(&[said("c/ann/c1", 1)])];
    let done = commit(&store, next).await.unwrap();
    assert_eq!((counts(done.done), done.fenced), ([2, 0, 0, 0], Vec::new()));
}

pub(super) async fn a_faulty_row_undoes_its_round_and_its_half_is_found(store: Arc<dyn Store>) {
    let [a, b] = feeds(&store, ["a", "b"]).await;
    let sound = a.batch(&[said("a/ann/m1", 1)]);
    let mut faulty = message("b/ann/m1", Position::new(1, 1));
    faulty.position = None;
    let mut faulty_batch = b.batch(&[said("b/ann/m2", 2)]);
    faulty_batch.rows.push(Row::Message(faulty));
    let refused = commit(&store, vec![sound.clone(), faulty_batch.clone()]).await.unwrap_err();
    assert!(refused.may_pass_in_parts(), "{refused:?}");
    assert_eq!(a.all("a").await.len() + b.all("b").await.len(), 0);
    assert_eq!(counts(commit(&store, vec![sound]).await.unwrap().done), [1, 0, 0, 0]);
    assert!(commit(&store, vec![faulty_batch]).await.unwrap_err().may_pass_in_parts());
}

pub(super) async fn who_takes_an_id_first_in_a_round_has_it_and_changes_find_their_own(
    store: Arc<dyn Store>,
) {
    let [a, b] = feeds(&store, ["a", "b"]).await;
    let of_a = [said("a/ann/m1", 1), edit("a/ann/m1", "e1", Position::new(1, 2), "of a")];
    let of_b = [said("b/bob/m1", 1), edit("b/bob/m1", "e1", Position::new(1, 2), "of b")];
    let done = commit(&store, vec![a.batch(&of_a), b.batch(&of_b)]).await.unwrap().done;
    assert_eq!(counts(done), [1, 0, 1, 2]);
    for (feed, name) in [(&a, "a"), (&b, "b")] {
        let all = feed.all(name).await;
        let found: Vec<_> = all.iter().map(|m| (m.id.clone(), m.content.as_str())).collect();
        assert_eq!(found, [(id("m1"), format!("of {name}").as_str())]);
    }
}

pub(super) async fn a_balance_is_moved_by_all_shards_of_a_round_at_once(store: Arc<dyn Store>) {
    let [a, b] = feeds(&store, ["a", "b"]).await;
    let moved = |id: &str, amount| Row::Credit(movement(id, "ann", amount));
    let of_a = [moved("c1", -5), moved("c2", -7)];
    let of_b = [moved("c1", -5), moved("c3", 2)];
    let round = vec![a.batch(&of_a), b.batch(&of_b)];
    let done = commit(&store, round).await.unwrap().done;
    assert_eq!(done.credited, 3, "the same movement from two shards counts once");
    assert_eq!(done.balances, [(user("ann"), -10)]);
    assert_eq!(store.balance(&user("ann")).await.unwrap(), -10);
}

/// Two workers whose rounds touch the same balances, and the same ids in different rooms.
pub(super) async fn rounds_that_want_the_same_rows_wait_for_one_another(store: Arc<dyn Store>) {
    const ROUNDS: u64 = 12;
    let workers = [["a", "b"], ["c", "d"]].map(|rooms| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut feeds = feeds(&store, rooms).await;
            for round in 0..ROUNDS {
                let batches = feeds.iter().zip(rooms).map(|(feed, name)| {
                    let rows = (0..8_u64).flat_map(|n| {
                        let (seq, payer) = (round * 8 + n + 1, format!("payer{}", (n * 7) % 8));
                        let own = format!("{name}-{round}-{n}");
                        let credit = Row::Credit(movement(&own, &payer, -1));
                        [said(&format!("{name}/ann/m{round}-{n}"), seq), credit]
                    });
                    feed.batch(&rows.collect::<Vec<Row>>())
                });
                let batches: Vec<Batch> = batches.collect();
                let ends: Vec<_> = batches.iter().map(|batch| batch.upto).collect();
                let done = commit(&store, batches).await.unwrap();
                assert_eq!((done.done.credited, done.fenced), (16, Vec::new()));
                for (feed, upto) in feeds.iter_mut().zip(ends) {
                    feed.cursor = upto;
                }
            }
            for (feed, name) in feeds.iter().zip(rooms) {
                assert_eq!(feed.all(name).await.len() as u64, ROUNDS * 8);
            }
        })
    });
    for worker in workers {
        worker.await.unwrap();
    }
    for n in 0..8 {
        let balance = store.balance(&user(&format!("payer{n}"))).await.unwrap();
        assert_eq!(balance, -i64::try_from(ROUNDS * 4).unwrap());
    }
}
