//! Who is there, over three gateways, and what is done to them.

mod counts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fleet::{ClusterOptions, Fleet};
use futures_util::future::join_all;
use harness::client::Event;
use harness::{Client, Proof, eventually};
use serde_json::{Value, json};
use shared::contract::id::RoomId;
use shared::contract::keys;
use shared::contract::limits::LEASE_MS;
use tokio::time::Instant;

use super::{PATIENCE, options};

const ROOM: &str = "r";

/// What is promised of a node that dies.
const PROMISED: Duration = Duration::from_secs(10);

/// Longer than a lease, the looks at it and the gathering: whatever would flap has flapped by then.
const SETTLED_MS: i64 = 9_000;

async fn cluster() -> Fleet {
    Fleet::cluster(ClusterOptions { gateways: 3, workers: 1, ..options() })
        .await
        .expect("a cluster")
}

/// Somebody in the room, who notes what they are told of the others.
struct Person {
    name: String,
    client: Client,
    /// Who is there, by what was told last.
    present: BTreeSet<String>,
    /// How often somebody was told to be gone, and to be back.
    gone: BTreeMap<String, usize>,
    back: BTreeMap<String, usize>,
}

impl Person {
    async fn enter(fleet: &Fleet, gateway: usize, name: &str) -> Person {
        let mut person = Person {
            name: name.to_owned(),
            client: connect(fleet, gateway, name).await,
            present: BTreeSet::new(),
            gone: BTreeMap::new(),
            back: BTreeMap::new(),
        };
        person.join().await;
        person
    }

    /// Comes back, through another gateway.
    async fn come_back(&mut self, fleet: &Fleet, gateway: usize) {
        self.look().await;
        self.client = connect(fleet, gateway, &self.name).await;
        self.join().await;
    }

    async fn join(&mut self) {
        self.client.command("room:join", json!({ "roomId": ROOM })).await.expect("a reply");
        let list = self.client.wait_for("presence:list", PATIENCE).await.expect("a list");
        self.list(&list);
    }

    async fn leave(&self) {
        self.client.command("room:leave", json!({ "roomId": ROOM })).await.expect("a reply");
    }

    /// Takes in what was told up to now.
    async fn look(&mut self) {
        while let Ok(Event { name, data }) = self.client.next_event(Duration::ZERO).await {
            match name.as_str() {
                "presence:list" => self.list(&data),
                "presence:update" => self.change(&data),
                _ => {}
            }
        }
    }

    /// A list tells of comings and goings too.
    fn list(&mut self, list: &Value) {
        let listed = list["presence"].as_object().expect("an object").keys().cloned().collect();
        let gone: Vec<String> = self.present.difference(&listed).cloned().collect();
        for user in gone {
            *self.gone.entry(user).or_default() += 1;
        }
        self.present = listed;
    }

    fn change(&mut self, change: &Value) {
        let user = change["userId"].as_str().expect("somebody").to_owned();
        if change["status"] == "offline" {
            *self.gone.entry(user.clone()).or_default() += 1;
            self.present.remove(&user);
        } else if self.present.insert(user.clone()) && self.gone.contains_key(&user) {
            *self.back.entry(user).or_default() += 1;
        }
    }
}

async fn connect(fleet: &Fleet, gateway: usize, name: &str) -> Client {
    let url = fleet.gateways()[gateway].ws_url();
    Client::connect(&url, &Proof::user(name)).await.expect("a connection")
}

/// So many people through one gateway.
async fn crowd(fleet: &Fleet, gateway: usize, count: usize) -> Vec<Person> {
    let names: Vec<String> = (0..count).map(|number| format!("g{gateway}-{number}")).collect();
    let mut people = Vec::with_capacity(count);
    for names in names.chunks(20) {
        let enter = names.iter().map(|name| Person::enter(fleet, gateway, name));
        people.extend(join_all(enter).await);
    }
    people
}

fn names<'a>(people: impl IntoIterator<Item = &'a Person>) -> BTreeSet<String> {
    people.into_iter().map(|person| person.name.clone()).collect()
}

/// Waits until everybody believes that exactly these are there.
async fn all_see(people: &mut [Person], wanted: &BTreeSet<String>, within: Duration, what: &str) {
    let people = std::cell::RefCell::new(people);
    #[expect(clippy::await_holding_refcell_ref, reason = "`eventually` asks one at a time")]
    let agree = || async {
        for person in people.borrow_mut().iter_mut() {
            person.look().await;
            if person.present != *wanted {
                let missing: Vec<_> = wanted.difference(&person.present).collect();
                let ghosts: Vec<_> = person.present.difference(wanted).collect();
                let name = &person.name;
                return Err(format!("{name} misses {missing:?} and sees {ghosts:?}"));
            }
        }
        Ok(())
    };
    eventually(within, what, agree).await;
}

