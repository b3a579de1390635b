//! Who is there and who types, as clients of one gateway see it.

#![expect(clippy::unwrap_used, reason = "scenarios are tests, but no `#[test]` stands on these")]

use std::collections::BTreeMap;
use std::time::Duration;

use fleet::GatewayNode;
use futures_util::future::join_all;
use harness::wire::Incoming;
use harness::{Client, eventually, unique_id};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fixtures::{SOON, client, gateway, is_event};

const ROOM: &str = "r";

/// Joins, and gives the whole reply.
async fn join(client: &Client) -> Value {
    client.command("room:join", json!({ "roomId": ROOM })).await.unwrap()
}

/// A connection that has joined.
async fn member(gateway: &GatewayNode, user: &str) -> Client {
    let client = client(gateway, user).await;
    join(&client).await;
    client
}

async fn command(client: &Client, event: &str) {
    client.command(event, json!({ "roomId": ROOM })).await.unwrap();
}

async fn status(client: &Client, status: &str) {
    let data = json!({ "roomId": ROOM, "status": status });
    client.command("presence:update", data).await.unwrap();
}

/// The next change of presence that a client is told: who, how, and how many are there.
async fn told(client: &mut Client) -> (String, String, u64) {
    let change = client.wait_for("presence:update", SOON).await.unwrap();
    let text = |name: &str| change[name].as_str().unwrap().to_owned();
    assert_eq!(change["roomId"], ROOM);
    assert_eq!(change["isActive"], json!(change["status"] == "active"));
    (text("userId"), text("status"), change["presenceCount"].as_u64().unwrap())
}

fn is(who: &str, how: &str, count: u64) -> (String, String, u64) {
    (who.to_owned(), how.to_owned(), count)
}

/// How many changes of somebody's presence a client was told.
fn changes_of(client: &Client, who: &str) -> usize {
    let of = |incoming: &&Incoming| match incoming {
        Incoming::Event { name, data } => name == "presence:update" && data["userId"] == who,
        Incoming::Reply { .. } | Incoming::Faulty(_) | Incoming::Closed(_) => false,
    };
    client.log().iter().filter(of).count()
}

/// The statuses by user.
fn statuses(list: &Value) -> BTreeMap<String, String> {
    let people = list["presence"].as_object().unwrap();
    assert_eq!(list["presenceCount"], people.len());
    let status = |(user, present): (&String, &Value)| {
        assert_eq!(present["userId"], user.as_str());
        assert!(present["lastActiveAt"].is_string());
        (user.clone(), present["status"].as_str().unwrap().to_owned())
    };
    people.iter().map(status).collect()
}

