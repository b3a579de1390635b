//! The contract on `PostgreSQL`, and what only `PostgreSQL` must do.

mod old_tables;
mod upgrade;
mod leases;
mod trouble;
mod tls;

use std::sync::Arc;

use shared::process::settings::Secret;
use shared::store::Store;
use shared::store::postgres::{PostgresStore, Settings};
use tokio_postgres::{Client, NoTls};

use super::postgres_server::{Guard, fresh_database};

async fn open() -> (Arc<dyn Store>, Guard) {
    let (url, guard) = fresh_database().await;
    let store = connect(&url);
    store.migrate().await.unwrap();
    (store, guard)
}

fn connect(url: &str) -> Arc<PostgresStore> {
    let url = Secret::from(url);
    Arc::new(PostgresStore::connect(&url, Settings::default()).unwrap())
}

/// A way into the database beside the store.
async fn shell(url: &str) -> Client {
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
