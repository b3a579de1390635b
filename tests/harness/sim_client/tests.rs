use super::fake_server::{Faults, StandIn, start};
use super::*;
use crate::checker::{Expect, assert_kept, check_all};
use std::convert::Infallible;

const SOON: Duration = Duration::from_secs(30);

fn options(user: &str, url: &str) -> SimClientOptions {
    SimClientOptions {
        in_flight_max: 8,
        join_limit: 20,
        ..SimClientOptions::new(user, url, &["r"])
    }
}

/// Three people say a hundred things each, and one who only listens comes late.
async fn chat(url: &str) -> Vec<SimClient> {
    let mut chatters: Vec<SimClient> =
        ["alice", "bob", "carol"].map(|user| SimClient::start(options(user, url))).into();
    for number in 0..100 {
        for chatter in &chatters {
            chatter.say("r", &format!("text {number}"));
        }
    }
    for chatter in &chatters {
        chatter.all_persisted(SOON).await;
    }
    chatters.push(SimClient::start(options("dora", url)));
    for chatter in &chatters {
        chatter.settled_in(SOON).await;
    }
    chatters
}

async fn kept(chatters: &[SimClient], server: &StandIn) {
    let rows = || Ok::<_, Infallible>(server.rows());
    assert_kept(SOON, chatters, Expect::default(), rows).await;
    assert_eq!(server.rows().len(), 300);
}

#[tokio::test]
async fn a_healthy_server_keeps_all_promises() {
    let (server, url) = start(Faults::default()).await;
    let chatters = chat(&url).await;
    kept(&chatters, &server).await;
    assert_eq!(chatters[0].look(|record| record.raw_duplicates), 0);
    assert_eq!(chatters[3].look(|record| record.seen("r")), 20);
}

#[tokio::test]
async fn cuts_refusals_and_resets_break_no_promise() {
    let faults = Faults { cut: 23, refuse: 17, reset: 3, ..Faults::default() };
    let (server, url) = start(faults).await;
    let chatters = chat(&url).await;
    kept(&chatters, &server).await;
    let total = |of: fn(&Record) -> u64| chatters.iter().map(|c| c.look(of)).sum::<u64>();
    assert!(total(Record::resets) > 0);
    assert!(total(|record| record.views["r"].resumes) > 0);
    assert!(total(|record| record.retried.values().sum()) > 0);
    assert!(total(|record| record.connections) > 6);
}

#[tokio::test]
async fn a_chatter_that_is_cut_or_leaves_comes_back_where_it_was() {
    let (server, url) = start(Faults::default()).await;
    let chatters = chat(&url).await;
    chatters[0].cut();
    chatters[1].leave("r");
    eventually(SOON, "bob has left", || async {
        !chatters[1].look(|record| record.views["r"].in_room)
    })
    .await;
    chatters[2].say("r", "who is here?");
    chatters[2].all_persisted(SOON).await;
    assert_eq!(chatters[1].look(|record| record.seen("r")), 300);
    chatters[1].join("r");
    eventually(SOON, "all have seen it", || async {
        chatters[..3].iter().all(|chatter| chatter.look(|record| record.seen("r")) == 301)
    })
    .await;
    assert_eq!(check_all(&records(&chatters), &server.rows(), &Expect::default()).len(), 0);
    assert_eq!(chatters[0].look(Record::resets), 0);
}

#[tokio::test]
async fn a_lost_publication_is_found() {
    let (server, url) = start(Faults { lose: 97, ..Faults::default() }).await;
    let chatters = chat(&url).await;
    let broken = check_all(&records(&chatters), &server.rows(), &Expect::default());
    assert!(broken.iter().any(|said| said.contains("lacks 1 messages between")), "{broken:?}");
}

#[tokio::test]
async fn a_forgotten_id_is_found() {
    let (server, url) = start(Faults { cut: 23, double: 1, ..Faults::default() }).await;
    let chatters = chat(&url).await;
    let broken = check_all(&records(&chatters), &server.rows(), &Expect::default());
    assert!(broken.iter().any(|said| said.contains("has more than one row")), "{broken:?}");
}

fn records(chatters: &[SimClient]) -> Vec<Record> {
    chatters.iter().map(SimClient::record).collect()
}
