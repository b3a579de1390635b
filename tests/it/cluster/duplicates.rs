//! Every message offered again and again: at both nodes at once, when it is stored, when Redis has
//! forgotten everything.

use harness::wire::Accepted;
use harness::{Client, Proof, eventually, unique_id};

use super::{PATIENCE, cluster, rows, stored};
use crate::fixtures::{accepted, offer};

const MESSAGES: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_offered_at_both_nodes_and_after_a_wipe_stands_once() {
    let fleet = cluster().await;
    let mut clients = Vec::new();
    for gateway in fleet.gateways() {
        let client = Client::connect(&gateway.ws_url(), &Proof::user("alice")).await.unwrap();
        client.join("r", None).await.unwrap();
        clients.push(client);
    }
    let ids: Vec<String> = (0..MESSAGES).map(|_| unique_id()).collect();
    let everywhere = async || -> Vec<Vec<Accepted>> {
        let mut pending = Vec::new();
        for client in &clients {
            pending.push(offer(client, "r", &ids).await);
        }
        let mut answers = Vec::new();
        for replies in pending {
            let mut of_one = Vec::new();
            for reply in replies {
                of_one.push(accepted(reply).await);
            }
            answers.push(of_one);
        }
        answers
    };
    let places = |answers: &[Vec<Accepted>]| -> Vec<Vec<_>> {
        answers.iter().map(|of_one| of_one.iter().map(|a| a.position.unwrap()).collect()).collect()
    };

    let first = everywhere().await;
    let places_first = places(&first);
    assert_eq!(places_first[0], places_first[1], "both nodes name one place");
    for (one, other) in first[0].iter().zip(&first[1]) {
        assert!(one.duplicate != other.duplicate, "one of the two was the first");
    }
    let all = || async { stored(&fleet).await == MESSAGES };
    eventually(PATIENCE, "everything is stored", all).await;
    let second = everywhere().await;
    assert_eq!(places(&second), places_first);
    // The database has them all; that redis knows it comes a moment later.
    assert!(second.iter().flatten().all(|answer| answer.duplicate));

    fleet.redis().command(&["FLUSHALL"]).await.unwrap();
    let third = everywhere().await;
    assert_eq!(places(&third), places_first, "the database remembers what redis has forgotten");
    assert!(third.iter().flatten().all(|answer| answer.duplicate && answer.persisted));
    assert_eq!(rows(&fleet).await.map(|rows| rows.len()), Ok(MESSAGES));
}
