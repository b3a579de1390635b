//! A database that an application has filled for years, with keys between its tables.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use std::process::Output;

use fleet::{ClusterOptions, Fleet, GatewayOptions, WorkerOptions};
use harness::wire::Incoming;
use harness::{Client, Position, eventually, unique_id};
use serde_json::json;

use super::PATIENCE;
use crate::fixtures::{client, told_persisted, until_told_persisted};

const ROWS: usize = 10_000;

const TABLES: &str = "
    CREATE TABLE users (id text PRIMARY KEY);
    CREATE TABLE team_chats (id text PRIMARY KEY);
    CREATE TABLE team_chat_messages (
        id text PRIMARY KEY NOT NULL,
        team_chat_id text NOT NULL REFERENCES team_chats (id) ON DELETE CASCADE,
        user_id text NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        content text,
        message_type text DEFAULT 'user',
        metadata jsonb DEFAULT '{}',
        accessed_at timestamptz DEFAULT now() NOT NULL,
        created_at timestamptz DEFAULT now() NOT NULL,
        updated_at timestamptz DEFAULT now() NOT NULL
    );
    INSERT INTO users VALUES ('ann'), ('bob');
    INSERT INTO team_chats VALUES ('a');
    INSERT INTO team_chat_messages (id, team_chat_id, user_id, content, created_at)
    SELECT md5(n::text), 'a', CASE n % 2 WHEN 0 THEN 'ann' ELSE 'bob' END, 'old ' || n,
           timestamptz '2020-01-01T00:00:00Z' + n * interval '1 second'
    FROM generate_series(1, 10000) AS n;
    ALTER TABLE users OWNER TO roomcast;
    ALTER TABLE team_chats OWNER TO roomcast;
    ALTER TABLE team_chat_messages OWNER TO roomcast;";

/// A gateway and two workers over the application's tables.
async fn old_cluster() -> Fleet {
    let mut fleet = Fleet::cluster(ClusterOptions::only_servers()).await.unwrap();
    sql(&fleet, TABLES).await;
    fleet.add_gateway(GatewayOptions::default()).await.unwrap();
    for _ in 0..2 {
        fleet.add_worker(WorkerOptions::default()).await.unwrap();
    }
    fleet.gateways_mut()[0].start().unwrap();
    for worker in fleet.workers_mut() {
        worker.start().unwrap();
    }
    fleet.gateways_mut()[0].ready(PATIENCE).await.unwrap();
    for worker in fleet.workers_mut() {
        worker.ready(PATIENCE).await.unwrap();
    }
    fleet
}

async fn sql(fleet: &Fleet, sql: &str) -> Vec<Vec<Option<String>>> {
    fleet.postgres().query(fleet.database(), sql).await.unwrap()
}

/// `sync-worker dead-letters …`, which is told of no Redis.
fn dead_letters(fleet: &Fleet, words: &[&str]) -> (Option<i32>, String) {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("sync-worker");
    let Output { status, stdout, stderr } = std::process::Command::new(program)
        .env_remove("REDIS_URL")
        .env("DATABASE_URL", fleet.database_url())
        .arg("dead-letters")
        .args(words)
        .output()
        .unwrap();
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).unwrap())
}

/// Every row of the room, read backwards page by page.
async fn whole_history(client: &Client, mut before: Position) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let asked = json!({ "epoch": before.epoch, "seq": before.seq });
        let page = client.history("a", json!({ "before": asked, "limit": 200 })).await.unwrap();
        all.extend(page.messages.iter().rev().map(|message| message.content.clone()));
        if !page.has_more {
            all.reverse();
            return all;
        }
        before = page.messages[0].position;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_room_goes_on_and_what_breaks_a_key_is_driven_again_once_the_key_is_there() {
    let fleet = old_cluster().await;
    let ann = client(&fleet.gateways()[0], "ann").await;
    let eve = client(&fleet.gateways()[0], "eve").await;
    let joined = ann.join("a", None).await.unwrap();
    assert_eq!(joined.messages.last().unwrap().content, format!("old {ROWS}"));
    let after = Position { seq: joined.head.seq + 1, ..joined.head };
    let expected: Vec<String> = (1..=ROWS).map(|n| format!("old {n}")).collect();
    assert_eq!(whole_history(&ann, after).await, expected);

    eve.join("a", None).await.unwrap();
    let (before, strange, behind) = (unique_id(), unique_id(), unique_id());
    let first = ann.send("a", &before, "before").await.unwrap().position.unwrap();
    assert!(first > joined.head);
    let place = eve.send("a", &strange, "strange").await.unwrap().position.unwrap();
    let last = ann.send("a", &behind, "behind").await.unwrap().position.unwrap();
    assert!(first < place && place < last);
    until_told_persisted(&ann, &[&before, &behind]).await;
    told_rejected(&eve, &strange).await;
    let of_new = format!("SELECT id FROM team_chat_messages WHERE seq > {ROWS} ORDER BY seq");
    let both = vec![vec![Some(before.clone())], vec![Some(behind.clone())]];
    let others = || async { sql(&fleet, &of_new).await == both };
    eventually(PATIENCE, "the others are stored", others).await;

    let (code, list) = dead_letters(&fleet, &["list"]);
    assert_eq!(code, Some(0), "{list}");
    let line = list.lines().nth(1).unwrap();
    assert!(line.contains(&strange) && line.contains("eve") && line.contains("23503"), "{list}");
    let number = line.split_whitespace().next().unwrap();
    let (code, shown) = dead_letters(&fleet, &["show", number]);
    assert!(code == Some(0) && shown.contains("\"content\": \"strange\""), "{shown}");

    let (code, refused) = dead_letters(&fleet, &["redrive", number]);
    assert!(code == Some(1) && refused.contains("SQLSTATE 23503"), "{refused}");
    assert_eq!(dead_letters(&fleet, &["redrive", "all"]).0, Some(1));
    sql(&fleet, "INSERT INTO users VALUES ('eve')").await;
    let (code, stored) = dead_letters(&fleet, &["redrive", number]);
    assert_eq!(code, Some(0), "{stored}");
    let (code, again) = dead_letters(&fleet, &["redrive", number]);
    assert!(code == Some(1) && again.contains("there is no dead letter"), "{again}");
    assert_eq!(dead_letters(&fleet, &["redrive", "all"]).0, Some(0));
    assert_eq!(dead_letters(&fleet, &["redrive"]).0, Some(64));
    let (epoch, seq) = (place.epoch, place.seq);
    let at = format!("SELECT id FROM team_chat_messages WHERE epoch = {epoch} AND seq = {seq}");
    assert_eq!(sql(&fleet, &at).await, Vec::<Vec<_>>::new(), "it has another place");
    let once = format!("SELECT count(*) FROM team_chat_messages WHERE id = '{strange}'");
    assert_eq!(sql(&fleet, &once).await, [[Some("1".to_owned())]]);
}

/// `message:rejected` comes, and nothing that says that it is persisted.
async fn told_rejected(client: &Client, id: &str) {
    let told = || async {
        let log = client.log();
        log.iter().any(|incoming| match incoming {
            Incoming::Event { name, data } => name == "message:rejected" && data["id"] == id,
            Incoming::Reply { .. } | Incoming::Faulty(_) | Incoming::Closed(_) => false,
        })
    };
    eventually(PATIENCE, "the sender is told", told).await;
    assert_eq!(told_persisted(client), Vec::<String>::new());
}
