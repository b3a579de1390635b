//! Wherever a client goes on from, and from wherever it is served, it ends with the same messages.

use fleet::Fleet;
use harness::{Client, eventually};
use serde_json::{Value, json};

use super::model::{Dice, Model, Screen, Shown, View, difference, shown};
use crate::fixtures::{SOON, client, gateway};

const ROOM: &str = "r";
const LIMITS: [u32; 5] = [1, 2, 7, 50, 200];

/// The latest page that holds everything, right in the reply.
pub(crate) async fn fresh_joins_show(client: &Client, model: &Model) {
    let wanted = model.in_order();
    for limit in LIMITS {
        let data = json!({ "roomId": ROOM, "limit": limit });
        let reply = client.command("room:join", data).await.unwrap();
        client.command("room:leave", json!({ "roomId": ROOM })).await.unwrap();
        let found: Vec<Shown> = list(&reply).iter().map(shown).collect();
        let from = wanted.len().saturating_sub(limit as usize);
        assert_eq!(found, wanted[from..], "limit {limit}");
        assert_eq!(reply["hasMore"], json!(from > 0));
    }
}

fn list(reply: &Value) -> &Vec<Value> {
    reply["messages"].as_array().unwrap()
}

/// Pages in both directions, of every size.
pub(crate) async fn history_shows(client: &Client, model: &Model) {
    let wanted = model.in_order();
    for limit in [3, 40, 200] {
        let (mut back, mut before) = (Vec::<Shown>::new(), None);
        loop {
            let data = json!({ "roomId": ROOM, "limit": limit, "before": before });
            let page = client.command("history:get", data).await.unwrap();
            back.splice(0..0, list(&page).iter().map(shown));
            before = list(&page).first().map(|message| message["position"].clone());
            if page["hasMore"] == json!(false) {
                break;
            }
        }
        assert_eq!(back, wanted, "backwards by {limit}");
        let (mut forth, mut after) = (Vec::<Shown>::new(), json!({ "epoch": 0, "seq": 0 }));
        loop {
            let data = json!({ "roomId": ROOM, "limit": limit, "after": after });
            let page = client.command("history:get", data).await.unwrap();
            forth.extend(list(&page).iter().map(shown));
            if page["hasMore"] == json!(false) {
                break;
            }
            after = list(&page).last().unwrap()["position"].clone();
        }
        assert_eq!(forth, wanted, "forwards by {limit}");
    }
}

/// A client that comes back from each of these places.
pub(crate) async fn resumes_end_well(
    connect: impl AsyncFn() -> Client,
    model: &Model,
    every: usize,
    dice: &mut Dice,
) {
    let wanted = model.after(model.ops.len());
    for count in (1..=model.ops.len()).step_by(every) {
        let client = connect().await;
        let (since, view) = model.client_at(count);
        let limit = LIMITS[dice.below(LIMITS.len())];
        let data = json!({ "roomId": ROOM, "since": since.to_json(), "limit": limit });
        let reply = client.command("room:join", data).await.unwrap();
        // A place that was overtaken since may be known no more: then everything comes anew.
        let reset = reply["reset"] == json!(true);
        let mut begun = Screen { view, cursor: Some(since.clone()) };
        begun.joined(&reply, reset);
        let head = model.ops[model.ops.len() - 1].position;
        let ended = || async {
            let mut screen = begun.clone();
            screen.events(&client, ROOM, 0);
            let wanted = if reset { latest(&wanted, limit) } else { wanted.clone() };
            difference(&screen.view, &wanted)?;
            match screen.cursor {
                Some(cursor) if reset || cursor.position == head => Ok(()),
                cursor => Err(format!("it stands at {cursor:?}")),
            }
        };
        let what = format!("from place {count} of {} ({since:?}) by {limit}", model.ops.len());
        eventually(SOON, &what, ended).await;
    }
}

fn latest(view: &View, limit: u32) -> View {
    let mut all: Vec<(&String, &Shown)> = view.iter().collect();
    all.sort_by_key(|(_, shown)| shown.at);
    let from = all.len().saturating_sub(limit as usize);
    all[from..].iter().map(|(id, shown)| ((*id).clone(), (*shown).clone())).collect()
}

