//! Joins, fresh and resumed, on both nodes, into a room that is written to as fast as can be.

use harness::{Expect, SimClient, SimClientOptions, eventually};

use super::{Crowd, PATIENCE, cluster, rows};
use crate::fixtures::SOON;

const WRITERS: usize = 4;
const MESSAGES_EACH: usize = 2000;
const JOINERS: usize = 20;
const JOINS_EACH: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_joins_under_writing_lose_and_double_nothing() {
    let fleet = cluster().await;
    let mut talk = Crowd::begin(&fleet, 1, WRITERS).await;
    let room = talk.room(0).to_owned();
    talk.say(MESSAGES_EACH);
    let urls: Vec<String> = fleet.gateways().iter().map(fleet::GatewayNode::ws_url).collect();
    let joiners: Vec<SimClient> = (0..JOINERS)
        .map(|number| {
            let user = format!("joiner-{number}");
            let mut urls = urls.clone();
            let nodes = urls.len();
            urls.rotate_left(number % nodes);
            let options = SimClientOptions::new(&user, &urls[0], &[room.as_str()]);
            SimClient::start(SimClientOptions { urls, ..options })
        })
        .collect();
    // Every cut is followed by a resume, at the other node.
    for join in 1..JOINS_EACH {
        for joiner in &joiners {
            joiner.settled_in(SOON).await;
        }
        for joiner in &joiners {
            joiner.cut();
        }
        let back = || async {
            joiners.iter().all(|joiner| joiner.look(|record| record.connections as usize > join))
        };
        eventually(SOON, "everybody is back", back).await;
    }
    talk.chatters.extend(joiners);
    talk.ends_well(&fleet, Expect::default()).await;
    assert_eq!(rows(&fleet).await.map(|rows| rows.len()), Ok(WRITERS * MESSAGES_EACH));
    eventually(PATIENCE, "no reset was needed", || async { talk.resets() == 0 }).await;
}
