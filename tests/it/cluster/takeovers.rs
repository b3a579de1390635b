//! Workers that are stopped in the middle of a round, woken behind their leases and killed, again
//! and again while people talk and balances move.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use std::time::Duration;

use fleet::{Fleet, GatewayNode};
use harness::{Expect, eventually};
use tokio::time::Instant;

use super::credits::{counted, reconcile, stored_balances};
use super::faults::owners;
use super::standstill::sessions;
use super::{Crowd, PATIENCE, cluster, rows};
use crate::credits::{Usage, balances, offer_all, usages};

const ROOMS: usize = 4;
const PEOPLE_PER_ROOM: usize = 5;
/// What each of them says in a round, and how often a balance moves.
const MESSAGES_EACH: usize = 100;
const USAGES: usize = 2000;
const USERS: usize = 50;

/// Tries to meet a worker in a transaction; there is one most of the time.
const TRIES_MAX: usize = 200;
/// How long it is looked whether it stands still in one.
const STANDS_AFTER: Duration = Duration::from_millis(250);

fn rounds() -> usize {
    std::env::var("TAKEOVER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Of a session whose process has stopped; those of others ask for something all the time.
const STANDS: &str = "state = 'idle in transaction' AND backend_type = 'client backend'
    AND state_change < clock_timestamp() - interval '100 milliseconds'";

/// Stops a worker when it has begun a transaction that it does not end.
async fn stop_in_a_round(fleet: &Fleet, worker: usize) {
    for _ in 0..TRIES_MAX {
        fleet.workers()[worker].stop().await.unwrap();
        let stopped = Instant::now();
        while stopped.elapsed() < STANDS_AFTER {
            if sessions(fleet, STANDS).await.unwrap() > 0 {
                return;
            }
        }
        fleet.workers()[worker].cont().unwrap();
    }
    panic!("the worker was never in a transaction");
}

/// One worker sleeps past its lease in the middle of a round, and wakes as the other is killed.
async fn take_over(fleet: &mut Fleet, sleeper: usize) {
    stop_in_a_round(fleet, sleeper).await;
    let one = || async { owners(fleet).await == 1 };
    eventually(PATIENCE, "the other worker has every shard", one).await;
    fleet.workers()[sleeper].cont().unwrap();
    let other = &mut fleet.workers_mut()[1 - sleeper];
    other.kill_9().await.unwrap();
    other.restart(PATIENCE).await.unwrap();
    let both = || async { owners(fleet).await == 2 };
    eventually(PATIENCE, "both have shards", both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_sleep_and_die_in_turn_store_each_message_and_movement_once() {
    let mut fleet = cluster().await;
    let urls: Vec<String> = fleet.gateways().iter().map(GatewayNode::ws_url).collect();
    let talk = Crowd::begin(&fleet, ROOMS, PEOPLE_PER_ROOM).await;
    let mut used: Vec<Usage> = Vec::new();
    let mut offers = Vec::new();
    for round in 0..rounds() {
        talk.say(MESSAGES_EACH);
        let more = usages(USAGES, USERS);
        used.extend(more.iter().cloned());
        let urls = urls.clone();
        offers.push(tokio::spawn(async move { offer_all(&urls, more).await }));
        take_over(&mut fleet, round % 2).await;
    }
    for offer in offers {
        offer.await.unwrap();
    }
    let messages = rounds() * MESSAGES_EACH * PEOPLE_PER_ROOM * ROOMS;
    talk.until_persisted(messages).await;
    talk.ends_well(&fleet, Expect::default()).await;
    assert_eq!(rows(&fleet).await.map(|rows| rows.len()), Ok(messages));
    let expected = balances(&used);
    let settled = || async {
        let (counted, balances) = (counted(&fleet).await, stored_balances(&fleet).await?);
        let same = counted == used.len() && balances == expected;
        if same { Ok(()) } else { Err(format!("{counted} counted, {balances:?}")) }
    };
    eventually(PATIENCE, "ledger and balances are what was used", settled).await;
    let (code, said) = reconcile(&fleet);
    assert_eq!(code, Some(0), "{said}");
    let log = std::fs::read_to_string(fleet.postgres().log()).unwrap();
    assert!(!log.contains("deadlock"), "{log}");
}
