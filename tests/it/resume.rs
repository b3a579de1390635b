//! Coming back to a room, leaving it, and reading its history.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use harness::wire::{Accepted, Incoming, Joined, Page, Since};
use harness::{Client, Position, unique_id};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixtures::one_gateway::metric;
use crate::fixtures::{
    SOON, accepted, client, flood, gateway, heard, new_message, offer, rows_of, say, since,
    until_heard,
};

type Places = Vec<(Position, String)>;

fn places(all: &[Accepted]) -> Places {
    all.iter().map(|accepted| (accepted.position.unwrap(), accepted.id.clone())).collect()
}

fn shown(joined: &Joined) -> Places {
    joined.messages.iter().map(|message| (message.position, message.id.clone())).collect()
}

async fn join(client: &Client, room: &str, since: &Since, limit: u32) -> Joined {
    let data = json!({ "roomId": room, "since": since.to_json(), "limit": limit });
    Joined::deserialize(client.command("room:join", data).await.unwrap()).unwrap()
}

/// Somebody who is in the room, has said so much, and has heard all of it: an answer may come a
/// moment before the room is there too.
async fn talker(fleet: &fleet::Fleet, count: usize) -> (Client, Vec<Accepted>) {
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let said = flood(&alice, "r", count).await;
    until_heard(&mut alice, &said.last().unwrap().id).await;
    (alice, said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_message_of_a_room_and_of_an_epoch_is_no_gap() {
    let mut fleet = gateway().await;
    let (alice, said) = talker(&fleet, 1).await;
    assert_nothing_was_missed(&fleet).await;
    drop(alice);
    fleet.gateway_mut().kill_9().await.unwrap();
    fleet.gateway_mut().restart(SOON).await.unwrap();
    let mut bob = client(fleet.gateway(), "bob").await;
    let joined = join(&bob, "r", &since(&said[0]), 200).await;
    assert!(joined.recovered && joined.messages.is_empty());
    let next = flood(&bob, "r", 2).await;
    until_heard(&mut bob, &next[1].id).await;
    let epochs = [&said[0], &next[0]].map(|accepted| accepted.position.unwrap().epoch);
    assert!(epochs[0] < epochs[1], "{epochs:?}");
    assert_nothing_was_missed(&fleet).await;
}

async fn assert_nothing_was_missed(fleet: &fleet::Fleet) {
    for name in ["roomcast_gaps_total", "roomcast_lagging_total", "roomcast_resets_total"] {
        assert_eq!(metric(fleet, name).await, 0.0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_soon_goes_on_from_the_rooms_memory() {
    let fleet = gateway().await;
    let (alice, said) = talker(&fleet, 300).await;
    let mut bob = client(fleet.gateway(), "bob").await;
    let joined = join(&bob, "r", &since(&said[149]), 200).await;
    assert!(joined.recovered && !joined.reset && !joined.has_more);
    assert_eq!(shown(&joined), places(&said[150..]));
    assert_eq!(joined.head, said[299].position.unwrap());
    let next = flood(&alice, "r", 1).await;
    until_heard(&mut bob, &next[0].id).await;
    assert_eq!(heard(&bob, "r"), places(&next), "nothing of the reply comes again as an event");

    // With nothing to go on to, and without an id.
    let nothing = join(&bob, "r", &since(&next[0]), 200).await;
    assert!(nothing.recovered && !nothing.has_more && nothing.messages.is_empty());
    let Position { epoch, seq } = said[298].position.unwrap();
    let data = json!({ "roomId": "r", "since": { "epoch": epoch, "seq": seq } });
    let joined = Joined::deserialize(bob.command("room:join", data).await.unwrap()).unwrap();
    assert!(joined.recovered);
    assert_eq!(shown(&joined), [&places(&said[299..])[..], &places(&next)[..]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_far_behind_gets_the_rest_in_order_and_before_anything_newer() {
    let fleet = gateway().await;
    let (alice, mut said) = talker(&fleet, 2500).await;
    let mut bob = client(fleet.gateway(), "bob").await;
    // Others go on talking meanwhile.
    let ids: Vec<String> = (0..500).map(|_| unique_id()).collect();
    let newer = offer(&alice, "r", &ids).await;
    let joined = join(&bob, "r", &since(&said[9]), 100).await;
    for reply in newer {
        said.push(accepted(reply).await);
    }
    assert!(joined.recovered && joined.has_more);
    assert_eq!(shown(&joined), places(&said[10..110]));
    until_heard(&mut bob, &said.last().unwrap().id).await;
    assert_eq!(heard(&bob, "r"), places(&said[110..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_beginning_of_an_epoch_can_be_continued() {
    let mut fleet = gateway().await;
    let (_alice, said) = talker(&fleet, 100).await;
    let epoch = said[0].position.unwrap().epoch;
    fleet.gateway_mut().restart(SOON).await.unwrap();
    let (_alice, more) = talker(&fleet, 20).await;
    let all = [places(&said), places(&more)].concat();
    let newer = more[0].position.unwrap().epoch;
    assert!(newer > epoch);
    let bob = client(fleet.gateway(), "bob").await;
    for (epoch, expected) in [(0, &all[..]), (epoch, &all[..]), (newer, &all[100..])] {
        let data = json!({ "roomId": "r", "since": { "epoch": epoch, "seq": 0 }, "limit": 200 });
        let joined = Joined::deserialize(bob.command("room:join", data).await.unwrap()).unwrap();
        assert!(joined.recovered, "from ({epoch}, 0)");
        assert_eq!(shown(&joined), expected, "from ({epoch}, 0)");
    }
    // Over the restart, from the middle of the epoch before.
    let joined = join(&bob, "r", &since(&said[89]), 200).await;
    assert!(joined.recovered);
    assert_eq!(shown(&joined), all[90..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_continued_is_reset() {
    let fleet = gateway().await;
    let (_alice, said) = talker(&fleet, 700).await;
    let bob = client(fleet.gateway(), "bob").await;
    let newest = since(said.last().unwrap());
    let place = |said: &Accepted| said.position.unwrap();
    let Position { epoch, seq } = newest.position;
    let cursor = |position, message_id: &str| Since { position, message_id: message_id.to_owned() };
    let cases = [
        ("another id, in memory", cursor(place(&said[690]), &said[691].id)),
        ("another id, in the database", cursor(place(&said[5]), &said[6].id)),
        ("the next place", cursor(Position::new(epoch, seq + 1), &unique_id())),
        ("the next epoch", cursor(Position::new(epoch + 1, 1), &unique_id())),
        ("the beginning of the next epoch", cursor(Position::new(epoch + 1, 0), &unique_id())),
        ("an epoch before the first", cursor(Position::new(0, 7), &said[6].id)),
    ];
    for (what, cursor) in cases {
        let joined = join(&bob, "r", &cursor, 50).await;
        assert!(joined.reset && !joined.recovered && joined.has_more, "{what}: {joined:?}");
        assert_eq!(shown(&joined), places(&said[650..]), "{what}");
    }
    let joined = join(&bob, "empty", &newest, 50).await;
    assert!(joined.reset && joined.messages.is_empty() && !joined.has_more);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_ten_thousand_behind_is_reset_and_exactly_so_many_are_not() {
    let fleet = gateway().await;
    let (_alice, said) = talker(&fleet, 10_001).await;
    let mut bob = client(fleet.gateway(), "bob").await;
    let start = json!({ "roomId": "r", "since": { "epoch": 0, "seq": 0 }, "limit": 10 });
    let joined = Joined::deserialize(bob.command("room:join", start).await.unwrap()).unwrap();
    assert!(joined.reset, "10,001 behind");
    let joined = join(&bob, "r", &since(&said[0]), 10).await;
    assert!(joined.recovered && joined.has_more, "10,000 behind");
    until_heard(&mut bob, &said.last().unwrap().id).await;
    assert_eq!(heard(&bob, "r"), places(&said[11..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_room_follows_the_reply_to_its_leave() {
    let fleet = gateway().await;
    let (alice, _said) = talker(&fleet, 10).await;
    let bob = client(fleet.gateway(), "bob").await;
    bob.join("s", None).await.unwrap();
    let writing = tokio::spawn(async move {
        flood(&alice, "r", 5000).await;
        alice
    });
    for _ in 0..50 {
        bob.join("r", None).await.unwrap();
        bob.command("room:leave", json!({ "roomId": "r" })).await.unwrap();
    }
    let alice = writing.await.unwrap();
    flood(&alice, "r", 10).await;
    // Leaving what one is not in is done already; sending there is not possible any more.
    bob.command("room:leave", json!({ "roomId": "r" })).await.unwrap();
    assert_eq!(bob.send("r", &unique_id(), "x").await.unwrap_err().code(), Some("not_joined"));
    let mut is_in = false;
    for incoming in bob.log() {
        match &incoming {
            Incoming::Reply { outcome: Ok(data), .. } if data["roomId"] == "r" => is_in = true,
            Incoming::Reply { outcome: Ok(data), .. } if *data == json!({}) => is_in = false,
            Incoming::Event { data, .. } => {
                assert!(is_in || data["roomId"] != "r", "outside of the room: {incoming:?}");
            }
            Incoming::Reply { .. } | Incoming::Faulty(_) | Incoming::Closed(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_again_changes_nothing_but_the_answer() {
    let fleet = gateway().await;
    let (alice, said) = talker(&fleet, 100).await;
    let mut bob = client(fleet.gateway(), "bob").await;
    let cursor = since(said.last().unwrap());
    for _ in 0..3 {
        let joined = join(&bob, "r", &cursor, 50).await;
        assert!(joined.recovered && joined.messages.is_empty());
    }
    let next = flood(&alice, "r", 100).await;
    until_heard(&mut bob, &next[99].id).await;
    // Joins in the middle of what comes; each event still comes once.
    let writing = tokio::spawn(async move { flood(&alice, "r", 2000).await });
    for _ in 0..20 {
        let at = heard(&bob, "r").pop().unwrap();
        let cursor = Since { position: at.0, message_id: at.1 };
        assert!(join(&bob, "r", &cursor, 200).await.recovered);
    }
    let more = writing.await.unwrap();
    let (_, end) = places(&more).pop().unwrap();
    if !bob.log().iter().any(|incoming| replied(incoming).any(|(_, id)| id == end)) {
        until_heard(&mut bob, &end).await;
    }
    // Events go on without a hole where the last reply ended. A reply may hold again what came as
    // events while its join was on the way, for the join said from where.
    let mut last = cursor.position;
    for incoming in bob.log() {
        if let Some((position, _)) = new_message(&incoming, "r") {
            assert_eq!(position, Position::new(last.epoch, last.seq + 1));
            last = position;
        }
        last = replied(&incoming).last().map_or(last, |(position, _)| position);
    }
    assert_eq!(Some(last), more.last().unwrap().position);
}

/// The messages of a join's reply.
fn replied(incoming: &Incoming) -> impl Iterator<Item = (Position, String)> {
    let joined = match incoming {
        Incoming::Reply { outcome: Ok(data), .. } => Joined::deserialize(data).ok(),
        Incoming::Reply { .. } | Incoming::Event { .. } => None,
        Incoming::Faulty(_) | Incoming::Closed(_) => None,
    };
    joined.map(|joined| shown(&joined)).unwrap_or_default().into_iter()
}

async fn pages(client: &Client, direction: &str, from: Option<Position>, limit: u32) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut bound = from;
    loop {
        let mut query = json!({ "limit": limit });
        if let Some(bound) = bound {
            query[direction] = serde_json::to_value(bound).unwrap();
        }
        let page = client.history("r", query).await.unwrap();
        let (first, last) = (page.messages.first(), page.messages.last());
        let edge = if direction == "before" { first } else { last };
        bound = edge.map(|message| message.position);
        let more = page.has_more;
        pages.push(page);
        if !more {
            return pages;
        }
    }
}

fn ids<'a>(pages: impl Iterator<Item = &'a Page>) -> Vec<String> {
    pages.flat_map(|page| page.messages.iter().map(|message| message.id.clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_read_in_both_directions_over_a_restart() {
    let mut fleet = gateway().await;
    let (_alice, mut said) = talker(&fleet, 450).await;
    fleet.gateway_mut().kill_9().await.unwrap();
    fleet.gateway_mut().restart(SOON).await.unwrap();
    let (_alice, more) = talker(&fleet, 250).await;
    assert!(more[0].position.unwrap().epoch > said[0].position.unwrap().epoch);
    said.extend(more);
    let all: Vec<String> = rows_of(fleet.gateway(), "r").into_iter().map(|row| row.id).collect();
    assert_eq!(all.len(), 700);
    assert_eq!(all, said.iter().map(|accepted| accepted.id.clone()).collect::<Vec<_>>());
    // Reading needs no join.
    let bob = client(fleet.gateway(), "bob").await;
    for limit in [200, 77] {
        let back = pages(&bob, "before", None, limit).await;
        assert_eq!(back.len(), 700_usize.div_ceil(limit as usize));
        assert_eq!(ids(back.iter().rev()), all);
        let forth = pages(&bob, "after", Some(Position::default()), limit).await;
        assert_eq!(ids(forth.iter()), all);
    }
    let both = json!({ "before": said[3].position, "after": said[1].position });
    let error = bob.history("r", both).await.unwrap_err();
    assert_eq!(error.code(), Some("invalid_field"));
    let none = bob.history("r", json!({ "after": said[699].position })).await.unwrap();
    assert!(none.messages.is_empty() && !none.has_more);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_and_pages_end_at_a_mebibyte_and_say_that_there_is_more() {
    const PAGE_BYTES_MAX: usize = 1024 * 1024;
    let fleet = gateway().await;
    let (mut alice, first) = talker(&fleet, 1).await;
    let mut all = vec![first[0].id.clone()];
    for letter in "abcdefghij".chars() {
        let id = unique_id();
        let large: String = std::iter::repeat_n(letter, 250 * 1024).collect();
        alice.send("r", &id, &large).await.unwrap();
        all.push(id);
    }
    until_heard(&mut alice, all.last().unwrap()).await;
    let mut bob = client(fleet.gateway(), "bob").await;
    let back = pages(&bob, "before", None, 200).await;
    let forth = pages(&bob, "after", Some(Position::default()), 200).await;
    assert_eq!(ids(back.iter().rev()), all);
    assert_eq!(ids(forth.iter()), all);
    assert!(back.len() >= 3 && forth.len() >= 3);

    let latest = bob.join("r", None).await.unwrap();
    assert!(latest.has_more);
    let end: Vec<String> = latest.messages.iter().map(|message| message.id.clone()).collect();
    assert_eq!(end, all[all.len() - end.len()..]);
    let joined = join(&bob, "r", &since(&first[0]), 200).await;
    assert!(joined.recovered && joined.has_more);
    until_heard(&mut bob, all.last().unwrap()).await;
    let mut ids: Vec<String> = shown(&joined).into_iter().map(|(_, id)| id).collect();
    ids.extend(heard(&bob, "r").into_iter().map(|(_, id)| id));
    assert_eq!(ids, all[1..]);
    for incoming in bob.log() {
        let Incoming::Reply { outcome: Ok(Value::Object(data)), .. } = incoming else { continue };
        let bytes = Value::Object(data).to_string().len();
        assert!(bytes <= PAGE_BYTES_MAX, "a reply has {bytes} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_busy_with_large_messages_can_be_joined() {
    let fleet = gateway().await;
    let (alice, _said) = talker(&fleet, 300).await;
    let bob = client(fleet.gateway(), "bob").await;
    let content = "x".repeat(100 * 1024);
    let writing = tokio::spawn(async move {
        let mut last = None;
        for _ in 0..20 {
            let mut pending = Vec::new();
            for _ in 0..20 {
                pending.push(say(&alice, "r", &content).await.1);
            }
            for reply in pending {
                last = accepted(reply).await.position;
            }
        }
        last
    });
    let mut joins = 0;
    while !writing.is_finished() {
        let data = json!({ "roomId": "r", "limit": 200 });
        let joined = Joined::deserialize(bob.command("room:join", data).await.unwrap()).unwrap();
        assert!(joined.has_more);
        assert!(joined.messages.windows(2).all(|two| two[1].position == next(two[0].position)));
        assert_eq!(joined.messages.last().unwrap().position, joined.head);
        bob.command("room:leave", json!({ "roomId": "r" })).await.unwrap();
        joins += 1;
    }
    println!("{joins} joins");
    assert!(joins > 3 && writing.await.unwrap().is_some());
}

fn next(Position { epoch, seq }: Position) -> Position {
    Position::new(epoch, seq + 1)
}
