//! What becomes of a talk of 500 messages a second while Redis is killed, stopped, emptied, set
//! back, filled or slowed down: each message that was accepted is stored once, in one order.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use std::time::Duration;

use fleet::{ClusterOptions, Faults, Fleet, RedisOptions};
use harness::{Expect, eventually};
use tokio::time::Instant;

use super::journal::until_empty;
use super::set_back::{snapshot, told};
use super::{Crowd, PATIENCE, options};

const ROOMS: usize = 4;
const PEOPLE_PER_ROOM: usize = 5;
/// How often each of them says something: 500 messages a second of all.
const SAID_EVERY: Duration = Duration::from_millis(40);
/// How much is accepted before and after, a second's worth.
const MARGIN: usize = 500;
/// How long a call takes where Redis is slow: each way half of it.
const SLOWNESS: Duration = Duration::from_secs(1);

/// What happens to Redis.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Killed,
    Stopped,
    Emptied,
    SetBack,
    Full,
    Slow,
}

fn from_env(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Waits until so much more is accepted.
async fn goes_on(talk: &Crowd, messages: usize) {
    talk.until_acked(talk.acked() + messages).await;
}

/// People talk for as long as something takes; gives how much each of them said.
async fn talk_while(talk: &Crowd, work: impl Future<Output = ()>) -> usize {
    let mut work = std::pin::pin!(work);
    let (mut pace, mut said) = (tokio::time::interval(SAID_EVERY), 0);
    loop {
        tokio::select! {
            () = &mut work => return said,
            _ = pace.tick() => {
                talk.say(1);
                said += 1;
            }
        }
    }
}

/// It lasts until so much was accepted meanwhile, or is known, where nothing is accepted.
async fn happens(fleet: &mut Fleet, talk: &Crowd, loss: Loss) {
    let lasts = || goes_on(talk, from_env("LOSS_MESSAGES", 1000));
    match loss {
        Loss::Killed => {
            fleet.redis_mut().kill_9().await.unwrap();
            lasts().await;
            fleet.redis_mut().restart(PATIENCE).await.unwrap();
        }
        Loss::Stopped => {
            fleet.redis().stop().await.unwrap();
            lasts().await;
            fleet.redis().cont().unwrap();
        }
        Loss::Emptied => told(fleet, "FLUSHALL").await,
        Loss::SetBack => {
            snapshot(fleet).await;
            goes_on(talk, MARGIN).await;
            fleet.redis_mut().kill_9().await.unwrap();
            fleet.redis_mut().restart(PATIENCE).await.unwrap();
        }
        Loss::Full => {
            let limit = async |bytes: &str| {
                fleet.redis().command(&["CONFIG", "SET", "maxmemory", bytes]).await.unwrap();
            };
            limit("1mb").await;
            let knows = || async {
                let body = fleet.gateways()[0].operator_get("/readyz").await.unwrap().body;
                if body.contains("redis") { Ok(()) } else { Err(body) }
            };
            eventually(PATIENCE, "a node knows", knows).await;
            limit("0").await;
        }
        Loss::Slow => {
            let link = fleet.redis_proxy().link();
            link.set_faults(Faults { latency: SLOWNESS, ..Faults::default() });
            lasts().await;
            link.heal();
        }
    }
}

async fn survives(loss: Loss) {
    let mut options = ClusterOptions { proxies: matches!(loss, Loss::Slow), ..options() };
    if matches!(loss, Loss::SetBack) {
        options.redis = RedisOptions::default().with_setting("appendonly", "no");
    }
    let mut fleet = Fleet::cluster(options).await.unwrap();
    let talk = Crowd::begin(&fleet, ROOMS, PEOPLE_PER_ROOM).await;
    let mut said = 0;
    for _ in 0..from_env("LOSS_RUNS", 2) {
        let loses = async {
            goes_on(&talk, MARGIN).await;
            happens(&mut fleet, &talk, loss).await;
            goes_on(&talk, MARGIN).await;
        };
        said += talk_while(&talk, loses).await;
        talk.until_persisted(said * ROOMS * PEOPLE_PER_ROOM).await;
    }
    let expect = Expect { ack_positions: false, ..Expect::default() };
    talk.ends_well(&fleet, expect).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_comes_back_costs_a_talk_nothing() {
    survives(Loss::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_costs_a_talk_nothing() {
    survives(Loss::Stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_emptied_costs_a_talk_nothing() {
    survives(Loss::Emptied).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_set_back_costs_a_talk_nothing() {
    survives(Loss::SetBack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_full_costs_a_talk_nothing() {
    survives(Loss::Full).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_takes_two_seconds_a_call_costs_a_talk_nothing() {
    survives(Loss::Slow).await;
}

/// A journal empties in its order when Redis is back; how long it took is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_journal_is_replayed_in_its_order() {
    let mut fleet = Fleet::cluster(options()).await.unwrap();
    let talk = Crowd::begin(&fleet, ROOMS, PEOPLE_PER_ROOM).await;
    let people = ROOMS * PEOPLE_PER_ROOM;
    let each = from_env("REPLAY_MESSAGES", 4000) / people;
    fleet.redis_mut().kill_9().await.unwrap();
    talk.say(each);
    talk.until_acked(each * people).await;
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
    let began = Instant::now();
    for gateway in fleet.gateways() {
        until_empty(gateway).await;
    }
    println!("{} messages were replayed and stored in {:?}", each * people, began.elapsed());
    let expect = Expect { ack_positions: false, ..Expect::default() };
    talk.ends_well(&fleet, expect).await;
}