/// Waits until every node has held its lease for so long that whatever may still come has come,
/// by the clock of Redis, which is the one that leases go by; and takes it in.
async fn settle(fleet: &Fleet, people: &mut [Person]) {
    let began = ends_of_leases(fleet).await.expect("leases").0;
    let held = began + SETTLED_MS + i64::try_from(LEASE_MS).expect("milliseconds");
    let have_held = || async { ends_of_leases(fleet).await.is_some_and(|(_, ends)| ends >= held) };
    eventually(PATIENCE, "every lease is held on", have_held).await;
    for person in people {
        person.look().await;
    }
}

/// The time of Redis, and when the first of the leases ends, in milliseconds.
async fn ends_of_leases(fleet: &Fleet) -> Option<(i64, i64)> {
    let first = &["ZRANGE", keys::LEASES, "0", "0", "WITHSCORES"];
    let time = fleet.redis().command(&["TIME"]).await.ok()?;
    let first = fleet.redis().command(first).await.ok()?;
    let [seconds, microseconds] = time.array() else { return None };
    let now = seconds.integer()? * 1000 + microseconds.integer()? / 1000;
    Some((now, first.array().get(1)?.integer()?))
}

/// How many entries Redis keeps of the room.
async fn kept(fleet: &Fleet) -> Option<i64> {
    let room = RoomId::parse(ROOM).expect("an id");
    fleet.redis().command(&["HLEN", &keys::presence(&room)]).await.ok()?.integer()
}

