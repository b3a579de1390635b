use std::os::unix::fs::FileExt;

use tempfile::TempDir;
use uuid::Uuid;

use super::table::REFUSED_MAX;
use super::*;
use crate::contract::envelope::{EntryKind, Envelope};
use crate::contract::id::{MessageId, UserId};
use crate::contract::timestamp::Timestamp;

const BOUNDS: JournalBounds = JournalBounds { bytes_max: 1 << 30, age_max_ms: 60_000 };

fn entry(n: usize, content: &str) -> Append {
    let room = RoomId::parse(&format!("room-{}", n % 3)).unwrap();
    let user = UserId::parse("ann").unwrap();
    let id = MessageId::parse(&format!("m{n}")).unwrap();
    let body = format!(r#"{{"content":"{content}"}}"#);
    let envelope = Envelope {
        kind: EntryKind::Message,
        room,
        user,
        id,
        change_id: None,
        accepted_at: Timestamp(1),
        body: body.into(),
    };
    let digest = Uuid::new_v5(&Uuid::NAMESPACE_OID, content.as_bytes());
    Append { envelope, digest, cost: None, author: None }
}

fn open(folder: &TempDir) -> Journal {
    Journal::open(folder.path(), BOUNDS, Clock::system()).unwrap()
}

fn key(append: &Append) -> MessageKey {
    let Envelope { room, user, id, .. } = append.envelope.clone();
    MessageKey { room, user, id }
}

/// Every id that waits, by shard and in order.
async fn waiting(journal: &Journal) -> Vec<String> {
    let mut ids = Vec::new();
    for shard in Shard::all() {
        let rows = journal.waiting(shard).await.unwrap();
        let (read, _) = journal.read(rows, usize::MAX).await.unwrap();
        ids.extend(read.into_iter().map(|(_, append)| append.envelope.id.as_str().to_owned()));
    }
    ids
}

#[tokio::test]
async fn what_was_noted_is_there_after_a_restart_in_its_order_and_goes_when_it_is_stored() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let noted = journal.note((0..9).map(|n| entry(n, "x")).collect(), false).await.unwrap();
    let rows: Vec<u64> = noted
        .iter()
        .map(|noted| match noted {
            Noted::New(row) => *row,
            other => panic!("{other:?} is not new"),
        })
        .collect();
    assert!(rows.is_sorted());
    let again = journal.note(vec![entry(3, "x"), entry(4, "y")], false).await.unwrap();
    assert_eq!(again, [Noted::Known(rows[3]), Noted::Conflict]);
    let held = journal.figures();
    assert_eq!(held.entries, 9);
    journal.placed(vec![rows[6]]).await.unwrap();
    drop(journal);
    let journal = open(&folder);
    assert_eq!(journal.figures(), held, "counted anew it is the same");
    let shard = entry(0, "x").envelope.room.shard();
    let first = journal.waiting(shard).await.unwrap();
    assert_eq!(first, [rows[6], rows[0], rows[3]], "what the log had goes first");
    let room = entry(0, "x").envelope.room;
    let pending = journal.of_room(&room, 10, usize::MAX).await.unwrap();
    let pending: Vec<&str> = pending.iter().map(|one| one.envelope.id.as_str()).collect();
    assert_eq!(pending, ["m0", "m3"]);
    let bytes = entry(0, "x").envelope.body.len();
    assert_eq!(journal.of_room(&room, 10, 2 * bytes - 1).await.unwrap().len(), 1);
    assert!(journal.find(&key(&entry(8, "x"))).await.unwrap().is_some());
    journal.remove(rows).await.unwrap();
    assert_eq!(journal.figures(), JournalFigures::default());
    assert!(journal.find(&key(&entry(8, "x"))).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_refused_is_kept_and_offered_no_more() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let noted = journal.note(vec![entry(0, "x")], false).await.unwrap();
    let [Noted::New(row)] = noted[..] else { panic!("{noted:?}") };
    journal.refused(row, "the id stands with other content".to_owned()).await.unwrap();
    assert!(waiting(&journal).await.is_empty());
    assert_eq!(journal.figures(), JournalFigures::default(), "it waits no more");
    let noted = journal.note(vec![entry(0, "z")], false).await.unwrap();
    assert!(matches!(noted[..], [Noted::New(_)]), "its sender may try again");
}

#[tokio::test]
async fn a_bound_in_bytes_or_age_refuses_by_name() {
    let folder = TempDir::new().unwrap();
    let clock = Clock::system();
    let bounds = JournalBounds { bytes_max: 2000, age_max_ms: 0 };
    let journal = Journal::open(folder.path(), bounds, clock.clone()).unwrap();
    let large = "x".repeat(2000);
    let full = journal.note(vec![entry(0, &large)], false).await.unwrap_err();
    assert!(full.to_string().contains("ROOMCAST_JOURNAL_BYTES_MAX"), "{full}");
    journal.note(vec![entry(0, "x")], false).await.unwrap();
    while clock.now_ms() <= journal.figures().oldest_ms.unwrap() {
        tokio::task::yield_now().await;
    }
    let old = journal.note(vec![entry(1, "x")], false).await.unwrap_err();
    assert!(old.to_string().contains("ROOMCAST_JOURNAL_AGE_MAX_MS"), "{old}");
    assert_eq!(journal.figures().entries, 1);
}

#[tokio::test]
async fn two_share_a_folder_and_who_comes_later_takes_over_what_is_left() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (open(&folder), open(&folder));
    assert_ne!(first.file(), second.file());
    first.note(vec![entry(0, "x")], false).await.unwrap();
    second.note(vec![entry(1, "x"), entry(2, "x")], false).await.unwrap();
    let gone = second.file().to_owned();
    drop(second);
    drop(first);
    let third = open(&folder);
    assert_eq!(third.figures().entries, 3);
    assert!(!gone.exists(), "nobody takes it over twice");
    let mut ids = waiting(&third).await;
    ids.sort();
    assert_eq!(ids, ["m0", "m1", "m2"]);
}

