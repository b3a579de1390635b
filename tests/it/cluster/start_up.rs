//! Starting before what one needs, and refusing what would lose data.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use fleet::{ClusterOptions, Fleet, GatewayOptions, WorkerOptions};
use harness::eventually;

use super::PATIENCE;

/// Servers, and a gateway and a worker that do not run yet.
async fn not_started() -> Fleet {
    let mut fleet = Fleet::cluster(ClusterOptions::only_servers()).await.unwrap();
    fleet.add_gateway(GatewayOptions::default()).await.unwrap();
    fleet.add_worker(WorkerOptions::default()).await.unwrap();
    fleet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_before_their_servers_listen_and_become_ready_later() {
    let mut fleet = not_started().await;
    fleet.redis_mut().kill_9().await.unwrap();
    fleet.postgres_mut().kill_9().await.unwrap();
    fleet.gateways_mut()[0].start().unwrap();
    fleet.workers_mut()[0].start().unwrap();
    let waiting = || async {
        let gateway = fleet.gateways()[0].operator_get("/readyz").await;
        let worker = fleet.workers()[0].operator_get("/readyz").await;
        [gateway, worker].into_iter().all(|answer| answer.is_ok_and(|answer| answer.status == 503))
    };
    eventually(PATIENCE, "both listen and are not ready", waiting).await;
    fleet.redis_mut().restart(PATIENCE).await.unwrap();
    fleet.postgres_mut().restart(PATIENCE).await.unwrap();
    fleet.gateways_mut()[0].ready(PATIENCE).await.unwrap();
    fleet.workers_mut()[0].ready(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_evicts_is_refused() {
    let mut fleet = not_started().await;
    fleet.redis().command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await.unwrap();
    fleet.gateways_mut()[0].start().unwrap();
    fleet.workers_mut()[0].start().unwrap();
    for node in ["gateway-1", "worker-1"] {
        let ended = loop {
            if let Some(status) = fleet.node_mut(node).unwrap().ended().unwrap() {
                break status;
            }
            tokio::task::yield_now().await;
        };
        assert!(!ended.success(), "{node}");
        let log = std::fs::read_to_string(fleet.node_mut(node).unwrap().log()).unwrap();
        assert!(log.contains("noeviction"), "{node}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_another_number_of_shards_is_refused() {
    let mut fleet = not_started().await;
    fleet.workers_mut()[0].start().unwrap();
    fleet.workers_mut()[0].ready(PATIENCE).await.unwrap();
    let change = "UPDATE roomcast_meta SET value = '128' WHERE key = 'shards'";
    fleet.postgres().query(fleet.database(), change).await.unwrap();
    fleet.gateways_mut()[0].start().unwrap();
    let ended = loop {
        if let Some(status) = fleet.gateways_mut()[0].ended().unwrap() {
            break status;
        }
        tokio::task::yield_now().await;
    };
    assert!(!ended.success());
    let log = std::fs::read_to_string(fleet.gateways()[0].log()).unwrap();
    assert!(log.contains("128") && log.contains("64"), "{log}");
}
