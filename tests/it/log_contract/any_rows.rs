//! Whatever members send: the cursor ends at the end, and of every entry it is known what became of
//! it.

use std::collections::HashSet;

use harness::eventually;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use shared::contract::credit::{CreditEntry, CreditKind};
use shared::contract::message::Message;
use shared::contract::signal::ReadMark;
use shared::store::Span;
use shared::store::postgres::{PostgresStore, Settings};

use super::*;

/// An entry that somebody could have in a log; numbers choose among a few names, so that they meet.
#[derive(Clone, Debug)]
enum Op {
    Message {
        room: usize,
        user: usize,
        id: usize,
        content: Content,
    },
    Change {
        room: usize,
        user: usize,
        author: usize,
        id: usize,
        change: usize,
        deletes: bool,
    },
    Receipt {
        room: usize,
        user: usize,
        seq: u64,
    },
    Credit {
        user: usize,
        id: usize,
        amount: Amount,
    },
    /// A body that is none of its kind.
    Odd {
        room: usize,
        user: usize,
        id: usize,
    },
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Sound,
    /// Refused alone.
    Poison,
    /// Refused together with another one; by databases that know such rules.
    Shy,
}

#[derive(Clone, Copy, Debug)]
enum Amount {
    Small,
    /// Two of them are more than a balance may be.
    Huge,
}

fn op() -> impl Strategy<Value = Op> {
    let content = prop_oneof![
        6 => Just(Content::Sound), 1 => Just(Content::Poison), 2 => Just(Content::Shy)
    ];
    let amount = prop_oneof![2 => Just(Amount::Small), 1 => Just(Amount::Huge)];
    let (room, user, id) = (|| 0..4_usize, || 0..3_usize, || 0..8_usize);
    prop_oneof![
        6 => (room(), user(), id(), content)
            .prop_map(|(room, user, id, content)| Op::Message { room, user, id, content }),
        2 => (room(), user(), user(), id(), 0..20_usize, any::<bool>()).prop_map(
            |(room, user, author, id, change, deletes)| {
                Op::Change { room, user, author, id, change, deletes }
            }
        ),
        1 => (room(), user(), 0..9_u64).prop_map(|(room, user, seq)| {
            Op::Receipt { room, user, seq }
        }),
        2 => (user(), id(), amount).prop_map(|(user, id, amount)| Op::Credit { user, id, amount }),
        1 => (room(), user(), id()).prop_map(|(room, user, id)| Op::Odd { room, user, id }),
    ]
}

/// The names of one sequence: nobody meets those of another.
struct Names {
    rooms: Vec<RoomId>,
    users: Vec<String>,
    ids: Vec<String>,
}

impl Names {
    fn new(case: u64) -> Names {
        // Two rooms of one shard, and two of others.
        let first = room(&format!("case-{case}"));
        let neighbours = (0..).map(|n| room(&format!("case-{case}-{n}")));
        let neighbour = neighbours.into_iter().find(|other| other.shard() == first.shard());
        let others = [room(&format!("case-{case}-b")), room(&format!("case-{case}-c"))];
        let rooms: Vec<RoomId> = [first].into_iter().chain(neighbour).chain(others).collect();
        let users: Vec<String> =
            ["ann", "bob", "eve"].iter().map(|name| format!("{name}-{case}")).collect();
        let mut ids: Vec<String> = (0..5).map(|n| format!("case-{case}-m{n}")).collect();
        // What the first build would have made of others, and who knows what else.
        for (room, user) in [(0, 0), (2, 0), (3, 1)] {
            let name = format!("{} {} {}", rooms[room], users[user], ids[0]);
            let space = Uuid::from_u128(0x6b1c_3d52_0f0e_5c7a_9d8b_524f_4f4d_4341);
            ids.push(Uuid::new_v5(&space, name.as_bytes()).to_string());
        }
        Names { rooms, users, ids }
    }

