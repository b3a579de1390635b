//! Producers that fall silent, and what they may still do.

use harness::eventually;
use serde_json::json;

use super::{Parts, Producer, impatient, message_of};
use crate::fixtures::{SOON, client, gateway, rows_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_producer_dies_is_closed_with_a_mark() {
    let fleet = impatient().await;
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let mut producer = Producer::begin(&fleet, "r").await;
    producer.append("I was about to").await;
    let id = producer.id.clone();
    let silent_since = tokio::time::Instant::now();
    drop(producer);
    let message = message_of(&mut alice, &id).await;
    assert!(silent_since.elapsed().as_millis() >= 1400, "{:?}", silent_since.elapsed());
    assert_eq!(
        (&message["content"], &message["userId"]),
        (&json!("I was about to"), &json!("bot"))
    );
    assert_eq!(message["metadata"], json!({ "aborted": true, "model": "small" }));
    Parts::of(&alice, &id).until_state("aborted").await;
    let metrics = fleet.gateway().metrics().await.unwrap();
    assert!(metrics.sum("roomcast_streams_aborted_total") > 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_producer_is_not_a_silent_one() {
    let fleet = impatient().await;
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let mut producer = Producer::begin(&fleet, "r").await;
    let began = tokio::time::Instant::now();
    // Twice as long as silence may take, with a sign of life now and then.
    let alive = std::cell::RefCell::new(&mut producer);
    #[expect(clippy::await_holding_refcell_ref, reason = "`eventually` asks one at a time")]
    let over = || async {
        alive.borrow_mut().append("…").await;
        began.elapsed().as_millis() > 3000
    };
    eventually(SOON, "the slow answer", over).await;
    producer.end(json!({})).await.unwrap();
    let message = message_of(&mut alice, &producer.id).await;
    assert_eq!(message["content"], json!(producer.text));
    assert_eq!(message["metadata"], json!({ "model": "small" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_comes_too_late_edits_what_was_cut_off_once() {
    let fleet = impatient().await;
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let mut producer = Producer::begin(&fleet, "r").await;
    producer.append("half of ").await;
    let cut_off = message_of(&mut alice, &producer.id).await;
    assert_eq!(cut_off["content"], "half of ");
    Parts::of(&alice, &producer.id).until_state("aborted").await;
    let more = producer.append_at(8, "it").await.unwrap_err();
    assert_eq!(more.code(), Some("conflict"), "it is closed");

    let whole = json!({ "content": "half of it and the rest" });
    let ended = producer.end(whole.clone()).await.unwrap();
    let update = alice.wait_for("message:update", SOON).await.unwrap();
    assert_eq!(update["id"], json!(producer.id));
    assert_eq!(update["content"], "half of it and the rest");
    assert_eq!(update["metadata"], json!({ "model": "small" }), "it is marked no more");
    assert_eq!(update["position"], ended["position"]);
    let again = producer.end(whole).await.unwrap();
    assert_eq!((&again["duplicate"], &again["position"]), (&json!(true), &ended["position"]));
    let rows = rows_of(fleet.gateway(), "r");
    assert_eq!((rows.len(), rows[0].content.as_str()), (1, "half of it and the rest"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_leaves_alone_closes_what_is_being_written() {
    let mut fleet = gateway().await;
    let mut producer = Producer::begin(&fleet, "r").await;
    producer.append("not lost").await;
    let status = fleet.gateway_mut().terminate(SOON).await.unwrap();
    assert!(status.success());
    let rows = rows_of(fleet.gateway(), "r");
    assert_eq!((rows.len(), rows[0].content.as_str()), (1, "not lost"));
}
