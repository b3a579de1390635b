//! Rooms of the largest messages: read on a node that knows nothing of them, page by page, while
//! other rooms of the same Redis go on.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on them")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleet::{ClusterOptions, Fleet, GatewayNode};
use harness::wire::Since;
use harness::{Api, Position, eventually, unique_id};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{PATIENCE, stored};
use crate::fixtures::client;
use crate::removal::api;

const ROOM: &str = "large";
/// Messages, each of nearly a MiB on the wire: 140 MiB, far beyond what any part may hold.
const MESSAGES: usize = 150;
const SENDERS: usize = 3;
/// Messages of a room that waits for its database: less than a shard's log holds.
const WAITING: usize = 24;
const CONTENT_BYTES: usize = 160 * 1024;
/// What a node may have more for reading all of it.
const GROWTH_MAX: u64 = 160 * 1024 * 1024;
/// How long a message to another room may take meanwhile: a deadline that no slow machine meets by
/// itself. A sender who is held up is refused before it.
const OTHERS_WAIT_MAX: Duration = Duration::from_secs(30);

fn resident_bytes(gateway: &GatewayNode) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid().unwrap()));
    let status = status.unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Fills the room through the first node; gives the places in order, and the first message.
async fn fill(fleet: &Fleet, messages: usize) -> (Vec<Position>, Since) {
    let content = "\u{1}".repeat(CONTENT_BYTES);
    let mut places = Vec::new();
    let mut first = None;
    for sender in 0..SENDERS {
        let sender = client(fleet.gateway(), &format!("sender-{sender}")).await;
        sender.join(ROOM, None).await.unwrap();
        for _ in 0..messages / SENDERS {
            let sent = sender.send(ROOM, &unique_id(), &content).await.unwrap();
            let position = sent.position.unwrap();
            places.push(position);
            first.get_or_insert(Since { position, message_id: sent.id });
        }
    }
    (places, first.unwrap())
}