#[tokio::test]
async fn the_refused_are_kept_through_a_take_over_and_only_the_last_of_them() {
    let folder = TempDir::new().unwrap();
    let (first, second) = (open(&folder), open(&folder));
    let most = usize::try_from(REFUSED_MAX).unwrap();
    let entries = (0..most + 7).map(|n| entry(n, "x")).collect();
    for noted in second.note(entries, false).await.unwrap() {
        let Noted::New(row) = noted else { panic!("{noted:?}") };
        second.refused(row, "no".to_owned()).await.unwrap();
    }
    drop(second);
    drop(first);
    let third = open(&folder);
    assert_eq!(third.figures(), JournalFigures::default());
    let file = third.file().to_owned();
    drop(third);
    let count = "SELECT count(*) FROM entries WHERE refused = 'no'";
    let kept: usize =
        Connection::open(file).unwrap().query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, most);
}

#[tokio::test]
async fn a_file_of_another_that_cannot_be_read_is_kept_and_stops_nobody() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("1.db"), "this is no database, and was one").unwrap();
    let journal = open(&folder);
    journal.note(vec![entry(0, "x")], false).await.unwrap();
    let kept = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
    let kept: Vec<_> = kept.filter(|name| name.to_string_lossy().contains("damaged")).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(!folder.path().join("1.db").exists());
}

#[tokio::test]
async fn a_damaged_file_that_was_put_aside_and_not_read_is_read_by_whoever_comes_next() {
    for slot in [0, 1] {
        let folder = TempDir::new().unwrap();
        let (first, second) = (open(&folder), open(&folder));
        let own = if slot == 0 { &first } else { &second };
        own.note((0..20).map(|n| entry(n, "x")).collect(), false).await.unwrap();
        drop((first, second));
        // Killed before it had read any of it.
        let name = folder.path().join(format!("{slot}.db"));
        fs::rename(&name, name.with_extension("unread-1")).unwrap();
        assert_eq!(waiting(&open(&folder)).await.len(), 20);
        assert!(name.with_extension("damaged-1").exists());
        assert_eq!(waiting(&open(&folder)).await.len(), 20, "it is taken once");
    }
}

