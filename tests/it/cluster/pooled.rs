//! The full-speed run through `PgBouncer` in transaction mode.

use fleet::{ClusterOptions, Fleet, FleetError};
use harness::Expect;

use super::{Crowd, options, rows};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_in_transaction_mode_between_worker_and_database_changes_nothing() {
    let with_pool = ClusterOptions { pg_bouncer: Some(20), ..options() };
    let fleet = match Fleet::cluster(with_pool).await {
        Err(FleetError::MissingProgram { .. }) => {
            println!("skipped: pgbouncer is not installed (apt-get install pgbouncer)");
            return;
        }
        fleet => fleet.unwrap(),
    };
    let talk = Crowd::begin(&fleet, 4, 5).await;
    talk.say(500);
    talk.until_acked(10_000).await;
    talk.ends_well(&fleet, Expect::default()).await;
    assert_eq!(rows(&fleet).await.map(|rows| rows.len()), Ok(10_000));
}
