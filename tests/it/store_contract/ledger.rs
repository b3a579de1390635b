//! Movements of credits: each once, and what they add up to.

use std::collections::HashMap;
use std::sync::Arc;

use shared::contract::credit::{CreditEntry, CreditKind, event_id};
use shared::contract::position::Position;
use shared::store::{CreditRow, Row, Store};

use super::feed::{Feed, LONG_AGO, id, message, room, user};

/// A movement on its own.
pub(super) fn movement(id_: &str, who: &str, amount: i64) -> CreditRow {
    let kind = if amount < 0 { CreditKind::Usage } else { CreditKind::Purchase };
    let metadata = serde_json::Map::new();
    CreditRow {
        id: id(id_),
        user: user(who),
        room: room(who),
        entry: CreditEntry { amount, kind, room_id: None, message_id: None, metadata },
        at: LONG_AGO,
    }
}

/// `room/sender/id` at a position, and what it costs `payer`.
pub(super) fn priced(name: &str, position: Position, credits: u64, payer: &str) -> [Row; 2] {
    let mut message = message(name, position);
    message.credits = Some(credits);
    let (kind, message_id) = (CreditKind::Usage, Some(message.id.clone()));
    let cost = CreditRow {
        id: event_id(&message.room_id, &message.user_id, &message.id, kind),
        user: user(payer),
        room: message.room_id.clone(),
        entry: CreditEntry {
            amount: kind.signed(credits),
            kind,
            room_id: Some(message.room_id.clone()),
            message_id,
            metadata: serde_json::Map::new(),
        },
        at: message.created_at,
    };
    [Row::Credit(cost), Row::Message(message)]
}

fn rows(movements: &[(&str, &str, i64)]) -> Vec<Row> {
    movements.iter().map(|(id, who, amount)| Row::Credit(movement(id, who, *amount))).collect()
}

/// `SplitMix64`, whose seed is printed.
struct Random(u64);

