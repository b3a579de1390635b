//! Credits: what moves a balance moves it once, and who may, and who is told.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::collections::{BTreeMap, VecDeque};

use fleet::{Fleet, GatewayNode, GatewayOptions};
use harness::client::{ClientError, Pending};
use harness::wire::Incoming;
use harness::{Client, Proof, eventually, unique_id};
use serde_json::{Value, json};

use crate::fixtures::{SOON, client, database, gateway};
use crate::rate_limits::{SECRET, client as bearer};

/// Movements that are on their way at a time.
const TOGETHER: usize = 256;

/// What somebody has used up.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) amount: u64,
    /// How often it is offered, until that often it was said to stand.
    pub(crate) offers: usize,
}

/// Usages of so many users, offered once, twice or three times.
pub(crate) fn usages(count: usize, users: usize) -> Vec<Usage> {
    let usage = |number: usize| Usage {
        id: unique_id(),
        user: format!("user-{}", number % users),
        amount: (number % 97 + 1) as u64,
        offers: number % 3 + 1,
    };
    (0..count).map(usage).collect()
}

/// What the balances have to be.
pub(crate) fn balances(usages: &[Usage]) -> BTreeMap<String, i64> {
    let mut balances = BTreeMap::new();
    for usage in usages {
        *balances.entry(usage.user.clone()).or_default() -= usage.amount.cast_signed();
    }
    balances
}

async fn offer(client: &Client, usage: &Usage) -> Pending {
    let data = json!({ "userId": usage.user, "amount": usage.amount, "id": usage.id });
    client.send_nowait("credits:track", data).await
}

/// Offers all of them, through whatever happens to the nodes, at one address after the other.
pub(crate) async fn offer_all(urls: &[String], usages: Vec<Usage>) {
    let mut waiting = VecDeque::from(usages);
    let mut connection: Option<Client> = None;
    let mut turn = 0;
    while !waiting.is_empty() {
        let Some(client) = &connection else {
            let next = || {
                turn += 1;
                let url = &urls[turn % urls.len()];
                async move { Client::connect(url, &Proof::user("backend")).await }
            };
            connection = Some(eventually(SOON, "a node is there", next).await);
            continue;
        };
        let batch: Vec<Usage> = waiting.drain(..TOGETHER.min(waiting.len())).collect();
        let mut pending = Vec::with_capacity(batch.len());
        for usage in &batch {
            pending.push(offer(client, usage).await);
        }
        let mut is_lost = false;
        for (mut usage, reply) in batch.into_iter().zip(pending) {
            match reply.reply(SOON).await {
                Ok(_) => usage.offers -= 1,
                Err(ClientError::Refused(refused)) => {
                    let retried = ["unavailable", "backpressure"].contains(&refused.code.as_str());
                    assert!(retried, "{refused}");
                }
                Err(_) => is_lost = true,
            }
            if usage.offers > 0 {
                waiting.push_back(usage);
            }
        }
        if is_lost {
            connection = None;
        }
    }
}

/// Moves a balance.
async fn track(client: &Client, data: Value) -> Result<Value, ClientError> {
    client.command("credits:track", data).await
}

async fn balance(client: &Client) -> (i64, i64) {
    let credits = client.command("credits:get", json!({})).await.unwrap();
    (credits["balance"].as_i64().unwrap(), credits["unsynced"].as_i64().unwrap())
}

/// The balances that a client was told of, in their order.
fn told(client: &Client) -> Vec<i64> {
    let told = |incoming: Incoming| match incoming {
        Incoming::Event { name, data } if name == "user:credits" => data["balance"].as_i64(),
        Incoming::Event { .. }
        | Incoming::Reply { .. }
        | Incoming::Faulty(_)
        | Incoming::Closed(_) => None,
    };
    client.log().into_iter().filter_map(told).collect()
}

