//! What an operator does to the table while everybody talks.

use harness::{Expect, eventually};

use super::{Crowd, PATIENCE, cluster, rows, stored};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_taken_away_for_a_while_makes_no_dead_letters() {
    let fleet = cluster().await;
    let talk = Crowd::begin(&fleet, 2, 4).await;
    let sql = |sql: &'static str| fleet.postgres().query(fleet.database(), sql);
    sql("REVOKE INSERT, UPDATE ON team_chat_messages FROM roomcast").await.unwrap();
    talk.say(100);
    talk.until_acked(800).await;
    let refused = || async {
        let mut retries = 0.0;
        for worker in fleet.workers() {
            retries += worker
                .metrics()
                .await
                .map_err(|e| e.to_string())?
                .sum("roomcast_sync_retries_total");
        }
        if retries > 2.0 { Ok(()) } else { Err(format!("{retries} retries")) }
    };
    eventually(PATIENCE, "the workers have been refused", refused).await;
    assert_eq!(stored(&fleet).await, 0);
    let retained = || async {
        let mut retained = 0.0;
        for gateway in fleet.gateways() {
            let metrics = gateway.metrics().await.map_err(|error| error.to_string())?;
            retained += metrics.sum("roomcast_retained_entries");
        }
        if retained >= 800.0 { Ok(()) } else { Err(format!("{retained} retained")) }
    };
    eventually(PATIENCE, "the gateways retain what is not stored", retained).await;
    sql("GRANT INSERT, UPDATE ON team_chat_messages TO roomcast").await.unwrap();
    talk.ends_well(&fleet, Expect::default()).await;
    assert_eq!(rows(&fleet).await.map(|rows| rows.len()), Ok(800));
    let dead = sql("SELECT count(*) FROM dead_letters").await.unwrap();
    assert_eq!(dead, [[Some("0".to_owned())]]);
}
