//! The plans of what the store asks all the time, against a file.
//!
//! The database itself writes down the plan of each statement as the store sent it, with its own
//! parameters (`auto_explain`); names of nodes and indexes are compared, and what an index is asked
//! for. Costs are left out, and so are values.

use std::fmt::Write;
use std::fs::{read, read_to_string};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet::{ClusterOptions, Fleet};
use serde_json::Value;
use shared::contract::id::{RoomId, UserId};
use shared::contract::position::Position;
use shared::contract::signal::ReadMark;
use shared::log::LogId;
use shared::store::postgres::PostgresStore;
use shared::store::{
    Additions, DeadLetters, Erased, Lease, Ledger, Members, Messages, Receipts, Row, Shards, Span,
    Store,
};
use uuid::Uuid;

use super::super::feed::{Feed, LONG_AGO, dead_letter, delete, edit, id, identity, room, user};
use super::super::ledger::{movement, priced};
use super::{connect, shell};

/// Rooms `r0`, `r1`, ... with messages, changes, receipts, members and letters; some rows of
/// another program; a ledger.
const FILL: &str = include_str!("plans/fill.sql");

/// Before the next connection: each plan goes to the server's log.
const WATCH: &str = "
    ALTER ROLE postgres SET session_preload_libraries = 'auto_explain';
    ALTER ROLE postgres SET auto_explain.log_min_duration = 0;
    ALTER ROLE postgres SET auto_explain.log_format = 'json';
    ALTER ROLE postgres SET auto_explain.log_level = 'log'";

/// What grows with what people say, and must never be read from end to end.
const LARGE: [&str; 5] =
    ["team_chat_messages", "credits", "message_changes", "read_receipts", "room_heads"];

