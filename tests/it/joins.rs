//! Four hundred joins of a room to which four people write as fast as they can.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fleet::GatewayNode;
use harness::wire::{Incoming, Joined, Since};
use harness::{Client, Expect, Position, Proof};

use crate::fixtures::{Crowd, SOON, gateway, new_message, rows_of};

const JOINS: usize = 400;
const JOINERS_AT_A_TIME: usize = 8;
const WRITERS: usize = 4;
/// What a joiner that leaves stays for.
const EVENTS_BEFORE_LEAVING: usize = 40;
/// One joiner in so many stays until the last message.
const STAYERS_ONE_IN: usize = 25;
/// How far back a cursor lies at most: over the room's memory, its ring, and into the database.
const BEHIND_MAX: usize = 3000;
const ROOM: &str = "room-0";

/// What one joiner got: its join, and everything that it was shown, in order.
struct Visit {
    number: usize,
    since: Option<Since>,
    joined: Joined,
    shown: Vec<(Position, String)>,
    stayed: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_hundred_joins_of_a_busy_room_lose_nothing_and_double_nothing() {
    let fleet = gateway().await;
    let talk = Arc::new(Crowd::begin(fleet.gateway(), 1, WRITERS).await);
    talk.say(100);
    talk.until_persisted(100).await;
    let over = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write(Arc::clone(&talk), Arc::clone(&over)));

    let next = Arc::new(AtomicUsize::new(0));
    let url = fleet.gateway().ws_url();
    let joiners = (0..JOINERS_AT_A_TIME)
        .map(|_| tokio::spawn(joiner(url.clone(), Arc::clone(&talk), Arc::clone(&next))));
    let mut visits = Vec::new();
    let mut staying = Vec::new();
    for joiner in joiners.collect::<Vec<_>>() {
        let (left, stays) = joiner.await.unwrap();
        visits.extend(left);
        staying.extend(stays);
    }
    over.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    talk.ends_well(fleet.gateway(), Expect::default()).await;
    let last = rows_of(fleet.gateway(), ROOM).last().unwrap().id.clone();
    for (number, since, joined, mut client) in staying {
        let shown = shown_until(&mut client, &joined, |(_, id), _| *id == last).await;
        visits.push(Visit { number, since, joined, shown, stayed: true });
    }
    assert_eq!(visits.len(), JOINS);
    let (written, behind) = judge(fleet.gateway(), &visits);
    println!("{written} messages written, {behind} joins had to catch up");
}

/// Keeps everybody's hands full until it is over.
async fn write(talk: Arc<Crowd>, over: Arc<AtomicBool>) {
    let mut changes = talk.chatters[0].changes();
    while !over.load(Ordering::Relaxed) {
        if talk.chatters.iter().any(|chatter| chatter.unpersisted() < 50) {
            talk.say(100);
        }
        changes.changed().await.unwrap();
    }
}

type Stay = (usize, Option<Since>, Joined, Client);

/// Joins again and again, every second time from a cursor, until all joins are done.
async fn joiner(url: String, talk: Arc<Crowd>, next: Arc<AtomicUsize>) -> (Vec<Visit>, Vec<Stay>) {
    let (mut left, mut stays) = (Vec::new(), Vec::new());
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= JOINS {
            return (left, stays);
        }
        let proof = Proof::user(&format!("joiner-{number}"));
        let mut client = Client::connect(&url, &proof).await.unwrap();
        let since = (number % 2 == 1).then(|| cursor(&talk, number));
        let joined = client.join(ROOM, since.as_ref()).await.unwrap();
        if number.is_multiple_of(STAYERS_ONE_IN) {
            stays.push((number, since, joined, client));
            continue;
        }
        let head = joined.head;
        let mut above = 0;
        // It stays until it has caught up, and then for a while.
        let enough = |(position, _): &(Position, String), _| {
            above += usize::from(*position > head);
            above >= EVENTS_BEFORE_LEAVING
        };
        let shown = shown_until(&mut client, &joined, enough).await;
        left.push(Visit { number, since, joined, shown, stayed: false });
    }
}

/// The place of some message that a writer was shown, now and then one of the oldest.
fn cursor(talk: &Crowd, number: usize) -> Since {
    talk.chatters[0].look(|record| {
        let shown = &record.views[ROOM].entries;
        let behind = (number * 37) % BEHIND_MAX.min(shown.len());
        let entry = &shown[shown.len() - 1 - behind];
        Since { position: entry.position, message_id: entry.id.clone() }
    })
}

/// The join's messages and the events after it, up to the one that is enough.
async fn shown_until(
    client: &mut Client,
    joined: &Joined,
    mut enough: impl FnMut(&(Position, String), usize) -> bool,
) -> Vec<(Position, String)> {
    let messages = joined.messages.iter().map(|message| (message.position, message.id.clone()));
    let mut shown: Vec<_> = messages.collect();
    if shown.last().is_some_and(|last| enough(last, shown.len())) {
        return shown;
    }
    loop {
        let event = client.next_event(SOON).await.unwrap();
        let event = Incoming::Event { name: event.name, data: event.data };
        if let Some(message) = new_message(&event, ROOM) {
            shown.push(message);
            if shown.last().is_some_and(|last| enough(last, shown.len())) {
                return shown;
            }
        }
    }
}

/// Each view is a piece of the database's order, from its join on. Says how many messages there
/// are, and how many joins had to catch up.
fn judge(gateway: &GatewayNode, visits: &[Visit]) -> (usize, usize) {
    let rows = rows_of(gateway, ROOM);
    let order: Vec<(Position, String)> =
        rows.into_iter().map(|row| (row.position(), row.id)).collect();
    let place = |position| order.binary_search_by_key(&position, |(at, _)| *at).unwrap();
    let mut caught_up = 0;
    for Visit { number, since, joined, shown, stayed } in visits {
        assert!(!joined.reset, "join {number} was reset");
        let first = match since {
            Some(since) => {
                assert!(joined.recovered, "join {number} was not recovered");
                caught_up += usize::from(joined.has_more);
                place(since.position) + 1
            }
            None => {
                let oldest = shown.first().unwrap().0;
                assert!(oldest <= joined.head, "join {number} begins above its head");
                assert_eq!(joined.has_more, place(oldest) > 0, "join {number}");
                place(oldest)
            }
        };
        let end = first + shown.len();
        assert_eq!(shown[..], order[first..end], "join {number} from {since:?}");
        assert!(!stayed || end == order.len(), "join {number} ends before the end");
    }
    (order.len(), caught_up)
}
