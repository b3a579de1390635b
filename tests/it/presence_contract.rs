//! What every keeper of presence keeps: run on memory, and unchanged on Redis.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

use std::sync::Arc;

use fleet::{ClusterOptions, Fleet};
use gateway::presence::memory::MemoryPresence;
use gateway::presence::redis::RedisPresence;
use gateway::presence::{Presence, PresenceChange, PresenceEntry, Renewal};
use harness::eventually;
use shared::contract::id::{RoomId, UserId};
use shared::contract::keys;
use shared::contract::protocol::PresenceStatus;
use shared::contract::signal::PresenceState;
use shared::contract::timestamp::Timestamp;
use shared::log::redis::connection::RedisConnection;
use shared::process::clock::Clock;
use shared::process::settings::Secret;
use uuid::Uuid;

use crate::fixtures::SOON;

struct Subject {
    presence: Arc<dyn Presence>,
    servers: Option<Fleet>,
}

async fn memory() -> Subject {
    Subject { presence: Arc::new(MemoryPresence::default()), servers: None }
}

async fn redis() -> Subject {
    let servers = Fleet::cluster(ClusterOptions::only_servers()).await.unwrap();
    let url = Secret::from(servers.redis_url().as_str());
    let connection = RedisConnection::new(&url, None, Clock::system()).unwrap();
    assert!(connection.take("tested").await.unwrap());
    Subject { presence: Arc::new(RedisPresence::new(connection)), servers: Some(servers) }
}

const HERE: Uuid = Uuid::from_u128(1);
const THERE: Uuid = Uuid::from_u128(2);

