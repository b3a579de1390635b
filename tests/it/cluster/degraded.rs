//! Servers that answer and do not do their work: nodes say so by name and stay in traffic, and come
//! back by themselves.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use std::future::Future;

use fleet::{ClusterOptions, Faults, Fleet, GatewayNode, Proxy, RedisOptions, Traffic};
use harness::{Client, eventually, unique_id};

use super::{PATIENCE, options};
use crate::fixtures::client;

/// What a process's `/readyz` says.
async fn readyz(port: u16) -> (u16, String) {
    let answer = fleet::get(port, "/readyz", PATIENCE).await.unwrap();
    (answer.status, answer.body)
}

/// Waits until a process says that it is degraded, and why, without ever leaving traffic.
async fn is_degraded(port: u16, why: &str) {
    let degraded = || async {
        let (status, body) = readyz(port).await;
        assert_eq!(status, 200, "{why}: {body}");
        if body.starts_with("degraded\n") && body.contains(why) { Ok(()) } else { Err(body) }
    };
    eventually(PATIENCE, why, degraded).await;
}

/// Waits until everything is well, without ever leaving traffic.
async fn is_well(port: u16) {
    let well = || async {
        let (status, body) = readyz(port).await;
        assert_eq!(status, 200, "{body}");
        if body == "ok" { Ok(()) } else { Err(body) }
    };
    eventually(PATIENCE, "the process is well again", well).await;
}

async fn is_out(port: u16, why: &str) {
    let out = || async {
        let (status, body) = readyz(port).await;
        if status == 503 && body.contains(why) { Ok(()) } else { Err(format!("{status} {body}")) }
    };
    eventually(PATIENCE, why, out).await;
}

async fn is_back(port: u16) {
    let back = || async {
        let (status, body) = readyz(port).await;
        if status == 200 && body == "ok" { Ok(()) } else { Err(format!("{status} {body}")) }
    };
    eventually(PATIENCE, "the node is back in traffic", back).await;
}

/// Says something until it is accepted, and waits until somebody else is shown it.
async fn talk(alice: &Client, bob: &Client) {
    let accepted = || async {
        let id = unique_id();
        let sent = alice.send("r", &id, "hello").await;
        sent.map(|_| id).map_err(|error| error.to_string())
    };
    let id = eventually(PATIENCE, "a message is accepted", accepted).await;
    let shown = || async { format!("{:?}", bob.log()).contains(&id) };
    eventually(PATIENCE, "it is shown", shown).await;
}

async fn pair(gateway: &GatewayNode) -> (Client, Client) {
    let (alice, bob) = (client(gateway, "alice").await, client(gateway, "bob").await);
    alice.join("r", None).await.unwrap();
    bob.join("r", None).await.unwrap();
    talk(&alice, &bob).await;
    (alice, bob)
}

