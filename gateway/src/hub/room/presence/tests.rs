use super::*;

const ACTIVE: PresenceStatus = PresenceStatus::Active;
const IDLE: PresenceStatus = PresenceStatus::Idle;
const THERE: Uuid = Uuid::from_u128(1);
const ELSEWHERE: Uuid = Uuid::from_u128(2);

struct Scene {
    board: RoomPresence,
    room: RoomId,
    now: Instant,
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn standing(status: PresenceStatus, at: i64) -> PresenceState {
    PresenceState { status, last_active_at: Timestamp(at) }
}

impl Scene {
    fn new() -> Scene {
        let room = RoomId::parse("r").unwrap();
        Scene { board: RoomPresence::default(), room, now: Instant::now() }
    }

    fn apply(&mut self, name: &str, from: Uuid, status: Option<PresenceStatus>) {
        let standing = status.map(|status| standing(status, 1));
        self.board.apply(&user(name), from, standing, self.now);
    }

    /// What is told within so many milliseconds, in words.
    fn told(&mut self, ms: u64) -> Vec<String> {
        self.now += Duration::from_millis(ms);
        let news = self.board.news(&self.room, |_| None, self.now);
        let mut told: Vec<String> = news.into_iter().map(words).collect();
        told.sort();
        told
    }

    fn read(&mut self, entries: &[(&str, Uuid)], complete: bool, lost: bool) {
        let reading = self.board.begin_reading();
        assert!(self.finish(reading, entries, (complete, lost)));
    }

    fn finish(&mut self, reading: u64, entries: &[(&str, Uuid)], how: (bool, bool)) -> bool {
        let entry = |(name, incarnation): &(&str, Uuid)| PresenceEntry {
            user: user(name),
            incarnation: *incarnation,
            standing: standing(ACTIVE, 1),
        };
        let entries: Vec<PresenceEntry> = entries.iter().map(entry).collect();
        self.board.finish_reading(reading, &entries, how, self.now)
    }

