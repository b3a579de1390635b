//! What people and rooms leave in Redis goes by itself once they are gone and all is stored.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use fleet::{ClusterOptions, Fleet, Reply};
use harness::{Client, eventually, unique_id};
use serde_json::{Value, json};

use super::{PATIENCE, options};
use crate::fixtures::client;
use crate::removal::api;

/// In every id that the scenario uses, so that what is left of one is found.
const TRACE: &str = "leftover";

/// The database refuses what says `poison`, and movements of 13.
const REFUSING: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'refused'; END $$;
    CREATE TRIGGER poison BEFORE INSERT ON team_chat_messages
        FOR EACH ROW WHEN (NEW.content LIKE '%poison%') EXECUTE FUNCTION refuse();
    CREATE TRIGGER thirteen BEFORE INSERT ON credits
        FOR EACH ROW WHEN (abs(NEW.amount) = 13) EXECUTE FUNCTION refuse();";

async fn count(fleet: &Fleet, table: &str) -> usize {
    let sql = format!("SELECT count(*) FROM {table}");
    let rows = fleet.postgres().query(fleet.database(), &sql).await.unwrap();
    rows[0][0].as_ref().unwrap().parse().unwrap()
}

/// Everything that leaves a trace while somebody is there.
async fn live(fleet: &Fleet, room: &str, alice: &Client, bob: &Client) {
    let about = |more: Value| {
        let mut data = json!({ "roomId": room });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let asked = async |who: &Client, event: &str, data: Value| {
        let answer = who.command(event, about(data)).await;
        answer.unwrap_or_else(|error| panic!("{event}: {error:?}"))
    };
    alice.join(room, None).await.unwrap();
    bob.join(room, None).await.unwrap();
    let (said, gone) = (unique_id(), unique_id());
    for id in [&said, &gone] {
        alice.send(room, id, "said").await.unwrap();
    }
    let cost = json!({ "amount": 1 });
    let data = json!({ "id": unique_id(), "content": "costs", "credits": cost });
    let costly = asked(alice, "message:send", data).await;
    asked(alice, "message:edit", json!({ "id": said, "content": "said better" })).await;
    asked(alice, "message:delete", json!({ "id": gone })).await;
    asked(bob, "typing:start", json!({})).await;
    asked(bob, "presence:update", json!({ "status": "idle" })).await;
    let read = json!({ "position": costly["position"] });
    asked(bob, "receipt:update", read).await;
    let answer = json!({ "id": unique_id() });
    asked(bob, "message:stream:start", answer.clone()).await;
    let delta = json!({ "id": answer["id"], "delta": "so", "offset": 0 });
    asked(bob, "message:stream:append", delta).await;
    asked(bob, "message:stream:end", answer).await;
    // One whose writer goes.
    asked(bob, "message:stream:start", json!({ "id": unique_id() })).await;
    alice.send(room, &unique_id(), "poison").await.unwrap();

    let api = api(&fleet.gateways()[0]);
    for amount in [7, 13] {
        let id = format!("{TRACE}-{}", unique_id());
        let usage = json!({ "userId": format!("{TRACE}-alice"), "amount": amount, "id": id });
        api.post("/api/credits/track", &usage).await.expect(201);
    }
    for kind in ["tickets", "sessions"] {
        let whose = json!({ "userId": format!("{TRACE}-carol") });
        api.post(&format!("/api/{kind}"), &whose).await.expect(201);
    }
}

/// Everything that a reply has of texts.
fn texts(reply: &Reply) -> String {
    let parts: String = reply.array().iter().map(texts).collect();
    format!("{} {parts}", reply.text().unwrap_or_default())
}

/// What does not go by itself and knows a room, a person or a message.
async fn lasting(fleet: &Fleet) -> Vec<String> {
    let redis = fleet.redis();
    let mut lasting = Vec::new();
    for key in redis.command(&["KEYS", "*"]).await.unwrap().array() {
        let key = key.text().unwrap();
        if redis.command(&["PTTL", key]).await.unwrap().integer() != Some(-1) {
            continue;
        }
        let kind = redis.command(&["TYPE", key]).await.unwrap();
        let read: &[&str] = match kind.text().unwrap() {
            "string" => &["GET", key],
            "hash" => &["HGETALL", key],
            "set" => &["SMEMBERS", key],
            "zset" => &["ZRANGE", key, "0", "-1"],
            "stream" => &["XRANGE", key, "-", "+"],
            other => panic!("{key} is a {other}"),
        };
        let whole = format!("{key} {}", texts(&redis.command(read).await.unwrap()));
        if whole.contains(TRACE) {
            lasting.push(whole);
        }
    }
    lasting
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rooms_and_people_leave_in_redis_goes_by_itself() {
    let ClusterOptions { gateway, worker, .. } = options();
    let gateway = gateway.with_env("ROOMCAST_STREAM_TIMEOUT_MS", "500");
    let worker = worker.with_env("ROOMCAST_LOG_KEEP_MS", "0");
    let options = ClusterOptions { gateways: 2, workers: 1, gateway, worker, ..options() };
    let mut fleet = Fleet::cluster(options).await.unwrap();
    fleet.postgres().query(fleet.database(), REFUSING).await.unwrap();
    let alice = client(&fleet.gateways()[0], &format!("{TRACE}-alice")).await;
    let bob = client(&fleet.gateways()[1], &format!("{TRACE}-bob")).await;
    let rooms = ["a", "b"].map(|room| format!("{TRACE}-{room}"));
    for room in &rooms {
        live(&fleet, room, &alice, &bob).await;
    }
    assert!(!lasting(&fleet).await.is_empty(), "it is looked for in the wrong place");
    alice.close(1000).await;
    bob.close(1000).await;
    // A node that leaves, and one that is gone without a word.
    fleet.gateways_mut()[0].terminate(PATIENCE).await.unwrap();
    fleet.gateways_mut()[1].kill_9().await.unwrap();
    fleet.gateways_mut()[0].restart(PATIENCE).await.unwrap();
    let stored = || async {
        let found =
            (count(&fleet, "team_chat_messages").await, count(&fleet, "dead_letters").await);
        // Of each room what was said, what was deleted, what cost, and two answers; a poison of
        // each, and a movement.
        if found == (10, 4) { Ok(()) } else { Err(format!("{found:?}")) }
    };
    eventually(PATIENCE, "everything is stored or refused", stored).await;
    let gone = || async {
        let left = lasting(&fleet).await;
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    };
    eventually(PATIENCE, "nothing of them stays for ever", gone).await;
}