/// The code of an error, the commands that bring it about, and those that end it.
type Case = (&'static str, &'static [&'static [&'static str]], &'static [&'static [&'static str]]);

const CASES: [Case; 6] = [
    ("READONLY", &[&["REPLICAOF", "127.0.0.1", "1"]], &[&["REPLICAOF", "NO", "ONE"]]),
    (
        "MASTERDOWN",
        &[&["CONFIG", "SET", "replica-serve-stale-data", "no"], &["REPLICAOF", "127.0.0.1", "1"]],
        &[&["REPLICAOF", "NO", "ONE"], &["CONFIG", "SET", "replica-serve-stale-data", "yes"]],
    ),
    (
        // Nobody can write a snapshot there, not even root.
        "MISCONF",
        &[
            &["CONFIG", "SET", "save", "3600 1000000"],
            &["CONFIG", "SET", "dir", "/proc"],
            &["BGSAVE"],
        ],
        &[&["CONFIG", "SET", "save", ""]],
    ),
    (
        "NOREPLICAS",
        &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
        &[&["CONFIG", "SET", "min-replicas-to-write", "0"]],
    ),
    ("OOM", &[&["CONFIG", "SET", "maxmemory", "1kb"]], &[&["CONFIG", "SET", "maxmemory", "0"]]),
    (
        "NOPERM",
        &[&["ACL", "SETUSER", "default", "-evalsha"]],
        &[&["ACL", "SETUSER", "default", "+@all"]],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_refuses_writes_degrades_every_process_by_name() {
    let redis = RedisOptions::default().with_setting("enable-protected-configs", "yes");
    let options = ClusterOptions { gateways: 1, workers: 1, redis, ..options() };
    let fleet = Fleet::cluster(options).await.unwrap();
    let ports = [fleet.gateways()[0].operator_port(), fleet.workers()[0].operator_port()];
    let (alice, bob) = pair(&fleet.gateways()[0]).await;
    for (code, begin, end) in CASES {
        for command in begin {
            fleet.redis().command(command).await.unwrap();
        }
        for port in ports {
            is_degraded(port, &format!("redis refuses writes ({code})")).await;
        }
        let stats = fleet.gateways()[0].stats().await.unwrap();
        assert_eq!(stats["readiness"]["state"], "degraded", "{code}: {stats}");
        let metrics = fleet.gateways()[0].metrics().await.unwrap();
        assert!(metrics.sum("roomcast_condition") > 0.0, "{code}");
        for command in end {
            fleet.redis().command(command).await.unwrap();
        }
        for port in ports {
            is_well(port).await;
        }
        talk(&alice, &bob).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_whose_redis_became_a_replica_find_the_master_behind_the_same_address() {
    let options = ClusterOptions { gateways: 1, workers: 1, proxies: true, ..options() };
    let fleet = Fleet::cluster(options).await.unwrap();
    let other = Fleet::cluster(ClusterOptions::only_servers()).await.unwrap();
    let (alice, bob) = pair(&fleet.gateways()[0]).await;
    let (old, new) = (fleet.redis(), other.redis());
    let (old_port, new_port) = (old.port().to_string(), new.port().to_string());
    new.command(&["REPLICAOF", "127.0.0.1", &old_port]).await.unwrap();
    let copied = || async {
        let info = new.command(&["INFO", "replication"]).await.unwrap();
        info.text().is_some_and(|info| info.contains("master_link_status:up"))
    };
    eventually(PATIENCE, "the replica is up to date", copied).await;
    // A failover, after which the address leads elsewhere and the connections stand.
    new.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    fleet.redis_proxy().link().set_target(new.port());
    old.command(&["REPLICAOF", "127.0.0.1", &new_port]).await.unwrap();
    let moved = || async {
        let clients = old.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).await.unwrap();
        clients.text().is_some_and(str::is_empty)
    };
    eventually(PATIENCE, "nobody listens to the old master", moved).await;
    old.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    talk(&alice, &bob).await;
    for port in [fleet.gateways()[0].operator_port(), fleet.workers()[0].operator_port()] {
        is_well(port).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_alone_without_redis_leaves_traffic_and_comes_back_later() {
    let mut fleet = Fleet::cluster(ClusterOptions { workers: 1, ..options() }).await.unwrap();
    let proxy = Proxy::start(fleet.redis().port()).await.unwrap();
    let through = fleet.redis().url_at(proxy.port());
    let far = &mut fleet.gateways_mut()[1];
    far.options_mut().env.insert("REDIS_URL".to_owned(), through);
    far.restart(PATIENCE).await.unwrap();
    let ports = [fleet.gateways()[0].operator_port(), fleet.gateways()[1].operator_port()];
    is_well(ports[1]).await;
    proxy.link().set_faults(Faults { traffic: Traffic::Swallowed, ..Faults::default() });
    is_out(ports[1], "does its work for other nodes").await;
    is_well(ports[0]).await;
    proxy.link().heal();
    is_back(ports[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_hear_what_it_publishes_leaves_traffic() {
    let fleet = Fleet::cluster(ClusterOptions { gateways: 1, ..options() }).await.unwrap();
    let port = fleet.gateways()[0].operator_port();
    is_well(port).await;
    fleet.redis().command(&["ACL", "SETUSER", "default", "-subscribe"]).await.unwrap();
    fleet.redis().command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    is_out(port, "does not come back").await;
    fleet.redis().command(&["ACL", "SETUSER", "default", "+subscribe"]).await.unwrap();
    is_back(port).await;
}

/// Both processes are degraded for a reason as long as the database is in a state.
async fn while_in<F>(fleet: &Fleet, why: &str, begin: F, end: F)
where
    F: Future<Output = ()>,
{
    let ports = [fleet.gateways()[0].operator_port(), fleet.workers()[0].operator_port()];
    begin.await;
    for port in ports {
        is_degraded(port, why).await;
    }
    end.await;
    for port in ports {
        is_well(port).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_written_degrades_every_process_by_name() {
    let options = ClusterOptions { gateways: 1, workers: 1, ..options() };
    let mut fleet = Fleet::cluster(options).await.unwrap();
    let ask = async |database: &str, sql: &str| {
        fleet.postgres().query(database, sql).await.unwrap();
    };
    let read_only = async |on: &str| {
        let change = format!("ALTER SYSTEM SET default_transaction_read_only = {on}");
        ask("postgres", &change).await;
        ask("postgres", "SELECT pg_reload_conf()").await;
    };
    while_in(&fleet, "the database refuses writes (25006)", read_only("on"), read_only("off"))
        .await;
    let name = fleet.database();
    let revoke = async |verb: &str| {
        ask(name, &format!("{verb} roomcast")).await;
    };
    let why = "no right to write team_chat_messages";
    let taken = revoke("REVOKE INSERT ON team_chat_messages FROM");
    while_in(&fleet, why, taken, revoke("GRANT INSERT ON team_chat_messages TO")).await;

    // Away for everybody.
    fleet.postgres_mut().kill_9().await.unwrap();
    for port in [fleet.gateways()[0].operator_port(), fleet.workers()[0].operator_port()] {
        is_degraded(port, "the database does not answer").await;
    }
    fleet.postgres_mut().restart(PATIENCE).await.unwrap();
    for port in [fleet.gateways()[0].operator_port(), fleet.workers()[0].operator_port()] {
        is_well(port).await;
    }
}
