//! The contract on `PostgreSQL`, and what only `PostgreSQL` must do.

mod plans;
mod old_tables;
mod upgrade;
mod leases;
mod trouble;
mod tls;

use std::sync::Arc;

use fleet::{ClusterOptions, Fleet};
use shared::process::settings::Secret;
use shared::store::Store;
use shared::store::postgres::{PostgresStore, Settings};
use tokio_postgres::{Client, NoTls};

/// An empty database of a server of its own, and what keeps that running. The URL is the
/// superuser's, who may set up what a test is about.
async fn fresh_database() -> (String, Fleet) {
    let servers = Fleet::cluster(ClusterOptions::only_servers()).await.unwrap();
    let (port, name) = (servers.postgres().port(), servers.database());
    (format!("postgres://postgres@127.0.0.1:{port}/{name}"), servers)
}

async fn open() -> (Arc<dyn Store>, Fleet) {
    let (url, servers) = fresh_database().await;
    let store = connect(&url);
    store.migrate().await.unwrap();
    (store, servers)
}

fn connect(url: &str) -> Arc<PostgresStore> {
    let url = Secret::from(url);
    Arc::new(PostgresStore::connect(&url, Settings::default()).unwrap())
}

/// A way into the database beside the store.
pub(crate) async fn shell(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

every_scenario!(open);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_difference_is_found() {
    let (url, _guard) = fresh_database().await;
    let store = connect(&url);
    store.migrate().await.unwrap();
    let shell = shell(&url).await;
    let meddle = async |sql: &str| shell.batch_execute(sql).await.unwrap();
    super::reconciling::every_difference_is_found(store, meddle).await;
}
