//! Redis takes nothing, and what is accepted goes into a journal.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::path::PathBuf;
use std::time::Duration;

use fleet::{ClusterOptions, Fleet, GatewayNode, GatewayOptions, Place};
use harness::wire::Accepted;
use harness::{Client, Expect, Row, eventually, unique_id};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Crowd, PATIENCE, cluster, options, rows, stored};
use crate::fixtures::{client, until_heard};
use crate::full_disk::{FILE_BYTES_MAX, limit, program};

/// Far above the second within which a sender is answered, and far below the ten that it took.
const SOON: Duration = Duration::from_secs(5);

/// A cluster whose gateways have this besides.
async fn with_env(settings: &[(&str, &str)]) -> Fleet {
    let with =
        |options: GatewayOptions, (name, value): &(&str, &str)| options.with_env(name, *value);
    let gateway = settings.iter().fold(GatewayOptions::default(), with);
    Fleet::cluster(ClusterOptions { gateway, ..options() }).await.unwrap()
}

fn is_journaled(reply: &Value) {
    assert_eq!(reply["durability"], "journal", "{reply}");
    assert_eq!((&reply["position"], &reply["persisted"]), (&Value::Null, &json!(false)));
}

/// Somebody in a room that has a message already, of this id.
async fn in_room(fleet: &Fleet) -> (Client, Vec<String>) {
    let alice = client(&fleet.gateways()[0], "alice").await;
    alice.join("r", None).await.unwrap();
    let ids = vec![unique_id()];
    alice.send("r", &ids[0], "before").await.unwrap();
    (alice, ids)
}

async fn stop_workers(fleet: &mut Fleet) {
    for worker in fleet.workers_mut() {
        worker.kill_9().await.unwrap();
    }
}

async fn start_workers(fleet: &mut Fleet) {
    for worker in fleet.workers_mut() {
        worker.restart(PATIENCE).await.unwrap();
    }
}

/// Sends something while Redis takes nothing.
async fn journal(sender: &Client, room: &str, content: &str) -> String {
    let id = unique_id();
    let began = Instant::now();
    let said = json!({ "roomId": room, "id": id, "content": content });
    let reply = sender.command("message:send", said).await.unwrap();
    is_journaled(&reply);
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
    id
}

/// Waits until a connection hears of a message under this name.
async fn until_told(member: &mut Client, name: &str, id: &str) -> Value {
    loop {
        let event = member.next_event(PATIENCE).await.unwrap();
        if event.name == name && event.data["id"] == id {
            return event.data;
        }
    }
}

/// Waits until a room has these, in this order, and nothing else.
async fn until_stored(fleet: &Fleet, room: &str, ids: &[String]) -> Vec<Row> {
    let all = || async {
        let rows: Vec<Row> =
            rows(fleet).await?.into_iter().filter(|row| row.room == room).collect();
        let found: Vec<&String> = rows.iter().map(|row| &row.id).collect();
        if found == ids.iter().collect::<Vec<_>>() { Ok(rows) } else { Err(format!("{found:?}")) }
    };
    eventually(PATIENCE, "all of it is stored in its order", all).await
}

async fn held(gateway: &GatewayNode) -> Result<f64, String> {
    Ok(gateway.metrics().await.map_err(|e| e.to_string())?.sum("roomcast_journal_entries"))
}