/// What a node keeps of its parts, and nothing that changes from run to run.
const KEPT: [&str; 5] = ["Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "TID Cond"];

/// A store whose plans are read.
struct Watched {
    store: Arc<PostgresStore>,
    log: PathBuf,
    told: String,
    scans: Vec<String>,
}

impl Watched {
    /// The plans of all that `asking` asked, under a title.
    async fn plans<T>(&mut self, title: &str, asking: impl Future<Output = T>) -> T {
        let before = read(&self.log).unwrap().len();
        let answer = asking.await;
        let log = read_to_string(&self.log).unwrap();
        let plans = plans_in(&log[before..]);
        assert!(!plans.is_empty(), "{title}: nothing was asked");
        writeln!(self.told, "\n## {title}").unwrap();
        for plan in plans {
            let first = self.told.len();
            shape(&plan["Plan"], 0, &mut self.told);
            self.told.push('\n');
            if reads_whole_table(&plan["Plan"], false) {
                self.scans.push(format!("{title}:\n{}", &self.told[first..]));
            }
        }
        answer
    }
}

/// Each is a JSON document; its lines after the first begin with a tab.
fn plans_in(log: &str) -> Vec<Value> {
    let entries = log.split(" ms  plan:\n").skip(1);
    let documents = entries.map(|entry| {
        let lines = entry.split_inclusive('\n').take_while(|line| line.starts_with('\t'));
        serde_json::from_str(&lines.collect::<String>()).unwrap()
    });
    documents.collect()
}

/// Whether a large table is read from end to end, be it along an index; the first few of an index
/// are not.
fn reads_whole_table(node: &Value, is_limited: bool) -> bool {
    let kind = node["Node Type"].as_str().unwrap();
    let is_large = node["Relation Name"].as_str().is_some_and(|table| LARGE.contains(&table));
    let reads = kind == "Seq Scan"
        || (kind.starts_with("Index") && node["Index Cond"].is_null() && !is_limited);
    let is_limited = kind == "Limit";
    let mut below = node["Plans"].as_array().into_iter().flatten();
    (is_large && reads) || below.any(|below| reads_whole_table(below, is_limited))
}

/// A node and those below it, a line each.
fn shape(node: &Value, depth: usize, told: &mut String) {
    let text = |name: &str| node[name].as_str();
    let _ = write!(told, "{:1$}{2}", "", depth * 2, text("Node Type").unwrap());
    for (word, name) in [
        ("", "Operation"),
        ("", "Join Type"),
        ("", "Scan Direction"),
        ("by ", "Index Name"),
        ("on ", "Relation Name"),
        ("of ", "CTE Name"),
        ("as ", "Subplan Name"),
    ] {
        let said = text(name).filter(|said| !["Forward", "Inner"].contains(said));
        if let Some(said) = said {
            let _ = write!(told, " {word}{said}");
        }
    }
    told.push('\n');
    for name in KEPT {
        if let Some(condition) = text(name) {
            let condition = without_values(condition);
            let _ = writeln!(told, "{:1$}. {name}: {condition}", "", depth * 2 + 2);
        }
    }
    for below in node["Plans"].as_array().into_iter().flatten() {
        shape(below, depth + 1, told);
    }
}

/// What is quoted becomes a question mark.
fn without_values(condition: &str) -> String {
    let parts = condition.split('\'').enumerate();
    parts.map(|(n, part)| if n % 2 == 0 { part } else { "?" }).collect()
}

/// A store over tables that are full, and of which the database knows so.
async fn watched() -> (Watched, Fleet) {
    let mut options = ClusterOptions::only_servers();
    options.postgres = options.postgres.with_setting("autovacuum", "off");
    let servers = Fleet::cluster(options).await.unwrap();
    let (port, name) = (servers.postgres().port(), servers.database());
    let url = format!("postgres://postgres@127.0.0.1:{port}/{name}");
    let empty = connect(&url);
    empty.migrate().await.unwrap();
    empty.close();
    let shell = shell(&url).await;
    for sql in [FILL, WATCH] {
        shell.batch_execute(sql).await.unwrap();
    }
    let log = servers.postgres().log().to_path_buf();
    let watched = Watched { store: connect(&url), log, told: String::new(), scans: Vec::new() };
    (watched, servers)
}

fn at(seq: u64) -> Position {
    Position::new(1, seq)
}

fn r7() -> RoomId {
    room("r7")
}

async fn pages(watched: &mut Watched) {
    let store = Arc::clone(&watched.store);
    for (title, span) in [
        ("A page before a place", Span::Before(at(30))),
        ("A page after a place", Span::After(at(5))),
        ("Changes after a place", Span::Changes(at(5))),
        ("The latest changes", Span::LatestChanges(Position::MAX)),
    ] {
        let page = watched.plans(title, store.messages(&r7(), span, 20)).await.unwrap();
        assert_eq!(page.len(), 20, "{title}");
    }
    let r7 = r7();
    let counted = store.count_changes(&r7, at(5), 10_000);
    assert!(watched.plans("How many changes", counted).await.unwrap() > 0);
    let (u7, m9) = (user("u7"), id("r7-9"));
    let stood = store.stood(&r7, at(9), Some(&m9));
    assert!(watched.plans("Whether something stood", stood).await.unwrap());
    let found = watched.plans("A message", store.message(&r7, &u7, &m9)).await.unwrap();
    assert!(found.is_some());
}

async fn lookups(watched: &mut Watched) {
    let store = Arc::clone(&watched.store);
    for (title, count) in [("A known message", 1), ("Many known messages", 500)] {
        let asked: Vec<_> =
            (0..count).map(|n| identity(&format!("r{n}"), &format!("u{n}"), "m")).collect();
        watched.plans(title, store.find(&asked)).await.unwrap();
        let title = title.replace("message", "change");
        watched.plans(&title, store.find_changes(&asked)).await.unwrap();
    }
    let rooms: Vec<RoomId> = (0..64).map(|n| room(&format!("r{n}"))).collect();
    watched.plans("Heads of rooms", store.heads(&rooms)).await.unwrap();
    watched.plans("Receipts of a room", store.receipts(&r7(), 50)).await.unwrap();
    watched.plans("A receipt", store.receipt(&r7(), &user("u8"))).await.unwrap();
    let (r7, u8) = (r7(), user("u8"));
    let unread = store.unread(&r7, &u8, (at(5), at(30)), 99);
    watched.plans("What is unread", unread).await.unwrap();
    watched.plans("Whether somebody is a member", store.member(&r7, &u8)).await.unwrap();
    let after: UserId = user("u1");
    watched.plans("Members", store.members(&r7, Some(&after), 50)).await.unwrap();
    watched.plans("Who was removed", store.removed(&r7)).await.unwrap();
}

async fn ledger_and_letters(watched: &mut Watched) {
    let store = Arc::clone(&watched.store);
    watched.plans("A balance", store.balance(&user("u7"))).await.unwrap();
    let ids: Vec<_> = (0..100).map(|n| id(&format!("c{n}"))).collect();
    watched.plans("Known usage", store.find_credits(&user("u7"), &ids)).await.unwrap();
    let movements: Vec<_> = ids.into_iter().map(|id| (id, user("u7"))).collect();
    watched.plans("Known movements", store.find_movements(&movements)).await.unwrap();
    watched.plans("Refusals of a room", store.refusals(&r7(), at(5), 50)).await.unwrap();
    let shard = r7().shard();
    watched.plans("Refusals that nobody was told", store.untold(shard, 50)).await.unwrap();
    watched.plans("Letters to drive again", store.driven(50)).await.unwrap();
    let (after, upto) = (LogId { epoch: 1, n: 10 }, LogId { epoch: 1, n: 900 });
    watched.plans("Places of dead letters", store.dead_places(shard, after, upto)).await.unwrap();
    let refused = [r7(), room("r8")];
    watched.plans("What was refused", store.refused(&refused, LONG_AGO)).await.unwrap();
    watched.plans("Rooms with rows of others", store.unplaced_rooms(None, 50)).await.unwrap();
    watched.plans("Rows of others", store.unplaced(&room("other3"), 50)).await.unwrap();
}

async fn shards(watched: &mut Watched) {
    let store = Arc::clone(&watched.store);
    let shard = r7().shard();
    let epoch = watched.plans("A new epoch", store.mint(shard, Uuid::now_v7(), 0)).await.unwrap();
    watched.plans("An epoch", store.epoch(shard, epoch.number)).await.unwrap();
    watched.plans("A cursor", store.cursor(shard)).await.unwrap();
    let lease = Lease { owner: "worker".to_owned(), ms: 10_000 };
    watched.plans("Leases", store.lease(&lease)).await.unwrap();
    watched.plans("Leases given up", store.release("worker")).await.unwrap();
}

/// What a round may hold, `count` of each.
fn rows(count: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    for n in 0..count {
        let (sender, seq) = (format!("r7/u{n}"), 10_000 + n * 10);
        rows.extend(priced(&format!("{sender}/new{n}"), at(seq), 3, &format!("u{n}")));
        rows.push(edit(&format!("r7/u7/r7-{n}"), &format!("new-e{n}"), at(seq + 1), "edited"));
        rows.push(delete(&format!("{sender}/gone{n}"), &format!("new-d{n}"), at(seq + 2)));
        rows.push(Row::Credit(movement(&format!("new-c{n}"), &format!("u{n}"), 7)));
        let (user, position) = (user(&format!("u{n}")), at(seq));
        let mark = ReadMark { user, position, message_id: None, read_at: LONG_AGO };
        rows.push(Row::Receipt { room: r7(), mark });
    }
    rows
}

async fn rounds(watched: &mut Watched) {
    let store = Arc::clone(&watched.store) as Arc<dyn Store>;
    let mut feed = Feed::begin(&store, "r7").await;
    for (title, count) in [("A round", 1), ("A large round", 200)] {
        let mut round = feed.batch(&rows(count));
        round.dead.push(dead_letter(LogId { epoch: feed.epoch, n: feed.cursor.n + 1 }));
        round.refusals.push((r7(), at(3), at(9000 + count)));
        round.lease = Some(Lease { owner: "worker".to_owned(), ms: 10_000 });
        let (upto, round) = (round.upto, [Arc::new(round)]);
        let done = watched.plans(title, store.commit_round(&round)).await.unwrap();
        assert!(done.fenced.is_empty() && done.done.inserted > 0, "{done:?}");
        feed.cursor = upto;
    }
    for (title, whose) in [
        ("Erasing somebody", Erased::User(user("u9"))),
        ("Erasing a room", Erased::Room(room("r11"))),
    ] {
        watched.plans(title, store.erase(&whose, Position::ZERO, 50)).await.unwrap();
    }
    watched.plans("Expiry", store.expire(LONG_AGO, 50)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_has_the_plan_that_is_written_down_and_reads_no_table_whole() {
    let (mut watched, _servers) = watched().await;
    watched.told.push_str("# Written by a test: see plans.rs\n");
    pages(&mut watched).await;
    lookups(&mut watched).await;
    ledger_and_letters(&mut watched).await;
    shards(&mut watched).await;
    rounds(&mut watched).await;
    assert!(watched.scans.is_empty(), "tables are read whole:\n{}", watched.scans.join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/store_contract/postgres/plans.txt");
    if std::env::var_os("UPDATE_PLANS").is_some() {
        std::fs::write(&path, &watched.told).unwrap();
        return;
    }
    let written = read_to_string(&path).unwrap();
    let pairs = written.lines().zip(watched.told.lines());
    let first = pairs.enumerate().find(|(_, (written, told))| written != told);
    assert!(
        written == watched.told,
        "plans are others than plans.txt says, first: {first:?}; write it anew with\n\
         UPDATE_PLANS=1 cargo test -p tests --test it plans"
    );
}
