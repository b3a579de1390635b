//! What is killed, stopped, emptied while everybody talks.

use fleet::Fleet;
use harness::{Expect, eventually};

use super::set_back::{set_back, snapshot, told, with_snapshots};
use super::{Crowd, PATIENCE, cluster, rows, stored};

const ROOMS: usize = 4;
const PEOPLE_PER_ROOM: usize = 5;
const MESSAGES_EACH: usize = 1000;
const MESSAGES: usize = ROOMS * PEOPLE_PER_ROOM * MESSAGES_EACH;

/// Acked places may pass where the log forgot and the gateways offered again.
const LOG_FORGETS: Expect =
    Expect { ack_positions: false, dense: true, contents: true, complete: true };

/// Talks, and does something to the fleet once a part of it is said.
async fn talk_through(
    fleet: &mut Fleet,
    expect: Expect,
    fault: impl AsyncFnOnce(&mut Fleet),
) -> u64 {
    let talk = Crowd::begin(fleet, ROOMS, PEOPLE_PER_ROOM).await;
    talk.say(MESSAGES_EACH);
    talk.until_acked(MESSAGES / 5).await;
    fault(fleet).await;
    talk.until_persisted(MESSAGES).await;
    talk.ends_well(fleet, expect).await;
    assert_eq!(rows(fleet).await.map(|rows| rows.len()), Ok(MESSAGES));
    talk.resets()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_killed_gateway_go_on_at_the_other() {
    let mut fleet = cluster().await;
    let resets = talk_through(&mut fleet, Expect::default(), async |fleet| {
        fleet.gateways_mut()[0].kill_9().await.unwrap();
    })
    .await;
    assert_eq!(resets, 0, "what a gateway accepted is in redis");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_comes_back_costs_nothing() {
    let mut fleet = cluster().await;
    talk_through(&mut fleet, LOG_FORGETS, async |fleet| {
        fleet.redis_mut().kill_9().await.unwrap();
        fleet.redis_mut().restart(PATIENCE).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_leaves_every_node_in_traffic_and_costs_nothing_when_it_wakes() {
    let mut fleet = cluster().await;
    talk_through(&mut fleet, LOG_FORGETS, async |fleet| {
        fleet.redis().stop().await.unwrap();
        for gateway in fleet.gateways() {
            let degraded = || async {
                let answer = gateway.operator_get("/readyz").await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.body);
                answer.body.contains("redis does not answer")
            };
            eventually(PATIENCE, "a node says that redis is away", degraded).await;
        }
        fleet.redis().cont().unwrap();
    })
    .await;
    for gateway in fleet.gateways() {
        let back = || async { gateway.operator_get("/readyz").await.unwrap().body == "ok" };
        eventually(PATIENCE, "the node is ready again", back).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_redis_that_was_emptied_has_lost_is_offered_again() {
    let mut fleet = cluster().await;
    talk_through(&mut fleet, LOG_FORGETS, async |fleet| {
        told(fleet, "FLUSHALL").await;
    })
    .await;
    let (mut offered_again, mut gaps) = (0.0, 0.0);
    for gateway in fleet.gateways() {
        let metrics = gateway.metrics().await.unwrap();
        offered_again += metrics.sum("roomcast_offered_again_total");
        gaps += metrics.sum("roomcast_gaps_total");
    }
    assert!(offered_again > 0.0, "the wipe found nothing to lose");
    assert!(gaps > 0.0, "no room noticed that the order begins anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_set_back_to_a_snapshot_costs_nothing() {
    let mut fleet = with_snapshots(2).await;
    talk_through(&mut fleet, LOG_FORGETS, async |fleet| {
        snapshot(fleet).await;
        let before = stored(fleet).await;
        let more = || async { stored(fleet).await > before + MESSAGES / 10 };
        eventually(PATIENCE, "the database is ahead of the snapshot", more).await;
        set_back(fleet).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_twice_has_everything_once() {
    let mut fleet = cluster().await;
    let resets = talk_through(&mut fleet, Expect::default(), async |fleet| {
        for _ in 0..2 {
            let before = stored(fleet).await;
            fleet.postgres_mut().kill_9().await.unwrap();
            fleet.postgres_mut().restart(PATIENCE).await.unwrap();
            let more = || async { stored(fleet).await > before };
            eventually(PATIENCE, "rows arrive again", more).await;
        }
    })
    .await;
    assert_eq!(resets, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_is_replaced_by_the_other() {
    let mut fleet = cluster().await;
    let resets = talk_through(&mut fleet, Expect::default(), async |fleet| {
        fleet.workers_mut()[0].kill_9().await.unwrap();
    })
    .await;
    assert_eq!(resets, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_slept_past_its_lease_stores_nothing_twice() {
    let mut fleet = cluster().await;
    let resets = talk_through(&mut fleet, Expect::default(), async |fleet| {
        fleet.workers()[0].stop().await.unwrap();
        let taken = || async { owners(fleet).await == 1 };
        eventually(PATIENCE, "the other worker has every shard", taken).await;
        fleet.workers()[0].cont().unwrap();
    })
    .await;
    assert_eq!(resets, 0);
    let shared = || async { owners(&fleet).await == 2 };
    eventually(PATIENCE, "both have shards again", shared).await;
}

/// How many workers hold a lease that has not lapsed.
pub(super) async fn owners(fleet: &Fleet) -> usize {
    let count = "SELECT count(DISTINCT lease_owner) FROM shards WHERE lease_until > now()";
    let answer = fleet.postgres().query(fleet.database(), count).await;
    answer.ok().and_then(|mut rows| rows.pop()?.pop()??.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once_still_ends_with_each_message_once() {
    let mut fleet = cluster().await;
    talk_through(&mut fleet, LOG_FORGETS, async |fleet| {
        fleet.workers_mut()[1].kill_9().await.unwrap();
        fleet.gateways_mut()[1].kill_9().await.unwrap();
        fleet.redis_mut().kill_9().await.unwrap();
        fleet.postgres_mut().kill_9().await.unwrap();
        fleet.redis_mut().restart(PATIENCE).await.unwrap();
        fleet.postgres_mut().restart(PATIENCE).await.unwrap();
        fleet.gateways_mut()[1].restart(PATIENCE).await.unwrap();
        fleet.workers_mut()[1].restart(PATIENCE).await.unwrap();
    })
    .await;
}
