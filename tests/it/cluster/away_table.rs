//! The table of docs/OUTAGES.md: what becomes of every command while Redis, Postgres or both are
//! away.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::fmt::Write;
use std::path::Path;

use fleet::{ClusterOptions, Fleet, Proxy};
use harness::client::ClientError;
use harness::wire::{Closed, WireError};
use harness::{Api, ApiAnswer, Client, Proof, eventually, token, unique_id};
use serde_json::{Value, json};

use super::{PATIENCE, options};
use crate::auth::{SECRET, with_api};

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
        Err(ClientError::Connect(WireError::Refused { status, .. })) => status.to_string(),
        Err(ClientError::Closed(Closed { code: Some(code), .. })) => code.to_string(),
        Err(error) => error.code().unwrap_or("no answer").to_owned(),
    }
}

async fn asked(member: &Client, event: &str, data: Value) -> String {
    word(member.command(event, data).await)
}

/// A cluster of which something is known to be away, and who asks.
struct Scene {
    fleet: Fleet,
    api: Api,
    alice: Client,
    /// A message of hers, which the node remembers.
    stands: String,
    /// An answer that she had begun.
    begun: String,
    /// A ticket and a session that were given out before.
    ticket: String,
    session: String,
}

fn proof_of(user: &str) -> Proof {
    let claims = json!({ "rooms": ["*"], "role": "assistant" });
    Proof::AuthFrame(token(SECRET, user, 600, &claims))
}

/// Each command, and what became of it.
async fn walk(scene: &Scene) -> Vec<(String, String)> {
    let Scene { fleet, api, alice, stands, begun, ticket, session } = scene;
    let url = fleet.gateways()[0].ws_url();
    let mut rows = Vec::new();
    let mut put = |what: &str, outcome: String| rows.push((what.to_owned(), outcome));
    let connected = |outcome: Result<Client, ClientError>| word(outcome.map(|_| json!({})));
    let bob = Client::connect(&url, &proof_of("bob")).await;
    put("a new connection, `auth` with a token", connected(bob));
    let by_ticket = Client::connect(&format!("{url}?ticket={ticket}"), &Proof::Nobody).await;
    put("a new connection with a ticket", connected(by_ticket));
    let by_session = Client::connect(&url, &Proof::AuthFrame(session.clone())).await;
    put("a new connection, `auth` with a session token", connected(by_session));
    let bob = Client::connect(&url, &proof_of("bob")).await.unwrap();
    let known = bob.join("r", None).await.map(|_| json!({}));
    put("`room:join` of a room that the node has in memory", word(known));
    let stored = bob.join("stored", None).await.map(|_| json!({}));
    put("`room:join` of another", word(stored));
    put("`room:leave`", asked(&bob, "room:leave", json!({ "roomId": "r" })).await);
    let said = json!({ "roomId": "r", "id": unique_id(), "content": "x" });
    put("`message:send`", asked(alice, "message:send", said).await);
    let edit =
        json!({ "roomId": "r", "id": stands, "changeId": unique_id(), "content": "another" });
    put("`message:edit` of what the node remembers", asked(alice, "message:edit", edit).await);
    let gone = json!({ "roomId": "r", "id": stands, "changeId": unique_id() });
    put("`message:delete` of it", asked(alice, "message:delete", gone).await);
    let begin = json!({ "roomId": "r", "id": unique_id() });
    put("`message:stream:start`", asked(alice, "message:stream:start", begin).await);
    let part = json!({ "roomId": "r", "id": begun, "offset": 5, "delta": ", on" });
    let part = asked(alice, "message:stream:append", part).await;
    put("`message:stream:append` to an answer that was begun", part);
    let end = json!({ "roomId": "r", "id": begun });
    put("`message:stream:end` of it", asked(alice, "message:stream:end", end).await);
    put("`history:get`", asked(alice, "history:get", json!({ "roomId": "r" })).await);
    put("`typing:start`", asked(alice, "typing:start", json!({ "roomId": "r" })).await);
    put("`typing:stop`", asked(alice, "typing:stop", json!({ "roomId": "r" })).await);
    let receipt = json!({ "roomId": "r", "lastReadMessageId": stands });
    put("`receipt:update`", asked(alice, "receipt:update", receipt).await);
    let idle = json!({ "roomId": "r", "status": "idle" });
    put("`presence:update`", asked(alice, "presence:update", idle).await);
    put("`credits:get`", asked(alice, "credits:get", json!({})).await);
    let used = json!({ "userId": "alice", "amount": 3, "kind": "usage", "id": unique_id() });
    put("`credits:track`", asked(alice, "credits:track", used.clone()).await);
    put("`heartbeat`", asked(alice, "heartbeat", json!({})).await);
    let answered = |answer: ApiAnswer| match answer.status {
        200..300 if answer.json()["durability"] == "journal" => "journal".to_owned(),
        200..300 => "done".to_owned(),
        _ => answer.json()["code"].as_str().unwrap_or("no code").to_owned(),
    };
    let ask = async |method: &str, path: &str, body: Option<Value>| {
        answered(api.ask(method, &format!("/api{path}"), body.as_ref()).await)
    };
    let said = json!({ "userId": "backend", "content": "x" });
    let posted = ask("POST", "/rooms/r/messages", Some(said)).await;
    put("`POST /rooms/{room}/messages`", posted);
    put("`GET /rooms/{room}/messages`", ask("GET", "/rooms/r/messages", None).await);
    put("`POST /credits/track`", ask("POST", "/credits/track", Some(used)).await);
    let ticket = ask("POST", "/tickets", Some(json!({ "userId": "bob" }))).await;
    put("`POST /tickets`", ticket);
    let removed = ask("DELETE", "/rooms/r/members/mallory", None).await;
    put("`DELETE /rooms/{room}/members/{user}`", removed);
    rows
}

