//! What members saw and the database refused, what is driven again, what another program writes.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::process::Command;

use fleet::Fleet;
use harness::http::Api;
use harness::wire::{Incoming, Since};
use harness::{Client, Position, eventually, unique_id};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{PATIENCE, cluster};
use crate::fixtures::client;

const POISON: &str = "
    CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.content LIKE '%poison%' THEN RAISE EXCEPTION 'poison is refused'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER poison BEFORE INSERT OR UPDATE ON team_chat_messages
        FOR EACH ROW EXECUTE FUNCTION refuse_poison();";

async fn sql(fleet: &Fleet, sql: &str) -> Vec<Vec<Option<String>>> {
    fleet.postgres().query(fleet.database(), sql).await.unwrap()
}

fn redrive_all(fleet: &Fleet) -> (Option<i32>, String) {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join("sync-worker");
    let output = Command::new(program)
        .env_remove("REDIS_URL")
        .env("DATABASE_URL", fleet.database_url())
        .args(["dead-letters", "redrive", "all"])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// The first event of this name about this message.
async fn told(client: &Client, event: &str, id: &str) -> Value {
    let found = || async {
        client.log().into_iter().find_map(|incoming| match incoming {
            Incoming::Event { name, data } if name == event && data["id"] == id => Some(data),
            Incoming::Event { .. }
            | Incoming::Reply { .. }
            | Incoming::Faulty(_)
            | Incoming::Closed(_) => None,
        })
    };
    eventually(PATIENCE, &format!("{event} of {id}"), found).await
}

async fn told_reset(client: &Client) {
    let found = || async {
        client.log().into_iter().any(|incoming| {
            matches!(incoming, Incoming::Event { name, data }
                if name == "room:error" && data["code"] == "reset")
        })
    };
    eventually(PATIENCE, "reset", found).await;
}

fn place(data: &Value) -> Position {
    Position::deserialize(&data["position"]).unwrap()
}

fn since(position: Position, id: &str) -> Since {
    Since { position, message_id: id.to_owned() }
}

async fn contents(client: &Client, room: &str) -> Vec<String> {
    let page = client.history(room, json!({ "limit": 100 })).await.unwrap();
    page.messages.into_iter().map(|message| message.content).collect()
}

/// Waits until a message of this content has a row, after which nothing before it is on its way.
async fn stored(fleet: &Fleet, content: &str) {
    let select = format!("SELECT 1 FROM team_chat_messages WHERE content = '{content}'");
    let there = || async { !sql(fleet, &select).await.is_empty() };
    eventually(PATIENCE, content, there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_who_was_shown_a_refused_message_takes_it_away_and_gets_it_when_driven_again() {
    let mut fleet = cluster().await;
    sql(&fleet, POISON).await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    let bob = client(&fleet.gateways()[1], "bob").await;
    let dave = client(&fleet.gateways()[1], "dave").await;
    for member in [&alice, &bob, &dave] {
        member.join("r", None).await.unwrap();
    }
    let first = unique_id();
    let before = alice.send("r", &first, "before").await.unwrap().position.unwrap();
    stored(&fleet, "before").await;
    for worker in fleet.workers() {
        worker.stop().await.unwrap();
    }
    let poison = unique_id();
    let at = alice.send("r", &poison, "the poison").await.unwrap().position.unwrap();
    for member in [&bob, &dave] {
        told(member, "message:new", &poison).await;
    }
    dave.close(1000).await;
    for worker in fleet.workers() {
        worker.cont().unwrap();
    }

    let others = told(&bob, "message:rejected", &poison).await;
    assert_eq!((&others["roomId"], &others["userId"]), (&json!("r"), &json!("alice")));
    assert_eq!(others.get("error"), None, "{others}");
    let own = told(&alice, "message:rejected", &poison).await;
    assert_eq!(own["error"]["code"], "rejected", "{own}");
    alice.send("r", &unique_id(), "after").await.unwrap();
    stored(&fleet, "after").await;

    // Whoever comes now, to whatever node, does not see it, and whoever had it is told.
    for gateway in fleet.gateways() {
        let carol = client(gateway, "carol").await;
        let joined = carol.join("r", None).await.unwrap();
        let shown: Vec<_> = joined.messages.into_iter().map(|message| message.content).collect();
        assert_eq!(shown, ["before", "after"]);
        assert_eq!(contents(&carol, "r").await, ["before", "after"]);
        let dave = client(gateway, "dave").await;
        let joined = dave.join("r", Some(&since(at, &poison))).await.unwrap();
        assert!(joined.recovered && !joined.reset, "{joined:?}");
        let taken = told(&dave, "message:rejected", &poison).await;
        assert_eq!(taken.get("error"), None);
    }
    let feed = feed_after(&fleet, &format!("{}-{}", before.epoch, before.seq)).await;
    let gone = of(&feed, &poison);
    assert!(gone.len() == 1 && gone[0]["rejected"] == true, "{feed}");

    // A new process knows it from the database.
    fleet.gateways_mut()[1].restart(PATIENCE).await.unwrap();
    let bob = client(&fleet.gateways()[1], "bob").await;
    let joined = bob.join("r", Some(&since(at, &poison))).await.unwrap();
    assert!(joined.recovered, "{joined:?}");
    told(&bob, "message:rejected", &poison).await;
    it_is_driven_again(&fleet, &bob, (&poison, at), (&first, before)).await;
}

async fn feed_after(fleet: &Fleet, place: &str) -> Value {
    let api = Api::new(fleet.gateways()[0].port());
    api.get(&format!("/api/rooms/r/stream?after={place}")).await.expect(200)
}

fn of(feed: &Value, id: &str) -> Vec<Value> {
    let all = feed["messages"].as_array().unwrap();
    all.iter().filter(|message| message["id"] == id).cloned().collect()
}

async fn it_is_driven_again(
    fleet: &Fleet,
    bob: &Client,
    (poison, at): (&str, Position),
    (first, before): (&str, Position),
) {
    let feed = feed_after(fleet, &format!("{}-{}", before.epoch, before.seq)).await;
    sql(fleet, "DROP TRIGGER poison ON team_chat_messages").await;
    let next = feed["next"].as_str().unwrap();
    let (code, said) = redrive_all(fleet);
    assert_eq!(code, Some(0), "{said}");
    let again = told(bob, "message:new", poison).await;
    assert!(place(&again) > at && again["content"] == "the poison", "{again}");
    let feed = feed_after(fleet, next).await;
    assert_eq!(of(&feed, poison).len(), 1, "{feed}");
    let late = client(&fleet.gateways()[0], "eve").await;
    let joined = late.join("r", Some(&since(before, first))).await.unwrap();
    assert!(joined.recovered, "{joined:?}");
    assert_eq!(contents(&late, "r").await, ["before", "after", "the poison"]);
    let (epoch, seq) = (place(&again).epoch, place(&again).seq);
    let stands = format!("SELECT epoch, seq FROM team_chat_messages WHERE id = '{poison}'");
    let expected = vec![vec![Some(epoch.to_string()), Some(seq.to_string())]];
    assert_eq!(sql(fleet, &stands).await, expected);
    assert_eq!(sql(fleet, "SELECT 1 FROM dead_letters").await, Vec::<Vec<_>>::new());

    // Its sender is not told any more that it was refused.
    let sender = client(&fleet.gateways()[0], "alice").await;
    sender.join("r", None).await.unwrap();
    sender.send("r", &unique_id(), "the end").await.unwrap();
    stored(fleet, "the end").await;
    let rejected = sender.log().into_iter().filter(
        |incoming| matches!(incoming, Incoming::Event { name, .. } if name == "message:rejected"),
    );
    assert_eq!(rejected.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_read_a_room_anew_where_an_edit_was_refused() {
    let fleet = cluster().await;
    sql(&fleet, POISON).await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    let bob = client(&fleet.gateways()[1], "bob").await;
    for member in [&alice, &bob] {
        member.join("r", None).await.unwrap();
    }
    let message = unique_id();
    alice.send("r", &message, "sound").await.unwrap();
    stored(&fleet, "sound").await;
    for worker in fleet.workers() {
        worker.stop().await.unwrap();
    }
    let change = unique_id();
    let edit = json!({"roomId": "r", "id": message, "changeId": change, "content": "poison"});
    alice.command("message:edit", edit).await.unwrap();
    let seen = told(&bob, "message:update", &message).await;
    for worker in fleet.workers() {
        worker.cont().unwrap();
    }
    for member in [&alice, &bob] {
        told_reset(member).await;
    }
    for gateway in fleet.gateways() {
        let carol = client(gateway, "carol").await;
        let joined = carol.join("r", None).await.unwrap();
        let shown: Vec<_> = joined.messages.into_iter().map(|message| message.content).collect();
        assert_eq!(shown, ["sound"]);
        let dave = client(gateway, "dave").await;
        let joined = dave.join("r", Some(&since(place(&seen), &change))).await.unwrap();
        assert!(joined.reset, "who has what was refused reads anew: {joined:?}");
    }
    alice.join("r", None).await.unwrap();
    alice.send("r", &unique_id(), "on it goes").await.unwrap();
    stored(&fleet, "on it goes").await;

    // Driven again, it does not beat what came later.
    let later = json!({"roomId": "r", "id": message, "changeId": unique_id(), "content": "later"});
    alice.command("message:edit", later).await.unwrap();
    stored(&fleet, "later").await;
    sql(&fleet, "DROP TRIGGER poison ON team_chat_messages").await;
    let (code, said) = redrive_all(&fleet);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(contents(&alice, "r").await, ["later", "on it goes"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_program_writes_is_seen_by_those_who_are_there() {
    let fleet = cluster().await;
    let alice = client(&fleet.gateways()[0], "alice").await;
    let bob = client(&fleet.gateways()[1], "bob").await;
    for room in ["busy", "empty"] {
        for member in [&alice, &bob] {
            member.join(room, None).await.unwrap();
        }
    }
    alice.send("busy", &unique_id(), "ours").await.unwrap();
    stored(&fleet, "ours").await;
    for (id, room, at) in [
        ("strange-1", "busy", "now()"),
        ("strange-2", "empty", "now()"),
        // Long ago, by its own clock.
        ("strange-3", "busy", "timestamptz '2020-01-01T00:00:00Z'"),
        ("strange-4", "nobodys", "now()"),
    ] {
        let insert = format!(
            "INSERT INTO team_chat_messages (id, team_chat_id, user_id, content, created_at)
             VALUES ('{id}', '{room}', 'nodejs', 'of {id}', {at})"
        );
        sql(&fleet, &insert).await;
    }
    for member in [&alice, &bob] {
        for id in ["strange-1", "strange-2", "strange-3"] {
            let seen = told(member, "message:new", id).await;
            assert_eq!(
                (&seen["userId"], seen["content"].as_str().unwrap()),
                (&json!("nodejs"), format!("of {id}").as_str())
            );
            let at = place(&seen);
            let select = format!(
                "SELECT 1 FROM team_chat_messages WHERE id = '{id}'
                 AND (epoch, seq) = ({}, {}) AND (changed_epoch, changed_seq) = (epoch, seq)",
                at.epoch, at.seq
            );
            let placed = || async { sql(&fleet, &select).await.len() == 1 };
            eventually(PATIENCE, "the row has the place that was told", placed).await;
        }
    }
    let rows = sql(&fleet, "SELECT count(*) FROM team_chat_messages").await;
    assert_eq!(rows, [[Some("5".to_owned())]]);
    // Where nobody is, it waits for whoever asks first.
    let carol = client(&fleet.gateways()[0], "carol").await;
    let joined = carol.join("nobodys", None).await.unwrap();
    assert_eq!(joined.messages[0].content, "of strange-4");
    assert_eq!(joined.head, Position { epoch: 0, seq: 1 });

    // One that the database refuses a place is told like any other, and not tried for ever.
    sql(&fleet, POISON).await;
    let insert = "
        ALTER TABLE team_chat_messages DISABLE TRIGGER poison;
        INSERT INTO team_chat_messages (id, team_chat_id, user_id, content)
        VALUES ('strange-5', 'busy', 'nodejs', 'poison');
        ALTER TABLE team_chat_messages ENABLE TRIGGER poison;";
    sql(&fleet, insert).await;
    told(&bob, "message:rejected", "strange-5").await;
    alice.send("busy", &unique_id(), "and on").await.unwrap();
    stored(&fleet, "and on").await;
    let letters = sql(&fleet, "SELECT count(*) FROM dead_letters").await;
    assert_eq!(letters, [[Some("1".to_owned())]]);
}
