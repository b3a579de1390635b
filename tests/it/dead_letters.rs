//! Rows that the database refuses, however often they are tried.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::collections::BTreeSet;

use fleet::{Fleet, GatewayNode, GatewayOptions};
use harness::client::Pending;
use harness::wire::Incoming;
use harness::{Client, Expect, Row, eventually};
use serde_json::{Value, json};

use crate::fixtures::{
    Crowd, POISON, SOON, accepted, client, database, gateway, heard, in_one_batch, is_event,
    rows_of, say, until_heard,
};

const STOPPED: &str = "roomcast_sync_shards_stopped_total";

/// (message, room, user, code, error) of every dead letter; each has its raw entry.
fn dead_letters(gateway: &GatewayNode) -> Vec<[String; 5]> {
    let database = database(gateway);
    let select = "SELECT message_id, room_id, user_id, code, error FROM dead_letters
                  WHERE length(raw) > 0 ORDER BY id";
    let mut select = database.prepare(select).unwrap();
    let letters = select
        .query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?]));
    letters.unwrap().collect::<Result<_, _>>().unwrap()
}

async fn refused(reply: Pending) -> String {
    reply.reply(SOON).await.unwrap_err().code().unwrap_or("not refused").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisonous_row_is_alone_among_the_dead_letters_and_its_sender_is_told() {
    let fleet = gateway().await;
    let gateway = fleet.gateway();
    let alice = client(gateway, "alice").await;
    let mut bob = client(gateway, "bob").await;
    alice.join("r", None).await.unwrap();
    bob.join("r", None).await.unwrap();
    database(gateway).execute_batch(POISON).unwrap();

    let contents = ["one", "two", "the poison", "three", "four"];
    let mut said = in_one_batch(gateway, &alice, "r", &contents).await;
    let (poison, reply) = said.remove(2);
    assert_eq!(refused(reply).await, "rejected");
    let mut places = Vec::new();
    for (id, reply) in said {
        places.push((accepted(reply).await.position.unwrap(), id));
    }
    assert_eq!(places[2].0.seq, places[1].0.seq + 2, "the refused one keeps its place");

    let (last, reply) = say(&alice, "r", "the end").await;
    places.push((accepted(reply).await.position.unwrap(), last.clone()));
    until_heard(&mut bob, &last).await;
    assert_eq!(heard(&bob, "r")[1..], places, "bob lacks nothing but the poison");
    let stored = rows_of(gateway, "r");
    let stored: Vec<_> = stored[1..].iter().map(|row| (row.position(), row.id.clone())).collect();
    assert_eq!(stored, places);

    let letters = dead_letters(gateway);
    let [message, room, user, code, error] = &letters[0];
    assert_eq!((letters.len(), message, room.as_str(), user.as_str()), (1, &poison, "r", "alice"));
    assert_eq!(code, "SQLITE_CONSTRAINT_TRIGGER");
    assert!(error.contains("poison is refused"), "{error}");

    told(&alice, &poison).await;
    let told = bob.log().into_iter().filter(|incoming| is_event(incoming, "message:rejected"));
    assert_eq!(told.count(), 0, "it is its sender's business alone");

    // Offered again it is refused again, from memory: there is no second letter.
    let again = alice.send("r", &poison, "the poison").await.unwrap_err();
    assert_eq!(again.code(), Some("rejected"));
    assert_eq!(dead_letters(gateway).len(), 1);
    assert_eq!(gateway.metrics().await.unwrap().sum("roomcast_sync_dead_letters_total"), 1.0);
}

/// `message:rejected` comes, and nothing that says that it is persisted.
async fn told(client: &Client, poison: &str) {
    let rejected = || async {
        let log = client.log();
        let rejected = log.iter().position(|incoming| is_event(incoming, "message:rejected"))?;
        Some((rejected, log))
    };
    let (rejected, log) = eventually(SOON, "the sender is told", rejected).await;
    assert!(!log.iter().any(|incoming| is_event(incoming, "message:persisted")));
    let Incoming::Event { data, .. } = &log[rejected] else { unreachable!("it was found above") };
    let Value::String(code) = &data["error"]["code"] else { panic!("no code: {data}") };
    assert_eq!(
        (&data["roomId"], &data["id"], code.as_str()),
        (&json!("r"), &json!(poison), "rejected")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_in_a_busy_talk_costs_nobody_else_anything() {
    let fleet = gateway().await;
    let talk = Crowd::begin(fleet.gateway(), 2, 3).await;
    database(fleet.gateway()).execute_batch(POISON).unwrap();
    let mut poison = BTreeSet::new();
    for round in 0..20 {
        talk.say(20);
        let who = round % talk.chatters.len();
        poison.insert(talk.chatters[who].say(talk.room(who), &format!("poison {round}")));
    }
    // A refused message leaves a number without a row.
    let expect = Expect { dense: false, ..Expect::default() };
    talk.ends_well(fleet.gateway(), expect).await;
    let mut told = BTreeSet::new();
    for chatter in &talk.chatters {
        chatter.look(|record| {
            assert!(record.refused.values().all(|refused| refused.code == "rejected"));
            told.extend(record.refused.keys().cloned());
            let rejected = record.rejected.keys().map(|(_, id)| id);
            assert_eq!(record.refused.keys().collect::<Vec<_>>(), rejected.collect::<Vec<_>>());
        });
    }
    assert_eq!(told, poison);
    let letters = dead_letters(fleet.gateway());
    assert_eq!(letters.into_iter().map(|[id, ..]| id).collect::<BTreeSet<_>>(), poison);
    assert_eq!(talk.resets(), 0);
    assert_eq!(crate::fixtures::rows(fleet.gateway()).map(|rows| rows.len()), Ok(20 * 20 * 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_of_which_every_row_is_refused_stops_its_shard_until_the_fault_is_gone() {
    let options = GatewayOptions::default().with_env("ROOMCAST_SYNC_RETRY_DELAY_MAX_MS", "50");
    let mut fleet = Fleet::embedded(options).await.unwrap();
    let gateway = fleet.gateway();
    // Two rooms of different shards: a room's shard is that of its name for ever.
    let (sick, sound) = ("r", "s");
    let shard = |room| shared::contract::id::RoomId::parse(room).unwrap().shard();
    assert_ne!(shard(sick), shard(sound));
    let mut alice = client(gateway, "alice").await;
    let bob = client(gateway, "bob").await;
    alice.join(sick, None).await.unwrap();
    bob.join(sound, None).await.unwrap();
    database(gateway).execute_batch(POISON).unwrap();

    let said = in_one_batch(gateway, &alice, sick, &["poison"; 20]).await;
    let stopped = || async { gateway.metrics().await.is_ok_and(|now| now.sum(STOPPED) >= 1.0) };
    eventually(SOON, "the shard stops", stopped).await;
    assert_eq!(dead_letters(gateway), Vec::<[String; 5]>::new());
    assert_eq!(rows_of(gateway, sick).len(), 1, "only what went ahead");
    for _ in 0..20 {
        let (_, reply) = say(&bob, sound, "elsewhere").await;
        accepted(reply).await;
    }
    assert_eq!(rows_of(gateway, sound).len(), 20, "other shards go on");

    database(gateway).execute_batch("DROP TRIGGER poison").unwrap();
    let mut places = Vec::new();
    for (id, reply) in said {
        places.push((accepted(reply).await.position.unwrap(), id));
    }
    until_heard(&mut alice, &places[19].1).await;
    let stored = rows_of(gateway, sick);
    let stored: Vec<_> =
        stored[1..].iter().map(|row: &Row| (row.position(), row.id.clone())).collect();
    assert_eq!(stored, places, "everything arrives, in its order");
    assert_eq!(dead_letters(gateway), Vec::<[String; 5]>::new());
    assert!(fleet.gateway_mut().terminate(SOON).await.unwrap().success());
}
