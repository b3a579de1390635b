//! Receipts over two nodes while Redis forgets and a worker dies.

use harness::{Position, eventually};

use super::{PATIENCE, cluster, stored};
use crate::fixtures::{client, flood};
use crate::receipts::{ROOM, hears, join, read_to, told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_outlive_redis_and_a_worker_and_never_go_back() {
    let mut fleet = cluster().await;
    let near = client(&fleet.gateways()[0], "ann").await;
    let far = client(&fleet.gateways()[1], "ann").await;
    let observers =
        [client(&fleet.gateways()[0], "bob").await, client(&fleet.gateways()[1], "bob").await];
    for client in [&near, &far, &observers[0], &observers[1]] {
        join(client).await;
    }
    let said = flood(&near, ROOM, 300).await;
    let mut furthest = Position::default();
    for (number, accepted) in said.iter().enumerate() {
        let reader = if number % 3 == 0 { &far } else { &near };
        let place = accepted.position.unwrap();
        // A node may not have heard of the latest yet: it knows a lower head then.
        let read = read_to(reader, place).await.unwrap();
        furthest = furthest.max(read);
        match number {
            100 => drop(fleet.workers_mut()[0].kill_9().await.unwrap()),
            200 => {
                // Messages that Redis alone had would come back at other places, and the observers
                // would be told to join anew.
                let all = || async {
                    let count = stored(&fleet).await;
                    if count == said.len() { Ok(()) } else { Err(format!("{count} are stored")) }
                };
                eventually(PATIENCE, "every message is in the database", all).await;
                fleet.redis().command(&["FLUSHALL"]).await.unwrap();
            }
            _ => {}
        }
    }
    for observer in &observers {
        hears(observer, "ann", furthest).await;
        assert!(told(observer, "ann").is_sorted());
    }
    let in_postgres = || async {
        let select = "SELECT epoch, seq FROM read_receipts WHERE user_id = 'ann'";
        let rows = fleet.postgres().query(fleet.database(), select).await.unwrap();
        let number = |at: usize| rows.first()?.get(at)?.as_deref()?.parse().ok();
        let found = number(0).zip(number(1)).map(|(epoch, seq)| Position::new(epoch, seq));
        if found == Some(furthest) { Ok(()) } else { Err(format!("{found:?} of {furthest}")) }
    };
    eventually(PATIENCE, "the database has the furthest", in_postgres).await;
    let joined = join(&observers[1]).await;
    assert_eq!(joined["receipts"]["ann"]["position"], serde_json::json!(furthest));
}
