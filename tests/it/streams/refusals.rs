//! What of an answer is refused, and that nothing of what is there is lost by it.

use fleet::{Fleet, GatewayOptions};
use harness::client::ClientError;
use harness::wire::Refused;
use harness::{Client, Proof, token, unique_id};
use serde_json::json;

use super::{Parts, Producer, message_of};
use crate::fixtures::{client, gateway};

fn refused<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> Refused {
    match outcome {
        Err(ClientError::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_are_cut_refused_or_answered_by_their_offset() {
    let fleet = gateway().await;
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let mut producer = Producer::begin(&fleet, "r").await;
    producer.append("ab👍").await;
    assert_eq!(producer.append_at(0, "ab👍").await.unwrap(), 4, "offered again");
    assert_eq!(producer.append_at(2, "👍").await.unwrap(), 4);
    let gap = refused(producer.append_at(5, "x").await);
    assert_eq!((gap.code.as_str(), gap.field.as_deref()), ("invalid_field", Some("offset")));
    assert_eq!(gap.limit, Some(json!(4)), "where to go on from");
    let nul = refused(producer.append_at(4, "\0").await);
    assert_eq!((nul.code.as_str(), nul.field.as_deref()), ("invalid_field", Some("delta")));
    let split = refused(producer.append_at(3, "👍").await);
    assert_eq!(split.code, "invalid_field");
    // Half known, half new.
    assert_eq!(producer.append_at(2, "👍cd").await.unwrap(), 6);
    producer.end(json!({})).await.unwrap();
    assert_eq!(message_of(&mut alice, &producer.id).await["content"], "ab👍cd");
    Parts::of(&alice, &producer.id).until("ab👍cd").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_would_be_too_long_keeps_what_it_has() {
    let fleet = gateway().await;
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let mut producer = Producer::begin(&fleet, "r").await;
    let half = "x".repeat(150 * 1024);
    producer.append(&half).await;
    let long = refused(producer.append_at(150 * 1024, &half).await);
    assert_eq!((long.code.as_str(), long.field.as_deref()), ("too_large", Some("delta")));
    assert_eq!(long.limit, Some(json!(256 * 1024)));
    producer.append("the end").await;
    let content = json!("x".repeat(256 * 1024 + 1));
    assert_eq!(refused(producer.end(json!({ "content": content })).await).code, "too_large");
    producer.end(json!({})).await.unwrap();
    let message = message_of(&mut alice, &producer.id).await;
    assert!(message["content"].as_str().is_some_and(|text| text == format!("{half}the end")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_its_producers_alone() {
    let secret = crate::auth::SECRET;
    let options = GatewayOptions::default().with_jwt_secret(secret);
    let fleet = Fleet::embedded(options).await.unwrap();
    let connect = async |user: &str, role: &str| {
        let claims = json!({ "rooms": ["r"], "role": role });
        let proof = Proof::Bearer(token(secret, user, 600, &claims));
        Client::connect(&fleet.gateway().ws_url(), &proof).await.unwrap()
    };
    let bot = connect("bot", "assistant").await;
    let other = connect("other", "assistant").await;
    let member = connect("member", "member").await;
    let id = unique_id();
    let answer = json!({ "roomId": "r", "id": id });
    let begin = "message:stream:start";
    assert_eq!(refused(bot.command(begin, answer.clone()).await).code, "not_joined");
    for client in [&bot, &other, &member] {
        client.join("r", None).await.unwrap();
    }
    let refusal = refused(member.command(begin, answer.clone()).await);
    assert_eq!((refusal.code.as_str(), refusal.field.as_deref()), ("forbidden", Some("type")));
    bot.command(begin, answer.clone()).await.unwrap();
    let delta = json!({ "roomId": "r", "id": id, "delta": "x", "offset": 0 });
    for (event, data) in
        [(begin, &answer), ("message:stream:append", &delta), ("message:stream:end", &answer)]
    {
        assert_eq!(refused(other.command(event, data.clone()).await).code, "forbidden", "{event}");
    }
    let unknown = json!({ "roomId": "r", "id": unique_id(), "delta": "x", "offset": 0 });
    let append = "message:stream:append";
    assert_eq!(refused(bot.command(append, unknown).await).code, "not_found");
    let unknown = json!({ "roomId": "r", "id": unique_id() });
    assert_eq!(refused(bot.command("message:stream:end", unknown).await).code, "not_found");
    // A member may write as itself, and charge nobody.
    let own = json!({ "roomId": "r", "id": unique_id(), "type": "user" });
    member.command(begin, own.clone()).await.unwrap();
    let mut charging = json!({ "roomId": "r", "id": own["id"] });
    charging["credits"] = json!(3);
    let refusal = refused(member.command("message:stream:end", charging).await);
    assert_eq!((refusal.code.as_str(), refusal.field.as_deref()), ("forbidden", Some("credits")));
    bot.command(append, delta).await.unwrap();
    bot.command("message:stream:end", answer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_writes_so_many_answers_at_a_time_in_all_rooms() {
    let fleet = gateway().await;
    let bot = client(fleet.gateway(), "bot").await;
    let mut begun = 0;
    let full = loop {
        let room = format!("room-{}", begun / 16);
        if begun % 16 == 0 {
            bot.join(&room, None).await.unwrap();
        }
        match bot.command("message:stream:start", json!({ "roomId": room })).await {
            Ok(_) => begun += 1,
            refusal => break refused(refusal),
        }
    };
    assert_eq!((full.code.as_str(), full.limit), ("backpressure", Some(json!(128))));
    assert_eq!(begun, 128);
    let other = client(fleet.gateway(), "other").await;
    other.join("room-0", None).await.unwrap();
    other.command("message:stream:start", json!({ "roomId": "room-0" })).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_has_so_many_answers_at_a_time_and_a_standing_id_begins_none() {
    let fleet = gateway().await;
    let first = Producer::begin(&fleet, "r").await;
    let begin = async |id: &str| {
        let data = json!({ "roomId": "r", "id": id });
        first.client.command("message:stream:start", data).await
    };
    for _ in 1..16 {
        begin(&unique_id()).await.unwrap();
    }
    let full = refused(begin(&unique_id()).await);
    assert_eq!((full.code.as_str(), full.limit), ("backpressure", Some(json!(16))));
    // Nobody alone takes all the answers of a room.
    let other = client(fleet.gateway(), "other").await;
    other.join("r", None).await.unwrap();
    other.command("message:stream:start", json!({ "roomId": "r" })).await.unwrap();
    first.end(json!({ "content": "room for one" })).await.unwrap();
    begin(&unique_id()).await.unwrap();
    assert_eq!(refused(begin(&first.id).await).code, "conflict");
    let append = first.append_at(0, "more").await;
    assert_eq!(refused(append).code, "conflict");
    let said = unique_id();
    first.client.send("r", &said, "a message").await.unwrap();
    assert_eq!(refused(begin(&said).await).code, "conflict");
}
