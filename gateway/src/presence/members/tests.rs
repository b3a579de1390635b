use super::*;

const ACTIVE: PresenceStatus = PresenceStatus::Active;
const IDLE: PresenceStatus = PresenceStatus::Idle;

struct Scene {
    people: LocalMembers,
    room: RoomId,
    ann: UserId,
    now: Instant,
}

impl Scene {
    fn new() -> Scene {
        let people = LocalMembers::default();
        let (room, ann) = (RoomId::parse("r").unwrap(), UserId::parse("ann").unwrap());
        Scene { people, room, ann, now: Instant::now() }
    }

    fn after(&self, ms: u64) -> Instant {
        self.now + Duration::from_millis(ms)
    }

    fn enter(&mut self, tab: ConnectionId) {
        self.people.enter((&self.room, &self.ann), tab, Timestamp(1));
    }

    fn part(&mut self, tab: ConnectionId, how: Parting) {
        self.people.part((&self.room, &self.ann), tab, how, self.now);
    }

    fn say(&mut self, tab: ConnectionId, status: PresenceStatus) {
        self.people.say((&self.room, &self.ann), tab, status, Timestamp(2));
    }

    fn status(&self) -> Option<PresenceStatus> {
        self.people.standing((&self.room, &self.ann)).map(|standing| standing.status)
    }

    /// What is taken to be announced, of ann.
    fn taken(&mut self) -> Vec<Option<PresenceStatus>> {
        let taken = self.people.take(100);
        taken.into_iter().map(|change| change.standing.map(|standing| standing.status)).collect()
    }
}

#[test]
fn the_first_tab_and_the_last_are_announced_and_no_other() {
    let mut scene = Scene::new();
    scene.enter(1);
    assert_eq!(scene.taken(), [Some(ACTIVE)]);
    scene.enter(2);
    scene.enter(2);
    scene.part(1, Parting::Left);
    assert_eq!(scene.taken(), []);
    scene.part(1, Parting::Left);
    scene.part(2, Parting::Left);
    assert_eq!((scene.status(), scene.people.present()), (None, 0));
    let last = scene.people.take(100);
    assert!(last[0].standing.is_none() && last[0].last);
    assert!(scene.people.rooms.is_empty() && !scene.people.is_unannounced());
}

#[test]
fn a_flap_that_ends_where_it_began_announces_nothing() {
    let mut scene = Scene::new();
    scene.enter(1);
    scene.part(1, Parting::Left);
    assert_eq!(scene.taken(), []);
    scene.enter(1);
    assert_eq!(scene.taken(), [Some(ACTIVE)]);
    scene.say(1, IDLE);
    scene.say(1, ACTIVE);
    assert_eq!(scene.taken(), []);
}

#[test]
fn somebody_is_active_while_one_tab_is() {
    let mut scene = Scene::new();
    scene.enter(1);
    scene.enter(2);
    scene.say(1, IDLE);
    assert_eq!(scene.status(), Some(ACTIVE));
    scene.say(2, IDLE);
    scene.say(3, ACTIVE);
    assert_eq!(scene.status(), Some(IDLE));
    scene.enter(2);
    assert_eq!(scene.status(), Some(IDLE), "entering again says nothing new");
    scene.part(1, Parting::Dropped);
    scene.part(2, Parting::Dropped);
    assert_eq!(scene.status(), Some(IDLE), "they linger as they were");
}

#[test]
fn a_dropped_connection_may_come_back_within_five_seconds() {
    let mut scene = Scene::new();
    scene.enter(1);
    assert_eq!(scene.taken(), [Some(ACTIVE)]);
    scene.part(1, Parting::Dropped);
    assert!(scene.people.expire(scene.after(PRESENCE_LINGER_MS - 1)).is_empty());
    scene.enter(2);
    assert!(scene.people.expire(scene.after(2 * PRESENCE_LINGER_MS)).is_empty());
    assert_eq!((scene.status(), scene.taken()), (Some(ACTIVE), vec![]));
    scene.part(2, Parting::Dropped);
    assert_eq!(scene.people.expire(scene.after(PRESENCE_LINGER_MS)).len(), 1);
    assert_eq!((scene.status(), scene.taken()), (None, vec![None]));
    assert!(scene.people.deadlines.is_empty());
}