/// Somebody in another room, who sends until told to stop; gives the longest wait for a reply.
async fn neighbour(gateway: &GatewayNode, stop: Arc<AtomicBool>) -> Duration {
    let neighbour = client(gateway, "neighbour").await;
    neighbour.join("small", None).await.unwrap();
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        neighbour.send("small", &unique_id(), "x").await.unwrap();
        longest = longest.max(began.elapsed());
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_of_the_largest_messages_is_read_on_a_new_node_and_holds_up_no_other() {
    let options = ClusterOptions { gateways: 2, workers: 1, ..ClusterOptions::default() };
    let fleet = Fleet::cluster(options).await.unwrap();
    let (places, first) = fill(&fleet, MESSAGES).await;
    let all = || async {
        let stored = stored(&fleet).await;
        if stored == MESSAGES { Ok(()) } else { Err(format!("{stored} are stored")) }
    };
    eventually(PATIENCE, "they are in the database", all).await;

    let new = &fleet.gateways()[1];
    let before = resident_bytes(new);
    let stop = Arc::new(AtomicBool::new(false));
    let reading = async {
        let reader = client(new, "reader").await;
        let joined = reader.join(ROOM, None).await.unwrap();
        let newest = joined.messages.last().unwrap().position;
        assert_eq!(Some(&newest), places.last());
        let mut seen: Vec<Position> = Vec::new();
        let mut below = Position::new(newest.epoch, newest.seq + 1);
        loop {
            let query = json!({ "before": below, "limit": 200 });
            let page = reader.history(ROOM, query).await.unwrap();
            let read: Vec<Position> =
                page.messages.iter().map(|message| message.position).collect();
            below = read[0];
            seen.splice(0..0, read);
            if !page.has_more {
                break;
            }
        }
        assert_eq!(seen, places);

        let mut back = client(new, "back").await;
        let joined = back.join(ROOM, Some(&first)).await.unwrap();
        assert!(joined.recovered);
        let mut seen: Vec<Position> = vec![first.position];
        seen.extend(joined.messages.iter().map(|message| message.position));
        while seen.len() < MESSAGES {
            let told = back.wait_for("message:new", PATIENCE).await.unwrap();
            seen.push(Position::deserialize(&told["position"]).unwrap());
        }
        assert_eq!(seen, places);
        stop.store(true, Ordering::Relaxed);
    };
    let ((), longest) = tokio::join!(reading, neighbour(fleet.gateway(), Arc::clone(&stop)));
    assert!(longest < OTHERS_WAIT_MAX, "another room waited for {longest:?}");
    let grown = resident_bytes(new).saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{} MiB more", grown / 1024 / 1024);
}

/// Every message of the room by `/stream`: its place and what it says at last, shortened.
async fn followed(api: &Api) -> Vec<(Position, String)> {
    let (mut seen, mut from) = (Vec::new(), "0-0".to_owned());
    loop {
        let path = format!("/api/rooms/{ROOM}/stream?limit=7&after={from}");
        let page = api.get(&path).await.expect(200);
        for message in page["messages"].as_array().unwrap() {
            let place = Position::deserialize(&message["position"]).unwrap();
            let said = message["content"].as_str().unwrap().chars().take(9).collect();
            seen.retain(|(known, _)| *known != place);
            seen.push((place, said));
        }
        page["next"].as_str().unwrap().clone_into(&mut from);
        if page["hasMore"] == false {
            seen.sort_unstable();
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_does_not_have_yet_is_read_in_parts() {
    let options = ClusterOptions { gateways: 2, workers: 1, ..ClusterOptions::default() };
    let fleet = Fleet::cluster(options).await.unwrap();
    fleet.workers()[0].stop().await.unwrap();
    let (places, first) = fill(&fleet, WAITING).await;
    let near = api(fleet.gateway());
    let path = format!("/api/rooms/{ROOM}/messages/{}", first.message_id);
    let author = json!({ "userId": "sender-0", "content": "edited" });
    near.ask("PATCH", &path, Some(&author)).await.expect(200);

    let new = &fleet.gateways()[1];
    let before = resident_bytes(new);
    let reader = client(new, "reader").await;
    let mut seen: Vec<Position> = Vec::new();
    let joined = reader.join(ROOM, None).await.unwrap();
    let newest = joined.head;
    let mut below = Position::new(newest.epoch, newest.seq + 1);
    let mut more = true;
    while more {
        let query = json!({ "before": below, "limit": 200 });
        let page = reader.history(ROOM, query).await.unwrap();
        let read: Vec<Position> = page.messages.iter().map(|message| message.position).collect();
        below = read[0];
        seen.splice(0..0, read);
        more = page.has_more;
        if !more {
            assert_eq!(page.messages[0].content, "edited");
        }
    }
    assert_eq!(seen, places);
    let query = json!({ "after": places[0], "limit": 200 });
    let page = reader.history(ROOM, query).await.unwrap();
    assert_eq!(page.messages[0].position, places[1]);
    assert!(page.has_more);
    // An edit looks for its message through all that waits.
    let far = api(new);
    let again = json!({ "userId": "sender-0", "content": "once more" });
    far.ask("PATCH", &path, Some(&again)).await.expect(200);
    let followed_all = followed(&far).await;
    assert_eq!(followed_all.iter().map(|(place, _)| *place).collect::<Vec<_>>(), places);
    assert_eq!(followed_all[0].1, "once more");
    let grown = resident_bytes(new).saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{} MiB more", grown / 1024 / 1024);

    fleet.workers()[0].cont().unwrap();
    let all = || async {
        let stored = stored(&fleet).await;
        if stored == WAITING { Ok(()) } else { Err(format!("{stored} are stored")) }
    };
    eventually(PATIENCE, "they are in the database", all).await;
    assert_eq!(followed(&far).await, followed_all);
}
