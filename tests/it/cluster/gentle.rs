//! Nodes that leave and come, and people who hardly notice.

use std::time::Duration;

use fleet::{ClusterOptions, Fleet, GatewayOptions};
use futures_util::future::join_all;
use harness::sim_client::Record;
use harness::wire::Proof;
use harness::{Client, Expect, eventually, unique_id};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Crowd, PATIENCE};

/// How many people are in a room together.
const PEOPLE_PER_ROOM: usize = 10;

/// A figure of the rolling restart, which `tests/long` sets to what a real one has.
fn figure(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

async fn three(gateway: GatewayOptions) -> Fleet {
    let options = ClusterOptions { gateways: 3, workers: 1, gateway, ..ClusterOptions::default() };
    Fleet::cluster(options).await.expect("a cluster")
}

/// Says something every now and then, of one after the other, until `done`.
async fn talk(crowd: &Crowd, per_second: usize, done: impl Future<Output = ()>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let saying = async {
        for number in 0.. {
            ticks.tick().await;
            let chatter = number % crowd.chatters.len();
            crowd.chatters[chatter].say(crowd.room(chatter), &format!("text {number}"));
        }
    };
    tokio::select! {
        () = saying => unreachable!("it talks for ever"),
        () = done => {}
    }
}

/// Most arrivals within any second, but for the first of each client.
fn busiest_second(records: &[Record]) -> usize {
    let mut at: Vec<Instant> =
        records.iter().flat_map(|record| record.welcomed_at.iter().skip(1)).copied().collect();
    at.sort_unstable();
    let within = |begin: &Instant| {
        let second = at.iter().filter(|at| *at >= begin && at.duration_since(*begin).as_secs() < 1);
        second.count()
    };
    at.iter().map(within).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_costs_nobody_more_than_a_moment() {
    let people = figure("ROLLING_PEOPLE", 90);
    let per_second = figure("ROLLING_MESSAGES_PER_SECOND", 60);
    let spread_s = figure("ROLLING_SPREAD_S", 3);
    let gateway = GatewayOptions::default()
        .with_env("ROOMCAST_DRAIN_SPREAD_MS", (spread_s * 1000).to_string())
        .with_env("ROOMCAST_DRAIN_TIMEOUT_MS", (spread_s * 1000 + 20_000).to_string());
    let mut fleet = three(gateway).await;
    let crowd = Crowd::begin(&fleet, people / PEOPLE_PER_ROOM, PEOPLE_PER_ROOM).await;
    let restarting = async {
        for gateway in fleet.gateways_mut() {
            let ended = gateway.terminate(PATIENCE).await.expect("it was running");
            assert!(ended.success(), "it leaves in order");
            gateway.restart(PATIENCE).await.expect("it starts again");
        }
    };
    talk(&crowd, per_second, restarting).await;
    crowd.ends_well(&fleet, Expect::default()).await;

    let records: Vec<Record> = crowd.chatters.iter().map(harness::SimClient::record).collect();
    for record in &records {
        assert!(record.shown_offline.is_empty(), "{}: {:?}", record.user, record.shown_offline);
        assert_eq!(record.raw_duplicates, 0, "{}", record.user);
    }
    let mut pauses: Vec<Duration> =
        records.iter().flat_map(|record| record.pauses.clone()).collect();
    pauses.sort_unstable();
    assert!(pauses.len() >= people * 2 / 3, "{} of {people} had to move", pauses.len());
    let p99 = pauses[pauses.len() * 99 / 100];
    let busiest = busiest_second(&records);
    println!(
        "{people} people, {per_second} messages/s: {} moves, pauses p50 {:?}, p99 {p99:?}, \
         most {:?}; at most {busiest} came back within a second",
        pauses.len(),
        pauses[pauses.len() / 2],
        pauses.last(),
    );
    assert!(p99 <= Duration::from_secs(3), "{p99:?}");
    // All of them may be on the node that leaves. Over 30 seconds, that is a thirtieth a second.
    let most = (people * 3 / 2).div_ceil(spread_s) + 5;
    assert!(busiest <= most, "{busiest} came back within a second, of {people}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_serves_each_client_until_its_turn() {
    const CLIENTS: usize = 40;
    let gateway = GatewayOptions::default().with_env("ROOMCAST_DRAIN_SPREAD_MS", "4000");
    let mut fleet = three(gateway).await;
    let url = fleet.gateways()[0].ws_url();
    let connect = |number: usize| {
        let (url, user) = (url.clone(), Proof::user(&format!("user-{number}")));
        async move {
            let client = Client::connect(&url, &user).await.unwrap();
            client.join("lobby", None).await.unwrap();
            client
        }
    };
    let clients = join_all((0..CLIENTS).map(connect)).await;
    // Each writes until it is told to go, and nothing that it had asked is left without an answer.
    let stay = |mut client: Client| async move {
        let mut accepted = 0;
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            let said = client.send("lobby", &unique_id(), "still here").await;
            match said {
                Ok(_) => accepted += 1,
                Err(error) => {
                    let told = client.wait_for("reconnect", PATIENCE).await;
                    assert!(told.is_ok_and(|data| data["afterMs"].is_u64()), "{error}");
                    let closed = client.closed(PATIENCE).await.unwrap();
                    assert_eq!(closed.code, Some(1012));
                    return (Instant::now(), accepted);
                }
            }
        }
    };
    let staying: Vec<_> = clients.into_iter().map(|client| tokio::spawn(stay(client))).collect();
    let ended = fleet.gateways_mut()[0].terminate(PATIENCE).await.expect("it was running");
    assert!(ended.success());
    let mut left = Vec::new();
    for client in staying {
        left.push(client.await.unwrap());
    }
    left.sort_unstable();
    let (first, last) = (left[0].0, left[CLIENTS - 1].0);
    // A second of them would be ten: a machine that stands still may bunch some.
    assert!(last - first >= Duration::from_secs(2), "all are gone within {:?}", last - first);
    assert!(left[CLIENTS - 1].1 > left[0].1 + 5, "the last ones were served: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_far_above_the_others_sends_some_elsewhere_a_few_at_a_time() {
    const CLIENTS: usize = 160;
    let fleet = three(GatewayOptions::default()).await;
    let crowded = &fleet.gateways()[0];
    let url = crowded.ws_url();
    let connect = |number: usize| {
        let (url, user) = (url.clone(), Proof::user(&format!("user-{number}")));
        async move { Client::connect(&url, &user).await.unwrap() }
    };
    let began = Instant::now();
    let clients = join_all((0..CLIENTS).map(connect)).await;
    let advised = |samples: &fleet::Samples| {
        samples.get("roomcast_reconnects_advised_total{reason=\"rebalance\"}").unwrap_or(0.0)
    };
    let some = || async { advised(&crowded.metrics().await.unwrap()) >= 4.0 };
    eventually(PATIENCE, "some are sent elsewhere", some).await;
    // At most a hundredth a second, and one at least.
    let samples = crowded.metrics().await.unwrap();
    let most = began.elapsed().as_secs_f64().ceil() * CLIENTS as f64 / 100.0 + 1.0;
    assert!(advised(&samples) <= most, "{} of {most}", advised(&samples));
    assert_eq!(samples.get("roomcast_draining"), Some(0.0));
    let mut gone = 0;
    for mut client in clients {
        if let Ok(told) = client.wait_for("reconnect", Duration::from_millis(10)).await {
            assert!(told["afterMs"].is_u64(), "{told}");
            assert_eq!(client.closed(PATIENCE).await.unwrap().code, Some(1012));
            gone += 1;
        } else {
            // Whoever stays is served.
            client.command("heartbeat", json!({})).await.unwrap();
        }
    }
    assert!(gone >= 4, "{gone} were told");
    for gateway in &fleet.gateways()[1..] {
        let samples = gateway.metrics().await.unwrap();
        assert!(advised(&samples) < 1.0, "the others have none to spare");
    }
}
