//! Messages that stay only so long.

use harness::{eventually, unique_id};

use crate::fixtures::{SOON, client, database, flood, gateway, rows_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_the_retention_goes_and_the_order_goes_on() {
    let mut fleet = gateway().await;
    let alice = client(fleet.gateway(), "alice").await;
    for room in ["old", "mixed"] {
        alice.join(room, None).await.unwrap();
        flood(&alice, room, 5).await;
    }
    let head = rows_of(fleet.gateway(), "old").last().unwrap().position();
    assert!(fleet.gateway_mut().terminate(SOON).await.unwrap().success());
    // Everything but one message of the mixed room was said two days ago.
    let age = "UPDATE team_chat_messages SET created_at = created_at - 2 * 86400000
               WHERE NOT (team_chat_id = 'mixed' AND seq = 2)";
    database(fleet.gateway()).execute(age, []).unwrap();

    let days = "ROOMCAST_RETENTION_DAYS";
    fleet.gateway_mut().options_mut().env.insert(days.to_owned(), "1".to_owned());
    fleet.gateway_mut().start().unwrap();
    fleet.gateway_mut().ready(SOON).await.unwrap();
    let gone = || async {
        let left = ["old", "mixed"].map(|room| -> Vec<u64> {
            rows_of(fleet.gateway(), room).iter().map(|row| row.seq).collect()
        });
        if left == [vec![5], vec![2, 5]] { Ok(()) } else { Err(format!("{left:?}")) }
    };
    eventually(SOON, "what is old goes, and the newest of each room stays", gone).await;
    let metrics = fleet.gateway().metrics().await.unwrap();
    assert_eq!(metrics.sum("roomcast_sync_expired_total"), 7.0);

    let alice = client(fleet.gateway(), "alice").await;
    let joined = alice.join("old", None).await.unwrap();
    assert_eq!((joined.messages.len(), joined.head), (1, head));
    let next = alice.send("old", &unique_id(), "new").await.unwrap().position.unwrap();
    assert!(next > head);
}
