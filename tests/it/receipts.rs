//! How far everybody has read: it only grows, is told to all, and is there after a restart.

#![expect(clippy::unwrap_used, reason = "the functions that tests share have no `#[test]`")]

use harness::client::ClientError;
use harness::wire::{Accepted, Incoming};
use harness::{Client, Position, eventually, unique_id};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixtures::{SOON, client, flood, gateway, is_event};

pub(crate) const ROOM: &str = "r";

pub(crate) async fn join(client: &Client) -> Value {
    client.command("room:join", json!({ "roomId": ROOM })).await.unwrap()
}

pub(crate) async fn read_by_id(client: &Client, id: &str) -> Result<Position, ClientError> {
    let data = json!({ "roomId": ROOM, "lastReadMessageId": id });
    let answer = client.command("receipt:update", data).await?;
    Ok(Position::deserialize(&answer["position"]).unwrap())
}

pub(crate) async fn read_to(client: &Client, place: Position) -> Result<Position, ClientError> {
    let data = json!({ "roomId": ROOM, "position": place });
    let answer = client.command("receipt:update", data).await?;
    Ok(Position::deserialize(&answer["position"]).unwrap())
}

/// The places that a client was told a user has read, in the order it was told.
pub(crate) fn told(client: &Client, user: &str) -> Vec<Position> {
    let told = client.log().into_iter().filter_map(|incoming| {
        let Incoming::Event { name, data } = incoming else { return None };
        let receipt = match name.as_str() {
            "receipt:update" if data["userId"] == user => data,
            "receipt:list" => data["receipts"].get(user)?.clone(),
            _ => return None,
        };
        Some(Position::deserialize(&receipt["position"]).unwrap())
    });
    told.collect()
}

/// Waits until a client knows that a user has read so far, and no further.
pub(crate) async fn hears(client: &Client, user: &str, place: Position) {
    let heard = || async {
        let told = told(client, user);
        assert!(told.is_sorted(), "a receipt went back: {told:?}");
        if told.last() == Some(&place) { Ok(()) } else { Err(format!("{:?}", told.last())) }
    };
    eventually(SOON, "the receipt is told", heard).await;
}

fn place(accepted: &Accepted) -> Position {
    accepted.position.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_grows_is_told_and_counts_what_is_unread() {
    let mut fleet = gateway().await;
    let alice = client(fleet.gateway(), "alice").await;
    let bob = client(fleet.gateway(), "bob").await;
    let tab = client(fleet.gateway(), "bob").await;
    join(&alice).await;
    let said = flood(&alice, ROOM, 10).await;
    let joined = join(&bob).await;
    assert_eq!((&joined["unread"], &joined["receipts"]), (&json!(10), &json!({})));
    join(&tab).await;
    bob.send(ROOM, &unique_id(), "one's own is no news").await.unwrap();
    assert_eq!(read_by_id(&bob, &said[4].id).await.unwrap(), place(&said[4]));
    for client in [&alice, &bob, &tab] {
        hears(client, "bob", place(&said[4])).await;
    }
    assert_eq!(read_to(&bob, place(&said[2])).await.unwrap(), place(&said[4]), "it only grows");
    let again = join(&bob).await;
    assert_eq!(again["unread"], json!(5));
    assert_eq!(again["receipts"]["bob"]["lastReadMessageId"], json!(said[4].id));
    assert_eq!(join(&alice).await["unread"], json!(1));
    alice.command("message:delete", json!({ "roomId": ROOM, "id": said[9].id })).await.unwrap();
    assert_eq!(join(&bob).await["unread"], json!(4), "what is gone need not be read");

    fleet.gateway_mut().terminate(SOON).await.unwrap();
    fleet.gateway_mut().restart(SOON).await.unwrap();
    let bob = client(fleet.gateway(), "bob").await;
    let joined = join(&bob).await;
    assert_eq!(joined["unread"], json!(4));
    let receipt = &joined["receipts"]["bob"];
    assert_eq!(Position::deserialize(&receipt["position"]).unwrap(), place(&said[4]));
    let head = Position::deserialize(&joined["head"]).unwrap();
    let beyond = Position::new(head.epoch + 5, 3);
    assert_eq!(read_to(&bob, beyond).await.unwrap(), head, "not beyond the head");
    assert_eq!(join(&bob).await["unread"], json!(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_follows_every_join_and_fields_are_checked() {
    let fleet = gateway().await;
    let alice = client(fleet.gateway(), "alice").await;
    let code =
        |outcome: Result<Position, ClientError>| outcome.unwrap_err().code().unwrap().to_owned();
    assert_eq!(code(read_to(&alice, Position::new(1, 1)).await), "not_joined");
    let begin = alice.log().len();
    join(&alice).await;
    let listed = || async {
        let log = alice.log();
        let replied = matches!(log.get(begin), Some(Incoming::Reply { .. }));
        replied && log[begin..].iter().any(|incoming| is_event(incoming, "receipt:list"))
    };
    eventually(SOON, "the list follows the reply", listed).await;
    assert_eq!(code(read_by_id(&alice, &unique_id()).await), "not_found");
    for data in [
        json!({ "roomId": ROOM }),
        json!({ "roomId": ROOM, "lastReadMessageId": "m", "position": {"epoch": 1, "seq": 1} }),
        json!({ "roomId": ROOM, "position": {"epoch": 1, "seq": 9_007_199_254_740_992_u64} }),
    ] {
        let refused = alice.command("receipt:update", data).await.unwrap_err();
        assert_eq!(refused.code(), Some("invalid_field"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_receipts_of_one_reader_are_few_events() {
    let fleet = gateway().await;
    let alice = client(fleet.gateway(), "alice").await;
    let bob = client(fleet.gateway(), "bob").await;
    join(&alice).await;
    join(&bob).await;
    let said = flood(&alice, ROOM, 400).await;
    let began = tokio::time::Instant::now();
    let mut pending = Vec::new();
    for accepted in &said {
        let data = json!({ "roomId": ROOM, "position": accepted.position });
        pending.push(bob.send_nowait("receipt:update", data).await);
    }
    for (reply, accepted) in pending.into_iter().zip(&said) {
        let answer = reply.reply(SOON).await.unwrap();
        assert!(Position::deserialize(&answer["position"]).unwrap() >= place(accepted));
    }
    hears(&alice, "bob", place(&said[399])).await;
    let spent = usize::try_from(began.elapsed().as_millis() / 250).unwrap();
    let told = told(&alice, "bob").len();
    assert!(told <= spent + 2, "{told} events in {spent} quarters of a second");
}