async fn everything_shows(fleet: &Fleet, model: &Model, dice: &mut Dice, every: usize) {
    let bob = client(fleet.gateway(), "bob").await;
    fresh_joins_show(&bob, model).await;
    history_shows(&bob, model).await;
    let connect = async || client(fleet.gateway(), "carol").await;
    resumes_end_well(connect, model, every, dice).await;
}

#[expect(clippy::print_stdout, reason = "whoever sees it fail wants to do the same again")]
pub(crate) fn seeded() -> Dice {
    let seed = std::env::var("ROOMCAST_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("ROOMCAST_TEST_SEED={seed}");
    Dice(seed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_memory_ring_and_database_everybody_ends_with_the_same() {
    let mut fleet = gateway().await;
    let (mut dice, mut model) = (seeded(), Model::default());
    // Two processes' lives: the second has the first one's entries in the database alone, and
    // changes them.
    for life in 0..2 {
        let alice = client(fleet.gateway(), "alice").await;
        alice.join(ROOM, None).await.unwrap();
        for _ in 0..80 {
            model.act(&alice, ROOM, &mut dice).await;
        }
        everything_shows(&fleet, &model, &mut dice, 3).await;
        // Nobody is in the room for a while: its memory is read anew.
        drop(alice);
        let forgotten = || async {
            let metrics = fleet.gateway().metrics().await.map_err(|error| error.to_string())?;
            let rooms = metrics.sum("roomcast_rooms");
            if rooms == 0.0 { Ok(()) } else { Err(format!("{rooms} rooms")) }
        };
        eventually(SOON, "the room is forgotten", forgotten).await;
        everything_shows(&fleet, &model, &mut dice, 7).await;
        if life == 0 {
            fleet.gateway_mut().terminate(SOON).await.unwrap();
            fleet.gateway_mut().restart(SOON).await.unwrap();
            everything_shows(&fleet, &model, &mut dice, 7).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_memory_of_a_room_too() {
    let fleet = gateway().await;
    let (mut dice, mut model) = (seeded(), Model::default());
    let alice = client(fleet.gateway(), "alice").await;
    alice.join(ROOM, None).await.unwrap();
    for _ in 0..700 {
        model.act(&alice, ROOM, &mut dice).await;
    }
    everything_shows(&fleet, &model, &mut dice, 23).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_everything_changes_ends_with_the_same() {
    let fleet = gateway().await;
    let (mut dice, mut model) = (seeded(), Model::default());
    let alice = client(fleet.gateway(), "alice").await;
    alice.join(ROOM, None).await.unwrap();
    let mut readers: Vec<(Client, Screen)> = Vec::new();
    for round in 0..400 {
        model.act(&alice, ROOM, &mut dice).await;
        if round % 10 == 9 {
            let reader = client(fleet.gateway(), "bob").await;
            // Half of them come back, from anywhere.
            let fresh = dice.below(2) == 0;
            let (since, view) = model.client_at(1 + dice.below(model.ops.len()));
            let mut screen = Screen { view, cursor: Some(since.clone()) };
            let since = (!fresh).then(|| since.to_json());
            let data = json!({ "roomId": ROOM, "since": since, "limit": 200 });
            let reply = reader.command("room:join", data).await.unwrap();
            screen.joined(&reply, fresh || reply["reset"] == json!(true));
            readers.push((reader, screen));
        }
    }
    let wanted = model.after(model.ops.len());
    for (reader, screen) in &readers {
        let ended = || async {
            let mut screen = screen.clone();
            screen.events(reader, ROOM, 0);
            // Who came for the latest page does not have what is older.
            let had: View = wanted
                .iter()
                .filter(|(id, _)| screen.view.contains_key(*id))
                .map(|(id, shown)| (id.clone(), shown.clone()))
                .collect();
            difference(&screen.view, &had)?;
            if had.len() >= wanted.len().min(200) {
                Ok(())
            } else {
                Err(format!("{} messages", had.len()))
            }
        };
        eventually(SOON, "a reader ends with the same", ended).await;
    }
}
