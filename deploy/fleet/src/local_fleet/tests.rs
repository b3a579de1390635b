use super::*;
use crate::balancer::{Faults, Traffic};
use crate::fake_server;
use crate::http;
use std::os::unix::process::ExitStatusExt;

const SOON: Duration = Duration::from_secs(30);

/// A cluster whose nodes are stand-ins and whose servers are real.
async fn cluster(programs: &Path, options: ClusterOptions) -> Result<Fleet, FleetError> {
    let program = Some(fake_server::program(programs, &fake_server::script()));
    let place = Place {
        gateway_program: program.clone(),
        worker_program: program,
        ..options.place.clone()
    };
    Fleet::cluster(ClusterOptions { place, ..options }).await
}

async fn body(port: u16, path: &str) -> String {
    http::get(port, path, SOON).await.unwrap().body
}

#[tokio::test]
async fn the_nodes_of_two_clusters_find_their_own_servers() {
    let programs = tempfile::tempdir().unwrap();
    let one = ClusterOptions::default();
    let other = ClusterOptions { gateways: 1, workers: 2, proxies: true, ..one.clone() };
    let (one, other) =
        tokio::try_join!(cluster(programs.path(), one), cluster(programs.path(), other)).unwrap();
    assert_ne!(one.redis_url(), other.redis_url());
    for fleet in [&one, &other] {
        let environment = format!("{} {}", fleet.redis_url(), fleet.database_url());
        for gateway in fleet.gateways() {
            assert_eq!(gateway.get("/environment").await.unwrap().body, environment);
        }
        for worker in fleet.workers() {
            assert_eq!(worker.operator_get("/environment").await.unwrap().body, environment);
        }
        fleet.redis().command(&["SET", "folder", &fleet.folder().to_string_lossy()]).await.unwrap();
        fleet.postgres().query(fleet.database(), "CREATE TABLE t (a int)").await.unwrap();
    }
    for fleet in [&one, &other] {
        let folder = fleet.redis().command(&["GET", "folder"]).await.unwrap();
        assert_eq!(folder.text().map(Path::new), Some(fleet.folder()));
    }
    assert_eq!(other.workers().len(), 2);
    let link = other.redis_proxy().link();
    assert_eq!(link.target(), other.redis().port());
    link.set_faults(Faults { traffic: Traffic::Held, ..Faults::default() });
}

#[tokio::test]
async fn the_balancer_goes_round_the_gateways_that_live() {
    let programs = tempfile::tempdir().unwrap();
    let mut fleet = cluster(programs.path(), ClusterOptions::default()).await.unwrap();
    let ports: Vec<String> = fleet.gateways().iter().map(|node| node.port().to_string()).collect();
    let port = fleet.balancer().port();
    assert_eq!(body(port, "/port").await, ports[0]);
    assert_eq!(body(port, "/port").await, ports[1]);
    fleet.gateway_mut().kill_9().await.unwrap();
    assert_eq!(body(port, "/port").await, ports[1]);
    assert_eq!(body(port, "/port").await, ports[1]);
    fleet.gateway_mut().restart(SOON).await.unwrap();
    let seen = [body(port, "/port").await, body(port, "/port").await];
    assert!(seen.contains(&ports[0]), "{seen:?}");
}

#[tokio::test]
async fn a_cluster_ends_in_order_and_leaves_no_process() {
    let programs = tempfile::tempdir().unwrap();
    let mut fleet = cluster(programs.path(), ClusterOptions::default()).await.unwrap();
    let options = fleet.gateway_mut().options_mut().clone();
    let third = fleet.add_gateway(options).await.unwrap();
    third.start().unwrap();
    third.ready(SOON).await.unwrap();
    let names: Vec<_> = fleet.nodes_mut().iter().map(|node| node.name().to_owned()).collect();
    let expected = ["gateway-1", "gateway-2", "gateway-3", "worker-1", "postgres", "redis"];
    assert_eq!(names, expected);

    // One that stands still is woken to end, one that is dead is none to wait for.
    fleet.node_mut("gateway-2").unwrap().stop().await.unwrap();
    assert_eq!(fleet.node_mut("worker-1").unwrap().kill_9().await.unwrap().signal(), Some(9));
    assert!(matches!(fleet.node_mut("worker-2"), Err(FleetError::NoSuchPart { .. })));
    fleet.shut_down(SOON).await.unwrap();
    assert!(fleet.nodes_mut().iter().all(|node| node.pid().is_none()));
    let log = std::fs::read_to_string(fleet.postgres().log()).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}

