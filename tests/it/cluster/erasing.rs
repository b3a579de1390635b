//! A person's messages are erased while everybody is there; the ledger is compared meanwhile.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use std::process::Output;

use fleet::Fleet;
use harness::wire::{ChatMessage, Incoming, Since};
use harness::{Client, eventually, unique_id};
use serde_json::json;

use super::{PATIENCE, cluster};
use crate::fixtures::{SOON, client, until_heard};

/// `sync-worker` with these words, told of both servers.
pub(super) fn worker(fleet: &Fleet, words: &[&str]) -> (Option<i32>, String) {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("sync-worker");
    let Output { status, stdout, stderr } = std::process::Command::new(program)
        .env("REDIS_URL", fleet.redis_url())
        .env("DATABASE_URL", fleet.database_url())
        .args(words)
        .output()
        .unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

async fn sql(fleet: &Fleet, sql: &str) -> Vec<Vec<Option<String>>> {
    fleet.postgres().query(fleet.database(), sql).await.unwrap()
}

/// How often the client was told to read the room anew.
fn resets(client: &Client, room: &str) -> usize {
    let log = client.log();
    let told = log.iter().filter(|incoming| {
        matches!(incoming, Incoming::Event { name, data }
            if name == "room:error" && data["code"] == "reset" && data["roomId"] == room)
    });
    told.count()
}

/// Ann's are deleted and empty, everybody else's as they were, all at their places.
fn assert_erased(before: &[ChatMessage], after: &[ChatMessage]) {
    assert_eq!(before.len(), after.len());
    for (was, is) in before.iter().zip(after) {
        assert_eq!((&was.id, was.position, &was.user_id), (&is.id, is.position, &is.user_id));
        if is.user_id == "ann" {
            assert!(is.content.is_empty() && is.deleted_at.is_some(), "{is:?}");
            assert_eq!(is.metadata, json!({}));
        } else {
            assert_eq!((&was.content, &is.deleted_at), (&is.content, &None));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_said_is_gone_for_everybody_and_the_rooms_go_on() {
    let fleet = cluster().await;
    let [first, second] = [&fleet.gateways()[0], &fleet.gateways()[1]];
    let ann = client(first, "ann").await;
    let mut bob = client(second, "bob").await;
    let (mut before, mut cursors) = (Vec::new(), Vec::new());
    for room in ["r", "s"] {
        ann.join(room, None).await.unwrap();
        bob.join(room, None).await.unwrap();
        let mut said = Vec::new();
        for n in 0..4 {
            said.push(ann.send(room, &unique_id(), &format!("a secret {n}")).await.unwrap());
            said.push(bob.send(room, &unique_id(), &format!("kept {n}")).await.unwrap());
        }
        until_heard(&mut bob, &said[7].id).await;
        cursors.push(Since { position: said[1].position.unwrap(), message_id: said[1].id.clone() });
        before.push(bob.history(room, json!({})).await.unwrap().messages);
        assert_eq!(before.last().unwrap().len(), 8);
    }

    let (code, said) = worker(&fleet, &["erase", "user", "ann"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("8 messages erased; rooms that have forgotten them: 2"), "{said}");
    let secrets = "SELECT count(*) FROM team_chat_messages WHERE content LIKE '%secret%'";
    assert_eq!(sql(&fleet, secrets).await, [[Some("0".to_owned())]]);
    let rooms = ["r", "s"];
    let all_reset = || async {
        let told = rooms.map(|room| [resets(&ann, room), resets(&bob, room)]);
        if told == [[1, 1], [1, 1]] { Ok(()) } else { Err(format!("{told:?}")) }
    };
    eventually(PATIENCE, "everybody is told to drop what they have", all_reset).await;

    for (room, (before, since)) in rooms.iter().zip(before.iter().zip(&cursors)) {
        let refused = bob.send(room, &unique_id(), "too early").await.unwrap_err();
        assert_eq!(refused.code(), Some("not_joined"));
        assert_erased(before, &bob.join(room, None).await.unwrap().messages);
        assert_erased(before, &bob.history(room, json!({})).await.unwrap().messages);
        let late = client(first, "late").await;
        let resumed = late.join(room, Some(since)).await.unwrap();
        assert!(resumed.recovered);
        assert_erased(&before[2..], &resumed.messages);
        ann.join(room, None).await.unwrap();
        let next = ann.send(room, &unique_id(), "new").await.unwrap();
        let place = next.position.unwrap();
        let last = before[7].position;
        assert_eq!((place.epoch, place.seq), (last.epoch, last.seq + 1));
        until_heard(&mut bob, &next.id).await;
    }

    // Again: there is what was said since, and nothing else.
    let (code, said) = worker(&fleet, &["erase", "user", "ann"]);
    assert!(
        code == Some(0) && said.contains("2 messages erased; rooms that have forgotten them: 2"),
        "{said}"
    );
    let (code, said) = worker(&fleet, &["erase", "room", "r"]);
    assert!(
        code == Some(0) && said.contains("4 messages erased; rooms that have forgotten them: 1"),
        "{said}"
    );
    assert_eq!(worker(&fleet, &["erase", "user"]).0, Some(64));
    assert_eq!(worker(&fleet, &["erase", "room", "no room"]).0, Some(64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_comparison_of_the_ledger_says_what_differs_and_fails_then() {
    let fleet = cluster().await;
    let ann = client(&fleet.gateways()[0], "ann").await;
    ann.join("r", None).await.unwrap();
    ann.send("r", &unique_id(), "hello").await.unwrap();
    let stored = || async {
        let rows = sql(&fleet, "SELECT 1 FROM team_chat_messages").await;
        (rows.len() == 1).then_some(())
    };
    eventually(SOON, "it is stored", stored).await;
    let (code, said) = worker(&fleet, &["reconcile"]);
    assert!(code == Some(0) && said.contains("no differences"), "{said}");
    sql(&fleet, "INSERT INTO user_credits (user_id, balance) VALUES ('ann', 7)").await;
    sql(&fleet, "UPDATE team_chat_messages SET credits = 3").await;
    let (code, said) = worker(&fleet, &["reconcile"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the balance of ann is 7, its rows add up to 0"), "{said}");
    assert!(said.contains("cost 3 and has no row in the ledger"), "{said}");
    assert!(said.contains("1 balances, 1 messages that cost something: 2 differences"), "{said}");
    assert_eq!(worker(&fleet, &["reconcile", "twice"]).0, Some(64));
    assert_eq!(worker(&fleet, &["reconsider"]).0, Some(64));
}