    fn append(&self, op: &Op) -> Append {
        let made = |room: usize, user: usize, id: &str, content: &str| {
            entry(&self.rooms[room], &self.users[user], id, content)
        };
        match op {
            Op::Message { room, user, id, content } => {
                let content = match content {
                    Content::Sound => "sound",
                    Content::Poison => "poison",
                    Content::Shy => "shy",
                };
                made(*room, *user, &self.ids[*id], content)
            }
            Op::Change { room, user, author, id, change, deletes } => {
                let mut made = made(*room, *user, &self.ids[*id], &format!("{op:?}"));
                let author = &self.users[*author];
                made.envelope.kind = if *deletes { EntryKind::Delete } else { EntryKind::Edit };
                made.envelope.change_id = MessageId::parse(&format!("change-{change}")).ok();
                let body = format!(r#"{{"userId":"{author}","content":"edited"}}"#);
                made.envelope.body = Bytes::from(body);
                made
            }
            Op::Receipt { room, user, seq } => {
                let mut made = made(*room, *user, "receipt", "x");
                let mark = ReadMark {
                    user: made.envelope.user.clone(),
                    position: Position::new(1, *seq),
                    message_id: None,
                    read_at: Timestamp(1_795_000_000_000),
                };
                made.envelope.kind = EntryKind::Receipt;
                made.envelope.body = Bytes::from(serde_json::to_vec(&mark).unwrap());
                made
            }
            Op::Credit { user, id, amount } => self.credit(*user, *id, *amount),
            Op::Odd { room, user, id } => {
                let mut made = made(*room, *user, &format!("odd-{id}"), "x");
                made.envelope.body = Bytes::from_static(b"[1]");
                made
            }
        }
    }

    fn credit(&self, user: usize, id: usize, amount: Amount) -> Append {
        let amount = match amount {
            Amount::Small => 5,
            Amount::Huge => 600_000_000_000,
        };
        let kind = CreditKind::Purchase;
        let movement = CreditEntry {
            amount,
            kind,
            room_id: None,
            message_id: None,
            metadata: serde_json::Map::new(),
        };
        let of = room(&self.users[user]);
        let content = format!("{amount}");
        let mut made = entry(&of, &self.users[user], &self.ids[id], &content);
        made.envelope.kind = EntryKind::Usage;
        made.envelope.body = Bytes::from(serde_json::to_vec(&movement).unwrap());
        made
    }
}

/// Appends everything, and waits until all of it is settled.
async fn settle(subject: &Subject, names: &Names, ops: &[Op]) {
    let mut appends: Vec<Append> = ops.iter().map(|op| names.append(op)).collect();
    // Where everything were refused, a shard would stop.
    for room in &names.rooms {
        appends.push(entry(room, &names.users[0], &format!("{room}-last"), "sound"));
    }
    for user in 0..names.users.len() {
        let mut last = names.credit(user, 0, Amount::Small);
        last.envelope.id = MessageId::parse(&format!("{}-last", names.users[user])).unwrap();
        appends.push(last);
    }
    let shards: HashSet<Shard> = appends.iter().map(|one| one.envelope.room.shard()).collect();
    let mut epochs = Vec::new();
    let mut appending = tokio::task::JoinSet::new();
    for shard in shards {
        let of_shard = |one: &&Append| one.envelope.room.shard() == shard;
        let batch: Vec<Append> = appends.iter().filter(of_shard).cloned().collect();
        let epoch = establish(shard, 0, &*subject.log, &*subject.store).await.unwrap().number;
        for one in &batch {
            subject.hydrate(epoch, &one.envelope.room, Position::ZERO).await;
        }
        epochs.push((shard, epoch));
        let log = Arc::clone(&subject.log);
        appending
            .spawn(async move { log.append(shard, epoch, &batch, Past::Nothing).await.unwrap() });
    }
    while let Some(appended) = appending.join_next().await {
        assert_eq!(appended.unwrap().stop, None);
    }
    for (shard, epoch) in epochs {
        let ended = async || {
            let cursor = subject.store.cursor(shard).await.unwrap();
            let left =
                subject.log.read(shard, epoch, cursor.upto, PageLimit::entries(9)).await.unwrap();
            if left.is_empty() { Ok(()) } else { Err(format!("{} stands", cursor.upto)) }
        };
        eventually(PATIENCE, "the cursor is at the end", ended).await;
    }
    known(subject, &appends).await;
}

/// What became of each message is known: it stands, or it is a dead letter and told.
async fn known(subject: &Subject, appends: &[Append]) {
    let letters = subject.store.dead_letters().await.unwrap();
    for Append { envelope, .. } in appends {
        if envelope.kind != EntryKind::Message {
            continue;
        }
        let Envelope { room, user, id, .. } = envelope;
        let identity = MessageKey { room: room.clone(), user: user.clone(), id: id.clone() };
        let stands = subject.store.find(std::slice::from_ref(&identity)).await.unwrap()[0];
        let dead = letters.iter().any(|letter| {
            letter.room.as_ref() == Some(room)
                && letter.user.as_ref() == Some(user)
                && letter.id.as_ref() == Some(id)
        });
        assert!(stands.is_some() || dead, "{identity:?} is nowhere");
        let told = async || match subject.log.known(&identity).await.unwrap() {
            Some(Appended::Rejected(_)) if dead => Ok(()),
            Some(Appended::Placed(place)) if place.persisted && stands.is_some() => Ok(()),
            other => Err(format!("{other:?}")),
        };
        eventually(PATIENCE, "its sender can know", told).await;
    }
}

/// Runs sequence after sequence, each under names of its own, on databases of which each is to end
/// with the same; `PROPTEST_CASES` says how many, where it is set.
fn run(open: impl AsyncFnOnce() -> Vec<Subject>, cases: u32) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let subjects = runtime.block_on(async {
        let mut at_work = Vec::new();
        for subject in open().await {
            at_work.push(subject.at_work(room("lobby").shard()).await.0);
        }
        at_work
    });
    let case = std::sync::atomic::AtomicU64::new(0);
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |cases| cases.parse().unwrap());
    let config =
        Config { cases, max_shrink_iters: 64, failure_persistence: None, ..Config::default() };
    let sequences = proptest::collection::vec(op(), 1..40);
    let outcome = TestRunner::new(config).run(&sequences, |mut ops| {
        if subjects.len() > 1 {
            ops.iter_mut().for_each(antidote);
        }
        let names = Names::new(case.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let (subjects, runtime) = (&subjects, &runtime);
        let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                let mut ends = Vec::new();
                for subject in subjects {
                    settle(subject, &names, &ops).await;
                    ends.push(end(subject, &names, &ops).await);
                }
                ends.iter().for_each(|end| assert_eq!(*end, ends[0]));
            });
        }));
        settled.map_err(|_| TestCaseError::fail("see the panic above"))
    });
    outcome.unwrap();
}