/// Waits until Redis keeps so many entries and leases, and no more.
async fn redis_keeps(fleet: &Fleet, entries: i64, leases: i64) {
    let clean = || async {
        let found = fleet.redis().command(&["ZCARD", keys::LEASES]).await.ok();
        let found = (kept(fleet).await, found.and_then(|reply| reply.integer()));
        if found == (Some(entries), Some(leases)) {
            return Ok(());
        }
        let held = fleet.redis().command(&["ZRANGE", keys::LEASES, "0", "-1", "WITHSCORES"]).await;
        let time = fleet.redis().command(&["TIME"]).await;
        Err(format!("{found:?}: {held:?} at {time:?}"))
    };
    eventually(PATIENCE, "redis keeps who is there and nobody else", clean).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_two_hundred_of_a_killed_gateway_are_gone_within_ten_seconds() {
    let mut fleet = cluster().await;
    let victims = crowd(&fleet, 0, 200).await;
    let mut others = crowd(&fleet, 1, 5).await;
    others.extend(crowd(&fleet, 2, 5).await);
    // In two places at once: not to be gone.
    let _tab = Person::enter(&fleet, 0, "g1-0").await;
    let everybody = names(victims.iter().chain(&others));
    all_see(&mut others, &everybody, PATIENCE, "everybody sees everybody").await;

    fleet.gateways_mut()[0].kill_9().await.expect("it was running");
    let survivors = names(&others);
    all_see(&mut others, &survivors, PROMISED, "the killed gateway's people are gone").await;
    let told = |person: &Person| victims.iter().all(|victim| person.gone[&victim.name] == 1);
    assert!(others.iter().all(told), "each of them once");
    assert!(others.iter().all(|person| !person.gone.contains_key("g1-0")), "she is elsewhere too");
    redis_keeps(&fleet, 10, 2).await;
    let mut reaped = 0.0;
    for gateway in &fleet.gateways()[1..] {
        reaped += gateway.metrics().await.expect("metrics").sum("roomcast_nodes_reaped_total");
    }
    assert!((reaped - 1.0).abs() < f64::EPSILON, "one of the others cleaned up, not {reaped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_slept_brings_its_people_back_once_and_leaves_no_ghost() {
    let fleet = cluster().await;
    let mut sleepers = crowd(&fleet, 0, 40).await;
    let mut others = crowd(&fleet, 1, 5).await;
    others.extend(crowd(&fleet, 2, 5).await);
    let everybody = names(sleepers.iter().chain(&others));
    all_see(&mut others, &everybody, PATIENCE, "everybody sees everybody").await;
    all_see(&mut sleepers, &everybody, PATIENCE, "everybody sees everybody").await;

    let slept = Instant::now();
    fleet.gateways()[0].stop().await.expect("it was running");
    let awake = names(&others);
    all_see(&mut others, &awake, PROMISED, "the sleeping gateway's people are gone").await;
    tokio::time::sleep_until(slept + Duration::from_secs(20)).await;
    fleet.gateways()[0].cont().expect("it was stopped");
    all_see(&mut others, &everybody, PATIENCE, "they are back").await;
    settle(&fleet, &mut others).await;
    settle(&fleet, &mut sleepers).await;
    all_see(&mut others, &everybody, PATIENCE, "they have stayed").await;
    all_see(&mut sleepers, &everybody, PATIENCE, "nobody was lost to the sleepers").await;
    for person in &others {
        assert!(person.gone.values().all(|times| *times == 1), "{:?}", person.gone);
        assert!(person.back.values().all(|times| *times == 1), "{:?}", person.back);
        assert!(awake.iter().all(|name| !person.gone.contains_key(name)), "{:?}", person.gone);
    }
    for person in &sleepers {
        assert!(person.gone.is_empty(), "{} was told of {:?}", person.name, person.gone);
    }
    redis_keeps(&fleet, 50, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_shows_nobody_offline_who_comes_back_in_time() {
    let mut fleet = cluster().await;
    let mut people = Vec::new();
    for gateway in 0..3 {
        people.push(crowd(&fleet, gateway, 8).await);
    }
    let everybody = names(people.iter().flatten());
    for crowd in &mut people {
        all_see(crowd, &everybody, PATIENCE, "everybody sees everybody").await;
    }
    for gateway in 0..3 {
        let ended =
            fleet.gateways_mut()[gateway].terminate(PATIENCE).await.expect("it was running");
        assert!(ended.success());
        let next = (gateway + 1) % 3;
        let mut moving = std::mem::take(&mut people[gateway]);
        join_all(moving.iter_mut().map(|person| person.come_back(&fleet, next))).await;
        people[next].extend(moving);
        fleet.gateways_mut()[gateway].restart(PATIENCE).await.expect("it starts again");
    }
    // Everybody is where the last one went, and the leases of the three old runs are over.
    redis_keeps(&fleet, 24, 3).await;
    for crowd in &mut people {
        settle(&fleet, crowd).await;
        all_see(crowd, &everybody, PATIENCE, "everybody is still there").await;
        for person in crowd.iter() {
            assert!(person.gone.is_empty(), "{} was told of {:?}", person.name, person.gone);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_takes_nobody_away_but_who_left_meanwhile() {
    let fleet = cluster().await;
    let mut people = Vec::new();
    for gateway in 0..3 {
        people.extend(crowd(&fleet, gateway, 8).await);
    }
    let everybody = names(&people);
    all_see(&mut people, &everybody, PATIENCE, "everybody sees everybody").await;

    let stopped = Instant::now();
    fleet.redis().stop().await.expect("it was running");
    let dropped = people.pop().expect("somebody");
    let left = people.pop().expect("somebody");
    let gone = names([&dropped, &left]);
    drop(dropped);
    left.leave().await;
    tokio::time::sleep_until(stopped + Duration::from_secs(15)).await;
    fleet.redis().cont().expect("it was stopped");

    let stayed = names(&people);
    all_see(&mut people, &stayed, PATIENCE, "who left is gone").await;
    settle(&fleet, &mut people).await;
    all_see(&mut people, &stayed, PATIENCE, "and nobody else").await;
    for person in &people {
        let told: BTreeSet<String> = person.gone.keys().cloned().collect();
        assert!(told.is_subset(&gone), "{} was told of {told:?}", person.name);
    }
    redis_keeps(&fleet, 22, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_forgot_everything_hears_it_again() {
    let fleet = cluster().await;
    let mut people = Vec::new();
    for gateway in 0..3 {
        people.extend(crowd(&fleet, gateway, 4).await);
    }
    let everybody = names(&people);
    all_see(&mut people, &everybody, PATIENCE, "everybody sees everybody").await;
    fleet.redis().command(&["FLUSHALL"]).await.expect("an answer");
    redis_keeps(&fleet, 12, 3).await;
    settle(&fleet, &mut people).await;
    all_see(&mut people, &everybody, PATIENCE, "everybody is still there").await;
    for person in &people {
        assert!(person.gone.is_empty(), "{} was told of {:?}", person.name, person.gone);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_is_there_while_one_of_their_connections_is_and_types_across_nodes() {
    let fleet = cluster().await;
    let mut ann = vec![Person::enter(&fleet, 2, "ann").await];
    let bobs = [
        Person::enter(&fleet, 0, "bob").await,
        Person::enter(&fleet, 0, "bob").await,
        Person::enter(&fleet, 1, "bob").await,
    ];
    let both: BTreeSet<String> = ["ann".to_owned(), "bob".to_owned()].into();
    all_see(&mut ann, &both, PATIENCE, "bob is there").await;
    let types = json!({ "roomId": ROOM });
    bobs[2].client.command("typing:start", types).await.expect("a reply");
    let mark = ann[0].client.wait_for("typing:start", PATIENCE).await.expect("a mark");
    assert_eq!(mark["userId"], "bob");
    let mark = ann[0].client.wait_for("typing:stop", Duration::from_secs(6)).await.expect("a stop");
    assert_eq!(mark["userId"], "bob");
    for bob in &bobs[..2] {
        bob.leave().await;
    }
    // The one that is left is idle: that is told, and it is told last.
    let idle = json!({ "roomId": ROOM, "status": "idle" });
    bobs[2].client.command("presence:update", idle).await.expect("a reply");
    let change = ann[0].client.wait_for("presence:update", PATIENCE).await.expect("a change");
    assert_eq!((&change["userId"], &change["status"]), (&json!("bob"), &json!("idle")));
    bobs[2].leave().await;
    let change = ann[0].client.wait_for("presence:update", PATIENCE).await.expect("a change");
    assert_eq!((&change["userId"], &change["status"]), (&json!("bob"), &json!("offline")));
}