#[test]
fn what_failed_is_taken_again_as_it_is_then() {
    let mut scene = Scene::new();
    scene.enter(1);
    let taken = scene.people.take(100);
    scene.part(1, Parting::Left);
    scene.people.failed(&taken);
    assert_eq!(scene.taken(), [None], "it may have come through");
    assert!(scene.people.rooms.is_empty());
}

#[test]
fn somebody_who_goes_while_they_are_announced_is_announced_to_be_gone() {
    let mut scene = Scene::new();
    scene.enter(1);
    let _on_its_way = scene.people.take(100);
    scene.part(1, Parting::Left);
    assert_eq!(scene.taken(), [None]);
}

#[test]
fn under_another_name_everybody_is_announced_anew_and_the_gone_are_not() {
    let mut scene = Scene::new();
    scene.enter(1);
    let bob = UserId::parse("bob").unwrap();
    scene.people.enter((&scene.room, &bob), 2, Timestamp(1));
    assert_eq!(scene.taken().len(), 2);
    scene.people.part((&scene.room, &bob), 2, Parting::Left, scene.now);
    scene.people.forget_announced();
    assert_eq!(scene.taken(), [Some(ACTIVE)]);
}

#[test]
fn what_is_kept_wrongly_is_announced_again() {
    let mut scene = Scene::new();
    scene.enter(1);
    assert_eq!(scene.taken(), [Some(ACTIVE)]);
    let standing = scene.people.standing((&scene.room, &scene.ann)).unwrap();
    let right = HashMap::from([(scene.ann.clone(), standing)]);
    scene.people.compare(&scene.room, &right);
    assert_eq!(scene.taken(), []);
    scene.people.compare(&scene.room, &HashMap::new());
    assert_eq!(scene.taken(), [Some(ACTIVE)], "it was lost");
    scene.part(1, Parting::Left);
    assert_eq!(scene.taken(), [None]);
    scene.people.compare(&scene.room, &right);
    assert_eq!(scene.taken(), [None], "it had stayed");
    assert!(scene.people.rooms.is_empty());
}

#[test]
fn what_somebody_does_is_announced_once_a_minute() {
    let mut scene = Scene::new();
    scene.enter(1);
    assert_eq!(scene.taken(), [Some(ACTIVE)]);
    scene.people.touch((&scene.room, &scene.ann), Timestamp(LAST_ACTIVE_TOLD_MS));
    assert_eq!(scene.taken(), []);
    let standing = scene.people.standing((&scene.room, &scene.ann)).unwrap();
    assert_eq!(standing.last_active_at, Timestamp(LAST_ACTIVE_TOLD_MS));
    scene.people.touch((&scene.room, &scene.ann), Timestamp(LAST_ACTIVE_TOLD_MS + 1));
    assert_eq!(scene.taken(), [Some(ACTIVE)]);
}

#[test]
fn a_guest_is_there_for_a_minute_unless_renewed_and_beside_their_connections() {
    let mut scene = Scene::new();
    let at = |scene: &Scene, ms| (Timestamp(1), scene.after(ms));
    let (room, ann) = (scene.room.clone(), scene.ann.clone());
    let time = at(&scene, 0);
    assert!(scene.people.host((&room, &ann), Some(IDLE), time));
    assert_eq!((scene.status(), scene.people.guests), (Some(IDLE), 1));
    let time = at(&scene, 30_000);
    assert!(scene.people.host((&room, &ann), Some(ACTIVE), time));
    assert!(scene.people.expire(scene.after(GUEST_MS)).is_empty());
    scene.enter(1);
    assert_eq!(scene.people.expire(scene.after(30_000 + GUEST_MS)).len(), 1);
    assert_eq!((scene.status(), scene.people.guests), (Some(ACTIVE), 0), "a tab is left");
    assert!(scene.people.host((&room, &ann), Some(ACTIVE), time));
    scene.part(1, Parting::Left);
    assert!(scene.people.host((&room, &ann), None, time));
    assert_eq!((scene.status(), scene.people.guests), (None, 0));
    assert!(scene.people.deadlines.is_empty());
}
