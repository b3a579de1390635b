use std::sync::Arc;

use shared::log::Delivery;
use shared::log::deliveries::DeliveryReceiver;
use shared::log::memory::MemoryLog;

use super::*;
use crate::presence::memory::MemoryPresence;

struct Scene {
    local: Arc<LocalPresence>,
    presence: Arc<MemoryPresence>,
    deliveries: DeliveryReceiver,
    room: RoomId,
    ann: UserId,
}

impl Scene {
    /// A node that holds its lease and announces.
    async fn begin() -> Scene {
        let clock = Clock::system();
        let (log, deliveries) = MemoryLog::new(clock.clone(), 1000);
        let room = RoomId::parse("r").unwrap();
        let broker = log;
        broker.subscribe(&room).await.unwrap();
        let presence = Arc::new(MemoryPresence::default());
        let kept: Arc<dyn Presence> = Arc::clone(&presence) as _;
        let metrics = Arc::new(Metrics::register(&prometheus::Registry::new()));
        let local = Arc::new(LocalPresence::new(kept, Arc::new(broker), clock, metrics));
        local.renew().await;
        let announcing = Arc::clone(&local);
        tokio::spawn(async move { announcing.announce().await });
        Scene { local, presence, deliveries, room, ann: UserId::parse("ann").unwrap() }
    }

    /// The next thing the nodes are told.
    async fn told(&mut self) -> Signal {
        match self.deliveries.recv().await.unwrap() {
            Delivery::Signal(signal) => signal,
            other => panic!("{other:?} is no signal"),
        }
    }

    /// Whether ann is said to be there, and through which run.
    async fn said(&mut self) -> (bool, Uuid) {
        match self.told().await {
            Signal::Room { what: RoomSignal::Presence { standing, incarnation, user }, .. } => {
                assert_eq!(user, self.ann);
                (standing.is_some(), incarnation)
            }
            other => panic!("{other:?} says nothing of presence"),
        }
    }

    async fn kept(&self) -> Vec<Uuid> {
        let kept = self.presence.list(&self.room).await.unwrap();
        kept.into_iter().map(|entry| entry.incarnation).collect()
    }

    fn incarnation(&self) -> Uuid {
        self.local.state.lock().monitor.incarnation()
    }
}

#[tokio::test(start_paused = true)]
async fn who_drops_is_there_for_five_seconds_and_who_leaves_is_not() {
    let mut scene = Scene::begin().await;
    let (room, ann, here) = (scene.room.clone(), scene.ann.clone(), scene.incarnation());
    scene.local.enter(&room, &ann, 1);
    assert_eq!(scene.said().await, (true, here));
    assert_eq!(scene.kept().await, [here]);
    scene.local.part(&room, &ann, 1, Parting::Dropped);
    tokio::time::advance(Duration::from_millis(4_999)).await;
    assert!(scene.local.expire().is_empty() && scene.local.standing(&room, &ann).is_some());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(scene.local.expire(), [(room.clone(), ann.clone())]);
    assert_eq!(scene.said().await, (false, here));
    assert!(scene.kept().await.is_empty());
    scene.local.enter(&room, &ann, 2);
    assert_eq!(scene.said().await, (true, here));
    scene.local.part(&room, &ann, 2, Parting::Left);
    assert_eq!(scene.said().await, (false, here));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_slept_past_its_lease_goes_on_as_another_and_clears_up_after_itself() {
    let mut scene = Scene::begin().await;
    let (room, ann, before) = (scene.room.clone(), scene.ann.clone(), scene.incarnation());
    scene.local.enter(&room, &ann, 1);
    assert_eq!(scene.said().await, (true, before));
    tokio::time::advance(Duration::from_secs(20)).await;
    scene.local.renew().await;
    let after = scene.incarnation();
    assert_ne!(after, before);
    // First they are known under the new run, then the old one goes.
    assert_eq!(scene.said().await, (true, after));
    let reaped = Signal::Nodes(NodeSignal::Reaped { incarnation: before });
    assert_eq!(scene.told().await, reaped);
    assert_eq!(scene.kept().await, [after]);
    assert!(!scene.local.accept(before) && !scene.local.reaped(before));
    assert_eq!(scene.incarnation(), after, "the end of the old run is no end of this one");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_reaped_goes_on_as_another() {
    let mut scene = Scene::begin().await;
    let (room, ann, before) = (scene.room.clone(), scene.ann.clone(), scene.incarnation());
    scene.local.enter(&room, &ann, 1);
    assert_eq!(scene.said().await, (true, before));
    // By another node, which took it for dead.
    scene.presence.withdraw(before).await.unwrap();
    scene.local.renew().await;
    tokio::time::advance(Duration::from_millis(2_000)).await;
    scene.local.renew().await;
    let after = scene.incarnation();
    assert_ne!(after, before);
    assert_eq!(scene.said().await, (true, after));
    assert!(!scene.local.reaped(after), "and again, told by the other");
    scene.local.renew().await;
    assert_ne!(scene.incarnation(), after);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_of_ones_own_people_is_announced_again_and_the_dead_are_forgotten() {
    let mut scene = Scene::begin().await;
    let (room, ann, here) = (scene.room.clone(), scene.ann.clone(), scene.incarnation());
    scene.local.enter(&room, &ann, 1);
    assert_eq!(scene.said().await, (true, here));
    scene.presence.forget(&room, &[(ann.clone(), here)]).await.unwrap();
    let (dead, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let standing = scene.local.standing(&room, &ann);
    for run in [dead, other] {
        let change =
            PresenceChange { room: room.clone(), user: ann.clone(), standing, last: false };
        scene.presence.announce(run, &[change]).await.unwrap();
    }
    assert!(scene.local.reaped(dead));
    let others = scene.local.others(&room).await.unwrap();
    assert_eq!(others.entries.iter().map(|e| e.incarnation).collect::<Vec<_>>(), [other]);
    assert!(!others.complete, "this node does not know for long enough who lives");
    assert_eq!(scene.said().await, (true, here));
    let mut kept = scene.kept().await;
    kept.sort_unstable();
    let mut expected = vec![here, other];
    expected.sort_unstable();
    assert_eq!(kept, expected);
}
