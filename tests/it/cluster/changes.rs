//! Edits over two nodes: while nothing is persisted, offered again and again, and when Redis has
//! forgotten everything.

use harness::{Client, Position, Row, eventually, unique_id};

use super::{PATIENCE, cluster, rows, stored};
use crate::changes::everywhere::{fresh_joins_show, history_shows, resumes_end_well, seeded};
use crate::changes::model::Model;
use crate::changes::{Changed, edit};
use crate::fixtures::client;

const ROOM: &str = "r";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_are_not_persisted_are_in_every_view() {
    let fleet = cluster().await;
    let (mut dice, mut model) = (seeded(), Model::default());
    let mut people = Vec::new();
    for gateway in fleet.gateways() {
        let person = client(gateway, "alice").await;
        person.join(ROOM, None).await.unwrap();
        people.push(person);
    }
    for round in 0..150 {
        if round == 50 {
            // From here on the database stands still.
            for worker in fleet.workers() {
                worker.stop().await.unwrap();
            }
        }
        model.act(&people[round % 2], ROOM, &mut dice).await;
    }
    for pass in 0..2 {
        for gateway in fleet.gateways() {
            let bob = client(gateway, "bob").await;
            let head = model.ops[model.ops.len() - 1].position;
            let there = || async { bob.join(ROOM, None).await.is_ok_and(|j| j.head == head) };
            eventually(PATIENCE, "the node has heard everything", there).await;
            fresh_joins_show(&bob, &model).await;
            history_shows(&bob, &model).await;
            let connect = async || client(gateway, "carol").await;
            resumes_end_well(connect, &model, 7, &mut dice).await;
        }
        if pass == 0 {
            for worker in fleet.workers() {
                worker.cont().unwrap();
            }
            let all = || async { unchanged(&fleet, &model).await };
            eventually(PATIENCE, "the database shows the same", all).await;
        }
    }
}

/// Whether the database has every message in its last state.
async fn unchanged(fleet: &fleet::Fleet, model: &Model) -> Result<(), String> {
    let found: Vec<(String, String)> =
        rows(fleet).await?.into_iter().map(|row: Row| (row.id, row.content)).collect();
    let view = model.after(model.ops.len());
    let mut wanted: Vec<(Position, (String, String))> =
        view.into_iter().map(|(id, shown)| (shown.at, (id, shown.content))).collect();
    wanted.sort();
    let wanted: Vec<(String, String)> = wanted.into_iter().map(|(_, row)| row).collect();
    if found == wanted { Ok(()) } else { Err(format!("{} rows differ", found.len())) }
}

/// Each edit at both nodes at once; the answers of each node.
async fn everywhere(people: &[Client], edits: &[(String, String)]) -> Vec<Vec<Changed>> {
    let mut answers = Vec::new();
    for person in people {
        let mut of_one = Vec::new();
        for (id, change_id) in edits {
            of_one.push(
                edit(person, ROOM, (id, change_id), &format!("by {change_id}"))
                    .await
                    .expect("an edit that is offered again is answered"),
            );
        }
        answers.push(of_one);
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_offered_at_both_nodes_and_after_a_wipe_is_made_once() {
    let fleet = cluster().await;
    let mut people = Vec::new();
    for gateway in fleet.gateways() {
        let person = client(gateway, "alice").await;
        person.join(ROOM, None).await.unwrap();
        people.push(person);
    }
    let mut edits = Vec::new();
    for _ in 0..100 {
        let id = unique_id();
        people[0].send(ROOM, &id, "first").await.unwrap();
        edits.push((id, unique_id()));
    }
    let places = |answers: &[Vec<Changed>]| -> Vec<Vec<Position>> {
        answers.iter().map(|of_one| of_one.iter().map(|a| a.position).collect()).collect()
    };
    let first = everywhere(&people, &edits).await;
    let first_places = places(&first);
    assert_eq!(first_places[0], first_places[1]);
    assert!(first[0].iter().all(|a| !a.duplicate) && first[1].iter().all(|a| a.duplicate));
    let all = || async { edited(&fleet).await == edits.len() };
    eventually(PATIENCE, "every edit is stored", all).await;
    fleet.redis().command(&["FLUSHALL"]).await.unwrap();
    let again = everywhere(&people, &edits).await;
    assert_eq!(places(&again), first_places, "the database remembers what redis has forgotten");
    assert!(again.iter().flatten().all(|answer| answer.duplicate));
    assert_eq!(stored(&fleet).await, edits.len());
}

/// How many messages are stored in an edited state.
async fn edited(fleet: &fleet::Fleet) -> usize {
    let count = "SELECT count(*) FROM team_chat_messages WHERE edited_at IS NOT NULL";
    let answer = fleet.postgres().query(fleet.database(), count).await;
    answer.ok().and_then(|mut rows| rows.pop()?.pop()??.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_redis_has_lost_waits_for_its_message_from_another_node() {
    let fleet = cluster().await;
    for worker in fleet.workers() {
        worker.stop().await.unwrap();
    }
    let near = client(&fleet.gateways()[0], "alice").await;
    let far = client(&fleet.gateways()[1], "alice").await;
    near.join(ROOM, None).await.unwrap();
    far.join(ROOM, None).await.unwrap();
    let mut edits = Vec::new();
    for number in 0..60 {
        let (id, change_id) = (unique_id(), unique_id());
        near.send(ROOM, &id, "first").await.unwrap();
        edit(&far, ROOM, (&id, &change_id), &format!("edited {number}")).await.unwrap();
        edits.push((id, format!("edited {number}")));
    }
    // Nothing of it is in the database, and the node with the messages cannot offer them yet.
    fleet.gateways()[0].stop().await.unwrap();
    fleet.redis().command(&["FLUSHALL"]).await.unwrap();
    let offered = || async {
        let metrics = fleet.gateways()[1].metrics().await.map_err(|error| error.to_string())?;
        let again = metrics.sum("roomcast_offered_again_total");
        if again >= 60.0 { Ok(()) } else { Err(format!("{again} entries")) }
    };
    eventually(PATIENCE, "the node with the edits offers them again", offered).await;
    fleet.gateways()[0].cont().unwrap();
    for worker in fleet.workers() {
        worker.cont().unwrap();
    }
    let kept = || async {
        let rows = rows(&fleet).await?;
        let mut found: Vec<(String, String)> =
            rows.into_iter().map(|row| (row.id, row.content)).collect();
        let mut wanted = edits.clone();
        found.sort();
        wanted.sort();
        let missing = wanted.iter().filter(|edit| !found.contains(edit)).count();
        if found == wanted { Ok(()) } else { Err(format!("{missing} edits are not there")) }
    };
    eventually(PATIENCE, "every edit is stored", kept).await;
}