pub(super) async fn until_empty(gateway: &GatewayNode) {
    let empty = || async {
        let held = held(gateway).await?;
        if held == 0.0 { Ok(()) } else { Err(format!("{held} entries")) }
    };
    eventually(PATIENCE, "the journal is empty", empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_without_redis_is_shown_here_and_gets_its_place_when_it_is_back() {
    let mut fleet = cluster().await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    let mut bob = client(&fleet.gateways()[0], "bob").await;
    let mut carol = client(&fleet.gateways()[1], "carol").await;
    for member in [&alice, &bob, &carol] {
        member.join("r", None).await.unwrap();
    }
    let mut ids = vec![unique_id()];
    alice.send("r", &ids[0], "before").await.unwrap();
    until_heard(&mut bob, &ids[0]).await;
    for (round, stands_still) in [(0, true), (1, false)] {
        match stands_still {
            true => fleet.redis().stop().await.unwrap(),
            false => drop(fleet.redis_mut().kill_9().await.unwrap()),
        }
        let first = journal(&alice, "r", "one").await;
        let shown = until_told(&mut bob, "message:pending", &first).await;
        assert_eq!((&shown["content"], shown.get("position")), (&json!("one"), None));
        let again = json!({ "roomId": "r", "id": first, "content": "one" });
        let again = alice.command("message:send", again).await.unwrap();
        assert_eq!((&again["duplicate"], &again["durability"]), (&json!(true), &json!("journal")));
        let other = json!({ "roomId": "r", "id": first, "content": "another" });
        let other = alice.command("message:send", other).await.unwrap_err();
        assert_eq!(other.code(), Some("conflict"));
        let edit = json!({ "roomId": "r", "id": first, "changeId": unique_id(),
            "content": "one, better" });
        is_journaled(&alice.command("message:edit", edit).await.unwrap());
        let second = journal(&bob, "r", "two").await;
        // Who comes now is shown what waits, whether the room is known here or only stored.
        let mut dave = client(&fleet.gateways()[0], "dave").await;
        let joined = dave.join("r", None).await.unwrap();
        let found = joined.messages.iter().any(|message| message.id == ids[0]);
        assert!(found, "in round {round}: {joined:?}");
        until_told(&mut dave, "message:pending", &first).await;
        until_told(&mut dave, "message:pending", &second).await;
        let third = journal(&dave, "r", "three").await;
        match stands_still {
            true => fleet.redis().cont().unwrap(),
            false => fleet.redis_mut().restart(PATIENCE).await.unwrap(),
        }
        let new = [first.clone(), second, third];
        for id in &new {
            until_heard(&mut bob, id).await;
            until_heard(&mut carol, id).await;
        }
        ids.extend(new);
        until_stored(&fleet, "r", &ids).await;
        let edited = || async {
            let rows = rows(&fleet).await?;
            let row = rows.into_iter().find(|row| row.id == first).ok_or("no such row")?;
            if row.content == "one, better" { Ok(()) } else { Err(row.content) }
        };
        eventually(PATIENCE, "the edit is stored", edited).await;
        until_empty(&fleet.gateways()[0]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_only_the_database_knows_is_joined_read_and_written_without_redis() {
    let mut fleet = cluster().await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    alice.join("far", None).await.unwrap();
    let mut ids: Vec<String> = (0..5).map(|_| unique_id()).collect();
    for id in &ids {
        alice.send("far", id, "stored").await.unwrap();
    }
    until_stored(&fleet, "far", &ids).await;
    drop(alice);
    fleet.redis_mut().kill_9().await.unwrap();
    let bob = client(&fleet.gateways()[1], "bob").await;
    let joined = || async { bob.join("far", None).await.map_err(|error| error.to_string()) };
    let joined = eventually(PATIENCE, "the room is joined", joined).await;
    let found: Vec<&String> = joined.messages.iter().map(|message| &message.id).collect();
    assert_eq!(found, ids.iter().collect::<Vec<_>>());
    ids.push(journal(&bob, "far", "from the other node").await);
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
    until_stored(&fleet, "far", &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_with_a_journal_replays_it_when_it_starts_again() {
    let mut fleet = cluster().await;
    let (alice, mut ids) = in_room(&fleet).await;
    fleet.redis_mut().kill_9().await.unwrap();
    for text in 0..300 {
        ids.push(journal(&alice, "r", &format!("text {text}")).await);
    }
    fleet.gateways_mut()[0].kill_9().await.unwrap();
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
    fleet.gateways_mut()[0].restart(PATIENCE).await.unwrap();
    // And again in the middle of it.
    let begun = || async { stored(&fleet).await > 1 };
    eventually(PATIENCE, "the replay has begun", begun).await;
    fleet.gateways_mut()[0].kill_9().await.unwrap();
    fleet.gateways_mut()[0].restart(PATIENCE).await.unwrap();
    until_stored(&fleet, "r", &ids).await;
    until_empty(&fleet.gateways()[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_journal_refuses_by_name_and_loses_nothing() {
    let mut fleet = with_env(&[("ROOMCAST_JOURNAL_BYTES_MAX", "65536")]).await;
    let (alice, mut ids) = in_room(&fleet).await;
    fleet.redis_mut().kill_9().await.unwrap();
    let refused = loop {
        let id = unique_id();
        match alice.send("r", &id, &"x".repeat(8000)).await {
            Ok(Accepted { .. }) => ids.push(id),
            Err(refused) => break refused,
        }
        assert!(ids.len() < 20, "a bound bounds");
    };
    assert_eq!(refused.code(), Some("backpressure"), "{refused}");
    assert!(refused.to_string().contains("ROOMCAST_JOURNAL_BYTES_MAX"), "{refused}");
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
    until_stored(&fleet, "r", &ids).await;
    until_empty(&fleet.gateways()[0]).await;
    alice.send("r", &unique_id(), "there is room").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_has_everything_outlives_redis_and_the_gateway() {
    let mut fleet = with_env(&[("ROOMCAST_JOURNAL", "always")]).await;
    stop_workers(&mut fleet).await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    alice.join("r", None).await.unwrap();
    let ids: Vec<String> = (0..50).map(|_| unique_id()).collect();
    for id in &ids {
        let accepted = alice.send("r", id, "only in redis and here").await.unwrap();
        assert_eq!(accepted.durability, "log");
    }
    assert_eq!(held(&fleet.gateways()[0]).await, Ok(50.0));
    // Both lose what they have in memory at once.
    fleet.redis().command(&["FLUSHALL"]).await.unwrap();
    fleet.gateways_mut()[0].kill_9().await.unwrap();
    start_workers(&mut fleet).await;
    fleet.gateways_mut()[0].restart(PATIENCE).await.unwrap();
    until_stored(&fleet, "r", &ids).await;
    until_empty(&fleet.gateways()[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_retained_spills_into_the_journal_and_comes_back_from_it() {
    let mut fleet = with_env(&[("ROOMCAST_MEMORY_BYTES_MAX", "67108864")]).await;
    stop_workers(&mut fleet).await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    alice.join("r", None).await.unwrap();
    // More than the node may keep in memory of one shard, which is 2 MiB.
    let ids: Vec<String> = (0..40).map(|_| unique_id()).collect();
    for id in &ids {
        alice.send("r", id, &"x".repeat(100_000)).await.unwrap();
    }
    assert!(held(&fleet.gateways()[0]).await.unwrap() > 0.0, "some of it lies on the disk");
    fleet.redis().command(&["FLUSHALL"]).await.unwrap();
    start_workers(&mut fleet).await;
    until_stored(&fleet, "r", &ids).await;
    until_empty(&fleet.gateways()[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_talk_goes_on_through_losses_of_redis_with_each_message_once_and_in_one_order() {
    let mut fleet = cluster().await;
    let talk = Crowd::begin(&fleet, 4, 5).await;
    for _ in 0..2 {
        let before = talk.acked();
        talk.say(20);
        fleet.redis_mut().kill_9().await.unwrap();
        // It goes on without Redis.
        talk.until_acked(before + 20 * 20).await;
        fleet.redis_mut().restart(PATIENCE).await.unwrap();
        talk.say(20);
        talk.until_acked(before + 40 * 20).await;
    }
    let expect = Expect { ack_positions: false, dense: true, contents: true, complete: true };
    talk.until_persisted(80 * 20).await;
    talk.ends_well(&fleet, expect).await;
}

/// What a gateway keeps its journal in.
fn folder(gateway: &GatewayNode) -> PathBuf {
    gateway.data_dir().join("journal")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_of_a_node_that_never_comes_back_is_replayed_by_a_command() {
    let mut fleet = cluster().await;
    let (alice, mut ids) = in_room(&fleet).await;
    fleet.redis_mut().kill_9().await.unwrap();
    for _ in 0..20 {
        ids.push(journal(&alice, "r", "left behind").await);
    }
    fleet.gateways_mut()[0].kill_9().await.unwrap();
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
    let journal = folder(&fleet.gateways()[0]);
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("gateway");
    let replayed = tokio::process::Command::new(program)
        .args(["journal", "replay"])
        .arg(&journal)
        .env("REDIS_URL", fleet.redis_url())
        .env("DATABASE_URL", fleet.database_url())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&replayed.stdout);
    assert!(replayed.status.success(), "{said}{}", String::from_utf8_lossy(&replayed.stderr));
    assert!(said.contains("20 entries"), "{said}");
    until_stored(&fleet, "r", &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_offers_again_on_another_connection_is_told_when_it_is_stored() {
    let mut fleet = cluster().await;
    let (alice, mut ids) = in_room(&fleet).await;
    fleet.redis_mut().kill_9().await.unwrap();
    let id = journal(&alice, "r", "said once").await;
    drop(alice);
    let mut again = client(&fleet.gateways()[0], "alice").await;
    again.join("r", None).await.unwrap();
    let offer = json!({ "roomId": "r", "id": id, "content": "said once" });
    let reply = again.command("message:send", offer).await.unwrap();
    assert_eq!((&reply["duplicate"], &reply["durability"]), (&json!(true), &json!("journal")));
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
    ids.push(id.clone());
    until_stored(&fleet, "r", &ids).await;
    let told = again.wait_for("message:persisted", PATIENCE).await.unwrap();
    assert_eq!(told["ids"], json!([id]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_in_the_end_is_taken_away_and_waits_no_more() {
    let mut fleet = cluster().await;
    let (alice, _) = in_room(&fleet).await;
    let mut bob = client(&fleet.gateways()[0], "bob").await;
    bob.join("r", None).await.unwrap();
    let elsewhere = client(&fleet.gateways()[1], "alice").await;
    elsewhere.join("r", None).await.unwrap();
    // What the database has under an id is not compared with what is offered again.
    stop_workers(&mut fleet).await;
    fleet.redis_mut().kill_9().await.unwrap();
    // One id for two things: whichever comes first stands.
    let id = unique_id();
    for (sender, content) in [(&alice, "one"), (&elsewhere, "another")] {
        let said = json!({ "roomId": "r", "id": id, "content": content });
        is_journaled(&sender.command("message:send", said).await.unwrap());
    }
    until_told(&mut bob, "message:pending", &id).await;
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
    let one_waits = || async {
        let waiting = held(&fleet.gateways()[0]).await? + held(&fleet.gateways()[1]).await?;
        if waiting <= 1.0 { Ok(()) } else { Err(format!("{waiting} wait")) }
    };
    eventually(PATIENCE, "one of them waits no more", one_waits).await;
    start_workers(&mut fleet).await;
    for gateway in fleet.gateways() {
        until_empty(gateway).await;
    }
    let stands = || async {
        let rows = rows(&fleet).await?;
        let row = rows.into_iter().find(|row| row.id == id).ok_or("it is not there")?;
        Ok::<_, String>(row.content)
    };
    let stands = eventually(PATIENCE, "one of them stands", stands).await;
    if stands == "another" {
        until_told(&mut bob, "message:rejected", &id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_a_journal_does_not_hide_what_became_of_it() {
    let mut fleet = with_env(&[("ROOMCAST_JOURNAL", "always")]).await;
    stop_workers(&mut fleet).await;
    let (alice, ids) = in_room(&fleet).await;
    let change = |id: &str| json!({ "roomId": "r", "id": id, "changeId": unique_id() });
    alice.command("message:delete", change(&ids[0])).await.unwrap();
    let mut edit = change(&ids[0]);
    edit["content"] = json!("it is back");
    let refused = alice.command("message:edit", edit).await.unwrap_err();
    assert_eq!(refused.code(), Some("not_found"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_refuses_by_name_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { gateway_program: Some(program(folder.path())), ..Place::default() };
    let options = ClusterOptions { gateways: 1, workers: 1, place, ..options() };
    let mut fleet = Fleet::cluster(options).await.unwrap();
    let (alice, mut ids) = in_room(&fleet).await;
    fleet.redis_mut().kill_9().await.unwrap();
    ids.push(journal(&alice, "r", "there is room").await);
    limit(&fleet.gateways()[0], Some(FILE_BYTES_MAX));
    let refused = loop {
        let id = unique_id();
        match alice.send("r", &id, &"x".repeat(100 * 1024)).await {
            Ok(Accepted { .. }) => ids.push(id),
            Err(refused) => break refused,
        }
        assert!(ids.len() < 100, "the disk is full");
    };
    assert_eq!(refused.code(), Some("unavailable"), "{refused}");
    assert!(refused.to_string().contains("journal cannot be written"), "{refused}");
    limit(&fleet.gateways()[0], None);
    let again = || async {
        let id = unique_id();
        alice.send("r", &id, "there is room again").await.map_err(|e| e.to_string())?;
        Ok::<_, String>(id)
    };
    ids.push(eventually(PATIENCE, "it takes something again", again).await);
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
    until_stored(&fleet, "r", &ids).await;
}