    fn listed(&self, reader: &str) -> (Vec<String>, usize) {
        let (list, count) = self.board.list(Some(&user(reader)), |_| None);
        (list.into_keys().map(|user| user.to_string()).collect(), count)
    }
}

fn words(news: News) -> String {
    let change = |change: PresenceChanged| {
        let (user, status) = (change.user_id.unwrap(), change.status.unwrap());
        assert_eq!(change.is_active, Some(status == PresenceChange::Active));
        format!("{user} {status:?} of {}", change.presence_count)
    };
    match news {
        News::Arrival(_, arrival) => format!("new {}", change(arrival)),
        News::Change(changed) => change(changed),
        News::Count(count) => {
            assert!(count.user_id.is_none() && count.status.is_none());
            format!("{}", count.presence_count)
        }
        News::List => "list".to_owned(),
    }
}

#[test]
fn members_are_told_of_people_not_of_tabs_or_nodes() {
    let mut scene = Scene::new();
    scene.apply("ann", THERE, Some(ACTIVE));
    assert_eq!(scene.told(249), [""; 0]);
    assert_eq!(scene.told(1), ["new ann Active of 1"]);
    scene.apply("ann", ELSEWHERE, Some(IDLE));
    scene.apply("ann", HERE, Some(ACTIVE));
    scene.apply("ann", THERE, None);
    assert_eq!(scene.told(1000), [""; 0]);
    scene.apply("ann", HERE, None);
    assert_eq!(scene.told(250), ["ann Idle of 1"]);
    scene.apply("ann", ELSEWHERE, None);
    assert_eq!(scene.told(250), ["ann Offline of 0"]);
    assert!(scene.board.people.is_empty());
    scene.apply("ann", ELSEWHERE, None);
    assert!(scene.board.people.is_empty() && scene.board.due_at().is_none());
}

#[test]
fn a_flap_that_ends_where_it_began_is_not_told() {
    let mut scene = Scene::new();
    scene.apply("ann", THERE, Some(ACTIVE));
    scene.apply("ann", THERE, None);
    assert_eq!(scene.told(1000), [""; 0]);
    scene.apply("ann", THERE, Some(ACTIVE));
    assert_eq!(scene.told(250), ["new ann Active of 1"]);
    for _ in 0..10 {
        scene.apply("ann", THERE, None);
        scene.apply("ann", THERE, Some(ACTIVE));
    }
    assert_eq!(scene.told(1000), [""; 0]);
}

#[test]
fn what_somebody_does_is_listed_and_not_told() {
    let mut scene = Scene::new();
    scene.apply("ann", THERE, Some(ACTIVE));
    scene.told(250);
    scene.board.apply(&user("ann"), THERE, Some(standing(ACTIVE, 60_000)), scene.now);
    assert_eq!(scene.told(1000), [""; 0]);
    let (list, _) = scene.board.list(Some(&user("bob")), |_| None);
    assert_eq!(list[&user("ann")].last_active_at, Timestamp(60_000));
}

#[test]
fn a_newcomer_is_listed_what_the_others_were_told_and_itself() {
    let mut scene = Scene::new();
    scene.apply("ann", THERE, Some(ACTIVE));
    scene.board.settle_all();
    assert_eq!(scene.told(1000), [""; 0], "nobody had to be told");
    scene.apply("bob", THERE, Some(ACTIVE));
    scene.apply("carol", HERE, Some(ACTIVE));
    assert_eq!(scene.listed("carol"), (vec!["ann".to_owned(), "carol".to_owned()], 2));
    assert_eq!(scene.listed("ann"), (vec!["ann".to_owned()], 1));
    assert_eq!(scene.board.list(None, |_| None).1, 3);
    // Had it been listed, nobody would tell that bob is gone.
    scene.apply("bob", THERE, None);
    assert_eq!(scene.told(250), ["new carol Active of 2"]);
}

#[test]
fn the_people_of_a_dead_run_are_gone_unless_they_are_here_in_another_way() {
    let mut scene = Scene::new();
    scene.apply("ann", THERE, Some(ACTIVE));
    scene.apply("bob", THERE, Some(ACTIVE));
    scene.apply("bob", ELSEWHERE, Some(ACTIVE));
    scene.board.settle_all();
    scene.board.mark_dead(THERE, scene.now);
    assert_eq!(scene.told(250), ["ann Offline of 1"]);
}

#[test]
fn a_reading_is_compared_and_what_is_signalled_meanwhile_is_newer() {
    let mut scene = Scene::new();
    scene.apply("ann", THERE, Some(ACTIVE));
    scene.apply("own", HERE, Some(ACTIVE));
    scene.board.settle_all();
    let reading = scene.board.begin_reading();
    scene.apply("bob", THERE, Some(ACTIVE));
    scene.apply("carol", THERE, Some(ACTIVE));
    scene.apply("carol", THERE, None);
    assert!(scene.finish(reading, &[("carol", THERE), ("dan", THERE)], (true, false)));
    let told = scene.told(250);
    let told: Vec<&str> = told.iter().map(|told| told.split_once(" of").unwrap().0).collect();
    assert_eq!(told, ["ann Offline", "new bob Active", "new dan Active"]);
    assert_eq!(scene.listed("own").1, 3);
}

#[test]
fn an_incomplete_reading_takes_nobody_away_and_a_lost_one_lists_anew() {
    let mut scene = Scene::new();
    scene.apply("ann", THERE, Some(ACTIVE));
    scene.board.settle_all();
    scene.read(&[("bob", THERE)], false, false);
    assert_eq!(scene.told(250), ["new bob Active of 2"]);
    scene.read(&[("bob", THERE)], true, true);
    assert_eq!(scene.told(250), ["list"]);
    assert_eq!(scene.listed("bob"), (vec!["bob".to_owned()], 1));
    scene.read(&[("bob", THERE)], true, true);
    assert_eq!(scene.told(1000), [""; 0], "nothing was lost");
}

#[test]
fn a_reading_that_too_much_overtakes_is_asked_anew_and_a_later_one_wins() {
    let mut scene = Scene::new();
    let reading = scene.board.begin_reading();
    for _ in 0..=PRESENCE_BUFFER_MAX {
        scene.apply("ann", THERE, Some(ACTIVE));
    }
    assert!(!scene.finish(reading, &[], (true, false)));
    let (earlier, later) = (scene.board.begin_reading(), scene.board.begin_reading());
    assert!(scene.finish(earlier, &[("bob", THERE)], (true, false)));
    assert!(scene.finish(later, &[("ann", THERE)], (true, false)));
    assert_eq!(scene.told(250), ["new ann Active of 1"]);
}

#[test]
fn too_many_people_are_counted_once_a_second_and_listed_again_when_they_are_clearly_fewer() {
    let mut scene = Scene::new();
    for number in 0..PRESENCE_LISTED_MAX {
        scene.apply(&format!("user-{number}"), THERE, Some(ACTIVE));
    }
    scene.board.settle_all();
    assert_eq!(scene.listed("user-0").0.len(), PRESENCE_LISTED_MAX);
    scene.apply("one-more", THERE, Some(ACTIVE));
    assert_eq!(scene.told(250), ["501"]);
    assert_eq!(scene.listed("user-0"), (vec![], 501));
    scene.apply("two-more", THERE, Some(IDLE));
    assert_eq!(scene.told(999), [""; 0]);
    assert_eq!(scene.told(1), ["502"]);
    scene.apply("two-more", THERE, Some(ACTIVE));
    assert_eq!(scene.told(1000), [""; 0], "the count is the same");
    for number in 0..40 {
        scene.apply(&format!("user-{number}"), THERE, None);
    }
    assert_eq!(scene.told(1000), ["462"]);
    for number in 40..52 {
        scene.apply(&format!("user-{number}"), THERE, None);
    }
    assert_eq!(scene.told(1000), ["list"]);
    assert_eq!(scene.listed("user-60").0.len(), PRESENCE_LISTED_AGAIN);
    scene.apply("user-60", THERE, None);
    assert_eq!(scene.told(250), ["user-60 Offline of 449"]);
}

#[test]
fn whoever_comes_with_another_ends_with_the_right_count_in_whatever_order_they_are_told() {
    for _ in 0..64 {
        let mut scene = Scene::new();
        scene.apply("ann", HERE, Some(ACTIVE));
        scene.apply("bob", THERE, Some(ACTIVE));
        scene.now += Duration::from_millis(PRESENCE_GATHER_MS);
        for news in scene.board.news(&scene.room, |_| None, scene.now) {
            match news {
                News::Arrival(_, change) => assert_eq!(change.presence_count, 2, "{change:?}"),
                News::Change(_) | News::Count(_) | News::List => panic!("{news:?}"),
            }
        }
    }
}