fn room(name: &str) -> RoomId {
    RoomId::parse(name).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn standing(status: PresenceStatus) -> PresenceState {
    PresenceState { status, last_active_at: Timestamp(1_795_367_045_120) }
}

fn change(place: &str, who: &str, status: Option<PresenceStatus>, last: bool) -> PresenceChange {
    PresenceChange { room: room(place), user: user(who), standing: status.map(standing), last }
}

impl Subject {
    async fn announce(&self, incarnation: Uuid, changes: &[PresenceChange]) {
        self.presence.announce(incarnation, changes).await.unwrap();
    }

    /// Who is in a room: name, run, status.
    async fn list(&self, place: &str) -> Vec<(String, Uuid, PresenceStatus)> {
        let listed = self.presence.list(&room(place)).await.unwrap();
        let mut listed: Vec<_> = listed
            .into_iter()
            .map(|PresenceEntry { user, incarnation, standing }| {
                (user.to_string(), incarnation, standing.status)
            })
            .collect();
        listed.sort_unstable();
        listed
    }
}

const ACTIVE: Option<PresenceStatus> = Some(PresenceStatus::Active);
const IDLE: Option<PresenceStatus> = Some(PresenceStatus::Idle);

async fn what_was_announced_last_is_listed_by_run(subject: Subject) {
    assert!(subject.list("a").await.is_empty());
    subject.announce(HERE, &[]).await;
    let changes = [change("a", "ann", ACTIVE, false), change("b", "ann", ACTIVE, false)];
    subject.announce(HERE, &changes).await;
    subject.announce(THERE, &[change("a", "ann", IDLE, false)]).await;
    let here = ("ann".to_owned(), HERE, PresenceStatus::Active);
    let there = ("ann".to_owned(), THERE, PresenceStatus::Idle);
    assert_eq!(subject.list("a").await, [here.clone(), there.clone()]);
    let changes = [change("a", "ann", IDLE, false), change("a", "ann", ACTIVE, false)];
    subject.announce(HERE, &changes).await;
    assert_eq!(subject.list("a").await, [here.clone(), there.clone()]);
    subject.announce(HERE, &[change("a", "ann", None, true)]).await;
    subject.announce(HERE, &[change("a", "ann", None, true)]).await;
    assert_eq!(subject.list("a").await, [there]);
    assert_eq!(subject.list("b").await, [here]);
}

async fn a_run_is_taken_out_with_all_its_people_and_nobody_elses(subject: Subject) {
    assert!(subject.presence.renew(HERE, Renewal::First).await.unwrap());
    assert!(subject.presence.renew(THERE, Renewal::First).await.unwrap());
    let rooms: Vec<String> = (0..300).map(|number| format!("room-{number}")).collect();
    for run in [HERE, THERE] {
        let changes: Vec<PresenceChange> =
            rooms.iter().map(|room| change(room, "ann", ACTIVE, false)).collect();
        subject.announce(run, &changes).await;
    }
    subject.presence.withdraw(HERE).await.unwrap();
    for room in &rooms {
        let there = ("ann".to_owned(), THERE, PresenceStatus::Active);
        assert_eq!(subject.list(room).await, [there]);
    }
    let leases = subject.presence.leases().await.unwrap();
    assert_eq!(leases.living, [THERE].into());
    subject.presence.withdraw(HERE).await.unwrap();
}

async fn a_lease_that_stands_is_renewed_and_one_that_was_taken_out_is_not(subject: Subject) {
    assert!(!subject.presence.renew(HERE, Renewal::Again).await.unwrap());
    assert!(subject.presence.renew(HERE, Renewal::First).await.unwrap());
    assert!(subject.presence.renew(HERE, Renewal::Again).await.unwrap());
    assert!(!subject.presence.clean_up(HERE).await.unwrap(), "it has not lapsed");
    assert_eq!(subject.presence.leases().await.unwrap().living, [HERE].into());
    subject.presence.withdraw(HERE).await.unwrap();
    assert!(!subject.presence.renew(HERE, Renewal::Again).await.unwrap());
    assert!(subject.presence.leases().await.unwrap().living.is_empty());
}

async fn single_entries_are_forgotten(subject: Subject) {
    for run in [HERE, THERE] {
        subject.announce(run, &[change("a", "ann", ACTIVE, false)]).await;
    }
    subject.presence.forget(&room("a"), &[(user("ann"), HERE)]).await.unwrap();
    subject.presence.forget(&room("b"), &[(user("ann"), THERE)]).await.unwrap();
    let there = ("ann".to_owned(), THERE, PresenceStatus::Active);
    assert_eq!(subject.list("a").await, [there]);
}

macro_rules! every_scenario {
    ($open:ident) => {
        every_scenario! {
            $open:
            what_was_announced_last_is_listed_by_run,
            a_run_is_taken_out_with_all_its_people_and_nobody_elses,
            a_lease_that_stands_is_renewed_and_one_that_was_taken_out_is_not,
            single_entries_are_forgotten,
        }
    };
    ($open:ident: $($scenario:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $scenario() {
                super::$scenario(super::$open().await).await;
            }
        )+
    };
}

mod in_memory {
    every_scenario!(memory);
}

mod in_redis {
    every_scenario!(redis);

    use super::*;

    #[tokio::test]
    async fn what_a_run_says_of_its_load_goes_with_its_lease() {
        let Subject { presence, servers } = redis().await;
        let servers = servers.unwrap();
        for (run, load) in [(HERE, 3), (THERE, 40)] {
            assert!(presence.renew(run, Renewal::First).await.unwrap());
            presence.loads(run, load).await.unwrap();
        }
        let mut loads = presence.loads(HERE, 5).await.unwrap();
        loads.sort_unstable();
        assert_eq!(loads, [5, 40]);
        presence.withdraw(THERE).await.unwrap();
        assert_eq!(presence.loads(HERE, 6).await.unwrap(), [6]);
        // It had slept, and does not know yet that it was taken out.
        assert_eq!(presence.loads(THERE, 41).await.unwrap(), [6]);
        let left = servers.redis().command(&["HLEN", keys::LOADS]).await.unwrap();
        assert_eq!(left.integer(), Some(1), "nobody else would take it out");
    }

    #[tokio::test]
    async fn what_has_lapsed_is_reaped_by_one_and_nothing_of_it_is_left() {
        let subject = redis().await;
        let presence = &subject.presence;
        assert!(presence.renew(HERE, Renewal::First).await.unwrap());
        subject.announce(HERE, &[change("a", "ann", ACTIVE, false)]).await;
        // It leaves, which is the shortest lease.
        assert!(presence.renew(HERE, Renewal::Last).await.unwrap());
        let lapsed = || async {
            let leases = presence.leases().await.map_err(|error| error.to_string())?;
            let lapsed = leases.living.is_empty() && leases.lapsed == [HERE].into();
            if lapsed { Ok(()) } else { Err(format!("{leases:?}")) }
        };
        eventually(SOON, "the lease lapses", lapsed).await;
        assert_eq!(subject.list("a").await.len(), 1, "who is dead is the reader's to judge");
        assert!(!presence.renew(HERE, Renewal::Again).await.unwrap(), "it is not taken up again");
        let (one, other) = tokio::join!(presence.clean_up(HERE), presence.clean_up(HERE));
        assert!(one.unwrap() != other.unwrap(), "one of them does it");
        assert!(subject.list("a").await.is_empty());
        let redis = subject.servers.as_ref().unwrap().redis();
        let left = redis.command(&["KEYS", "*"]).await.unwrap();
        let left = left.array().iter().filter_map(|key| key.text());
        let left: Vec<&str> = left.filter(|key| *key != keys::DEPLOYMENT).collect();
        assert_eq!(left, [keys::reaping(HERE)], "and that goes by itself");
    }
}