/// Copies a folder as a process that was killed leaves it.
fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "lock") {
            fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_journal_torn_at_any_byte_of_its_last_write_has_everything_before_it() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    journal.note((0..20).map(|n| entry(n, "before")).collect(), false).await.unwrap();
    let whole = fs::metadata(folder.path().join("0.db-wal")).unwrap().len();
    journal.note(vec![entry(20, "last")], false).await.unwrap();
    let end = fs::metadata(folder.path().join("0.db-wal")).unwrap().len();
    assert!(end > whole);
    // Every byte of the last page would take a minute: all near its ends, and every 61st.
    let interesting = |at: &u64| *at < whole + 40 || *at + 40 > end || at.is_multiple_of(61);
    for at in (whole..=end).filter(interesting) {
        let torn = TempDir::new().unwrap();
        copy(folder.path(), torn.path());
        fs::remove_file(torn.path().join("0.db-shm")).ok();
        let wal = File::options().write(true).open(torn.path().join("0.db-wal")).unwrap();
        wal.set_len(at).unwrap();
        let opened = open(&torn);
        let kept = waiting(&opened).await.len();
        // What was not acknowledged may be there or not.
        assert!(kept == 21 || kept == 20 && at < end, "{kept} are there, torn at {at} of {end}");
    }
}

#[tokio::test]
async fn of_a_damaged_write_ahead_log_everything_that_is_readable_is_kept() {
    const FRAME: u64 = 24 + 4096;
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    for part in 0..20 {
        let entries = (0..10).map(|n| entry(part * 10 + n, &"0123456789".repeat(50))).collect();
        journal.note(entries, false).await.unwrap();
    }
    let bytes = fs::metadata(folder.path().join("0.db-wal")).unwrap().len();
    // Its header, then each of its frames.
    for at in std::iter::once(0).chain((0..bytes / FRAME).map(|frame| 32 + frame * FRAME + 24)) {
        let damaged = TempDir::new().unwrap();
        copy(folder.path(), damaged.path());
        fs::remove_file(damaged.path().join("0.db-shm")).ok();
        let wal = File::options().write(true).open(damaged.path().join("0.db-wal")).unwrap();
        wal.write_all_at(&[0x5a; 16], at).unwrap();
        let opened = open(&damaged);
        let kept = waiting(&opened).await.len();
        assert!(kept >= 190, "{kept} of 200 are there, damaged at {at} of {bytes}");
    }
}

#[tokio::test]
async fn of_a_damaged_journal_everything_that_is_readable_is_kept() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder);
    let content = "0123456789".repeat(50);
    journal.note((0..200).map(|n| entry(n, &content)).collect(), false).await.unwrap();
    drop(journal);
    let file = folder.path().join("0.db");
    let bytes = fs::metadata(&file).unwrap().len();
    let page = 4096;
    let mut least = usize::MAX;
    for damaged in 0..bytes / page {
        let torn = TempDir::new().unwrap();
        copy(folder.path(), torn.path());
        let of = File::options().write(true).open(torn.path().join("0.db")).unwrap();
        of.write_all_at(&[0x5a; 4096], damaged * page).unwrap();
        let opened = open(&torn);
        let kept = waiting(&opened).await.len();
        least = least.min(kept);
        opened.note(vec![entry(1000, "goes on")], false).await.unwrap();
        let aside = fs::read_dir(torn.path()).unwrap().filter(|file| {
            file.as_ref().unwrap().file_name().to_string_lossy().contains("damaged")
        });
        assert!(kept == 200 || aside.count() > 0, "what is lost is kept for whoever can read it");
    }
    assert!(least >= 190, "one page of many costs {} entries", 200 - least);
}