async fn until_told(client: &Client, wanted: &[i64]) {
    let same = || async {
        let told = told(client);
        if told == wanted { Ok(()) } else { Err(format!("{told:?}")) }
    };
    eventually(SOON, "the balance is told", same).await;
}

/// The rows of the ledger, and the balances.
fn ledger(gateway: &GatewayNode) -> (usize, BTreeMap<String, i64>) {
    let database = database(gateway);
    let rows = database.query_row("SELECT count(*) FROM credits", [], |row| row.get(0)).unwrap();
    let mut select = database.prepare("SELECT user_id, balance FROM user_credits").unwrap();
    let balances = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    (rows, balances.collect::<Result<_, _>>().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_used_counts_once_and_each_change_is_told_once_to_every_connection() {
    let fleet = gateway().await;
    let alice = client(fleet.gateway(), "alice").await;
    let tab = client(fleet.gateway(), "alice").await;
    let bob = client(fleet.gateway(), "bob").await;
    let backend = client(fleet.gateway(), "backend").await;
    let bought = json!({ "userId": "alice", "amount": 1000, "kind": "purchase" });
    track(&backend, bought).await.unwrap();
    until_told(&alice, &[1000]).await;
    let used = json!({ "userId": "alice", "amount": 12, "id": unique_id(), "messageId": "m" });
    for offer in 0..3 {
        let reply = track(&backend, used.clone()).await.unwrap();
        assert_eq!((&reply["id"], &reply["duplicate"]), (&used["id"], &json!(offer > 0)));
    }
    until_told(&alice, &[1000, 988]).await;
    let back = json!({ "userId": "alice", "amount": 2, "kind": "refund" });
    track(&backend, back).await.unwrap();
    until_told(&alice, &[1000, 988, 990]).await;
    until_told(&tab, &[1000, 988, 990]).await;
    assert_eq!((told(&bob), told(&backend)), (vec![], vec![]));
    assert_eq!(balance(&alice).await, (990, 0));
    assert_eq!(balance(&bob).await, (0, 0));
    let asked = json!({ "userId": "alice" });
    let asked = backend.command("credits:get", asked).await.unwrap();
    assert_eq!(asked, json!({ "userId": "alice", "balance": 990, "unsynced": 0 }));
    assert_eq!(ledger(fleet.gateway()).0, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_messages_cost_stands_once_with_it_and_is_paid_by_whom_it_names() {
    let fleet = gateway().await;
    let helper = client(fleet.gateway(), "helper").await;
    helper.join("r", None).await.unwrap();
    let own = json!({ "roomId": "r", "id": unique_id(), "content": "noon", "credits": 5 });
    let hers = json!({
        "roomId": "r", "id": unique_id(), "content": "night", "type": "assistant",
        "credits": { "amount": 7, "userId": "alice", "metadata": { "tokens": 340 } },
    });
    for offer in 0..3 {
        for message in [&own, &hers] {
            let reply = helper.command("message:send", message.clone()).await.unwrap();
            assert_eq!(reply["duplicate"], json!(offer > 0));
        }
    }
    // The same words at another price are another message.
    let mut dearer = own.clone();
    dearer["credits"] = json!(6);
    let refused = helper.command("message:send", dearer).await.unwrap_err();
    assert_eq!(refused.code(), Some("conflict"));
    let expected = BTreeMap::from([("alice".to_owned(), -7), ("helper".to_owned(), -5)]);
    assert_eq!(ledger(fleet.gateway()), (2, expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_move_which_balance() {
    let options = GatewayOptions::default().with_jwt_secret(SECRET);
    let fleet = Fleet::embedded(options).await.unwrap();
    let url = fleet.gateway().ws_url();
    let usage = json!({ "userId": "alice", "amount": 1 });
    let purchase = json!({ "userId": "alice", "amount": 1, "kind": "purchase" });
    let refund = json!({ "userId": "alice", "amount": 1, "kind": "refund" });
    let others = json!({ "userId": "alice" });
    for (role, may) in [
        ("member", [false, false, false, false, false]),
        ("moderator", [false, false, false, false, false]),
        ("assistant", [true, false, false, false, true]),
        ("service", [true, true, true, true, true]),
    ] {
        let user = format!("the-{role}");
        let client = bearer(&url, &user, role).await;
        client.join("r", None).await.unwrap();
        let message = json!({ "roomId": "r", "content": "it costs", "credits": 1 });
        let asked = [
            track(&client, usage.clone()).await,
            track(&client, purchase.clone()).await,
            track(&client, refund.clone()).await,
            client.command("credits:get", others.clone()).await,
            client.command("message:send", message).await,
        ];
        for (outcome, may) in asked.into_iter().zip(may) {
            match outcome {
                Ok(_) => assert!(may, "{role}"),
                Err(error) => assert_eq!((error.code(), may), (Some("forbidden"), false), "{role}"),
            }
        }
        client.command("credits:get", json!({ "userId": user })).await.unwrap();
    }
    let service = bearer(&url, "backend", "service").await;
    for amount in [json!(0), json!(1_000_000_000_001_u64), json!(-1), json!(1.5), json!("1")] {
        let usage = json!({ "userId": "alice", "amount": amount });
        let refused = track(&service, usage).await.unwrap_err();
        assert_eq!(refused.code(), Some("invalid_field"), "{amount}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_with_another_amount_is_a_conflict_and_later_is_put_aside() {
    let mut fleet = gateway().await;
    let id = unique_id();
    let of = |amount: u64| json!({ "userId": "alice", "amount": amount, "id": id });
    let backend = client(fleet.gateway(), "backend").await;
    track(&backend, of(5)).await.unwrap();
    assert_eq!(track(&backend, of(6)).await.unwrap_err().code(), Some("conflict"));
    // The log dies with the process; now only the database remembers.
    assert!(fleet.gateway_mut().terminate(SOON).await.unwrap().success());
    fleet.gateway_mut().restart(SOON).await.unwrap();
    let backend = client(fleet.gateway(), "backend").await;
    assert_eq!(track(&backend, of(5)).await.unwrap()["duplicate"], true);
    track(&backend, of(6)).await.unwrap();
    let aside = || async {
        let metrics = fleet.gateway().metrics().await.map_err(|error| error.to_string())?;
        let count = metrics.sum("roomcast_sync_quarantined_total");
        if count > 0.0 { Ok(()) } else { Err(format!("{count} put aside")) }
    };
    eventually(SOON, "it is put aside", aside).await;
    let expected = BTreeMap::from([("alice".to_owned(), -5)]);
    assert_eq!(ledger(fleet.gateway()), (1, expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_budget_assistants_answer_only_what_is_covered() {
    let options = GatewayOptions::default().with_env("ROOMCAST_CREDITS_BUDGET", "true");
    let fleet = Fleet::embedded(options).await.unwrap();
    let helper = client(fleet.gateway(), "helper").await;
    helper.join("r", None).await.unwrap();
    let answer = |id: &str| {
        json!({ "roomId": "r", "id": id, "content": "42", "type": "assistant",
                "credits": { "amount": 10, "userId": "alice" } })
    };
    let say = async |id: &str| match helper.command("message:send", answer(id)).await {
        Ok(_) => "done".to_owned(),
        Err(error) => error.code().unwrap_or("lost").to_owned(),
    };
    let (first, second) = (unique_id(), unique_id());
    assert_eq!(say(&first).await, "insufficient_credits");
    let bought = json!({ "userId": "alice", "amount": 15, "kind": "purchase" });
    track(&helper, bought).await.unwrap();
    assert_eq!(say(&first).await, "done");
    assert_eq!(say(&second).await, "insufficient_credits");
    // What stands is answered, whatever is left.
    assert_eq!(say(&first).await, "done");
    // People talk for nothing, and assistants too where it costs nothing.
    helper.send("r", &unique_id(), "hello").await.unwrap();
    let free = json!({ "roomId": "r", "content": "42", "type": "assistant" });
    helper.command("message:send", free).await.unwrap();
    let start = json!({ "roomId": "r" });
    let refused = helper.command("message:stream:start", start).await.unwrap_err();
    assert_eq!(refused.code(), Some("insufficient_credits"));
}

/// Twenty answers of ten at once, through all of the nodes and in several rooms, against a balance
/// of a hundred.
pub(crate) async fn ten_of_twenty_pass(urls: &[String]) {
    let mut helpers = Vec::new();
    for (number, url) in urls.iter().cycle().take(4).enumerate() {
        let proof = Proof::user(&format!("helper-{number}"));
        let helper = Client::connect(url, &proof).await.unwrap();
        helper.join(&format!("room-{number}"), None).await.unwrap();
        helpers.push(helper);
    }
    let bought = json!({ "userId": "alice", "amount": 100, "kind": "purchase" });
    track(&helpers[0], bought).await.unwrap();
    let mut answers = Vec::new();
    for number in 0..20 {
        let (helper, room) = (&helpers[number % 4], format!("room-{}", number % 4));
        let answer = json!({
            "roomId": room, "id": unique_id(), "content": "42", "type": "assistant",
            "credits": { "amount": 10, "userId": "alice" },
        });
        answers.push(helper.send_nowait("message:send", answer).await);
    }
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for answer in answers {
        let outcome = match answer.reply(SOON).await {
            Ok(_) => "done".to_owned(),
            Err(error) => error.code().unwrap_or("lost").to_owned(),
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    let wanted = [("done".to_owned(), 10), ("insufficient_credits".to_owned(), 10)];
    assert_eq!(outcomes, BTreeMap::from(wanted));
    let alice = Client::connect(&urls[0], &Proof::user("alice")).await.unwrap();
    let empty = || async {
        let credits = balance(&alice).await;
        if credits == (0, 0) { Ok(()) } else { Err(format!("{credits:?}")) }
    };
    eventually(SOON, "everything is spent", empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_answers_at_once_as_many_pass_as_the_credits_cover() {
    let options = GatewayOptions::default().with_env("ROOMCAST_CREDITS_BUDGET", "true");
    let fleet = Fleet::embedded(options).await.unwrap();
    ten_of_twenty_pass(&[fleet.gateway().ws_url()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_movement_that_is_refused_is_told_as_often_as_it_is_offered() {
    let fleet = gateway().await;
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON credits WHEN NEW.amount = -666
                  BEGIN SELECT RAISE(ABORT, 'never so much'); END";
    database(fleet.gateway()).execute_batch(refuse).unwrap();
    let backend = client(fleet.gateway(), "backend").await;
    let used = json!({ "userId": "alice", "amount": 666, "id": unique_id() });
    for _ in 0..3 {
        let refused = track(&backend, used.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Some("rejected"));
    }
    assert_eq!(balance(&client(fleet.gateway(), "alice").await).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_on_the_way_count_every_usage_once() {
    const USAGES: usize = 20_000;
    const KILLS: usize = 3;
    let mut fleet = gateway().await;
    let url = fleet.gateway().ws_url();
    let all = usages(USAGES, 20);
    let expected = (USAGES, balances(&all));
    let (left, right) = (all[..USAGES / 2].to_vec(), all[USAGES / 2..].to_vec());
    let offers = [left, right].map(|part| {
        let urls = vec![url.clone()];
        tokio::spawn(async move { offer_all(&urls, part).await })
    });
    for kill in 1..=KILLS {
        let enough = || async { ledger(fleet.gateway()).0 >= USAGES * kill / (KILLS + 1) };
        eventually(SOON, "the ledger grows", enough).await;
        fleet.gateway_mut().kill_9().await.unwrap();
        fleet.gateway_mut().restart(SOON).await.unwrap();
    }
    for offer in offers {
        offer.await.unwrap();
    }
    assert_eq!(ledger(fleet.gateway()), expected);
}
