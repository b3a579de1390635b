//! The process is killed, or told to go, again and again while everybody talks.

use std::collections::BTreeMap;

use fleet::Fleet;
use harness::wire::{Accepted, Incoming};
use harness::{Expect, unique_id};
use serde::Deserialize;
use tokio::time::Instant;

use crate::fixtures::{Crowd, SOON, accepted, client, gateway, is_event, offer, rows, rows_of};

const ROOMS: usize = 4;
const PEOPLE_PER_ROOM: usize = 5;
const MESSAGES_EACH: usize = 1000;
const MESSAGES: usize = ROOMS * PEOPLE_PER_ROOM * MESSAGES_EACH;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_on_the_way_lose_nothing_and_double_nothing() {
    const KILLS: usize = 10;
    let mut fleet = gateway().await;
    let talk = Crowd::begin(fleet.gateway(), ROOMS, PEOPLE_PER_ROOM).await;
    let began = Instant::now();
    talk.say(MESSAGES_EACH);
    for kill in 1..=KILLS {
        talk.until_persisted(MESSAGES * kill / (KILLS + 1)).await;
        fleet.gateway_mut().kill_9().await.unwrap();
        fleet.gateway_mut().restart(SOON).await.unwrap();
    }
    talk.until_persisted(MESSAGES).await;
    println!("{:.0} messages/s", MESSAGES as f64 / began.elapsed().as_secs_f64());
    everything_stands_once(&talk, &fleet, MESSAGES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_in_the_middle_of_a_talk_are_told_and_lose_nothing() {
    const RESTARTS: usize = 5;
    let mut fleet = gateway().await;
    let talk = Crowd::begin(fleet.gateway(), ROOMS, PEOPLE_PER_ROOM).await;
    talk.say(MESSAGES_EACH / 2);
    for restart in 1..=RESTARTS {
        talk.until_persisted(MESSAGES / 2 * restart / (RESTARTS + 1)).await;
        let status = fleet.gateway_mut().terminate(SOON).await.unwrap();
        assert!(status.success(), "{status}");
        fleet.gateway_mut().restart(SOON).await.unwrap();
    }
    talk.until_persisted(MESSAGES / 2).await;
    for chatter in &talk.chatters {
        chatter.look(|record| {
            let codes: Vec<_> = record.closes.iter().map(|closed| closed.code).collect();
            assert!(codes.iter().all(|code| *code == Some(1012)), "{}: {codes:?}", record.user);
        });
    }
    everything_stands_once(&talk, &fleet, MESSAGES / 2).await;
}

async fn everything_stands_once(talk: &Crowd, fleet: &Fleet, said: usize) {
    talk.ends_well(fleet.gateway(), Expect::default()).await;
    assert_eq!(rows(fleet.gateway()).map(|rows| rows.len()), Ok(said));
    // Nobody was shown what a kill could take back, so every cursor can be continued.
    assert_eq!(talk.resets(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaving_node_answers_what_is_under_way_and_sends_its_clients_elsewhere() {
    const SENDS: usize = 2000;
    let mut fleet = gateway().await;
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let ids: Vec<String> = (0..SENDS).map(|_| unique_id()).collect();
    let pending = offer(&alice, "r", &ids).await;
    let status = fleet.gateway_mut().terminate(SOON).await.unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(alice.closed(SOON).await.unwrap().code, Some(1012));
    // Events of the room may still follow the word that the node is leaving, but no answers.
    let log = alice.log();
    let parting = log.iter().skip_while(|incoming| !is_event(incoming, "reconnect"));
    let Some(Incoming::Event { data, .. }) = parting.clone().next() else {
        panic!("nobody said that the node is leaving");
    };
    let after_ms = data["afterMs"].as_u64();
    assert!(after_ms.is_some_and(|after_ms| after_ms <= 500), "few come back soon: {data}");
    assert!(!parting.clone().any(|incoming| matches!(incoming, Incoming::Reply { .. })));

    // What was answered stands, and nothing stands that was neither answered nor unanswered.
    let mut answered = BTreeMap::new();
    for (id, reply) in ids.iter().zip(pending) {
        if let Ok(data) = reply.reply(SOON).await {
            answered.insert(id.clone(), Accepted::deserialize(&data).unwrap().position.unwrap());
        }
    }
    let standing: BTreeMap<String, _> = rows_of(fleet.gateway(), "r")
        .into_iter()
        .map(|row| (row.id.clone(), row.position()))
        .collect();
    println!("{} of {SENDS} answered", answered.len());
    assert_eq!(answered, standing, "a node that leaves in order answers what it took in");

    fleet.gateway_mut().restart(SOON).await.unwrap();
    let again = client(fleet.gateway(), "alice").await;
    again.join("r", None).await.unwrap();
    for (id, reply) in ids.iter().zip(offer(&again, "r", &ids).await) {
        assert_eq!(accepted(reply).await.duplicate, answered.contains_key(id), "{id}");
    }
    assert_eq!(rows_of(fleet.gateway(), "r").len(), SENDS);
}