#[tokio::test]
async fn a_node_that_refuses_to_start_fails_the_cluster_with_its_words() {
    let programs = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\necho REDIS_URL: no cluster mode yet\nexit 64\n";
    let gateway_program = Some(fake_server::program(programs.path(), script));
    let place = Place { gateway_program, ..Place::default() };
    let options = ClusterOptions { workers: 0, place, ..ClusterOptions::default() };
    let error = Fleet::cluster(options).await.unwrap_err().to_string();
    assert!(error.contains("no cluster mode yet"), "{error}");
}

#[tokio::test]
async fn what_a_named_folder_holds_outlives_the_fleet() {
    let parent = tempfile::Builder::new().permissions(mode(0o711)).tempdir().unwrap();
    let folder = parent.path().join("fleet");
    let options = |empty_first| {
        let place = Place { folder: Some(folder.clone()), empty_first, ..Place::default() };
        ClusterOptions { place, ..ClusterOptions::only_servers() }
    };
    let mut fleet = Fleet::cluster(options(false)).await.unwrap();
    fleet.redis().command(&["SET", "key", "kept"]).await.unwrap();
    fleet.postgres().query(fleet.database(), "CREATE TABLE t (a int)").await.unwrap();
    assert!(matches!(Fleet::cluster(options(false)).await, Err(FleetError::FolderInUse { .. })));
    fleet.shut_down(SOON).await.unwrap();
    drop(fleet);

    let fleet = Fleet::cluster(options(false)).await.unwrap();
    assert_eq!(fleet.redis().command(&["GET", "key"]).await.unwrap().text(), Some("kept"));
    fleet.postgres().query(fleet.database(), "SELECT * FROM t").await.unwrap();
    drop(fleet);
    let fleet = Fleet::cluster(options(true)).await.unwrap();
    assert_eq!(fleet.redis().command(&["DBSIZE"]).await.unwrap().integer(), Some(0));
    fleet.postgres().query(fleet.database(), "SELECT * FROM t").await.unwrap_err();
}

#[tokio::test]
async fn transactions_go_through_pg_bouncer_where_it_is_installed() {
    let options = ClusterOptions { pg_bouncer: Some(20), ..ClusterOptions::only_servers() };
    let mut fleet = match Fleet::cluster(options).await {
        Err(error @ FleetError::MissingProgram { .. }) => {
            assert!(error.to_string().contains("install -y --no-install-recommends pgbouncer"));
            return eprintln!("SKIPPED: {error}");
        }
        started => started.unwrap(),
    };
    let port = fleet.pg_bouncer_mut().port();
    assert!(fleet.database_url().contains(&format!(":{port}/")));
    fleet.postgres_mut().kill_9().await.unwrap();
    assert!(!fleet.pg_bouncer_mut().is_ready().await);
    fleet.postgres_mut().restart(SOON).await.unwrap();
    fleet.pg_bouncer_mut().ready(SOON).await.unwrap();
    fleet.shut_down(SOON).await.unwrap();
}

#[test]
fn a_fleet_can_be_started_in_a_task() {
    fn is_send(_future: impl Send) {}
    is_send(Fleet::cluster(ClusterOptions::default()));
    is_send(Fleet::embedded(GatewayOptions::default()));
}

fn mode(mode: u32) -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(mode)
}
