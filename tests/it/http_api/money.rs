//! Credits over HTTP: the seed's three operations, and purchases.

use super::api;
use crate::fixtures::{SOON, gateway};
use harness::{Api, eventually, unique_id};
use serde_json::{Value, json};

async fn track(api: &Api, body: Value, status: u16) -> Value {
    api.post("/api/credits/track", &body).await.expect(status)
}

/// Waits until the balance says this, and nothing is on its way.
async fn balance_is(api: &Api, user: &str, wanted: i64) {
    let right = || async {
        let credits = api.get(&format!("/api/credits/{user}")).await.expect(200);
        let settled = credits["balance"] == wanted && credits["unsynced"] == 0;
        if settled { Ok(()) } else { Err(credits.to_string()) }
    };
    eventually(SOON, "the balance is settled", right).await;
}

#[tokio::test]
async fn a_movement_counts_once_and_the_balance_follows() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let bought = json!({ "userId": "ann", "amount": 1000, "kind": "purchase", "id": unique_id() });
    assert_eq!(track(&api, bought.clone(), 201).await["duplicate"], false);
    assert_eq!(track(&api, bought.clone(), 200).await["duplicate"], true);
    let used = json!({ "userId": "ann", "amount": 12, "id": unique_id(), "metadata": { "t": 1 } });
    assert_eq!(track(&api, used.clone(), 201).await["id"], used["id"]);
    balance_is(&api, "ann", 988).await;
    let other = json!({ "userId": "ann", "amount": 13, "id": used["id"] });
    let again = api.post("/api/credits/track", &other).await;
    // Whether the log remembers it or only the ledger does: it does not count.
    assert!([200, 409].contains(&again.status), "{again:?}");
    track(&api, json!({ "userId": "ann", "amount": 2, "kind": "refund" }), 201).await;
    balance_is(&api, "ann", 990).await;
    let unsynced = api.get("/api/credits/ann/unsynced").await.expect(200);
    assert_eq!(unsynced, json!({ "userId": "ann", "unsynced": 0 }));
    let nobody = api.get("/api/credits/nobody").await.expect(200);
    assert_eq!(nobody, json!({ "userId": "nobody", "balance": 0, "unsynced": 0 }));
}

#[tokio::test]
async fn what_a_message_costs_is_in_the_ledger_under_the_id_that_the_reply_names() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let body = json!({
        "userId": "helper", "id": unique_id(), "content": "noon", "type": "assistant",
        "credits": { "amount": 7, "userId": "ann", "metadata": { "tokens": 340 } },
    });
    let path = "/api/rooms/r/messages";
    let credit = api.post(path, &body).await.expect(201)["creditId"].clone();
    assert_eq!(api.post(path, &body).await.expect(200)["creditId"], credit);
    balance_is(&api, "ann", -7).await;
    let unknown = unique_id();
    let asked = json!({ "userId": "ann", "ids": [unknown, credit] });
    let synced = api.post("/api/credits/synced", &asked).await.expect(200);
    assert_eq!(synced, json!({ "userId": "ann", "synced": [credit], "unsynced": [unknown] }));
    // Asking changes nothing.
    balance_is(&api, "ann", -7).await;
}

#[tokio::test]
async fn many_movements_are_one_request_and_each_has_its_outcome() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let id = unique_id();
    let items = json!([
        { "userId": "ann", "amount": 1, "id": id },
        { "userId": "ann", "amount": 1, "id": id },
        { "userId": "ann", "amount": 0 },
        { "userId": "ann", "amount": 5, "colour": "red" },
        { "userId": "bob", "amount": 3 },
    ]);
    let answer = track(&api, json!({ "items": items }), 200).await;
    let results = answer["results"].as_array().unwrap();
    assert_eq!((&results[0]["duplicate"], &results[1]["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!(results[2]["error"]["field"], "amount");
    assert_eq!(results[3]["error"]["field"], "colour");
    assert_eq!(results[4]["duplicate"], false);
    balance_is(&api, "ann", -1).await;
    balance_is(&api, "bob", -3).await;
    for count in [0, 501] {
        let items = vec![json!({ "userId": "ann", "amount": 1 }); count];
        assert_eq!(track(&api, json!({ "items": items }), 400).await["field"], "items");
    }
    let both = json!({ "items": [{ "userId": "ann", "amount": 1 }], "userId": "ann" });
    assert_eq!(track(&api, both, 400).await["field"], "userId");
}

#[tokio::test]
async fn where_a_budget_is_kept_an_answer_that_it_does_not_cover_is_not_published() {
    let options = fleet::GatewayOptions::default().with_env("ROOMCAST_CREDITS_BUDGET", "true");
    let fleet = crate::fixtures::one_gateway::gateway_with(options).await;
    let api = api(&fleet);
    let path = "/api/rooms/r/messages";
    track(&api, json!({ "userId": "ann", "amount": 10, "kind": "purchase" }), 201).await;
    balance_is(&api, "ann", 10).await;
    let answer = |amount: u64| {
        json!({ "userId": "ann", "id": unique_id(), "content": "x", "type": "assistant",
                "credits": amount })
    };
    let covered = answer(8);
    api.post(path, &covered).await.expect(201);
    balance_is(&api, "ann", 2).await;
    assert_eq!(api.post(path, &answer(8)).await.expect(402)["code"], "insufficient_credits");
    // What stands is not asked for the budget again.
    assert_eq!(api.post(path, &covered).await.expect(200)["duplicate"], true);
    let batch = json!({ "messages": [answer(8), covered, answer(2)] });
    let results = api.post("/api/rooms/r/messages/batch", &batch).await.expect(200);
    assert_eq!(results["results"][0]["error"]["code"], "insufficient_credits");
    assert_eq!(results["results"][1]["duplicate"], true);
    assert_eq!(results["results"][2]["duplicate"], false);
}
