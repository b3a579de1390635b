//! Twenty people in four rooms send twenty thousand messages as fast as they can.

use harness::Expect;
use tokio::time::Instant;

use crate::fixtures::{Crowd, SOON, gateway, rows};

const ROOMS: usize = 4;
const PEOPLE_PER_ROOM: usize = 5;
const MESSAGES_EACH: usize = 1000;
const MESSAGES: usize = ROOMS * PEOPLE_PER_ROOM * MESSAGES_EACH;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_messages_reach_every_view_and_the_database_once_and_in_one_order() {
    let mut fleet = gateway().await;
    let talk = Crowd::begin(fleet.gateway(), ROOMS, PEOPLE_PER_ROOM).await;
    let began = Instant::now();
    talk.say(MESSAGES_EACH);
    talk.until_persisted(MESSAGES).await;
    let took = began.elapsed();
    println!("{:.0} messages/s acked", MESSAGES as f64 / took.as_secs_f64());

    talk.ends_well(fleet.gateway(), Expect::default()).await;
    let stored = rows(fleet.gateway()).unwrap();
    assert_eq!(stored.len(), MESSAGES, "rows are what was acked");
    assert_eq!(talk.acked(), MESSAGES);
    for (number, chatter) in talk.chatters.iter().enumerate() {
        chatter.look(|record| {
            assert_eq!(record.seen(talk.room(number)), MESSAGES / ROOMS, "{}", record.user);
            assert_eq!(record.raw_duplicates, 0, "{}", record.user);
            assert_eq!(record.connections, 1, "{}", record.user);
        });
    }
    assert_eq!(talk.resets(), 0);

    // Its exit code is 0 only if the log was empty in the end.
    let status = fleet.gateway_mut().terminate(SOON).await.unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(rows(fleet.gateway()).unwrap(), stored);
}