/// Takes the poison out: a message that is changed in the same batch is stored as it is then, and
/// whether one is depends on where batches end.
fn antidote(op: &mut Op) {
    if let Op::Message { content: content @ Content::Poison, .. } = op {
        *content = Content::Sound;
    }
}

/// What a database has of a sequence at last: every message in its order, and every balance. Where
/// two users take one id for what they move, it is the first one's; who that is, nobody can say.
async fn end(subject: &Subject, names: &Names, ops: &[Op]) -> (Vec<String>, Vec<i64>) {
    let (mut messages, mut balances) = (Vec::new(), Vec::new());
    for room in &names.rooms {
        for message in subject.store.messages(room, Span::After(Position::ZERO), 200).await.unwrap()
        {
            let Message { id, user_id, content, metadata, deleted_at, edited_at, .. } = message;
            let places = [message.position, message.changed_position].map(|at| at.map(|at| at.seq));
            let (gone, edited) = (deleted_at.is_some(), edited_at.is_some());
            let change = message.change_id;
            messages.push(format!(
                "{room} {places:?} {id} {user_id} {content} {metadata:?} {gone} {edited} {change:?}"
            ));
        }
    }
    let movement = |op: &Op| match op {
        Op::Credit { user, id, .. } => Some((*id, *user)),
        _ => None,
    };
    let movements: HashSet<(usize, usize)> = ops.iter().filter_map(movement).collect();
    let ids: HashSet<usize> = movements.iter().map(|(id, _)| *id).collect();
    if ids.len() == movements.len() {
        for user in &names.users {
            let user = UserId::parse(user).unwrap();
            balances.push(subject.store.balance(&user).await.unwrap());
        }
    }
    (messages, balances)
}

