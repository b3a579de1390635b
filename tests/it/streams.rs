//! Answers that are written bit by bit, over one gateway: what members see of them while they are
//! written, what stands when they are not any more, and what it costs.

mod closing;
mod refusals;

#[expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]
mod producer;

use fleet::{Fleet, GatewayOptions};
use futures_util::future::join_all;
use harness::{Client, Proof, eventually, unique_id};
use serde_json::{Value, json};

use crate::fixtures::{SOON, client, database, gateway, rows_of};

pub(crate) use producer::{Parts, Producer, message_of};

/// A gateway that closes silent answers soon.
async fn impatient() -> Fleet {
    let options = GatewayOptions::default().with_env("ROOMCAST_STREAM_TIMEOUT_MS", "1500");
    Fleet::embedded(options).await.expect("a gateway")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_seen_as_it_is_written_and_stands_once_at_the_end() {
    let fleet = gateway().await;
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let mut producer = Producer::begin(&fleet, "r").await;
    for delta in ["It ", "is ", "👩\u{200d}👧 ", "noon"] {
        producer.append(delta).await;
    }
    assert_eq!(Parts::of(&alice, &producer.id).until("It is 👩\u{200d}👧 noon").await, "streaming");
    assert!(rows_of(fleet.gateway(), "r").is_empty(), "only the whole is logged");
    let ended = producer.end(json!({ "metadata": { "model": "large" } })).await.unwrap();
    assert_eq!((&ended["id"], &ended["duplicate"]), (&json!(producer.id), &json!(false)));

    let message = message_of(&mut alice, &producer.id).await;
    assert_eq!(message["content"], "It is 👩\u{200d}👧 noon");
    assert_eq!((&message["type"], &message["userId"]), (&json!("assistant"), &json!("bot")));
    assert_eq!(message["metadata"], json!({ "model": "large" }));
    assert_eq!(message["position"], ended["position"]);
    Parts::of(&alice, &producer.id).until_state("ended").await;
    assert_eq!(rows_of(fleet.gateway(), "r").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_joins_late_or_comes_back_gets_the_text_so_far_behind_the_reply() {
    let fleet = gateway().await;
    let mut producer = Producer::begin(&fleet, "r").await;
    let first = producer.client.send("r", &unique_id(), "before").await.unwrap();
    producer.append("so far").await;
    let early = client(fleet.gateway(), "early").await;
    early.join("r", None).await.unwrap();
    Parts::of(&early, &producer.id).until("so far").await;

    let late = client(fleet.gateway(), "late").await;
    late.join("r", None).await.unwrap();
    let mut back = client(fleet.gateway(), "back").await;
    back.join("r", Some(&crate::fixtures::since(&first))).await.unwrap();
    for newcomer in [&late, &back] {
        Parts::of(newcomer, &producer.id).until("so far").await;
        let parts = Parts::of(newcomer, &producer.id).all();
        assert_eq!((parts.len(), &parts[0]["offset"]), (1, &json!(0)), "{parts:?}");
    }
    producer.append(" and on").await;
    for member in [&early, &late, &back] {
        Parts::of(member, &producer.id).until("so far and on").await;
    }
    producer.end(json!({})).await.unwrap();
    message_of(&mut back, &producer.id).await;
    // An answer that stands is told to nobody as one that is written.
    let after = client(fleet.gateway(), "after").await;
    let joined = after.join("r", None).await.unwrap();
    assert_eq!(joined.messages.last().unwrap().content, "so far and on");
    after.command("heartbeat", json!({})).await.unwrap();
    assert!(Parts::of(&after, &producer.id).all().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_answers_are_written_at_once_and_do_not_mix() {
    let fleet = gateway().await;
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let mut one = Producer::begin(&fleet, "r").await;
    let mut two = Producer::begin(&fleet, "r").await;
    for number in 0..20 {
        one.append(&format!("one {number}, ")).await;
        two.append(&format!("two {number}, ")).await;
    }
    Parts::of(&alice, &one.id).until(&one.text).await;
    Parts::of(&alice, &two.id).until(&two.text).await;
    two.end(json!({})).await.unwrap();
    one.end(json!({})).await.unwrap();
    assert_eq!(message_of(&mut alice, &two.id).await["content"], json!(two.text));
    assert_eq!(message_of(&mut alice, &one.id).await["content"], json!(one.text));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_comes_back_goes_on_where_it_was() {
    let fleet = gateway().await;
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let mut producer = Producer::begin(&fleet, "r").await;
    producer.append("before 👍 ").await;
    producer.reconnect(&fleet.gateway().ws_url()).await;
    assert_eq!(producer.start().await.unwrap(), 10);
    producer.append("after").await;
    producer.end(json!({})).await.unwrap();
    assert_eq!(message_of(&mut alice, &producer.id).await["content"], "before 👍 after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_is_offered_three_times_makes_one_message() {
    let fleet = gateway().await;
    let mut producer = Producer::begin(&fleet, "r").await;
    producer.append("once").await;
    let data = json!({ "roomId": "r", "id": producer.id });
    let mut ends = Vec::new();
    for _ in 0..3 {
        ends.push(producer.client.send_nowait("message:stream:end", data.clone()).await);
    }
    let mut answers = Vec::new();
    for end in ends {
        answers.push(end.reply(SOON).await.unwrap());
    }
    let late = producer.client.command("message:stream:end", data).await.unwrap();
    let fresh = answers.iter().filter(|answer| answer["duplicate"] == json!(false)).count();
    assert_eq!(fresh, 1, "{answers:?}");
    assert!(answers.iter().chain([&late]).all(|a| a["position"] == answers[0]["position"]));
    assert_eq!(late["duplicate"], json!(true));
    let rows = rows_of(fleet.gateway(), "r");
    assert_eq!((rows.len(), rows[0].content.as_str()), (1, "once"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_answer_costs_is_in_the_ledger_once() {
    let fleet = gateway().await;
    let mut producer = Producer::begin(&fleet, "r").await;
    producer.append("dear").await;
    let cost = json!({ "credits": { "amount": 12, "userId": "alice" } });
    for _ in 0..3 {
        producer.end(cost.clone()).await.unwrap();
    }
    let ledger = || async {
        let select = "SELECT count(*), sum(amount) FROM credits WHERE user_id = 'alice'";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let held: (u64, Option<i64>) = database(fleet.gateway())
            .query_row(select, [], row)
            .map_err(|error| error.to_string())?;
        if held == (1, Some(-12)) { Ok(()) } else { Err(format!("{held:?}")) }
    };
    eventually(SOON, "the ledger has it once", ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_stays_until_the_database_has_it() {
    let fleet = gateway().await;
    let mut alice = client(fleet.gateway(), "alice").await;
    alice.join("r", None).await.unwrap();
    let mut producer = Producer::begin(&fleet, "r").await;
    producer.append("kept").await;
    let held = database(fleet.gateway());
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let data = json!({ "roomId": "r", "id": producer.id });
    let end = producer.client.send_nowait("message:stream:end", data.clone()).await;
    // Nobody is told that it has ended, and whoever comes now gets what there is of it.
    assert_eq!(Parts::of(&alice, &producer.id).until("kept").await, "streaming");
    let refused = end.reply(SOON).await.unwrap_err();
    assert_eq!(refused.code(), Some("unavailable"), "the outcome is unknown");
    held.execute_batch("COMMIT").unwrap();
    let again = producer.client.command("message:stream:end", data).await.unwrap();
    assert_eq!(again["persisted"], json!(true));
    assert_eq!(message_of(&mut alice, &producer.id).await["content"], "kept");
    assert_eq!(rows_of(fleet.gateway(), "r").len(), 1);
}

/// What 4,000 tokens cost each of a hundred members: the text, and something for each tick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_costs_each_member_its_length_and_not_the_square_of_it() {
    const TOKENS: usize = 4000;
    const MEMBERS: usize = 100;
    /// Ids, names and braces of one part.
    const PART_BYTES: usize = 300;
    let fleet = gateway().await;
    let url = fleet.gateway().ws_url();
    let members = (0..MEMBERS).map(|number| {
        let url = url.clone();
        async move {
            let member = Client::connect(&url, &Proof::user(&format!("m{number}"))).await.unwrap();
            member.join("r", None).await.unwrap();
            member
        }
    });
    let members = join_all(members).await;
    let mut producer = Producer::begin(&fleet, "r").await;
    let began = tokio::time::Instant::now();
    for token in 0..TOKENS {
        producer.append_nowait(&format!("tok{} ", token % 10)).await;
    }
    producer.settled().await;
    for member in &members {
        Parts::of(member, &producer.id).until(&producer.text).await;
    }
    let ticks = began.elapsed().as_millis() as usize / 50 + 2;
    let costs = members.iter().map(|member| Parts::of(member, &producer.id).cost());
    let costs: Vec<(usize, usize)> = costs.collect();
    let (parts, bytes) = costs.iter().max_by_key(|(_, bytes)| *bytes).copied().unwrap();
    let length = producer.text.len();
    println!(
        "{TOKENS} tokens, {length} bytes of text, {MEMBERS} members: at most {bytes} bytes in \
         {parts} parts for each, {:.2} of the text; resending it each time: {} bytes",
        bytes as f64 / length as f64,
        length * TOKENS / 2,
    );
    assert!(parts <= ticks, "{parts} parts in {ticks} ticks");
    assert!(bytes <= length + parts * PART_BYTES, "{bytes} for {length} in {parts} parts");
    let told = || async {
        let metrics = fleet.gateway().metrics().await.map_err(|error| error.to_string())?;
        let told = metrics.sum("roomcast_stream_bytes_out_total");
        let (least, most) = (length * MEMBERS, (length + ticks * PART_BYTES) * (MEMBERS + 1));
        if (least as f64..=most as f64).contains(&told) { Ok(()) } else { Err(format!("{told}")) }
    };
    eventually(SOON, "the gateway has counted the same", told).await;
}

/// The data of the events of one name so far.
fn events(client: &Client, wanted: &str) -> Vec<Value> {
    let data = client.log().into_iter().filter_map(|incoming| match incoming {
        harness::wire::Incoming::Event { name, data } if name == wanted => Some(data),
        _ => None,
    });
    data.collect()
}
