//! Reading a room over HTTP: pages of its history, and following it.

use super::{api, contents, position, publish};
use crate::fixtures::gateway;
use harness::Api;
use serde_json::{Value, json};

async fn said(api: &Api, count: usize) -> Vec<Value> {
    let mut said = Vec::new();
    for number in 0..count {
        said.push(publish(api, "r", "ann", &number.to_string()).await);
    }
    said
}

#[tokio::test]
async fn history_is_read_in_pages_in_both_directions() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let said = said(&api, 7).await;
    let page = |query: String| {
        let api = api.clone();
        async move { api.get(&format!("/api/rooms/r/messages?{query}")).await.expect(200) }
    };
    let latest = page("limit=3".into()).await;
    assert_eq!((contents(&latest), &latest["hasMore"]), (strings(4..7), &json!(true)));
    let before = position(&said[4]["position"]);
    let older = page(format!("limit=3&before={before}")).await;
    assert_eq!((contents(&older), &older["hasMore"]), (strings(1..4), &json!(true)));
    let after = position(&said[3]["position"]);
    let newer = page(format!("after={after}")).await;
    assert_eq!((contents(&newer), &newer["hasMore"]), (strings(4..7), &json!(false)));
    let both = format!("/api/rooms/r/messages?after={after}&before={before}");
    assert_eq!(api.get(&both).await.expect(400)["field"], "after");
    let nowhere = api.get("/api/rooms/nowhere/messages").await.expect(200);
    assert_eq!(nowhere, json!({ "messages": [], "hasMore": false }));
}

fn strings(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn a_room_is_followed_by_positions_and_by_ids() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let empty = api.get("/api/rooms/r/stream").await.expect(200);
    assert_eq!(empty, json!({ "messages": [], "hasMore": false, "next": "0-0" }));
    let said = said(&api, 7).await;
    let mut next = empty["next"].as_str().unwrap().to_owned();
    let mut all = Vec::new();
    for more in [true, true, false] {
        let path = format!("/api/rooms/r/stream?after={next}&limit=3");
        let page = api.get(&path).await.expect(200);
        assert_eq!(page["hasMore"], more, "{page}");
        next = page["next"].as_str().unwrap().to_owned();
        all.extend(contents(&page));
    }
    assert_eq!(all, strings(0..7));
    assert_eq!(next, position(&said[6]["position"]));
    let id = said[4]["id"].as_str().unwrap();
    let page = api.get(&format!("/api/rooms/r/stream?after={id}")).await.expect(200);
    assert_eq!(contents(&page), strings(5..7));
    let end = api.get(&format!("/api/rooms/r/stream?after={next}")).await.expect(200);
    assert_eq!(end, json!({ "messages": [], "hasMore": false, "next": next }));
}

#[tokio::test]
async fn what_the_room_does_not_have_cannot_be_followed_from() {
    let fleet = gateway().await;
    let api = api(&fleet);
    let said = said(&api, 1).await;
    publish(&api, "other", "ann", "elsewhere").await;
    let elsewhere = publish(&api, "other", "ann", "elsewhere").await;
    let (epoch, id) = (&said[0]["position"]["epoch"], elsewhere["id"].as_str().unwrap());
    let beyond = [format!("{epoch}-999"), "99999-1".into(), id.into(), "no-such-message".into()];
    for after in beyond {
        let answer = api.get(&format!("/api/rooms/r/stream?after={after}")).await;
        let problem = answer.expect(404);
        assert_eq!((&problem["code"], &problem["field"]), (&json!("not_found"), &json!("after")));
    }
}