/// No balance is more than 10^12.
const MODEST: &str = "
    CREATE TRIGGER modest BEFORE INSERT ON user_credits WHEN NEW.balance > 1000000000000
    BEGIN SELECT RAISE(ABORT, 'too rich'); END;
    CREATE TRIGGER modest_still BEFORE UPDATE ON user_credits WHEN NEW.balance > 1000000000000
    BEGIN SELECT RAISE(ABORT, 'too rich'); END;";

/// A database of the embedded mode that refuses poison, and riches.
async fn on_sqlite() -> Subject {
    let subject = memory().await;
    let folder: &tempfile::TempDir = subject.kept.downcast_ref().unwrap();
    let shell = rusqlite::Connection::open(folder.path().join("roomcast.db")).unwrap();
    shell.execute_batch(crate::fixtures::POISON).unwrap();
    shell.execute_batch(MODEST).unwrap();
    subject
}

/// A database of a cluster that refuses poison and riches, and two that are shy in one statement.
async fn on_postgres() -> Subject {
    const RULES: &str = "
        ALTER TABLE user_credits ADD CONSTRAINT modest CHECK (balance <= 1000000000000);
        CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.content LIKE '%poison%' THEN RAISE EXCEPTION 'poison is refused'; END IF;
            RETURN new;
        END $$;
        CREATE TRIGGER poison BEFORE INSERT ON team_chat_messages
            FOR EACH ROW EXECUTE FUNCTION poison();
        CREATE FUNCTION shy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF (SELECT count(*) FROM added WHERE content = 'shy') > 1 THEN
                RAISE EXCEPTION 'the shy come one by one';
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER shy AFTER INSERT ON team_chat_messages REFERENCING NEW TABLE AS added
            FOR EACH STATEMENT EXECUTE FUNCTION shy();";
    with_postgres(RULES).await
}

/// A database of a cluster with more rules.
async fn with_postgres(rules: &str) -> Subject {
    let servers = Fleet::cluster(ClusterOptions::only_servers()).await.unwrap();
    let (port, name) = (servers.postgres().port(), servers.database());
    let url = format!("postgres://postgres@127.0.0.1:{port}/{name}");
    let store = PostgresStore::connect(&Secret::from(url.as_str()), Settings::default()).unwrap();
    store.migrate().await.unwrap();
    let (shell, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    shell.batch_execute(rules).await.unwrap();
    let mut subject = memory().await;
    (subject.store, subject.kept) = (Arc::new(store), Box::new(servers));
    subject
}

#[test]
fn any_rows_end_with_the_cursor_at_the_end_on_sqlite() {
    run(async || vec![on_sqlite().await], 48);
}

#[test]
fn any_rows_end_with_the_cursor_at_the_end_on_postgres() {
    run(async || vec![on_postgres().await], 24);
}

#[test]
fn any_rows_end_alike_in_both_databases() {
    run(async || vec![on_sqlite().await, on_postgres().await], 24);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_takes_too_long_gets_smaller_until_it_fits() {
    // More than sixteen rows end as a statement does whose time has run out.
    const SLOW: &str = "
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF (SELECT count(*) FROM added) > 16 THEN
                RAISE EXCEPTION 'it took too long' USING ERRCODE = 'query_canceled';
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER slow AFTER INSERT ON team_chat_messages REFERENCING NEW TABLE AS added
            FOR EACH STATEMENT EXECUTE FUNCTION slow();";
    let subject = with_postgres(SLOW).await;
    let lobby = room("lobby");
    let (mut subject, epoch) = subject.at_work(lobby.shard()).await;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    subject.broker.subscribe(&lobby).await.unwrap();
    let batch: Vec<Append> =
        (1..=100).map(|n| entry(&lobby, "ann", &format!("m{n}"), "x")).collect();
    let answers = subject.append(epoch, &batch).await;
    assert_eq!((answers.done.len(), answers.stop), (100, None));
    let wanted = (1..=100).map(|n| (format!("m{n}"), Position::new(epoch, n)));
    assert_eq!(subject.entries(100).await, wanted.collect::<Vec<_>>());
    assert!(subject.store.dead_letters().await.unwrap().is_empty());
}
