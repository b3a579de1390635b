//! Twenty people on two gateways send twenty thousand messages as fast as they can.

use harness::Expect;
use tokio::time::Instant;

use super::{Crowd, cluster, rows};

const ROOMS: usize = 4;
const PEOPLE_PER_ROOM: usize = 5;
const MESSAGES_EACH: usize = 1000;
const MESSAGES: usize = ROOMS * PEOPLE_PER_ROOM * MESSAGES_EACH;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_messages_over_two_nodes_stand_once_and_in_one_order() {
    let mut fleet = cluster().await;
    let talk = Crowd::begin(&fleet, ROOMS, PEOPLE_PER_ROOM).await;
    let began = Instant::now();
    talk.say(MESSAGES_EACH);
    talk.until_acked(MESSAGES).await;
    println!("{:.0} messages/s accepted", MESSAGES as f64 / began.elapsed().as_secs_f64());
    talk.ends_well(&fleet, Expect::default()).await;
    println!("{:.0} messages/s persisted", MESSAGES as f64 / began.elapsed().as_secs_f64());
    assert_eq!(rows(&fleet).await.map(|rows| rows.len()), Ok(MESSAGES), "rows are what was acked");
    assert_eq!(talk.resets(), 0);
    for chatter in &talk.chatters {
        chatter.look(|record| assert_eq!(record.raw_duplicates, 0, "{}", record.user));
    }
    for gateway in fleet.gateways_mut() {
        assert!(gateway.terminate(super::PATIENCE).await.is_ok_and(|status| status.success()));
    }
}