fn all(people: &[(&str, &str)]) -> BTreeMap<String, String> {
    people.iter().map(|(who, how)| ((*who).to_owned(), (*how).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_finds_everybody_and_the_others_are_told_of_it() {
    let fleet = gateway().await;
    let mut ann = client(fleet.gateway(), "ann").await;
    assert_eq!(statuses(&join(&ann).await), all(&[("ann", "active")]));
    let listed = ann.wait_for("presence:list", SOON).await.unwrap();
    assert_eq!(statuses(&listed), all(&[("ann", "active")]));
    let mut bob = client(fleet.gateway(), "bob").await;
    let both = all(&[("ann", "active"), ("bob", "active")]);
    assert_eq!(statuses(&join(&bob).await), both);
    assert_eq!(statuses(&bob.wait_for("presence:list", SOON).await.unwrap()), both);
    assert_eq!(told(&mut ann).await, is("bob", "active", 2));

    status(&ann, "idle").await;
    assert_eq!(told(&mut bob).await, is("ann", "idle", 2));
    assert_eq!(changes_of(&bob, "bob"), 0, "one's own arrival is in the reply");
    // Nothing of the room comes before the reply to the join.
    let log = bob.log();
    let reply = log.iter().position(|incoming| matches!(incoming, Incoming::Reply { .. }));
    let first = log.iter().position(|incoming| {
        is_event(incoming, "presence:list") || is_event(incoming, "presence:update")
    });
    assert!(reply.unwrap() < first.unwrap(), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_tab_is_no_news_and_somebody_is_active_while_one_tab_is() {
    let fleet = gateway().await;
    let mut ann = member(fleet.gateway(), "ann").await;
    let bob = member(fleet.gateway(), "bob").await;
    assert_eq!(told(&mut ann).await, is("bob", "active", 2));
    let tab = member(fleet.gateway(), "bob").await;
    status(&bob, "idle").await;
    assert_eq!(statuses(&join(&ann).await)["bob"], "active", "the other tab is");
    status(&tab, "idle").await;
    assert_eq!(told(&mut ann).await, is("bob", "idle", 2));
    // Joining again says nothing new.
    join(&tab).await;
    command(&tab, "room:leave").await;
    status(&bob, "active").await;
    assert_eq!(told(&mut ann).await, is("bob", "active", 2));
    assert_eq!(changes_of(&ann, "bob"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_is_gone_at_once_and_who_drops_has_five_seconds_to_come_back() {
    let fleet = gateway().await;
    let mut ann = member(fleet.gateway(), "ann").await;
    let bob = member(fleet.gateway(), "bob").await;
    assert_eq!(told(&mut ann).await, is("bob", "active", 2));
    let began = Instant::now();
    command(&bob, "room:leave").await;
    assert_eq!(told(&mut ann).await, is("bob", "offline", 1));
    assert!(began.elapsed() < Duration::from_secs(4), "leaving is not dropping");
    join(&bob).await;
    assert_eq!(told(&mut ann).await, is("bob", "active", 2));

    drop(bob);
    let bob = member(fleet.gateway(), "bob").await;
    let dropped = Instant::now();
    drop(bob);
    assert_eq!(told(&mut ann).await, is("bob", "offline", 1));
    let after = dropped.elapsed();
    assert!(after > Duration::from_millis(4_500), "{after:?}");
    assert_eq!(changes_of(&ann, "bob"), 4, "coming back in time is no news");
    assert_eq!(statuses(&join(&ann).await), all(&[("ann", "active")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_does_moves_their_time_and_is_no_news() {
    let fleet = gateway().await;
    let ann = member(fleet.gateway(), "ann").await;
    let mut bob = member(fleet.gateway(), "bob").await;
    let since = |list: &Value| list["presence"]["ann"]["lastActiveAt"].as_str().unwrap().to_owned();
    let before = since(&join(&bob).await);
    let changes = changes_of(&bob, "ann");
    let later = || async {
        ann.send(ROOM, &unique_id(), "hello").await.unwrap();
        since(&join(&bob).await) > before
    };
    eventually(SOON, "the time moves", later).await;
    status(&ann, "idle").await;
    loop {
        if told(&mut bob).await == is("ann", "idle", 2) {
            break;
        }
    }
    assert_eq!(changes_of(&bob, "ann"), changes + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_members_say_how_they_are_or_that_they_type() {
    let fleet = gateway().await;
    let ann = client(fleet.gateway(), "ann").await;
    for (event, data) in [
        ("presence:update", json!({ "roomId": ROOM, "status": "idle" })),
        ("typing:start", json!({ "roomId": ROOM })),
        ("typing:stop", json!({ "roomId": ROOM })),
    ] {
        let refused = ann.command(event, data).await.unwrap_err();
        assert_eq!(refused.code(), Some("not_joined"), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typing_mark_is_shown_to_the_others_and_ends_by_itself() {
    let fleet = gateway().await;
    let mut ann = member(fleet.gateway(), "ann").await;
    let bob = member(fleet.gateway(), "bob").await;
    let began = Instant::now();
    for _ in 0..20 {
        command(&bob, "typing:start").await;
    }
    let mark = ann.wait_for("typing:start", SOON).await.unwrap();
    assert_eq!(mark, json!({ "roomId": ROOM, "userId": "bob", "expiresInMs": 5000 }));
    let carol = client(fleet.gateway(), "carol").await;
    let found = &join(&carol).await["typing"];
    assert_eq!(found["bob"]["userId"], "bob");
    assert!(found["bob"]["expiresInMs"].as_u64().unwrap() <= 5000, "{found}");
    let stop = ann.wait_for("typing:stop", SOON).await.unwrap();
    assert_eq!(stop, json!({ "roomId": ROOM, "userId": "bob" }));
    assert!(began.elapsed() > Duration::from_millis(4_500));
    let count =
        |client: &Client, name| client.log().iter().filter(|event| is_event(event, name)).count();
    assert!(count(&ann, "typing:start") < 10, "typing on is told once in a while");
    assert_eq!(count(&ann, "typing:stop"), 1);
    assert_eq!(count(&bob, "typing:start") + count(&bob, "typing:stop"), 0, "it is one's own");
    assert_eq!(join(&carol).await["typing"], json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_ends_with_a_stop_a_message_a_leave_or_the_connection() {
    let fleet = gateway().await;
    let mut ann = member(fleet.gateway(), "ann").await;
    for end in ["stop", "message", "leave", "drop"] {
        let bob = member(fleet.gateway(), "bob").await;
        let began = Instant::now();
        command(&bob, "typing:start").await;
        ann.wait_for("typing:start", SOON).await.unwrap();
        match end {
            "stop" => command(&bob, "typing:stop").await,
            "message" => drop(bob.send(ROOM, &unique_id(), "said").await.unwrap()),
            "leave" => command(&bob, "room:leave").await,
            _ => drop(bob),
        }
        let stop = ann.wait_for("typing:stop", SOON).await.unwrap();
        assert_eq!(stop["userId"], "bob", "{end}");
        assert!(began.elapsed() < Duration::from_secs(4), "{end}: it did not end by itself");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn more_people_than_are_listed_are_counted() {
    let fleet = gateway().await;
    let gateway = fleet.gateway();
    let mut people = Vec::new();
    for part in 0..25 {
        let names: Vec<String> =
            (0..20).map(|place| format!("user-{}", part * 20 + place)).collect();
        people.extend(join_all(names.iter().map(|name| member(gateway, name))).await);
    }
    let mut ann = client(gateway, "ann").await;
    let found = join(&ann).await;
    assert_eq!((&found["presence"], &found["presenceCount"]), (&json!({}), &json!(501)));
    let count = json!({ "roomId": ROOM, "presenceCount": 501 });
    while people[0].wait_for("presence:update", SOON).await.unwrap() != count {}
    // Clearly fewer: everybody is listed again.
    join_all(people[..51].iter().map(|client| command(client, "room:leave"))).await;
    loop {
        let listed = ann.wait_for("presence:list", SOON).await.unwrap();
        if listed["presenceCount"] == 450 {
            assert_eq!(statuses(&listed).len(), 450);
            break;
        }
    }
}
