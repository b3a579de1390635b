//! The table of docs/OUTAGES.md: what becomes of every command while Redis, Postgres or both are
//! away.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::fmt::Write;
use std::path::Path;

use fleet::{ClusterOptions, Fleet, Proxy};
use harness::client::ClientError;
use harness::{Client, eventually, unique_id};
use serde_json::{Value, json};

use super::{PATIENCE, options};
use crate::fixtures::client;
use crate::removal::api;

const BEGIN: &str = "<!-- written by a test, see tests/it/cluster/away_table.rs -->\n";
const END: &str = "<!-- end of the table -->";

/// What is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    Redis,
    Postgres,
    Both,
}

fn take_away(server: &Proxy) {
    server.link().set_on(false);
    server.link().cut();
}

/// In one word.
fn word(outcome: Result<Value, ClientError>) -> String {
    match outcome {
        Ok(reply) if reply["durability"] == "journal" => "journal".to_owned(),
        Ok(_) => "done".to_owned(),
        Err(error) => error.code().unwrap_or("no answer").to_owned(),
    }
}

async fn asked(member: &Client, event: &str, data: Value) -> String {
    word(member.command(event, data).await)
}

/// Each command, and what became of it.
async fn walk(fleet: &Fleet, alice: &Client, stands: &str) -> Vec<(String, String)> {
    let gateway = &fleet.gateways()[0];
    let mut rows = Vec::new();
    let mut put = |what: &str, outcome: String| rows.push((what.to_owned(), outcome));
    let said = json!({ "roomId": "r", "id": unique_id(), "content": "x" });
    put("`message:send`", asked(alice, "message:send", said).await);
    let edit =
        json!({ "roomId": "r", "id": stands, "changeId": unique_id(), "content": "another" });
    put("`message:edit` of what the node remembers", asked(alice, "message:edit", edit).await);
    let gone = json!({ "roomId": "r", "id": stands, "changeId": unique_id() });
    put("`message:delete` of it", asked(alice, "message:delete", gone).await);
    let receipt = json!({ "roomId": "r", "lastReadMessageId": stands });
    put("`receipt:update`", asked(alice, "receipt:update", receipt).await);
    put("`typing:start`", asked(alice, "typing:start", json!({ "roomId": "r" })).await);
    let idle = json!({ "roomId": "r", "status": "idle" });
    put("`presence:update`", asked(alice, "presence:update", idle).await);
    put("`history:get`", asked(alice, "history:get", json!({ "roomId": "r" })).await);
    put("`credits:get`", asked(alice, "credits:get", json!({})).await);
    let begin = json!({ "roomId": "r", "id": unique_id() });
    put("`message:stream:start`", asked(alice, "message:stream:start", begin).await);
    put("`heartbeat`", asked(alice, "heartbeat", json!({})).await);
    let bob = client(gateway, "bob").await;
    put("a new connection with a token", "done".to_owned());
    let known = bob.join("r", None).await.map(|_| json!({}));
    put("`room:join` of a room that the node has in memory", word(known));
    let stored = bob.join("stored", None).await.map(|_| json!({}));
    put("`room:join` of another", word(stored));
    let answered = |answer: harness::ApiAnswer| match answer.status {
        200..300 if answer.json()["durability"] == "journal" => "journal".to_owned(),
        200..300 => "done".to_owned(),
        _ => answer.json()["code"].as_str().unwrap_or("no code").to_owned(),
    };
    let said = json!({ "userId": "backend", "content": "x" });
    let post = async |path: &str, body: Value| answered(api(gateway).post(path, &body).await);
    put("`POST /rooms/{room}/messages`", post("/api/rooms/r/messages", said).await);
    let used = json!({ "userId": "alice", "amount": 3, "kind": "usage" });
    put("`POST /credits/track`", post("/api/credits/track", used).await);
    put("`POST /tickets`", post("/api/tickets", json!({ "userId": "bob" })).await);
    let removed = api(gateway).ask("DELETE", "/api/rooms/r/members/mallory", None).await;
    put("`DELETE /rooms/{room}/members/{user}`", answered(removed));
    rows
}

/// A cluster of which this is known to be away.
async fn without(away: Away) -> (Fleet, Client, String) {
    let fleet = Fleet::cluster(ClusterOptions { proxies: true, ..options() }).await.unwrap();
    let alice = client(&fleet.gateways()[0], "alice").await;
    let far = client(&fleet.gateways()[1], "alice").await;
    alice.join("r", None).await.unwrap();
    far.join("stored", None).await.unwrap();
    let id = unique_id();
    alice.send("r", &id, "the node remembers it").await.unwrap();
    far.send("stored", &unique_id(), "the node does not").await.unwrap();
    let all = || async { super::stored(&fleet).await == 2 };
    eventually(PATIENCE, "both are stored", all).await;
    let mut known = Vec::new();
    if away != Away::Postgres {
        take_away(fleet.redis_proxy());
        known.push("redis");
    }
    if away != Away::Redis {
        take_away(fleet.postgres_proxy());
        known.push("database");
    }
    for server in known {
        let knows = || async {
            let body = fleet.gateways()[0].operator_get("/readyz").await.unwrap().body;
            if body.contains(server) { Ok(()) } else { Err(body) }
        };
        eventually(PATIENCE, "the node knows", knows).await;
    }
    (fleet, alice, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_what_goes_on_without_redis_and_postgres_is_true() {
    let mut columns = Vec::new();
    for away in [Away::Redis, Away::Postgres, Away::Both] {
        let (fleet, alice, id) = without(away).await;
        columns.push(walk(&fleet, &alice, &id).await);
    }
    let mut table = "| | Redis away | Postgres away | both away |\n|---|---|---|---|\n".to_owned();
    for ((what, redis), (postgres, both)) in
        columns[0].iter().zip(columns[1].iter().zip(&columns[2]))
    {
        writeln!(table, "| {what} | {redis} | {} | {} |", postgres.1, both.1).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OUTAGES.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = page.split_once(BEGIN).unwrap();
    let (present, tail) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_OUTAGES").is_some() {
        std::fs::write(path, format!("{head}{BEGIN}{table}{END}{tail}")).unwrap();
    } else {
        assert_eq!(present, table, "UPDATE_OUTAGES=1 writes it anew");
    }
}