impl Random {
    #[expect(clippy::print_stderr, reason = "whoever sees it fail wants to do the same again")]
    fn with_a_new_seed() -> Random {
        let (seed, _) = uuid::Uuid::new_v4().as_u64_pair();
        eprintln!("seed: {seed}");
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

async fn balance(store: &Arc<dyn Store>, who: &str) -> i64 {
    store.balance(&user(who)).await.unwrap()
}

pub(super) async fn a_movement_counts_once_however_often_it_comes(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    assert_eq!(balance(&store, "ann").await, 0);
    let all =
        rows(&[("c1", "ann", 100), ("c2", "bob", -5), ("c1", "ann", 100), ("c3", "ann", -30)]);
    let done = feed.commit(&all).await;
    assert_eq!((done.credited, done.quarantined), (3, 0));
    assert_eq!(done.balances, [(user("ann"), 70), (user("bob"), -5)]);
    let again = feed.commit(&all).await;
    assert_eq!((again.credited, again.quarantined, again.balances), (0, 0, Vec::new()));
    let more = feed.commit(&rows(&[("c3", "ann", -30), ("c4", "ann", -70)])).await;
    assert_eq!((more.credited, more.balances), (1, vec![(user("ann"), 0)]));
    assert_eq!((balance(&store, "ann").await, balance(&store, "bob").await), (0, -5));
    let found = store.find_credits(&user("ann"), &["c9", "c1", "c4"].map(id)).await.unwrap();
    assert_eq!(found, [false, true, true]);
    let bobs = store.find_credits(&user("bob"), &["c1", "c2"].map(id)).await.unwrap();
    assert_eq!(bobs, [false, true], "nobody else's");
    assert!(store.find_credits(&user("ann"), &[]).await.unwrap().is_empty());
}

pub(super) async fn an_id_with_another_amount_or_user_is_put_aside_once(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let done = feed.commit(&rows(&[("c1", "ann", 5), ("c1", "ann", 6)])).await;
    assert_eq!((done.credited, done.quarantined), (1, 1));
    assert_eq!(done.balances, [(user("ann"), 5)]);
    let others = rows(&[("c1", "ann", 6), ("c1", "ann", 7), ("c1", "bob", 5), ("c1", "bob", 5)]);
    let done = feed.commit(&others).await;
    assert_eq!((done.credited, done.quarantined, done.balances), (0, 2, Vec::new()));
    let done = feed.commit(&others).await;
    assert_eq!((done.credited, done.quarantined), (0, 0));
    assert_eq!((balance(&store, "ann").await, balance(&store, "bob").await), (5, 0));
    for who in ["ann", "bob"] {
        let found = store.find_credits(&user(who), &[id("c1")]).await.unwrap();
        assert_eq!(found, [false], "{who}'s is in quarantine");
    }
    let found = store.reconcile().await.unwrap();
    assert_eq!((found.ledger_rows, found.differences.len()), (1, 3), "{found:?}");
}

pub(super) async fn probing_a_movement_moves_nothing(store: Arc<dyn Store>) {
    let _feed = Feed::begin(&store, "a").await;
    store.probe(&rows(&[("c1", "ann", 5)])).await.unwrap();
    assert_eq!(balance(&store, "ann").await, 0);
    assert_eq!(store.find_credits(&user("ann"), &[id("c1")]).await.unwrap(), [false]);
}

pub(super) async fn balances_are_the_sums_whatever_comes_again(store: Arc<dyn Store>) {
    let mut random = Random::with_a_new_seed();
    let people = ["ann", "bob", "cy"];
    let mut all = Vec::new();
    let mut sums: HashMap<&str, i64> = HashMap::new();
    for n in 0..60 {
        let who = people[random.below(3)];
        let amount = i64::try_from(random.below(2000)).unwrap() - 1000;
        *sums.entry(who).or_default() += amount;
        all.push(Row::Credit(movement(&format!("c{n}"), who, amount)));
    }
    // Each three times, in any order, from the logs of two shards.
    let mut feeds = [Feed::begin(&store, "a").await, Feed::begin(&store, "b").await];
    let mut offered = [&all[..], &all[..], &all[..]].concat();
    offered.sort_by_cached_key(|_| random.next());
    let mut credited = 0;
    for (n, batch) in offered.chunks(13).enumerate() {
        credited += feeds[n % 2].commit(batch).await.credited;
    }
    assert_eq!(credited, 60);
    for who in people {
        assert_eq!(balance(&store, who).await, sums.get(who).copied().unwrap_or(0), "{who}");
    }
    let found = store.reconcile().await.unwrap();
    assert_eq!((found.ledger_rows, found.differences), (60, Vec::<String>::new()));
}

pub(super) async fn what_a_message_cost_is_read_with_it(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let mut all = priced("a/bot/m1", Position::new(1, 1), 12, "ann").to_vec();
    all.push(Row::Message(message("a/bob/m2", Position::new(1, 2))));
    let done = feed.commit(&all).await;
    assert_eq!((done.inserted, done.credited), (2, 1));
    let credits: Vec<_> = feed.all("a").await.iter().map(|message| message.credits).collect();
    assert_eq!(credits, [Some(12), None]);
    assert_eq!(balance(&store, "ann").await, -12);
}

pub(super) async fn a_messages_cost_counts_whoever_took_its_id(store: Arc<dyn Store>) {
    let mut feed = Feed::begin(&store, "a").await;
    let priced = priced("a/bot/m1", Position::new(1, 1), 12, "ann");
    let Row::Credit(cost) = &priced[0] else { unreachable!("it comes first") };
    let guessed = cost.id.as_str();
    // Before it, in its batch, and after it.
    feed.commit(&rows(&[(guessed, "eve", 1)])).await;
    let mut all = rows(&[(guessed, "eve", 1)]);
    all.extend(priced.clone());
    let done = feed.commit(&all).await;
    assert_eq!((done.inserted, done.credited, done.quarantined), (1, 1, 0));
    let done = feed.commit(&priced).await;
    assert_eq!((done.duplicates, done.credited, done.quarantined), (1, 0, 0));
    assert_eq!((balance(&store, "ann").await, balance(&store, "eve").await), (-12, 1));
    let found = store.find_credits(&user("ann"), &[id(guessed)]).await.unwrap();
    assert_eq!(found, [true], "it is known by the id that is told");
    let found = store.reconcile().await.unwrap();
    assert_eq!((found.ledger_rows, found.differences), (2, Vec::<String>::new()));
}