/// A cluster of which this is known to be away.
async fn without(away: Away) -> Scene {
    let (gateway, key) = with_api();
    let options = ClusterOptions { proxies: true, gateway, ..options() };
    let fleet = Fleet::cluster(options).await.unwrap();
    let [alice, far] = [0, 1].map(|node| fleet.gateways()[node].ws_url());
    let alice = Client::connect(&alice, &proof_of("alice")).await.unwrap();
    let far = Client::connect(&far, &proof_of("alice")).await.unwrap();
    let api = Api::new(fleet.gateways()[0].port()).with_key(&key);
    alice.join("r", None).await.unwrap();
    far.join("stored", None).await.unwrap();
    let (stands, begun) = (unique_id(), unique_id());
    alice.send("r", &stands, "the node remembers it").await.unwrap();
    far.send("stored", &unique_id(), "the node does not").await.unwrap();
    let begin = json!({ "roomId": "r", "id": begun });
    alice.command("message:stream:start", begin).await.unwrap();
    let part = json!({ "roomId": "r", "id": begun, "offset": 0, "delta": "begun" });
    alice.command("message:stream:append", part).await.unwrap();
    let given = async |path: &str, field: &str| {
        let carol = json!({ "userId": "carol" });
        api.post(path, &carol).await.expect(201)[field].as_str().unwrap().to_owned()
    };
    let ticket = given("/api/tickets", "ticket").await;
    let session = given("/api/sessions", "token").await;
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
    Scene { fleet, api, alice, stands, begun, ticket, session }
}

/// Every command of the protocol is in it.
fn names_every_command(rows: &[(String, String)]) {
    let page = include_str!("../../../shared/PROTOCOL.md");
    let commands = page.split_once("\n## Commands\n").unwrap().1.split_once("\n## ").unwrap().0;
    let titles = commands.lines().filter_map(|line| line.strip_prefix("### "));
    let names = titles.flat_map(|title| title.split('`').skip(1).step_by(2));
    for name in names {
        let is_there = rows.iter().any(|(what, _)| what.contains(&format!("`{name}`")));
        assert!(is_there, "{name} is not in the table");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_what_goes_on_without_redis_and_postgres_is_true() {
    let mut columns = Vec::new();
    for away in [Away::Redis, Away::Postgres, Away::Both] {
        columns.push(walk(&without(away).await).await);
    }
    names_every_command(&columns[0]);
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
