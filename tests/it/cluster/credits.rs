//! A hundred thousand usages over two nodes, and everything behind them killed on the way.

use std::collections::BTreeMap;
use std::process::Command;

use fleet::{ClusterOptions, Fleet, GatewayOptions};
use harness::{Client, Proof, eventually, unique_id};
use serde_json::json;

use super::{PATIENCE, cluster};
use crate::credits::{balances, offer_all, ten_of_twenty_pass, usages};
use crate::fixtures::is_event;

const USAGES: usize = 100_000;
const USERS: usize = 50;
const CONNECTIONS: usize = 4;

async fn query(fleet: &Fleet, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    fleet.postgres().query(fleet.database(), sql).await.map_err(|error| error.to_string())
}

/// Rows of the ledger; none while Postgres does not answer.
pub(super) async fn counted(fleet: &Fleet) -> usize {
    let rows = query(fleet, "SELECT count(*) FROM credits").await.ok();
    let count = rows.and_then(|mut rows| rows.pop()?.pop()??.parse().ok());
    count.unwrap_or(0)
}

pub(super) async fn stored_balances(fleet: &Fleet) -> Result<BTreeMap<String, i64>, String> {
    let rows = query(fleet, "SELECT user_id, balance FROM user_credits").await?;
    let read = |row: Vec<Option<String>>| {
        let [user, balance] = <[_; 2]>::try_from(row).ok()?;
        Some((user?, balance?.parse().ok()?))
    };
    rows.into_iter().map(|row| read(row).ok_or("a row has an empty column".to_owned())).collect()
}

pub(super) fn reconcile(fleet: &Fleet) -> (Option<i32>, String) {
    worker(fleet, &["reconcile"])
}

/// `sync-worker` with these words: its exit code and what it said.
fn worker(fleet: &Fleet, words: &[&str]) -> (Option<i32>, String) {
    let own = std::env::current_exe().expect("this program");
    let programs = own.parent().and_then(|folder| folder.parent()).expect("it lies in a folder");
    let output = Command::new(programs.join("sync-worker"))
        .args(words)
        .env_remove("REDIS_URL")
        .env("DATABASE_URL", fleet.database_url())
        .output()
        .expect("the worker's program runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said.into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_usages_count_once_each_through_kills() {
    // With a journal all of it is acknowledged long before the log has it, on a busy machine.
    let gateway = GatewayOptions::default().with_env("ROOMCAST_JOURNAL", "off");
    let mut fleet =
        Fleet::cluster(ClusterOptions { gateway, ..super::options() }).await.expect("a cluster");
    let urls: Vec<String> = fleet.gateways().iter().map(fleet::GatewayNode::ws_url).collect();
    let own = Client::connect(&urls[0], &Proof::user("user-7")).await.expect("it may connect");
    let all = usages(USAGES, USERS);
    let expected = balances(&all);
    let offers: Vec<_> = all
        .chunks(USAGES / CONNECTIONS)
        .enumerate()
        .map(|(number, part)| {
            let (mut urls, part) = (urls.clone(), part.to_vec());
            let nodes = urls.len();
            urls.rotate_left(number % nodes);
            tokio::spawn(async move { offer_all(&urls, part).await })
        })
        .collect();

    let grown = async |fleet: &Fleet, part: usize| {
        let enough = || async {
            let counted = counted(fleet).await;
            if counted >= USAGES / 5 * part { Ok(()) } else { Err(format!("{counted} counted")) }
        };
        eventually(PATIENCE, "the ledger grows", enough).await;
    };
    grown(&fleet, 1).await;
    fleet.workers_mut()[0].kill_9().await.expect("it ran");
    grown(&fleet, 2).await;
    fleet.redis_mut().kill_9().await.expect("it ran");
    fleet.redis_mut().restart(PATIENCE).await.expect("it runs again");
    fleet.workers_mut()[0].restart(PATIENCE).await.expect("it runs again");
    grown(&fleet, 3).await;
    fleet.postgres_mut().kill_9().await.expect("it ran");
    fleet.postgres_mut().restart(PATIENCE).await.expect("it runs again");
    for offer in offers {
        offer.await.expect("all of it is offered");
    }

    let settled = || async {
        let (counted, balances) = (counted(&fleet).await, stored_balances(&fleet).await?);
        let same = counted == USAGES && balances == expected;
        if same { Ok(()) } else { Err(format!("{counted} counted, {balances:?}")) }
    };
    eventually(PATIENCE, "ledger and balances are what was used", settled).await;
    let wanted = json!({ "userId": "user-7", "balance": expected["user-7"], "unsynced": 0 });
    let got = || async {
        let got = own.command("credits:get", json!({})).await.map_err(|error| error.to_string())?;
        if got == wanted { Ok(()) } else { Err(got.to_string()) }
    };
    eventually(PATIENCE, "nothing is on its way any more", got).await;
    assert!(own.log().iter().any(|incoming| is_event(incoming, "user:credits")));
    let (code, said) = reconcile(&fleet);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_answers_at_two_nodes_as_many_pass_as_the_credits_cover() {
    let options = GatewayOptions::default().with_env("ROOMCAST_CREDITS_BUDGET", "true");
    let options = ClusterOptions { gateway: options, ..super::options() };
    let fleet = Fleet::cluster(options).await.expect("a cluster");
    let urls: Vec<String> = fleet.gateways().iter().map(fleet::GatewayNode::ws_url).collect();
    ten_of_twenty_pass(&urls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_movement_that_was_a_dead_letter_counts_once_when_it_is_driven_again() {
    let fleet = cluster().await;
    let urls: Vec<String> = fleet.gateways().iter().map(fleet::GatewayNode::ws_url).collect();
    query(&fleet, "ALTER TABLE credits ADD CONSTRAINT sane CHECK (amount <> -666)").await.unwrap();
    let backend = Client::connect(&urls[0], &Proof::user("backend")).await.unwrap();
    let other = Client::connect(&urls[1], &Proof::user("backend")).await.unwrap();
    let used = json!({ "userId": "alice", "amount": 666, "id": unique_id() });
    backend.command("credits:track", used.clone()).await.unwrap();
    let refused = || async {
        match other.command("credits:track", used.clone()).await {
            Err(error) if error.code() == Some("rejected") => Ok(()),
            outcome => Err(format!("{outcome:?}")),
        }
    };
    eventually(PATIENCE, "it is refused", refused).await;
    query(&fleet, "ALTER TABLE credits DROP CONSTRAINT sane").await.unwrap();
    let (code, said) = worker(&fleet, &["dead-letters", "redrive", "all"]);
    assert_eq!(code, Some(0), "{said}");
    for node in [&backend, &other] {
        let again = node.command("credits:track", used.clone()).await.unwrap();
        assert_eq!(again["duplicate"], json!(true));
    }
    assert_eq!((counted(&fleet).await, stored_balances(&fleet).await.unwrap()["alice"]), (1, -666));
}
